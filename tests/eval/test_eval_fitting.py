"""Event settings per class: fitted to labels, found the same way whole and in blocks, and thresholds that share."""

import numpy as np
import pytest
from a2v_eval.event_stream import find_events_in_blocks
from a2v_eval.events import EventConfig, find_events
from a2v_eval.fitting import fit_events
from a2v_eval.thresholds import ThresholdScores

CLASSES = ("click", "song")


def test_windows_and_shortest_durations_follow_the_lengths_of_each_class() -> None:
    lengths = {"click": np.full(20, 0.04), "song": np.linspace(1.0, 2.0, 21)}
    fitted = fit_events(EventConfig(), lengths, [*CLASSES, "never"])
    # 0.15 and 0.3 of the 5th percentile: 0.04, 1.05, and of all 41 together the value at place 2 (of 0 to 40), 0.04
    assert fitted.window_s == pytest.approx({"click": 0.006, "song": 0.1575, "never": 0.006})
    assert fitted.min_duration_s == pytest.approx({"click": 0.012, "song": 0.315, "never": 0.012})
    assert fitted.threshold == fitted.extent_threshold == 0.05
    with pytest.raises(ValueError, match="no labelled event"):
        fit_events(EventConfig(), {}, CLASSES)
    with pytest.raises(ValueError, match="canny has one window"):
        fit_events(EventConfig(method="canny"), lengths, CLASSES)


def per_class() -> EventConfig:
    return EventConfig(
        threshold=0.5, window_s={"click": 0.01, "song": 0.05}, min_duration_s={"click": 0.02, "song": 0.1}
    )


def test_each_class_has_its_own_window_and_shortest_duration() -> None:
    likelihood_TC = np.zeros((200, 2), np.float32)  # 100 Hz
    likelihood_TC[10:11] = 0.9  # 10 ms: too short for both
    likelihood_TC[30:32] = 0.9  # 20 ms: a click, no song
    likelihood_TC[60:90] = 0.9  # 300 ms: both
    events = find_events(likelihood_TC, 100, per_class(), classes=CLASSES)
    found = [(CLASSES[event["class"]], int(event["start"]), int(event["stop"])) for event in events]
    # a mean over 5 frames is above 0.5 where at least 3 of them are 0.9, so edges stay where they are
    assert found == [("click", 30, 32), ("click", 60, 90), ("song", 60, 90)]


@pytest.mark.parametrize("method", ["avg", "max"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_in_blocks_they_are_the_same_to_the_bit(method: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 1, (60, 2)).repeat(10, axis=0)
    likelihood_TC = (0.7 * coarse + 0.3 * rng.uniform(0, 1, coarse.shape)).astype(np.float32)
    config = per_class().model_copy(update={"method": method})
    whole = find_events(likelihood_TC, 100, config, classes=CLASSES)
    whole = whole[np.lexsort((whole["start"], whole["class"]))]
    cuts = np.sort(rng.choice(len(likelihood_TC), 9, replace=False))
    blocks = find_events_in_blocks(lambda: np.split(likelihood_TC, cuts), 100, config, CLASSES)
    assert len(whole) > 10 and set(whole["class"]) == {0, 1}
    for name in ("class", "start", "stop", "likelihood"):
        assert np.array_equal(blocks[name], whole[name]), name


def test_per_class_values_need_every_class_and_no_canny() -> None:
    with pytest.raises(ValueError, match="window_s"):
        find_events(np.zeros((10, 2), np.float32), 100, EventConfig(window_s={"click": 0.01}), classes=CLASSES)
    with pytest.raises(ValueError, match="canny has one"):
        EventConfig(method="canny", window_s={"click": 0.1})
    assert "min_duration_s" not in EventConfig().model_dump()  # fingerprints of before it stay


def test_a_class_with_few_labels_leans_on_what_suits_all() -> None:
    hits, predicted = np.array([[2, 1], [40, 80]]), np.array([[2, 2], [400, 90]])
    scores = ThresholdScores(CLASSES, np.array([0.1, 0.5]), hits, predicted, np.array([2, 90]))
    assert scores.best() == {"click": 0.1, "song": 0.5}
    # 10 of 92 are shared; click at 0.1: 2 (2 + 4.57) / (2 + 43.7 + 12) = .23, at 0.5: 2 (1 + 8.8) / (2 + 10 + 12) = .82
    assert scores.best(10) == {"click": 0.5, "song": 0.5}
    rare = ThresholdScores(CLASSES, scores.thresholds, np.array([[1, 0], [40, 80]]), predicted, scores.labelled)
    assert rare.best(10)["click"] == 0.1  # never where nothing of the class is found
