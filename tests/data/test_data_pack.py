"""Packing: right sources become stores, bad recordings harm nobody, wrong annotations are named."""

import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from a2v_data.annotations import AnnotationError
from a2v_data.corpus import Corpus
from a2v_data.meerkat import write_labels
from a2v_data.pack import PackConfig, merge_overlapping, pack
from a2v_data.sources import source_fingerprint
from data_bad_audio import GOOD, LONG_NAME, assert_told, make_bad, make_good
from data_sounds import tone
from pydantic import ValidationError

CONFIG = PackConfig(sample_rate=8000)


def events_of(corpus: Corpus, name: str) -> list[tuple[str, float, float]]:
    rows = corpus.labels(corpus.indices([name])[0])
    return [(corpus.classes[row["class"]], float(row["onset_s"]), float(row["offset_s"])) for row in rows]


def test_folder_with_a_csv(make_source, tmp_path: Path) -> None:
    audio = {"b/two.WAV": tone(440, 1, 8000), "one.flac": tone(880, 2, 8000), "three.wav": tone(99, 1, 8000)}
    source = make_source(audio, ["one.flac,0.5,0.75,y", "audio/b/two.WAV,0,0.25,x", "one.flac,0,0.1,x"])
    seen: list[tuple[int, int]] = []
    corpus = pack(source, tmp_path / "out", CONFIG, lambda done, total: seen.append((done, total)))
    assert [recording.name for recording in corpus.recordings] == ["b/two.WAV", "one.flac", "three.wav"]
    assert [recording.n_samples for recording in corpus.recordings] == [8000, 16000, 8000]
    assert [recording.labelled for recording in corpus.recordings] == [True, True, False]
    assert corpus.classes == ("x", "y") and corpus.problems == [] and corpus.notices == []
    assert events_of(corpus, "one.flac") == [("x", 0.0, 0.1), ("y", 0.5, 0.75)]
    assert seen[-1] == (4, 4) and seen == sorted(seen)  # seconds of audio
    everything = pack(source, tmp_path / "all", PackConfig(sample_rate=8000, labelled="all"))
    assert all(recording.labelled for recording in everything.recordings)


def test_audio_beside_the_csv(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": tone(440, 1, 8000)}, ["a.wav,0,0.5,x"])
    (source / "audio" / "a.wav").rename(source / "a.wav")
    (source / "audio").rmdir()
    assert pack(source, tmp_path / "out", CONFIG).recordings[0].name == "a.wav"


def test_16_bit_at_its_own_rate_is_kept_to_the_bit(make_source, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 8000).astype(np.int16)
    corpus = pack(make_source({"a.wav": samples}, ["a.wav,0,1,x"]), tmp_path / "out", CONFIG)
    assert np.array_equal(corpus.audio, samples) and corpus.recordings[0].gain == 1


@pytest.mark.parametrize(("rate", "new_rate"), [(32000, 16000), (44100, 8000), (48000, 22050), (8000, 16000)])
def test_resampling_keeps_a_tone_and_removes_what_is_above_nyquist(make_source, tmp_path, rate, new_rate) -> None:
    """A tone at 0.8 of the lower Nyquist frequency stays that tone; one at 1.1 of the new one is gone."""
    nyquist = min(rate, new_rate) / 2
    kept = tone(0.8 * nyquist, 1, rate)
    above = tone(1.1 * new_rate / 2, 1, rate) if new_rate < rate else np.zeros(rate)
    source = make_source({"a.wav": kept, "b.wav": above, "c.wav": kept[:-1]}, ["a.wav,0,1,x"], rate)
    corpus = pack(source, tmp_path / "out", PackConfig(sample_rate=new_rate))
    assert [recording.n_samples for recording in corpus.recordings][:2] == [new_rate, new_rate]
    assert corpus.recordings[2].n_samples == -(-(rate - 1) * new_rate // rate)  # nothing is lost at the end
    (found, gone), _ = corpus.waveforms(corpus.segments(1.0, recordings=[0, 1]), new_rate)
    middle = slice(new_rate // 10, -new_rate // 10)
    expected = tone(0.8 * nyquist, 1, new_rate)
    assert np.abs(found - expected)[middle].max() < 2e-3
    assert np.abs(gone)[middle].max() < 2e-4


FORMATS = ("wav PCM_24", "wav FLOAT", "flac PCM_16", "ogg VORBIS", "mp3 MPEG_LAYER_III", "aiff PCM_16")


@pytest.mark.parametrize("form", FORMATS)
def test_formats(make_source, tmp_path: Path, form: str) -> None:
    suffix, subtype = form.split()
    name = f"a.{suffix}"
    sound = tone(500, 2, 16000) * np.hanning(32000)
    corpus = pack(make_source({name: sound}, [f"{name},0,1,x"], 16000, subtype=subtype), tmp_path / "out", CONFIG)
    assert corpus.problems == []
    found = corpus.audio[:16000] / 32768
    expected = tone(500, 2, 8000) * np.hanning(16000)
    assert np.corrcoef(found, expected)[0, 1] > 0.99


def test_loud_and_quiet_recordings_keep_their_signal(make_source, tmp_path: Path) -> None:
    """Float above full scale is scaled down with a notice; a quiet 24-bit recording up by a power of two."""
    audio = {"loud.wav": tone(500, 1, 8000, 4.0), "quiet.wav": tone(500, 1, 8000, 1e-4)}
    source = make_source(audio, ["loud.wav,0,1,x"], subtype="FLOAT")
    corpus = pack(source, tmp_path / "out", CONFIG)
    loud, quiet = (corpus.audio[start : start + 8000] / 32768.0 for start in (0, 8000))
    assert np.abs(loud - tone(500, 1, 8000, 1.0)).max() < 1e-4
    assert corpus.recordings[1].gain == 2**13 and np.abs(quiet - tone(500, 1, 8000, 1e-4 * 2**13)).max() < 1e-4
    assert [notice for notice in corpus.notices if "loud.wav: peak 4" in notice]


def test_channels(make_source, tmp_path: Path) -> None:
    stereo = np.stack([tone(300, 1, 8000), tone(700, 1, 8000)], 1)
    source = make_source({"a.wav": stereo, "mono.wav": stereo[:, 0]}, ["a.wav,0,1,x"])
    corpus = pack(source, tmp_path / "out", PackConfig(sample_rate=8000, channel=1))
    assert np.abs(corpus.audio / 32768 - tone(700, 1, 8000)).max() < 1e-4
    assert corpus.problems == ["'mono.wav' has 1 channel(s), channel 1 was asked for; count from 0 (left out)"]


def test_bad_recordings_are_named_and_their_neighbours_packed(make_source, tmp_path: Path, monkeypatch) -> None:
    source = make_source({}, ["good.wav,0,0.5,x", "cut.wav,0.1,0.2,x", "cut.wav,0.3,0.4,x", f"{LONG_NAME},0,1,x"])
    make_good(source / "audio")
    expected = make_bad(source / "audio", monkeypatch)
    corpus = pack(source, tmp_path / "out", CONFIG)
    assert [recording.name for recording in corpus.recordings] == sorted(GOOD)
    assert events_of(corpus, "good.wav") == [("x", 0.0, 0.5)] and events_of(corpus, LONG_NAME) == [("x", 0.0, 1.0)]
    assert len(corpus.audio) == 8000 * len(GOOD)  # no gaps where bad ones would have been
    for part in np.split(corpus.audio, len(GOOD)):
        assert np.abs(part / 32768 - tone(440, 1, 8000)).max() < 1e-4
    assert_told(corpus.problems, expected)
    assert [line for line in corpus.problems if line.endswith("(left out, with its 2 annotations)")]
    assert Corpus.open(tmp_path / "out").problems == corpus.problems


def test_no_good_recording_is_an_error(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": tone(440, 1, 8000), "b.wav": tone(440, 1, 8000)})
    for name in ("a.wav", "b.wav"):
        (source / "audio" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of 2 recordings can be used; 'a\.wav' is empty"):
        pack(source, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()


def test_events_outside_their_recording(make_source, tmp_path: Path) -> None:
    """Up to 5 ms beyond the end is rounding and is clipped; more is wrong, at any sample rate. The recording is left
    out, its neighbour is not."""
    audio = {"a.wav": tone(440, 1, 8000), "b.wav": tone(440, 1, 8000)}
    source = make_source(audio, ["a.wav,0.5,1.0049,x"])
    assert events_of(pack(source, tmp_path / "out", CONFIG), "a.wav") == [("x", 0.5, 1.0)]
    make_source(audio, ["a.wav,0,0.5,x", "a.wav,0.5,1.006,x", "a.wav,1.001,1.004,x", "a.wav,5,6,x", "b.wav,0,0.5,x"])
    corpus = pack(source, tmp_path / "out2", CONFIG)
    assert corpus.problems == [
        "'a.wav' has a wrong annotation: annotations.csv: 3 events lie outside a.wav, which is 1.000 s long (row 3: "
        "0.5 to 1.006 s, row 4: 1.001 to 1.004 s, row 5: 5 to 6 s); correct the times or the file, or say outside: "
        "clip or drop (left out)"
    ]
    assert [recording.name for recording in corpus.recordings] == ["b.wav"]
    assert events_of(corpus, "b.wav") == [("x", 0.0, 0.5)]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a.wav,-0.1,0.5,x", "row 2: onset_s is -0.1; it must not be negative"),
        ("a.wav,0.5,0.2,x", "row 2: offset_s 0.2 is not after onset_s 0.5"),
        ("a.wav,0.1,0.5,", "row 2: label is empty"),
        ("a.wav,nan,0.5,x", "row 2: onset_s"),
        ("a.wav,0.2,2.5,x", "row 2: 0.2 to 2.5 s lies outside a.wav"),
        ("aa.wav,0.2,0.5,x", "row 2: file 'aa.wav' does not exist"),
    ],
)
def test_a_wrong_row_costs_its_recording_and_nothing_else(make_source, tmp_path: Path, row: str, told: str) -> None:
    source = make_source({"a.wav": tone(440, 1, 8000), "b.wav": tone(440, 1, 8000)}, [row, "b.wav,0,0.5,x"])
    corpus = pack(source, tmp_path / "out", CONFIG)
    (problem,) = corpus.problems
    assert f"has a wrong annotation: annotations.csv, {told}" in problem and problem.endswith("(left out)")
    labelled = [recording.name for recording in corpus.recordings if recording.labelled]
    assert labelled == ["b.wav"] and events_of(corpus, "b.wav") == [("x", 0.0, 0.5)]


@pytest.mark.parametrize(
    ("config", "classes"),
    [
        ({}, ("sn", "cc", "focal")),  # MeerKAT's order
        ({"focal_class": False}, ("sn", "cc")),
        ({"classes": ["cc", "sn", "never"]}, ("cc", "sn", "never")),  # given: nothing is added
        ({"exclude_labels": ["sn"]}, ("cc", "focal")),
        ({"classes": ["cc", "focal"], "exclude_labels": ["sn"]}, ("cc", "focal")),
    ],
)
def test_classes(make_source, tmp_path: Path, config: dict, classes: tuple[str, ...]) -> None:
    rows = ["a.wav,0,0.1,cc,1", "a.wav,0.2,0.3,sn,0", "a.wav,0.05,0.25,cc,1"]
    source = make_source({"a.wav": tone(440, 1, 8000)}, rows, header="file,onset_s,offset_s,label,focal")
    corpus = pack(source, tmp_path / "out", PackConfig(sample_rate=8000, **config))
    assert corpus.classes == classes
    found = [event for event in events_of(corpus, "a.wav") if event[0] == "focal"]
    assert found == ([("focal", 0.0, 0.25)] if "focal" in classes else [])
    assert "cc: 1 overlapping event(s) of one recording merged into those that they overlap" in corpus.notices


def test_other_classes_are_sorted_with_focal_last(make_source, tmp_path: Path) -> None:
    rows = ["a.wav,0,0.1,zip,1", "a.wav,0.2,0.3,buzz,0"]
    source = make_source({"a.wav": tone(440, 1, 8000)}, rows, header="file,onset_s,offset_s,label,focal")
    assert pack(source, tmp_path / "out", CONFIG).classes == ("buzz", "zip", "focal")


def test_unknown_labels_and_needless_exclusions(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": tone(440, 1, 8000)}, ["a.wav,0,0.1,x", "a.wav,0.2,0.3,y"])
    with pytest.raises(AnnotationError, match=r"row 3: label 'y' is not among classes \(x\); add it there or"):
        pack(source, tmp_path / "out", PackConfig(sample_rate=8000, classes=["x"]))
    corpus = pack(source, tmp_path / "out", PackConfig(sample_rate=8000, exclude_labels=["z"]))
    assert corpus.notices == ["exclude_labels: no event is labelled 'z'"]


def test_merging() -> None:
    assert merge_overlapping([(3, 4), (0, 2), (1, 1.5), (2, 3), (3.5, 5)]) == [(0, 2), (2, 3), (3, 5)]


def meerkat(folder: Path, labels: dict[str, list[tuple[str, int, int, bool]] | None]) -> Path:
    for name, events in labels.items():
        (folder / "wav").mkdir(parents=True, exist_ok=True)
        (folder / "lbl").mkdir(exist_ok=True)
        soundfile.write(folder / "wav" / f"{name}.wav", tone(440, 1, 8000), 8000)
        if events is not None:
            write_labels(folder / "lbl" / f"{name}.h5", events, 8000)
    return folder


def test_meerkats_layout(tmp_path: Path) -> None:
    """With `annotated` an empty label file says that nothing called; without one nobody looked."""
    events = [("cc", 4000, 6000, True), ("sn", 800, 1200, False)]
    source = meerkat(tmp_path / "m", {"a": events, "b": [], "c": None})
    corpus = pack(source, tmp_path / "out", PackConfig(sample_rate=8000, labelled="annotated"))
    assert corpus.classes == ("sn", "cc", "focal")
    assert [recording.labelled for recording in corpus.recordings] == [True, True, False]
    assert events_of(corpus, "a.wav") == [("sn", 0.1, 0.15), ("cc", 0.5, 0.75), ("focal", 0.5, 0.75)]


def test_wrong_label_files_are_named(tmp_path: Path) -> None:
    source = meerkat(tmp_path / "m", {"a": [("cc", 4000, 2000, True)], "b": [], "c": [], "d": [], "e": []})
    (source / "lbl" / "b.h5").write_bytes(b"no HDF5")
    with h5py.File(source / "lbl" / "c.h5", "a") as file:
        del file["foc"]
    write_labels(source / "lbl" / "d.h5", [("cc", 4000, 12_000, True)], 8000)
    write_labels(source / "lbl" / "gone.h5", [], 8000)
    corpus = pack(source, tmp_path / "out", CONFIG)
    wrong = "has a wrong annotation: "
    for problem, told in zip(
        corpus.problems,
        [
            f"'a.wav' {wrong}lbl/a.h5, event 1: offset_s 0.25 is not after onset_s 0.5",
            f"'b.wav' {wrong}lbl/b.h5: not readable as HDF5 labels",
            f"'c.wav' {wrong}lbl/c.h5: no field foc",
            f"'d.wav' {wrong}lbl/d.h5, event 1: 0.5 to 1.5 s lies outside d.wav",
            f"'gone.wav' {wrong}lbl/gone.h5: its recording wav/gone.wav does not exist",
        ],
        strict=True,
    ):
        assert problem.startswith(told) and problem.endswith("(left out)")
    assert [recording.name for recording in corpus.recordings] == ["e.wav"]


def test_label_numbers_stand_for_meerkats_classes(tmp_path: Path) -> None:
    source = meerkat(tmp_path / "m", {"a": [("al", 0, 800, False)]})
    with h5py.File(source / "lbl" / "a.h5", "a") as file:
        del file["lbl"]
    assert events_of(pack(source, tmp_path / "out", CONFIG), "a.wav") == [("al", 0.0, 0.1)]


def test_missing_things_are_one_line(make_source, tmp_path: Path) -> None:
    cases = {tmp_path / "nowhere": "no such folder"}
    (tmp_path / "empty").mkdir()
    cases[tmp_path / "empty"] = "no audio in it; put recordings there"
    bare = make_source({"a.wav": tone(440, 1, 8000)}, [])
    (bare / "annotations.csv").unlink()
    cases[bare] = r"annotations.csv \(file,onset_s,offset_s,label\) is missing"
    shutil.rmtree(meerkat(tmp_path / "m", {"a": None}) / "lbl")
    cases[tmp_path / "m"] = "lbl/ with one HDF5 label file per segment is missing"
    for folder, said in cases.items():
        with pytest.raises(ValueError, match=said) as caught:
            pack(folder, tmp_path / "out", CONFIG)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_no_room_on_the_disk(make_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source({"a.wav": tone(440, 1, 8000)}, ["a.wav,0,1,x"])
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 5000, 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"out: needs 0\.01 GB but 0\.00 GB are free; free some space"):
        pack(source, tmp_path / "out", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_an_interrupted_preparation_leaves_nothing(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": tone(440, 1, 8000), "b.wav": tone(440, 1, 8000)}, ["a.wav,0,1,x"])

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(source, tmp_path / "out", CONFIG, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    pack(source, tmp_path / "out", CONFIG)
    with pytest.raises(ValueError, match="out: exists already"):
        pack(source, tmp_path / "out", CONFIG)


def test_configuration() -> None:
    for wrong in (
        {"sample_rate": 0},
        {"rate": 8000},
        {"classes": ["a", "a"]},
        {"classes": []},
        {"channel": -1},
    ):
        with pytest.raises(ValidationError):
            PackConfig(**{"sample_rate": 8000, **wrong})


def test_fingerprint_is_of_names_and_contents(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": tone(440, 1, 8000), "b.wav": tone(99, 1, 8000)}, ["a.wav,0,1,x"])
    cache = tmp_path / "cache" / "hashes.json"
    first = source_fingerprint(source, cache)
    assert len(first) == 64 and first == source_fingerprint(source, cache) == source_fingerprint(source)
    copy = tmp_path / "elsewhere"
    shutil.copytree(source, copy)
    (copy / "notes.txt").write_text("not read by prepare")
    assert source_fingerprint(copy, cache) == first  # where it lies does not matter
    changes = {
        "annotations": lambda: (copy / "annotations.csv").write_text("file,onset_s,offset_s,label\na.wav,0,0.9,x\n"),
        "audio": lambda: soundfile.write(copy / "audio" / "a.wav", tone(441, 1, 8000), 8000),
        "name": lambda: (copy / "audio" / "b.wav").rename(copy / "audio" / "c.wav"),
        "removed": lambda: (copy / "audio" / "c.wav").unlink(),
    }
    seen = {first}
    for change in changes.values():
        change()
        seen.add(source_fingerprint(copy, cache))
    assert len(seen) == 5
    cache.write_text('["damaged"')
    assert source_fingerprint(source, cache) == first
    json.loads(cache.read_text())


def test_fingerprint_trusts_its_cache(make_source, tmp_path: Path) -> None:
    """A hash is remembered for a path, size and time: with a forged entry the answer is another one."""
    source = make_source({"a.wav": tone(440, 1, 8000)}, ["a.wav,0,1,x"])
    cache = tmp_path / "hashes.json"
    first = source_fingerprint(source, cache)
    entries = json.loads(cache.read_text())
    (audio,) = [path for path in entries if path.endswith("a.wav")]
    entries[audio][1] = "0" * 64
    cache.write_text(json.dumps(entries))
    assert source_fingerprint(source, cache) != first
    os.utime(audio, ns=(1, 1))
    assert source_fingerprint(source, cache) == first


def test_overlapping_events_of_a_class_may_be_kept(make_source, tmp_path: Path) -> None:
    rows = ["a.wav,0.2,0.6,x", "a.wav,0.1,0.3,x", "a.wav,0.1,0.3,y", "a.wav,0.15,0.2,x"]
    source = make_source({"a.wav": tone(440, 1, 8000)}, rows)
    kept = pack(source, tmp_path / "kept", PackConfig(sample_rate=8000, overlaps="keep"))
    of_x = [("x", 0.1, 0.3), ("x", 0.15, 0.2), ("x", 0.2, 0.6)]
    assert sorted(events_of(kept, "a.wav")) == [*of_x, ("y", 0.1, 0.3)] and kept.notices == []
    assert pack(source, tmp_path / "merged", CONFIG).notices
    assert "overlaps" not in CONFIG.model_dump()  # recipes without it keep their fingerprints
