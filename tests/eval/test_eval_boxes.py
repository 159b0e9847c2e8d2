"""Event method `boxes`: perfect maps give the events back; matching one pair after the other; the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from a2v_eval import EVENT, LABEL, EvaluationConfig, EventConfig, evaluate, find_events
from a2v_eval.any_class import one_class
from a2v_eval.boxes import AGREEMENT, FLOOR, box_spans, covered
from a2v_eval.event_stream import find_events_in_blocks
from a2v_eval.events import frame_likelihoods
from a2v_eval.thresholds import THRESHOLDS, ThresholdSweep

RATE = 100.0
BOXES = EventConfig(method="boxes", threshold=0.3)
Calls = list[tuple[int, int, int]]  # class, start, stop


def perfect(calls: Calls, frames: int, classes: int) -> np.ndarray:
    """Maps that say the calls with certainty, (T, 4 C); durations elsewhere are wrong on purpose."""
    maps = np.zeros((frames, 4, classes), np.float32)
    maps[:, 2:] = 0.33
    for class_, start, stop in calls:
        maps[start, 0, class_] = maps[stop - 1, 1, class_] = 1.0
        maps[start, 2, class_] = maps[stop - 1, 3, class_] = (stop - start) / RATE
    return maps.reshape(frames, -1)


def found(events: np.ndarray) -> Calls:
    return [(int(e["class"]), int(e["start"]), int(e["stop"])) for e in events]


def drawn(seed: int, calls: int, frames: int, classes: int) -> Calls:
    """Calls with ends in different frames; of a class no two with an IoU above .7."""
    rng = np.random.default_rng(seed)
    kept: Calls = []
    while len(kept) < calls:
        class_, start = int(rng.integers(classes)), int(rng.integers(frames - 60))
        stop = start + int(rng.integers(5, 60))
        near = [(a, b) for other, a, b in kept if other == class_]
        if all(abs(start - a) > 1 and abs(stop - b) > 1 for a, b in near) and all(
            (min(stop, b) - max(start, a)) / (max(stop, b) - min(start, a)) < 0.7 for a, b in near
        ):
            kept.append((class_, start, stop))
    return sorted(kept)


@pytest.mark.parametrize(
    "calls",
    [
        [(0, 100, 120), (0, 110, 130)],  # one begins when half of the other is over
        [(0, 100, 160), (0, 120, 140)],  # within
        [(0, 100, 160), (0, 102, 162)][:1],
        [(0, 0, 20), (1, 5, 25), (0, 480, 500)],  # at the edges; another class
        [(1, 200, 201)],  # a frame
        [],
    ],
)
def test_perfect_maps_give_the_events_back(calls):
    events = find_events(perfect(calls, 500, 2), RATE, BOXES, classes=["a", "b"])
    assert events.dtype == EVENT and sorted(found(events)) == sorted(calls)
    assert (events["likelihood"] == 1).all()
    assert events["onset_s"].tolist() == [start / RATE for _, start, _ in found(events)]
    assert events["offset_s"].tolist() == [stop / RATE for _, _, stop in found(events)]


@pytest.mark.parametrize("seed", range(8))
def test_perfect_maps_of_many_overlapping_calls(seed):
    calls = drawn(seed, 60, 1500, 2)
    pairs = sum(a < d and c < b for k, a, b in calls for j, c, d in calls if k == j and (a, b) != (c, d)) // 2
    assert pairs > 15  # overlap indeed
    assert found(find_events(perfect(calls, 1500, 2), RATE, BOXES)) == calls


def test_one_end_alone_is_half_as_likely():
    maps = perfect([(0, 100, 120), (0, 300, 330)], 500, 1)
    maps[119, 1] = 0.0  # the offset of the first was not seen
    maps[300, 0] = 0.6  # the onset of the second hardly
    events = find_events(maps, RATE, BOXES)
    assert found(events) == [(0, 100, 120), (0, 300, 330)]
    assert events["likelihood"] == pytest.approx([0.5, 0.8])
    assert found(find_events(maps, RATE, BOXES.model_copy(update={"threshold": 0.6}))) == [(0, 300, 330)]


def test_what_is_said_twice_is_one_event():
    maps = perfect([(0, 100, 140)], 300, 1)
    maps[103, 0], maps[103, 2] = 0.7, 0.37  # a second peak of the onset, IoU 37/40
    maps[110, 0], maps[110, 2] = 0.7, 0.12  # another call, of which only the onset is seen, IoU 12/40
    events = find_events(maps, RATE, BOXES)
    assert found(events) == [(0, 100, 140), (0, 110, 122)]
    assert events["likelihood"] == pytest.approx([1.0, 0.35])


def in_turn(maps_T4: np.ndarray) -> set[tuple[int, int]]:
    """Pairs (onset frame, offset frame) by the definition, one after the other."""

    def iou(a: tuple[float, float], b: tuple[float, float]) -> float:
        shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
        return shared / (a[1] - a[0] + b[1] - b[0] - shared)

    frames = len(maps_T4)
    peaks = [
        [
            t for t in range(frames)
            if m[t] >= FLOOR and (t == 0 or m[t] > m[t - 1]) and (t == frames - 1 or m[t] >= m[t + 1])
        ]
        for m in maps_T4.T[:2]
    ]  # fmt: skip
    options = []
    for on in peaks[0]:
        forward = (on, min(on + max(1, round(maps_T4[on, 2] * RATE)), frames))
        for off in peaks[1]:
            backward = (max(off + 1 - max(1, round(maps_T4[off, 3] * RATE)), 0), off + 1)
            if off >= on:
                agreement = iou((on, off + 1), forward) * iou((on, off + 1), backward)
                if agreement > AGREEMENT:
                    options.append((agreement * (maps_T4[on, 0] + maps_T4[off, 1]) / 2, on, off))
    chosen: set[tuple[int, int]] = set()
    for _, on, off in sorted(options, reverse=True):
        if all(on != a and off != b for a, b in chosen):
            chosen.add((on, off))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_of_one_after_the_other(seed, monkeypatch):
    monkeypatch.setattr("a2v_eval.boxes.SAME_IOU", 1.0)  # nothing is left out as a repeat
    rng = np.random.default_rng(seed)
    maps = np.concatenate([rng.uniform(0.02, 1, (200, 2)), rng.uniform(0.02, 0.4, (200, 2))], 1).astype(np.float32)
    spans = box_spans(maps[None], RATE)
    both = {(int(s["start"]), int(s["stop"]) - 1) for s in spans}
    expected = in_turn(maps.astype(np.float64))
    assert len(expected) > 20 and expected <= both
    likelihood = {(int(s["start"]), int(s["stop"]) - 1): float(s["likelihood"]) for s in spans}
    for on, off in expected:
        assert likelihood[on, off] == pytest.approx((maps[on, 0] + maps[off, 1]) / 2, abs=1e-6)


def noisy(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 1, (800, 4)) ** 4, rng.uniform(0.05, 0.4, (800, 4))], 1).astype(np.float32)


def test_a_threshold_only_cuts_what_is_found():
    every = find_events(noisy(0), RATE, BOXES.model_copy(update={"threshold": 0.0}))
    for threshold in (0.1, 0.35, 0.6):
        events = find_events(noisy(0), RATE, BOXES.model_copy(update={"threshold": threshold}))
        assert 0 < len(events) < len(every)
        assert np.array_equal(events, every[every["likelihood"].astype(np.float32) >= np.float32(threshold)])


def test_blocks_give_the_same_events():
    maps = noisy(1)
    config = BOXES.model_copy(update={"min_duration_s": {"a": 0.05, "b": 0.2}})
    blocks = [maps[:7], maps[7:7], maps[7:500], maps[500:]]
    events = find_events(maps, RATE, config, classes=["a", "b"])
    assert len(events) > 20 and (events["stop"] - events["start"] >= np.where(events["class"] == 0, 5, 20)).all()
    assert np.array_equal(find_events_in_blocks(lambda: blocks, RATE, config, ["a", "b"]), events)
    assert len(find_events_in_blocks(lambda: [], RATE, config, ["a", "b"])) == 0


def test_the_threshold_sweep_counts_what_evaluate_counts():
    calls = drawn(3, 20, 800, 2)
    labels = np.array([(c, a / RATE, b / RATE) for c, a, b in calls], LABEL)
    maps = np.maximum(noisy(2), 0.8 * perfect(calls, 800, 2))
    config = EvaluationConfig(events=BOXES, iou_threshold=0.5)
    sweep = ThresholdSweep(["a", "b"], RATE, config)
    sweep.add(maps, labels)
    swept = sweep.result()
    for k in (0, 10, 25, 35):
        at = config.model_copy(update={"events": BOXES.model_copy(update={"threshold": THRESHOLDS[k]})})
        scores = evaluate([(maps, labels)], ["a", "b"], RATE, at).strict
        assert [swept.hits[c, k] for c in (0, 1)] == [scores.per_class[name].hits for name in "ab"]
        assert [swept.predicted[c, k] for c in (0, 1)] == [scores.per_class[name].predictions for name in "ab"]


def test_scores_count_each_of_overlapping_calls():
    labels = np.array([(0, 1.0, 1.2), (0, 1.1, 1.3), (1, 1.0, 1.3)], LABEL)
    calls = [(0, 100, 120), (0, 110, 130), (1, 100, 130)]
    config = EvaluationConfig(events=BOXES, iou_threshold=0.5)
    scores = evaluate([(perfect(calls, 300, 2), labels)], ["a", "b"], RATE, config)
    assert scores.strict.micro.f1 == scores.strict.micro.ap == 1.0 and scores.strict.micro.labels == 3
    assert scores.paper.micro.labels == 2  # which joins those of a class that overlap
    frames = np.zeros((300, 2), np.float32)
    frames[100:130] = 1.0
    pooled = EvaluationConfig(events=EventConfig(window_s=0.01, threshold=0.5), iou_threshold=0.5)
    merged = evaluate([(frames, labels)], ["a", "b"], RATE, pooled)
    assert merged.strict.micro.f1 == pytest.approx(2 * 2 / (2 + 3))  # one event for both calls of class a


def test_what_is_shown_of_a_frame_is_its_likeliest_event():
    maps = perfect([(0, 100, 120), (0, 110, 130)], 300, 1)
    maps[110, 0] = maps[129, 1] = 0.6
    likelihood_T1 = frame_likelihoods(maps, RATE, BOXES)
    assert likelihood_T1.shape == (300, 1)
    expected = np.zeros(300)
    expected[110:130], expected[100:120] = 0.6, 1.0
    assert likelihood_T1[:, 0] == pytest.approx(expected)
    assert frame_likelihoods(likelihood_T1, RATE, EventConfig()) is likelihood_T1
    assert covered(box_spans(maps[None], RATE), (1, 300, 1))[0] == pytest.approx(likelihood_T1)


def test_all_classes_as_one():
    maps = perfect([(0, 100, 120), (1, 115, 140)], 300, 2)
    joined, _ = one_class(maps, np.zeros(0, LABEL), BOXES)
    assert found(find_events(joined, RATE, BOXES)) == [(0, 100, 120), (0, 115, 140)]


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"window_s": 0.5}, "window_s: has no effect with method boxes"),
        ({"peak_share": 0.3}, "peak_share: has no effect with method boxes"),
        ({"extent_threshold": 0.1}, "extent_threshold: has no effect with method boxes"),
        ({"max_duration_s": 2.0}, "max_duration_s: 2.0 has no effect with method boxes"),
    ],
)
def test_settings_without_effect_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        EventConfig(method="boxes", **settings)


def test_wrong_columns_are_refused():
    with pytest.raises(ValueError, match="7 columns should be 4 for each class"):
        find_events(np.zeros((10, 7), np.float32), RATE, BOXES)
    with pytest.raises(ValueError, match=r"recording 0: likelihood: shape \(10, 2\) should be \(frames, 8 columns\)"):
        evaluate(
            [(np.zeros((10, 2), np.float32), np.zeros(0, LABEL))], ["a", "b"], RATE, EvaluationConfig(events=BOXES)
        )
    maps = np.full((10, 4), np.nan, np.float32)
    with pytest.raises(ValueError, match="holds NaN"):
        find_events(maps, RATE, BOXES)
