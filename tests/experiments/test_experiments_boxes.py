"""`finetune.head: boxes`, whole: targets, what a recipe may not ask for, a small experiment, and its predictions."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_data.pack import PackConfig, pack
from a2v_eval import EventConfig, find_events
from a2v_experiments.basics.errors import UserError
from a2v_experiments.explain.drawing import event_config
from a2v_experiments.overview.plan_costs import measure_scoring
from a2v_experiments.predict import predict
from a2v_experiments.recipe.trainings import FinetuneStage
from a2v_experiments.review.calls import open_calls
from a2v_experiments.training.box_targets import box_targets, mark_box
from a2v_experiments.training.tasks import build_task
from a2v_model import Detector, load_model
from experiments_runs import World
from experiments_world import RATE, call_quietly, make_csv_source, make_recipe, recipe_tree, training_spec, write_recipe

FRAME_RATE = 100.0
CHANGES: dict[str, Any] = {
    "data__overlaps": "keep", "finetune__head": "boxes", "finetune__bcl": None, "pretrain": None,
    "evaluate__events": {"method": "boxes"}, "folds": {"count": 3, "run": [0]},
}  # fmt: skip


@pytest.fixture(scope="module")
def overlapping_source(tmp_path_factory) -> Path:
    """The small recordings; of each another call is labelled, which begins within one of its class."""
    folder = make_csv_source(tmp_path_factory.mktemp("overlapping") / "source")
    with (folder / "annotations.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    more = []
    for name in sorted({row["file"] for row in rows}):
        first = next(row for row in rows if row["file"] == name)
        onset, offset = float(first["onset_s"]), float(first["offset_s"])
        half = (offset - onset) / 2
        more.append({**first, "onset_s": onset + half, "offset_s": offset + half})
    with (folder / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["file", "onset_s", "offset_s", "label"])
        table.writeheader()
        table.writerows([*rows, *more])
    return folder


@pytest.fixture(scope="module")
def boxes_world(overlapping_source, empty_database, tmp_path_factory) -> World:
    """An experiment with head boxes that was run: one fold, six updates."""
    folder = tmp_path_factory.mktemp("boxes")
    recipe = write_recipe(folder / "boxes.yaml", recipe_tree(data__source=str(overlapping_source), **CHANGES))
    (folder / "work").mkdir()
    shutil.copy(empty_database, folder / "work" / "mlflow.db")
    said = call_quietly("experiment", "run", recipe, "--work", folder / "work")
    assert said.code == 0, said.err
    return World(folder / "work", recipe, said)


@pytest.fixture(scope="module")
def model_folder(boxes_world) -> Path:
    return boxes_world.fetch(boxes_world.runs("finetune")[0], "model")


def test_targets_of_a_call() -> None:
    targets_T4 = np.zeros((50, 4), np.float32)
    targets_T4[:, 2:] = np.nan
    mark_box(targets_T4, 10.4, 29.6, FRAME_RATE)  # frames 10 to 29: 20 frames, spread 2
    mark_box(targets_T4, 10.0, 15.0, FRAME_RATE)  # begins in the same frame, and is shorter
    assert np.flatnonzero(targets_T4[:, 0] == 1).tolist() == [10]
    assert np.flatnonzero(targets_T4[:, 1] == 1).tolist() == [14, 29]
    assert targets_T4[12, 0] == pytest.approx(np.exp(-0.5)) and targets_T4[31, 1] == pytest.approx(np.exp(-0.5))
    assert np.flatnonzero(~np.isnan(targets_T4[:, 2])).tolist() == [10]
    assert targets_T4[10, 2] == pytest.approx(np.log(0.20 / 0.1))
    assert targets_T4[[14, 29], 3] == pytest.approx([np.log(0.05 / 0.1), np.log(0.20 / 0.1)])


def test_a_call_that_a_segment_cuts_has_an_end_and_no_duration() -> None:
    targets_T4 = np.zeros((50, 4), np.float32)
    targets_T4[:, 2:] = np.nan
    mark_box(targets_T4, -5.0, 10.0, FRAME_RATE)
    mark_box(targets_T4, 45.0, 60.0, FRAME_RATE)
    assert np.flatnonzero(targets_T4[:, 0] == 1).tolist() == [45]
    assert np.flatnonzero(targets_T4[:, 1] == 1).tolist() == [9]
    assert np.isnan(targets_T4[:, 2:]).all()


def test_targets_of_segments_are_perfect_maps(overlapping_source, tmp_path) -> None:
    """What the targets say, as the outputs that would be right, gives every label back, overlapping ones too."""
    corpus = pack(overlapping_source, tmp_path / "corpus", PackConfig(sample_rate=RATE, overlaps="keep"))
    segments = np.array([(0, 0), (1, 0)], SEGMENT_DTYPE)
    frames = 310
    targets_BTM = box_targets(corpus, segments, FRAME_RATE, corpus.targets(segments, FRAME_RATE, frames))
    heat, duration = np.split(targets_BTM, 2, axis=2)
    maps = np.concatenate([heat, 0.1 * np.exp(np.nan_to_num(duration))], axis=2)
    for row in (0, 1):
        events = find_events(maps[row], FRAME_RATE, EventConfig(method="boxes", threshold=0.9))
        labels = corpus.labels(row)
        assert len(events) == len(labels) == 5
        rounded = sorted(
            zip(labels["class"], *(np.round(labels[name] * 100) for name in ("onset_s", "offset_s")), strict=True)
        )
        assert sorted(zip(events["class"], events["start"], events["stop"], strict=True)) == rounded


def test_unsure_time_is_not_known(overlapping_source, tmp_path) -> None:
    corpus = pack(overlapping_source, tmp_path / "corpus", PackConfig(sample_rate=RATE, overlaps="keep"))
    segments = np.array([(0, 0)], SEGMENT_DTYPE)
    frame_targets_BTC = corpus.targets(segments, FRAME_RATE, 100)
    frame_targets_BTC[0, 90:, 0] = np.nan
    targets = box_targets(corpus, segments, FRAME_RATE, frame_targets_BTC).reshape(100, 4, 2)
    unknown = np.isnan(targets[:, :2])
    assert unknown[90:, :, 0].sum() >= 18 and not unknown[:90].any() and not unknown[:, :, 1].any()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"evaluate__events": {"method": "avg"}}, "evaluate.events.method = avg: finetune.head: boxes needs boxes"),
        ({"data__overlaps": "merge"}, "data.overlaps = merge: finetune.head: boxes needs keep"),
        ({"finetune__bcl": {}}, "finetune.bcl: mixes targets of frames"),
        ({"finetune__augment": {"paste": {}}}, "finetune.augment.paste: mixes targets of frames"),
        ({"finetune__augment": {"background": {}}}, "finetune.augment.background: mixes targets of frames"),
        ({"finetune__head": "temporal"}, "evaluate.events.method = boxes: needs finetune.head: boxes; it is temporal"),
        ({"evaluate__fit_events": True}, "fit_events = true: boxes has no window to be fitted"),
        ({"data__annotations": {"weak": "weak.csv"}}, "finetune.head = boxes: learns from events only"),
        ({"finetune_by_share": {0.5: {"head": "temporal"}}}, "boxes must be the head of all shares, or of none"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, changes, said) -> None:
    with pytest.raises(UserError, match=said) as refused:
        make_recipe(tmp_path, **{**CHANGES, **changes})
    assert "\n" not in str(refused.value)


def test_levels_and_other_changes_of_sound_may_be_had(tmp_path) -> None:
    recipe = make_recipe(tmp_path, **{**CHANGES, "finetune__augment": {"gain_db": 6.0}})
    assert isinstance(recipe.finetune, FinetuneStage) and recipe.finetune.head == "boxes"


def test_recordings_that_are_labelled_as_a_whole_are_refused(tmp_path, overlapping_source) -> None:
    recipe = make_recipe(tmp_path, **CHANGES)
    corpus = pack(overlapping_source, tmp_path / "corpus", PackConfig(sample_rate=RATE, overlaps="keep"))
    meta = json.loads((corpus.folder / "corpus.json").read_text(encoding="utf-8"))
    meta["weak"] = {"rec03.wav": ["cc"]}
    (corpus.folder / "corpus.json").write_text(json.dumps(meta), encoding="utf-8")
    assert Corpus.open(corpus.folder).weak
    with pytest.raises(ValueError, match=r"rec03\.wav: has labels of the whole recording only"):
        build_task(training_spec(recipe, "finetune", corpus.folder), torch.device("cpu"))


def test_a_plan_times_scoring_by_boxes(tmp_path) -> None:
    recipe = make_recipe(tmp_path, **CHANGES)
    assert measure_scoring(recipe) > 0 and measure_scoring(recipe, whole=False) > 0


def test_an_experiment_scores_each_of_overlapping_calls(boxes_world) -> None:
    run = boxes_world.runs("finetune")[0]
    metrics = run.data.metrics
    losses = boxes_world.losses(run)
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6] and all(np.isfinite(loss) for _, loss in losses)
    assert metrics["labels/evaluation/cc"] + metrics["labels/evaluation/sn"] == 20  # of 4 recordings, 5 each
    assert metrics["strict/labelled/cc"] + metrics["strict/labelled/sn"] == 20
    assert {"strict/AP/micro", "AP/micro", "energy/strict/AP/micro", "timestep/F1"} <= metrics.keys()
    expected = {"evaluation.json", "scores.csv", "example.png", "confidence_intervals.csv"}
    assert expected <= boxes_world.artifacts(run)
    corpus = next((boxes_world.work / "corpora").glob("*/corpus.json")).parent
    assert sum(len(Corpus.open(corpus).labels(number)) for number in range(12)) == 60


def test_its_model_says_how_its_events_are_found(model_folder) -> None:
    model = load_model(model_folder)
    assert isinstance(model, Detector) and model.config.head == "boxes"
    assert model.thresholds_from["method"] == "boxes" and event_config(model).method == "boxes"


def test_predict_writes_events_tables(model_folder, overlapping_source, tmp_path) -> None:
    recording = overlapping_source / "audio" / "rec00.wav"
    said = call_quietly(
        "predict", recording, "--model", model_folder, "--out", tmp_path / "out", "--format", "csv", "--format",
        "raven", "--threshold", 0.04, "--processes", 1, "--all-classes", "--precision", "float32",
    )  # fmt: skip
    assert said.code == 0, said.err
    with (tmp_path / "out" / "events.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = predict(recording, model_folder, threshold=0.04, all_classes=True, precision="float32")
    assert len(rows) == len(table) > 0
    assert [float(row["likelihood"]) for row in rows] == pytest.approx(table.likelihood.tolist(), abs=1e-4)
    assert list((tmp_path / "out").rglob("*.txt"))  # Raven's selection table
    assert len(open_calls(tmp_path / "out").events) == len(rows)  # what `a2v review` shows


def test_evaluate_counts_each_of_overlapping_calls(overlapping_source) -> None:
    labels = overlapping_source / "annotations.csv"
    said = call_quietly("evaluate", labels, labels, "--json")
    assert said.code == 0, said.err
    rows = json.loads(said.out)["protocols"]["strict"]["scores"]
    row = next(row for row in rows if row["class"] == "micro")
    assert (row["labels"], row["predictions"], row["found"], row["F1"]) == (60, 60, 60, 1.0)


@pytest.mark.parametrize(
    "options, said",
    [
        (("--method", "avg"), "this model's head gives onsets and offsets, so its events are found by boxes only"),
        (("--likelihoods", "npz"), "this model gives onsets and offsets, no likelihoods of frames"),
    ],
)
def test_what_needs_frames_is_refused_by_predict(model_folder, overlapping_source, tmp_path, options, said) -> None:
    recording = overlapping_source / "audio" / "rec00.wav"
    told = call_quietly("predict", recording, "--model", model_folder, "--out", tmp_path / "out", *options)
    assert told.code == 2 and said in told.only_line()
    assert not (tmp_path / "out" / "events.csv").exists()
