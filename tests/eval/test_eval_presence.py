"""Presence per recording: its scores are what events are held against, its AP and counts by hand."""

import numpy as np
import pytest
from a2v_eval.events import EventConfig, find_events
from a2v_eval.presence import PresenceCollector, PresenceScores, presence_scores, presence_text
from a2v_eval.summary import summarise

CLASSES = ("a", "b")
CONFIGS = {
    "avg": EventConfig(window_s=0.05),
    "max": EventConfig(method="max", window_s=0.05),
    "fitted": EventConfig(window_s={"a": 0.03, "b": 0.07}, peak_share=0.3, extent_threshold=0.1, threshold=0.1),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_score_is_where_events_begin_to_be_found(name: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        likelihood = np.cumsum(rng.normal(size=(80, 2)), axis=0)
        likelihood = (1 / (1 + np.exp(-likelihood / 3))).astype(np.float32)
        scores = presence_scores(likelihood, 100, CONFIGS[name], CLASSES)
        for step, found in ((-1e-4, True), (1e-4, False)):
            at = {one: float(score) + step for one, score in zip(CLASSES, scores, strict=True)}
            config = CONFIGS[name].model_copy(update={"threshold": at})
            events = find_events(likelihood, 100, config, classes=CLASSES)
            there = np.isin(np.arange(2), events["class"])
            above = scores > (CONFIGS[name].extent_threshold or 0)
            assert (there == found)[above].all()


def test_recordings_without_an_event_rank_below_all_that_have_one() -> None:
    quiet, loud = np.full((50, 1), 0.08, np.float32), np.full((50, 1), 0.02, np.float32)
    loud[10:20] = 0.13
    config = EventConfig(window_s=0.01, extent_threshold=0.1, threshold=0.1)
    low, high = (presence_scores(one, 100, config, ["a"])[0] for one in (quiet, loud))
    assert low == pytest.approx(0.08) and high == pytest.approx(0.13)


def test_average_precision_over_recordings() -> None:
    present = np.array([[1, 0], [0, 0], [1, 0], [0, 0]], bool)
    scores = PresenceScores(
        CLASSES, np.array([[0.9, 0.3], [0.8, 0.2], [0.7, 0.1], [0.1, 0.6]]), present, np.ones(4, bool)
    )
    assert scores.ap("a") == pytest.approx((1 / 1 + 2 / 3) / 2) and np.isnan(scores.ap("b"))
    assert scores.macro == scores.ap("a") == pytest.approx(scores.micro)
    metrics = scores.metrics({"a": 0.75})
    assert "presence/AP/b" not in metrics and metrics["presence/mAP/micro"] == pytest.approx(5 / 6)
    assert [metrics[f"presence/{what}/a"] for what in ("found", "predicted", "labelled")] == [1, 2, 2]
    assert metrics["presence/F1/a"] == pytest.approx(0.5) and metrics["presence/recordings/weak"] == 4
    text = presence_text(summarise([metrics]), CLASSES, "thresholds of a test")
    assert "b" in text and "4 evaluation recordings: 4 by recording-level labels" in text


def test_folds_are_joined_and_kept() -> None:
    first, second = (PresenceCollector(CLASSES, 100, EventConfig(window_s=0.01)) for _ in range(2))
    first.add(np.full((10, 2), 0.5, np.float32), np.array([True, False]), weak=True)
    second.add(np.full((10, 2), 0.25, np.float32), np.array([False, False]), weak=False)
    both = PresenceScores.from_plain(first.result().to_plain()) + second.result()
    assert both.scores.tolist() == [[0.5, 0.5], [0.25, 0.25]] and both.weak.tolist() == [True, False]
    counts = both.thresholds()
    place = int(np.flatnonzero(counts.thresholds == 0.25)[0])
    assert counts.predicted[:, place].tolist() == [2, 2] and counts.predicted[:, place + 1].tolist() == [1, 1]
    assert counts.hits[:, place].tolist() == [1, 0] and counts.labelled.tolist() == [1, 0]
    assert PresenceCollector(CLASSES, 100).result().scores.shape == (0, 2)
