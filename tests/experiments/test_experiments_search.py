"""Embeddings of recordings kept beside the calls, search by example, and the clips that are suggested."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.audio import read_blocks, read_info
from a2v_experiments.basics.errors import UserError
from a2v_experiments.embeddings import search as embedding_search
from a2v_experiments.embeddings.hear import hear, open_listener
from a2v_experiments.embeddings.search import Corpus, best_runs, similarities
from a2v_experiments.embeddings.units import kept_units
from a2v_experiments.predict.settings import settings_for
from a2v_experiments.predict.stream import Sound, piece_outputs, windows_of
from a2v_experiments.review.calls import open_calls
from a2v_experiments.review.journal import Decision, open_journal, read_journal
from a2v_experiments.review.similar import similar
from a2v_experiments.review.suggested import clips_of, grid, looked_at, suggested
from a2v_model import Detector, PretrainConfig, Pretrainer, save_model
from a2v_model.config import DecoderConfig
from experiments_predict import FLOAT, make_detector, save_detector, sound, write_recordings, write_sound
from experiments_world import RATE


class Silent:
    """Progress that counts recordings."""

    def __init__(self) -> None:
        self.begun = self.done = 0

    def begin(self, recordings: int, seconds: float) -> None:
        self.begun = recordings

    def advance(self, seconds: float) -> None: ...

    def recording(self) -> None:
        self.done += 1


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return make_detector(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def model(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(detector, tmp_path_factory.mktemp("model") / "finder")


def test_similarity_is_the_cosine_with_the_mean_of_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the definition, run by run, in blocks that are smaller than the recording."""
    monkeypatch.setattr(embedding_search, "BLOCK", 64)
    rng = np.random.default_rng(0)
    embedding_UD = (rng.normal(size=(123, 8)) + 3).astype(np.float16)
    mean_D, query_D = embedding_UD.mean(0, dtype=np.float64), rng.normal(size=8).astype(np.float32)
    for run in (1, 2, 3, 7, 40, 122):
        expected = []
        for first in range(123 - run + 1):
            x_D = embedding_UD[first : first + run].astype(np.float64).mean(0) - mean_D
            expected.append(x_D @ query_D / (np.linalg.norm(x_D) * np.linalg.norm(query_D)))
        found = similarities(query_D, embedding_UD, run, mean_D)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_best_runs_are_those_of_a_greedy_choice_among_all() -> None:
    """Half of a run lies between two of them; a call is not found again beside itself."""
    scores_R = np.random.default_rng(1).normal(size=400).astype(np.float32)
    scores_R[:50] = -np.inf
    for run, apart in ((1, 2), (4, 6), (5, 8)):
        left, expected = scores_R.copy(), []
        while len(expected) < 9:
            best = int(np.argmax(left))
            expected.append((best, float(left[best])))
            left[max(0, best - apart + 1) : best + apart] = -np.inf
        assert best_runs(scores_R, run, 9) == expected
    assert min(start for start, _ in best_runs(scores_R[:60], 4, 99)) >= 50  # never those that are ruled out


def test_a_planted_sound_is_found_where_it_is_and_the_query_is_left_out() -> None:
    """Three copies of a sequence of embeddings in noise, in two recordings."""
    rng = np.random.default_rng(2)
    planted = rng.normal(size=(3, 16)) * 3
    recordings = {name: rng.normal(size=(200, 16)) + 5 for name in ("a", "b")}
    for name, first in (("a", 20), ("b", 60), ("b", 150)):
        recordings[name][first : first + 3] += planted
    corpus = Corpus({name: rows.astype(np.float16) for name, rows in recordings.items()}, 0.1)
    query_D = corpus.query(corpus.embeddings["a"], 2.0, 2.3)
    found = corpus.search(query_D, 0.3, 2, [("a", 2.0, 2.3)])
    assert {(one.file, round(one.start_s, 6), round(one.stop_s, 6)) for one in found} == {
        ("b", 6.0, 6.3),
        ("b", 15.0, 15.3),
    }
    assert corpus.search(query_D, 0.3, 1)[0].similarity == pytest.approx(1.0)
    half_D = corpus.query(corpus.embeddings["a"], 2.05, 2.2)  # half of one unit and all of the next
    row_D = corpus.embeddings["a"].astype(np.float64)
    np.testing.assert_allclose(half_D, (row_D[20] + 2 * row_D[21]) / 3)


def test_units_are_means_of_features_and_highest_likelihoods(detector: Detector, model: Path, tmp_path: Path) -> None:
    """Of frames as prediction stitches them, also where a unit goes on from one window into the next."""
    path = write_sound(tmp_path / "long.wav", 7.77, 3)
    settings = settings_for(detector)[0].model_copy(update={"precision": "float32"})
    info = read_info(path)
    given = Sound(info.samples, info.rate, partial(read_blocks, path, info, 0))
    windows = windows_of(given, detector, settings)
    outputs = list(piece_outputs(detector, given, windows, (0, len(windows)), settings, 1, True))
    likelihood_TC, features_TD = (np.concatenate([one[side] for one in outputs]) for side in (0, 1))
    with open_listener(str(model), None, 0, tmp_path) as listener:
        units = hear(listener, tmp_path / "review", {"long.wav": path}, Silent(), 1)
    assert units.about.frames == 5 and len(likelihood_TC) == 777 and len(units.rows("long.wav")) == 156
    for unit in (0, 1, 70, 154, 155):
        part = slice(5 * unit, 5 * unit + 5)  # the last one has two frames
        np.testing.assert_allclose(units.embedding("long.wav")[unit], features_TD[part].mean(0), atol=0.02, rtol=0.02)
        np.testing.assert_allclose(units.likelihood("long.wav")[unit], likelihood_TC[part].max(0), atol=0.02)


def test_only_what_is_new_or_changed_is_heard_again(model: Path, tmp_path: Path) -> None:
    """A bad recording is named; one that is added or changed is done, the others are not touched."""
    folder, places = tmp_path / "review", {}
    for seed, name in enumerate(("a.wav", "b.wav")):
        places[name] = write_sound(tmp_path / name, 2.0 + seed, seed)
    places["bad.wav"] = tmp_path / "bad.wav"
    places["bad.wav"].write_bytes(b"RIFF, but nothing else")

    def heard(progress: Silent):
        with open_listener(str(model), None, 0, tmp_path) as listener:
            return hear(listener, folder, places, progress, 1)

    first = heard(Silent())
    assert set(first.files) == {"a.wav", "b.wav"} and set(first.left_out) == {"bad.wav"}
    times = {name: path.stat().st_mtime_ns for name, path in first.files.items()}
    places["c.wav"] = write_sound(tmp_path / "c.wav", 1.5, 7)
    with pytest.raises(UserError, match=r"no embeddings of 1 of 3 recordings, c.wav .*make them: a2v"):
        kept_units(folder, places, "a2v ...")
    write_sound(tmp_path / "b.wav", 2.5, 9)
    os.utime(tmp_path / "b.wav", ns=(1, 1))
    progress = Silent()
    second = heard(progress)
    assert progress.begun == 2 and progress.done == 2
    assert second.files["a.wav"].stat().st_mtime_ns == times["a.wav"]
    assert second.files["b.wav"] != first.files["b.wav"] and len(second.rows("b.wav")) == 50
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_a_stopped_call_leaves_whole_files_and_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C within the second recording: the first one is kept, of the second nothing."""
    from a2v_experiments.embeddings import hear as module

    places = {name: write_sound(tmp_path / name, 3.0, seed) for seed, name in enumerate(("a.wav", "b.wav"))}
    made, blocks = [], module._unit_blocks

    def stopping(task, sound, advance):
        for block in blocks(task, sound, advance):
            made.append(task.path.name)
            if made.count("b.wav") == 2:
                raise KeyboardInterrupt
            yield block

    with open_listener(str(model), None, 0, tmp_path) as listener:
        monkeypatch.setattr(module, "_unit_blocks", stopping)
        with pytest.raises(KeyboardInterrupt):
            hear(listener, tmp_path / "review", places, Silent(), 1)
        monkeypatch.setattr(module, "_unit_blocks", blocks)
        assert len(list((tmp_path / "review").rglob("*.npy"))) == 1
        progress = Silent()
        units = hear(listener, tmp_path / "review", places, progress, 1)
    assert progress.begun == 1 and len(units.rows("b.wav")) == 60


@pytest.fixture(scope="module")
def predicted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of calls; the sound at 8 s of a.wav is in day2/c.wav again, from 3 s on."""
    from experiments_world import call_quietly

    folder = tmp_path_factory.mktemp("calls")
    write_recordings(folder / "audio")
    wave, rate = soundfile.read(folder / "audio" / "a.wav")
    other, _ = soundfile.read(folder / "audio" / "day2" / "c.wav")
    other[3 * rate : 5 * rate] = wave[7 * rate : 9 * rate]
    soundfile.write(folder / "audio" / "day2" / "c.wav", other, rate, subtype="PCM_16")
    said = call_quietly("predict", folder / "audio", "--model", model, "--out", folder / "calls", *FLOAT)
    assert said.code == 0, said.err
    return folder / "calls"


def test_search_from_the_command_line_and_from_the_page(a2v, predicted: Path, model: Path, tmp_path: Path) -> None:
    """A copy of the query is the first hit; the table can be reviewed; the page finds the same; the model is known."""
    calls = open_calls(predicted)
    shutil.rmtree(calls.folder, ignore_errors=True)
    said = a2v("search", "a.wav@7.9-8.1", "--in", predicted)
    assert said.code == 2 and "--model: give the folder" in said.err and "finder@" in said.err
    with pytest.raises(UserError, match=r"no embeddings of the recordings yet; make them once: .*search"):
        similar(calls, "a.wav", 7.9, 8.1)
    table = tmp_path / "found.csv"
    said = a2v(
        "search", "a.wav@7.9-8.1", "--in", predicted, "--model", model, "--top", 5, "--out", table, "--processes", 1
    )
    assert said.code == 0, said.err
    assert f"review {table} --recordings {predicted.parent / 'audio'}" in said.out
    found = open_calls(table, predicted.parent / "audio").events
    assert len(found) == 5 and {one.label for one in found} == {"a"}
    best = max(found, key=lambda one: one.likelihood or 0)
    assert best.file == "day2/c.wav" and best.onset_s == pytest.approx(3.9, abs=0.051)
    assert not any(one.file == "a.wav" and one.onset_s < 8.1 and one.offset_s > 7.9 for one in found)
    rows = json.loads(a2v("search", "a.wav@7.9-8.1", "--in", predicted, "--top", 5, "--json").out)["found"]
    of_page = similar(calls, "a.wav", 7.9, 8.1, 5)
    assert [(one["file"], one["start_s"]) for one in rows] == [(file, start_s) for file, start_s, *_ in of_page]
    assert a2v("search", "a.wav@7.9-8.1", "--in", predicted, "--out", table).code == 2  # is not overwritten


def test_any_audio_file_is_a_query(a2v, predicted: Path, model: Path, tmp_path: Path) -> None:
    """Also one that is none of the recordings; what is no part of it or too long for a call is told."""
    wave, rate = soundfile.read(predicted.parent / "audio" / "a.wav")
    clip = tmp_path / "my call.wav"
    soundfile.write(clip, wave[round(7.2 * rate) : round(8.8 * rate)], rate)
    said = a2v("search", clip, "--in", predicted, "--model", model, "--top", 1, "--json", "--processes", 1)
    assert json.loads(said.out)["found"][0]["file"] in ("a.wav", "day2/c.wav")
    said = a2v("search", clip, "--in", predicted, "--top", 1)
    assert said.code == 0 and "without its surroundings" in said.out
    shutil.copy(predicted.parent / "audio" / "a.wav", tmp_path / "copy.wav")
    said = a2v("search", tmp_path / "copy.wav", "--in", predicted, "--start", 10, "--end", 10.2, "--top", 1, "--json")
    (best,) = json.loads(said.out)["found"]
    assert best["file"] == "a.wav" and abs(best["start_s"] - 10) < 0.051 and best["similarity"] > 0.9
    said = a2v("search", clip, "--in", predicted, "--start", 0.5, "--end", 3)
    assert said.code == 2 and "0.5 to 3 s is no part of it; it is 1.600 s long" in said.err
    said = a2v("search", "none.wav@1-2", "--in", predicted)
    assert said.code == 2 and "is no audio file and none of the 4 recordings" in said.err
    said = a2v("search", "a.wav@2-1", "--in", predicted)
    assert said.code == 2 and "is no part of it" in said.err


def test_a_model_that_is_pretrained_only_can_be_searched_with(detector: Detector, tmp_path: Path) -> None:
    """It has no likelihoods; its embeddings are those of `embed` but for the windows."""
    source = Pretrainer(detector.model_config, PretrainConfig(target_layers=2, decoder=DecoderConfig(groups=4)))
    save_model(source, tmp_path / "pretrained", {})
    path = tmp_path / "short.wav"
    soundfile.write(path, sound(1.0, 4), RATE, subtype="FLOAT")
    with open_listener(str(tmp_path / "pretrained"), None, 0, tmp_path) as listener:
        units = hear(listener, tmp_path / "review", {"short.wav": path}, Silent(), 1)
    assert units.rows("short.wav").shape == (20, detector.model_config.encoder.dim) and units.about.classes == ()
    expected_UD = source.embed(sound(10.0, 4)[:RATE]).numpy()[:100].reshape(20, 5, -1).mean(1)
    close = np.corrcoef(np.asarray(units.embedding("short.wav"), np.float32).ravel(), expected_UD.ravel())[0, 1]
    assert close > 0.9


def test_the_grid_covers_a_recording_with_clips_of_about_a_length() -> None:
    """A rest shorter than half a clip belongs to the last one."""
    assert grid(20, 8) == ([0, 8, 16], [8, 16, 20])
    assert grid(19, 8) == ([0, 8], [8, 19])
    assert grid(3, 8) == ([0], [3]) and grid(0, 8) == ([], [])


def test_clips_that_were_looked_at_are_not_suggested_again(predicted: Path, model: Path) -> None:
    """All others are, once each, of whole clips; a second round goes on; the same question has the same answer."""
    calls = open_calls(predicted)
    shutil.rmtree(calls.folder, ignore_errors=True)
    state = read_journal(calls.folder)
    first = suggested(calls, state, 4, str(model), Silent(), clip_s=1.0, processes=1)
    assert first == suggested(calls, state, 4, progress=Silent(), clip_s=1.0)
    with open_journal(calls.folder) as journal:
        for one in first:
            span = (one.start_s, one.stop_s)
            journal.decide(Decision(0, one.id, "stretch", "seen", one.file, "", *span, clip=span, whole=True))
    state = read_journal(calls.folder)
    assert sum(len(spans) for spans in looked_at(state).values()) >= 1
    rest = suggested(calls, state, 99, progress=Silent(), clip_s=1.0)
    everything = suggested(calls, read_journal(predicted / "none"), 99, progress=Silent(), clip_s=1.0)
    assert len(everything) == 12 + 2 + 2 + 9  # of 12, 2.3, 1.7 and 9.1 s
    assert {one.id for one in rest} == {one.id for one in everything} - {one.id for one in first}
    assert all(one.stop_s <= calls.recordings[one.file].duration_s for one in everything)


def test_a_decided_call_makes_its_clip_certain_there(predicted: Path, model: Path) -> None:
    """An event that was decided without its surroundings: the clip stays a candidate, without that uncertainty."""
    calls = open_calls(predicted)
    suggested(calls, read_journal(predicted / "none"), 1, str(model), Silent(), processes=1)
    units = kept_units(calls.folder, {name: one.path for name, one in calls.recordings.items()}, "")
    before = clips_of(units, {}, 1.0)
    after = clips_of(units, {"a.wav": [(0.0, 0.45)]}, 1.0)
    assert before.spans == after.spans and len(before.known) == 0 and len(after.known) == 1
    assert (after.uncertainty <= before.uncertainty).all()
    row = before.spans.index(("a.wav", 0.0, 1.0))
    assert np.flatnonzero((after.uncertainty != before.uncertainty).any(1)).tolist() in ([], [row])
