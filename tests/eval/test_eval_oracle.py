"""Event and timestep curves against sed_scores_eval, whose numbers goldens/make_sed_scores_eval.py wrote down."""

import json
from pathlib import Path

import numpy as np
import pytest
from a2v_eval import LABEL, EvaluationConfig, EventConfig, evaluate
from a2v_eval.any_class import TimestepCounter

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "sed_scores_eval.json").read_text())
RATE, FRAMES, CLASSES = GOLDEN["frame_rate"], GOLDEN["frames"], GOLDEN["classes"]


def one_frame(threshold):
    """Events are the frames above the threshold, as there; here they reach it, so the next number is given."""
    return EventConfig(window_s=1 / RATE, threshold=float(np.nextafter(np.float32(threshold), np.float32(1))))


def labels_of(recording, classes=(0, 1, 2)):
    rows = [(c, start / RATE, stop / RATE) for c, start, stop in recording["labels"] if c in classes]
    return np.array(rows, LABEL)


def recordings():
    for recording in GOLDEN["recordings"]:
        likelihood_TC = np.full((FRAMES, len(CLASSES)), 0.01, np.float32)
        for class_, start, stop, height in recording["bumps"]:
            likelihood_TC[start:stop, class_] = height
        yield likelihood_TC, labels_of(recording)


@pytest.mark.parametrize("at", range(len(GOLDEN["thresholds"])))
@pytest.mark.parametrize("curve", ["intersection_based", "collar_based"])
def test_strict_events_at_each_threshold(curve, at):
    config = EvaluationConfig(events=one_frame(GOLDEN["thresholds"][at]), iou_threshold=0.3)
    found = evaluate(recordings(), CLASSES, RATE, config).strict
    for name, wanted in GOLDEN["curves"][curve][at].items():
        s = found.per_class[name]
        assert (s.hits, s.predictions - s.hits, s.labels) == (wanted["tps"], wanted["fps"], wanted["n_ref"])
        if s.predictions:
            assert (s.precision, s.recall, s.f1) == pytest.approx(
                (wanted["precision"], wanted["recall"], wanted["F1"]), abs=1e-12
            )


def test_every_point_of_the_one_ranking_is_what_that_threshold_gives():
    """So AP is the area under their curve too: events need not be found anew for each threshold."""
    entries = evaluate(recordings(), CLASSES, RATE, EvaluationConfig(events=one_frame(0.05))).entries("strict")
    for threshold, by_class in zip(GOLDEN["thresholds"], GOLDEN["curves"]["intersection_based"], strict=True):
        for name, wanted in by_class.items():
            above = (entries["class"] == CLASSES.index(name)) & (entries["likelihood"] > threshold + 1e-6)
            assert entries["target"][above].sum() == wanted["tps"]
            assert (~entries["target"][above]).sum() == wanted["fps"]


@pytest.mark.parametrize("at", range(len(GOLDEN["thresholds"])))
def test_timesteps_at_each_threshold(at):
    counter = TimestepCounter(["any"], RATE, one_frame(GOLDEN["thresholds"][at]))
    for smooth, recording in zip(GOLDEN["smooth"], GOLDEN["recordings"], strict=True):
        counter.add(np.array(smooth, np.float32)[:, None], labels_of(recording, classes=(0,)))
    found, wanted = counter.scores(), GOLDEN["curves"]["segment_based"][at]["any"]
    assert found.labelled == wanted["n_ref"] and found.predicted == wanted["tps"] + wanted["fps"]
    assert (found.precision, found.recall, found.f1) == pytest.approx(
        (wanted["precision"], wanted["recall"], wanted["F1"]), abs=1e-12
    )
