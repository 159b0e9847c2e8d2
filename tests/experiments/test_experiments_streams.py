"""What is recorded beside sound, from recipes to predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from a2v_data.bcl import Mixing, mixed_streams
from a2v_data.corpus import Corpus
from a2v_data.pack import PackConfig, pack
from a2v_experiments.inference import recording_likelihoods
from a2v_experiments.predict import predict
from a2v_experiments.predict.beside import find_tables
from a2v_experiments.predict.plan import find_recordings
from a2v_experiments.recipe.files import load_recipe
from a2v_experiments.recipe.sections import Recipe
from a2v_experiments.stages.backbones import find_backbone
from a2v_experiments.training import checkpoints
from a2v_experiments.training.spec import TrainingSpec
from a2v_experiments.training.tasks import build_task
from a2v_model import save_model
from experiments_training import run_loop
from experiments_world import RATE, RECIPE, RECORDINGS, calls, make_csv_source, training_spec, write_recipe

HZ = 20
STREAMS = {"accelerometer": {"columns": ["x", "y"], "rate": HZ}}
WITHOUT = 5  # the recording that has no table


def write_streams(folder: Path, recording: int, seconds: float) -> None:
    """x is 7 while a cc sounds and 5 else; y is the time."""
    time_s = (np.arange(round(seconds * HZ)) + 0.5) / HZ
    x = np.full(len(time_s), 5.0)
    for label, start, end in calls(recording):
        x[(time_s >= start / RATE) & (time_s < end / RATE) & (label == "cc")] = 7.0
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame({"time_s": time_s, "x": x, "y": time_s})
    table.to_csv(folder / f"rec{recording:02d}.csv", index=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_csv_source(tmp_path_factory.mktemp("streams") / "tones")
    for number in range(RECORDINGS):
        if number != WITHOUT:
            info = soundfile.info(folder / "audio" / f"rec{number:02d}.wav")
            write_streams(folder / "streams", number, info.duration)
    return folder


@pytest.fixture(scope="module")
def corpus(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = PackConfig(sample_rate=RATE, labelled="all", focal_class=False, streams=STREAMS)
    return pack(source, tmp_path_factory.mktemp("packed") / "corpus", config)


def tree(source: Path | str = "x") -> dict:
    made = yaml.safe_load(yaml.safe_dump(RECIPE))
    made["data"] |= {"source": str(source), "streams": STREAMS}
    return made


def spec(folder: Path, corpus: Corpus, stage: str, *changes: str) -> TrainingSpec:
    recipe = load_recipe(str(write_recipe(folder / "small.yaml", tree())), list(changes))
    return training_spec(recipe, stage, corpus.folder)


def test_a_recipe_says_it_once(tmp_path: Path) -> None:
    recipe = load_recipe(str(write_recipe(tmp_path / "small.yaml", tree())), [])
    assert recipe.model.streams["accelerometer"].columns == ("x", "y")
    assert load_recipe(str(tmp_path / "small.yaml"), ["model.streams={}"]).model.streams == {}
    assert load_recipe(str(tmp_path / "small.yaml"), ["model.stream_dropout=0.5"]).model.stream_dropout == 0.5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "model.streams={accelerometer: {columns: [x, y], rate: 25}}",
            "data.streams.accelerometer.rate is 20, and the model's 25 (model.streams.accelerometer.rate); they must",
        ),
        (
            "model.streams={depth: {columns: [d], rate: 1}}",
            "model.streams.depth: data.streams has none by that name; name it there, too",
        ),
        (
            "pretrain_data={source: y, sample_rate: 4000, segment_s: 1, streams: {depth: {columns: [d], rate: 1}}}",
            "pretrain_data.streams.depth: the model does not hear it (it hears accelerometer)",
        ),
        ("data.streams.accelerometer.columns=[x, x]", "columns: is ['x', 'x']; each column must be named once"),
        ("data.streams.accelerometer.columns=[time_s]", "columns: time_s says which recording and when"),
        ("model.stream_dropout=1", "model.stream_dropout"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, change: str, told: str) -> None:
    with pytest.raises(Exception, match=r"streams|stream_dropout") as caught:
        load_recipe(str(write_recipe(tmp_path / "small.yaml", tree())), [change])
    assert told in str(caught.value)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_micro_batch_has_the_streams_of_its_segments(tmp_path: Path, corpus: Corpus, stage: str) -> None:
    """y is the time of the recording, so it tells where each segment begins."""
    task = build_task(spec(tmp_path, corpus, stage, f"{stage}.bcl=null"), torch.device("cpu"))
    lacking = corpus.indices([f"rec{WITHOUT:02d}.wav"])[0]
    for update in range(6):
        segments, _, _ = task.read(update, 0)
        made = task.prepare(update, 0, torch.Generator().manual_seed(update))
        heard = (made.labelled if stage == "finetune" else made).heard
        for segment, values_MC in zip(segments, heard.streams["accelerometer"], strict=True):
            assert values_MC.shape == (HZ, 2)
            if segment["recording"] == lacking:
                assert values_MC.isnan().all()
            else:
                wanted = segment["start"] / RATE + (np.arange(HZ) + 0.5) / HZ
                there = values_MC[:, 1].isfinite().numpy()
                assert there.sum() >= HZ - 1
                last = np.nanmax(corpus.stream_grids(segment["recording"])["accelerometer"][:, 1])  # held to its end
                np.testing.assert_allclose(values_MC[there, 1], np.minimum(wanted, last)[there], atol=1e-4)
        with torch.no_grad():
            assert torch.isfinite(task.step(update, 0, torch.Generator().manual_seed(update)).loss_sum)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_values_are_normalised_with_those_of_the_training_recordings(
    tmp_path: Path, corpus: Corpus, stage: str
) -> None:
    names = ["rec01.wav", "rec02.wav", f"rec{WITHOUT:02d}.wav"]
    given = spec(tmp_path, corpus, stage).model_copy(update={"recordings": names})
    model = build_task(given, torch.device("cpu")).model
    encoder = model.inner.streams["accelerometer"]
    values = np.concatenate([corpus.stream_grids(number)["accelerometer"] for number in corpus.indices(names[:2])])
    np.testing.assert_allclose(encoder.mean, np.nanmean(values, 0), rtol=1e-5)
    np.testing.assert_allclose(encoder.scale, np.nanstd(values, 0), rtol=1e-5)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_training_stopped_and_resumed_is_the_training_that_never_stopped(
    tmp_path: Path, corpus: Corpus, stage: str
) -> None:
    given = spec(tmp_path, corpus, stage, "finetune.head_only_updates=0")
    whole = run_loop(given, tmp_path / "whole")
    run_loop(given, tmp_path / "stopped", stop_after=4)
    again = run_loop(given, tmp_path / "stopped", resume=checkpoints.newest(tmp_path / "stopped"))
    assert all(torch.equal(value, again.weights(6)[key]) for key, value in whole.weights(6).items())
    (learned,) = [key for key in whole.weights(6) if key.endswith("streams.encoders.of_accelerometer.project.weight")]
    assert float(whole.weights(6)[learned].abs().sum()) > 0


@pytest.mark.parametrize("ratio", [0.6, 0.9])
def test_what_is_mixed_is_mixed_beside_sound_too(ratio: float) -> None:
    values_BMC = torch.tensor([[[1.0]], [[3.0]], [[torch.nan]], [[7.0]]])
    mixing = Mixing(torch.tensor([True, True, True, False]), torch.tensor([ratio]), torch.tensor([1, 2, 0, 0]))
    found = mixed_streams({"x": values_BMC}, mixing)["x"][:, 0, 0]
    assert float(found[0]) == pytest.approx(ratio * 1 + (1 - ratio) * 3)
    assert found[1].isnan() and found[2].isnan()  # with one of them it is not known
    assert float(found[3]) == 7.0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus):
    """A detector whose head and streams count for something."""
    folder = tmp_path_factory.mktemp("trained")
    given = spec(
        folder, corpus, "finetune", "finetune.updates=2", "finetune.checkpoint_every=2", "model.stream_dropout=0"
    )
    model = build_task(given, torch.device("cpu")).model
    with torch.no_grad():
        torch.manual_seed(3)
        torch.nn.init.normal_(model.inner.streams["accelerometer"].project.weight, std=3.0)
        torch.nn.init.normal_(model.head.weight, std=1.0)
    save_model(model.eval(), folder / "model", {})
    return folder / "model", model


def test_predict_hears_what_evaluation_hears(a2v, source: Path, corpus: Corpus, trained, tmp_path: Path) -> None:
    """Windows of a packed store and of files give the same likelihoods, with streams and without."""
    model_folder, model = trained
    options = ("--likelihoods", "npz", "--segment-s", "1", "--overlap-s", "0.3", "--precision", "float32")
    said = a2v("predict", source / "audio", "--model", model_folder, "--out", tmp_path / "calls", *options)
    assert said.code == 0, said.err
    assert "11 of 12 recordings have streams (accelerometer: x, y)" in said.out
    found = dict(recording_likelihoods(model, corpus, range(RECORDINGS), 1.0, 0.3, precision="float32"))
    for number in range(RECORDINGS):
        (path,) = (tmp_path / "calls").rglob(f"rec{number:02d}*.npz")
        np.testing.assert_allclose(np.load(path)["likelihoods"], found[number], atol=2e-3)
    silent = pack(source, tmp_path / "deaf", PackConfig(sample_rate=RATE, labelled="all", focal_class=False))
    deaf = dict(recording_likelihoods(model, silent, range(RECORDINGS), 1.0, 0.3, precision="float32"))
    heard = [bool(np.abs(deaf[number] - found[number]).max() > 0.004) for number in range(RECORDINGS)]
    assert heard == [number != WITHOUT for number in range(RECORDINGS)]


def test_predict_without_streams_says_so_and_goes_on(a2v, source: Path, trained, tmp_path: Path) -> None:
    model_folder, _ = trained
    new = tmp_path / "new"
    new.mkdir()
    soundfile.write(new / "a.wav", *soundfile.read(source / "audio/rec01.wav"), subtype="PCM_16")
    call = ("predict", new, "--model", model_folder, "--out", tmp_path / "calls", "--all-classes")
    said = a2v(*call)
    assert said.code == 0, said.err
    told = "this model hears streams, too (accelerometer: x, y), and recordings are heard without: "
    assert f"{told}{new}: has no streams: expected streams.csv with file,time_s" in said.out
    (new / "streams").mkdir()
    (new / "streams/a.csv").write_bytes((source / "streams/rec01.csv").read_bytes())
    said = a2v(*call)
    assert said.code == 0 and "a.wav: its streams changed since it was done; done again" in said.out, said.out
    said = a2v(*call)
    assert "done again" not in said.out
    (new / "streams/a.csv").write_text("time_s,x\n1,2\n", encoding="utf-8")
    said = a2v(*call[:-1], "--out", tmp_path / "others")
    assert said.code != 0 and "streams/a.csv: of accelerometer the column y is missing" in said.out + said.err
    said = a2v(*call[:4], "--out", tmp_path / "third", "--streams", source)
    assert said.code == 2 and "streams/rec00.csv is named like no recording" in said.only_line()


def test_the_same_from_python(source: Path, trained) -> None:
    _, model = trained
    of_files = predict(source / "audio/rec01.wav", model, all_classes=True, streams=source, segment_s=1, overlap_s=0.3)
    table = pd.read_csv(source / "streams/rec01.csv")
    sound_N, rate = soundfile.read(source / "audio/rec01.wav", dtype="float32")
    beside = {"accelerometer": table[["x", "y"]].to_numpy()}
    of_arrays = predict(sound_N, model, rate, all_classes=True, streams=beside, segment_s=1, overlap_s=0.3)
    pd.testing.assert_frame_equal(of_files.drop(columns="file"), of_arrays, atol=1e-4)
    with pytest.raises(ValueError, match=r"arrays, .*not files"):
        predict(sound_N, model, rate, streams=source)


@pytest.mark.slow
def test_an_experiment_from_recordings_to_scores(a2v, source: Path, new_work, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "streams.yaml", tree(source) | {"ray": {"num_workers": 0}})
    said = a2v("experiment", "run", recipe, "--work", new_work(), "--set", "folds.run=[0]")
    assert said.code == 0, said.err
    assert "streams.accelerometer: 11 of 12 recordings have it" in said.err + said.out
    planned = a2v("experiment", "plan", recipe)
    assert planned.code == 0, planned.err


def test_what_nobody_named_is_told_with_what_to_write(a2v, source: Path, tmp_path: Path) -> None:
    said = a2v("experiment", "suggest", source, "--out", tmp_path / "suggested.yaml")
    assert said.code == 0, said.err
    told = "recorded beside sound, and heard only where data.streams names it: {NAME: {columns: [x, y], rate: 20}}"
    assert f"streams/: {told}" in said.out + said.err


@pytest.mark.slow
def test_a_head_is_adapted_to_what_the_model_hears(a2v, source: Path, trained, new_work, tmp_path: Path) -> None:
    model_folder, _ = trained
    said = a2v("adapt", source, "--model", model_folder, "--out", tmp_path / "adapted", "--work", new_work())
    assert said.code == 0, said.err
    shown = a2v("model", "info", tmp_path / "adapted")
    assert "x, y at 20 Hz, where a recording has it" in shown.out


def test_without_streams_is_kept_in_what_a_run_remembers(tmp_path: Path) -> None:
    path = str(write_recipe(tmp_path / "small.yaml", tree()))
    for overrides in ([], ["model.streams={}"]):
        recipe = load_recipe(path, overrides)
        again = Recipe.model_validate(recipe.model_dump(mode="json"))
        assert again == recipe and bool(again.model.streams) == (not overrides)


@pytest.mark.parametrize("overrides", [[], ["model.streams={}"]])
def test_a_tiny_trial_hears_a_stream_where_the_recipe_does(tmp_path: Path, overrides: list[str]) -> None:
    tiny = load_recipe(str(write_recipe(tmp_path / "small.yaml", tree())), overrides, scale="tiny")
    assert tiny.data.streams["accelerometer"].columns == ("x", "y", "z") and tiny.data.synthetic.accelerometer
    assert list(tiny.model.streams) == ([] if overrides else ["accelerometer"])


def test_the_backbone_of_a_finetuning_may_have_heard_sound_alone(tmp_path: Path, corpus: Corpus) -> None:
    """Its values are then normalised as those of a training from random weights."""
    deaf = build_task(spec(tmp_path, corpus, "pretrain", "model.streams={}"), torch.device("cpu")).model
    save_model(deaf, tmp_path / "deaf", {})
    given = spec(tmp_path, corpus, "finetune").model_copy(update={"backbone": str(tmp_path / "deaf")})
    of_random = build_task(spec(tmp_path, corpus, "finetune"), torch.device("cpu")).model
    encoder, other = (
        one.inner.streams["accelerometer"] for one in (build_task(given, torch.device("cpu")).model, of_random)
    )
    assert torch.equal(encoder.mean, other.mean) and torch.equal(encoder.scale, other.scale)
    assert float(encoder.mean[0]) > 4
    overrides = [f"backbone={tmp_path / 'deaf'}", "pretrain=null"]
    recipe = load_recipe(str(write_recipe(tmp_path / "small.yaml", tree())), overrides)
    assert find_backbone(recipe, tmp_path / "work", "sqlite:///none") is not None


def test_tables_are_found_from_any_folder_of_the_recordings(tmp_path: Path, corpus: Corpus, trained) -> None:
    model = trained[1].model_config
    (tmp_path / "audio/day1").mkdir(parents=True)
    (tmp_path / "streams/day1").mkdir(parents=True)
    recording = tmp_path / "audio/day1/a.wav"
    soundfile.write(recording, np.zeros(RATE), RATE)
    (tmp_path / "streams/day1/a.csv").write_text("time_s,x,y\n0.1,1,2\n", encoding="utf-8")
    for given, streams in (
        (tmp_path, None),
        (tmp_path / "audio", None),
        (recording.parent, None),
        (recording, tmp_path),
    ):
        found = find_recordings([str(given)])
        tables, told = find_tables(found, model, streams and str(streams))
        assert list(tables) == list(found) and not told, given


def test_times_of_a_clock_are_told_by_predict(a2v, source: Path, trained, tmp_path: Path) -> None:
    new = tmp_path / "new"
    (new / "streams").mkdir(parents=True)
    soundfile.write(new / "a.wav", *soundfile.read(source / "audio/rec01.wav"), subtype="PCM_16")
    (new / "streams/a.csv").write_text("time_s,x,y\n1700000000,1,2\n1700000001,1,2\n", encoding="utf-8")
    said = a2v("predict", new, "--model", trained[0], "--out", tmp_path / "calls", "--all-classes")
    assert said.code == 0
    assert "streams: 1 recordings have no value within them (first: a.wav) and are heard without; times" in said.out


def test_labels_beside_streams_are_scored_by_evaluate(a2v, source: Path, tmp_path: Path) -> None:
    said = a2v("evaluate", source / "annotations.csv", source)
    assert said.code == 0, said.err
