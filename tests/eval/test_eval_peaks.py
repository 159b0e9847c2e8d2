"""Runs above the threshold are taken apart where the pooled likelihood falls below a share of both peaks."""

from __future__ import annotations

import numpy as np
import pytest
from a2v_eval.evaluation import EvaluationConfig, evaluate
from a2v_eval.event_stream import find_events_in_blocks
from a2v_eval.events import EventConfig, find_events
from a2v_eval.fitting import PEAK_SHARE, fit_events
from a2v_eval.labels import LABEL
from a2v_eval.peaks import moving_maximum
from a2v_eval.presence import presence_scores
from a2v_eval.thresholds import ThresholdSweep

RATE = 100.0


def spans(values: list[float], threshold: float = 0.05, **given: float) -> list[tuple[int, int]]:
    """Events of one class, each frame its own window, half of a peak's height dividing."""
    config = EventConfig(window_s=1 / RATE, threshold=threshold, **{"peak_share": 0.5, **given})
    events = find_events(np.array(values, np.float32)[:, None], RATE, config)
    return [(int(event["start"]), int(event["stop"])) for event in events]


@pytest.mark.parametrize(
    "values, expected",
    [
        # below half of .6, the lower peak; the valley itself belongs to nobody
        ([0, 0.8, 0.25, 0.6, 0], [(1, 2), (3, 4)]),
        # .35 is below half of .8 and above half of .6: one event, of what is above .4
        ([0, 0.8, 0.35, 0.6, 0], [(1, 2)]),
        ([0, 0.6, 0.35, 0.8, 0], [(3, 4)]),
        ([0, 0.8, 0.45, 0.6, 0], [(1, 4)]),
        # exactly half is not below it; it is not above half of .8 either
        ([0, 0.5, 0.25, 0.5, 0], [(1, 2)]),
        # a shoulder at .3 is no peak and belongs to no event
        ([0, 0.1, 0.3, 0.3, 0.8, 0.9, 0.5, 0.3, 0.3, 0.1, 0], [(4, 7)]),
        # a plateau, of which the first frame is the peak, and two equal peaks apart
        ([0, 0.8, 0.8, 0.8, 0], [(1, 4)]),
        ([0.8, 0.8, 0.2, 0.8, 0.8], [(0, 2), (3, 5)]),
        # equal maxima that nothing divides are one peak: the stretch around the first
        ([0, 0.8, 0.4, 0.8, 0], [(1, 2)]),
        # at the ends of the run and of the recording
        ([0.9, 0.2, 0.06, 0.1, 0.5], [(0, 1), (4, 5)]),
        # the middle of three is low, and no peak: .3 is not below half of .5
        ([0, 0.9, 0.3, 0.5, 0.35, 0.9, 0], [(1, 2), (5, 6)]),
        # low, but a peak: .1 and .15 are below half of .35
        ([0, 0.9, 0.1, 0.35, 0.15, 0.9, 0], [(1, 2), (3, 4), (5, 6)]),
        # on the way down .45 is no peak, since .3 is above half of it; the valley that counts is the lowest, .1
        ([0, 0.9, 0.3, 0.45, 0.1, 0.25, 0], [(1, 2), (5, 6)]),
        # two runs
        ([0.9, 0.1, 0.9, 0.04, 0.3, 0.2], [(0, 1), (2, 3), (4, 6)]),
    ],
)
def test_worked_out_on_paper(values: list[float], expected: list[tuple[int, int]]) -> None:
    assert spans(values) == expected


def test_above_that_share_of_every_peak_the_threshold_decides_alone() -> None:
    rng = np.random.default_rng(0)
    likelihood_BTC = rng.uniform(0, 1, (3, 500, 4)).astype(np.float32)
    for method in ("avg", "max"):
        without = EventConfig(method=method, window_s=0.03, threshold=0.4)
        found = find_events(likelihood_BTC, RATE, without.model_copy(update={"peak_share": 0.4}))
        assert len(found) > 30 and found.tobytes() == find_events(likelihood_BTC, RATE, without).tobytes()


def test_the_mean_is_over_the_events_own_frames_and_short_pieces_are_dropped() -> None:
    values = [0, 0.5, 0.75, 0.25, 0.5, 1.0, 0.75, 0.1, 0]
    config = EventConfig(window_s=0.01, threshold=0.05, peak_share=0.4)
    likelihood_TC = np.array(values, np.float32)[:, None]
    first, second = find_events(likelihood_TC, RATE, config, "strict")
    assert (first["likelihood"], second["likelihood"]) == (0.625, 0.75)
    first, second = find_events(likelihood_TC, RATE, config, "paper")  # without the last frame
    assert (first["likelihood"], second["likelihood"]) == (0.5, 0.75)
    assert spans(values, peak_share=0.4) == [(1, 3), (4, 7)]
    assert spans(values, peak_share=0.4, min_duration_s=0.03) == [(4, 7)]


@pytest.mark.parametrize("width", [2, 3])
def test_frames_are_shifted_by_half_the_window(width: int) -> None:
    likelihood_TC = np.zeros((30, 1), np.float32)
    likelihood_TC[[8, 9, 10, 20, 21]] = 1
    likelihood_TC[11:20] = 0.1
    config = EventConfig(method="max", window_s=width / RATE, threshold=0.05, peak_share=0.35)
    # a window that begins at v holds a 1 from v = 8 - (width - 1) to 10, and from 20 - (width - 1) to 21
    expected = [(first - (width - 1) + width // 2, last + 1 + width // 2) for first, last in ((8, 10), (20, 21))]
    found = find_events(likelihood_TC, RATE, config)
    assert [(event["start"], event["stop"]) for event in found] == expected


def by_persistence(values: np.ndarray, floors: np.ndarray) -> list[tuple[int, int]]:
    """Of one run. A frame is a peak if on each side, before anything higher comes, the likelihood falls below its
    floor, or the run ends; of equal ones the first counts as higher."""
    found = []
    for peak, (height, floor) in enumerate(zip(values, floors, strict=True)):
        left, right = values[:peak][::-1], values[peak + 1 :]
        survives = True
        for side, higher in ((left, left >= height), (right, right > height)):
            if higher.any():
                survives &= bool((side[: int(np.argmax(higher))] < floor).any())
        if survives:
            around = values > floor
            around[peak] = True
            start = peak - int(np.argmin(np.r_[around[:peak][::-1], False]))
            found.append((start, peak + 1 + int(np.argmin(np.r_[around[peak + 1 :], False]))))
    return found


def drawn(seed: int, frames: int = 300, classes: int = 2) -> np.ndarray:
    """Likelihoods with many valleys of all depths and with plateaus, in 64ths, so that sums are exact."""
    rng = np.random.default_rng(seed)
    slow = np.repeat(rng.beta(0.7, 1.2, (frames // 10, classes)), 10, axis=0)
    fast = slow * rng.uniform(0.2, 1.3, slow.shape) if seed % 2 else slow + rng.normal(0, 0.08, slow.shape)
    return (np.clip(np.round(fast * 64), 0, 64) / 64).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("method", ["avg", "max"])
def test_equals_the_definition_by_persistence(method: str, seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    share, width = float(rng.uniform(0.1, 0.9)), int(rng.integers(1, 5))
    likelihood_TC = drawn(seed)
    config = EventConfig(method=method, window_s=width / RATE, threshold=0.05, peak_share=share)
    expected = []
    for class_ in range(likelihood_TC.shape[1]):
        windows = [likelihood_TC[v : v + width, class_] for v in range(len(likelihood_TC) - width + 1)]
        pooled_V = np.array([w.max() if method == "max" else w.mean(dtype=np.float64) for w in windows], np.float32)
        edges = np.flatnonzero(np.diff(np.r_[False, pooled_V > np.float32(0.05), False]))
        for start, stop in edges.reshape(-1, 2).tolist():
            part = pooled_V[start:stop]
            for left, right in by_persistence(part, np.float32(share) * part):
                expected.append((class_, start + left + width // 2, start + right + width // 2))
    events = find_events(likelihood_TC, RATE, config)
    assert [(e["class"], e["start"], e["stop"]) for e in events] == expected
    assert len(events) > len(find_events(likelihood_TC, RATE, config.model_copy(update={"peak_share": 0.0})))
    assert not (events["stop"][:-1] > events["start"][1:])[np.diff(events["class"]) == 0].any()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("method", ["avg", "max"])
def test_blocks_of_any_length_give_the_same_to_the_bit(method: str, seed: int) -> None:
    rng = np.random.default_rng(200 + seed)
    likelihood_TC = np.maximum(drawn(seed, 600, 3) + rng.uniform(0, 0.01, (600, 3)), 0.06).astype(np.float32)
    likelihood_TC[:, 1] *= rng.uniform(0, 1, 600) < 0.97  # class 0 is one run from end to end
    config = EventConfig(
        method=method, threshold=0.05, window_s={"a": 0.01, "b": 0.03, "c": 0.04}, peak_share=rng.uniform(0.2, 0.5)
    )
    whole = find_events(likelihood_TC, RATE, config, classes="abc")
    whole = whole[np.lexsort((whole["start"], whole["class"]))]
    cuts = np.sort(rng.integers(0, 600, int(rng.integers(1, 60))))
    found = find_events_in_blocks(lambda: np.split(likelihood_TC, cuts), RATE, config, "abc")
    assert (np.bincount(whole["class"]) > 5).all() and found.tobytes() == whole.tobytes()


@pytest.mark.parametrize("width", [1, 2, 5, 8, 20])
def test_the_moving_maximum_lies_inside_the_row(width: int) -> None:
    values = np.random.default_rng(width).uniform(0, 1, (2, 20)).astype(np.float32)
    expected = np.lib.stride_tricks.sliding_window_view(values, width, axis=1).max(-1)
    assert np.array_equal(moving_maximum(values, width), expected)


def test_it_is_off_unless_asked_for_and_not_for_canny() -> None:
    assert "peak_share" not in EventConfig().model_dump()  # fingerprints of before it stay
    assert EventConfig(**EventConfig(peak_share=0.35).model_dump()).peak_share == 0.35
    with pytest.raises(ValueError, match=r"peak_share: 0\.35 has no effect with method canny"):
        EventConfig(method="canny", peak_share=0.35)
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match="peak_share"):
            EventConfig(peak_share=wrong)


def test_events_fitted_to_labels_are_taken_apart() -> None:
    lengths = {"a": np.full(5, 0.1)}
    assert fit_events(EventConfig(), lengths, ["a"]).peak_share == PEAK_SHARE == 0.3
    assert fit_events(EventConfig(peak_share=0.2), lengths, ["a"]).peak_share == 0.2


def test_a_threshold_moves_no_edges_where_an_extent_threshold_is_given() -> None:
    likelihood_T = np.array([0, 0.2, 0.9, 0.8, 0.1, 0, 0, 0.3, 0.4, 0.2, 0, 0.04, 0], np.float32)
    means = {(1, 5): 0.5, (7, 10): 0.3}  # of (.2 + .9 + .8 + .1) / 4 and (.3 + .4 + .2) / 3
    base = EventConfig(window_s=0.01, threshold=0.05, extent_threshold=0.05)
    for threshold, expected in ((0.05, [(1, 5), (7, 10)]), (0.29, [(1, 5), (7, 10)]), (0.31, [(1, 5)]), (0.51, [])):
        config = base.model_copy(update={"threshold": threshold})
        events = find_events(likelihood_T[:, None], 100.0, config)
        assert [(int(e["start"]), int(e["stop"])) for e in events] == expected
        assert [float(e["likelihood"]) for e in events] == pytest.approx([means[span] for span in expected])
    assert "extent_threshold" not in EventConfig().model_dump()
    with pytest.raises(ValueError, match="extent_threshold: has no effect with method canny"):
        EventConfig(method="canny", extent_threshold=0.1)


def test_an_extent_threshold_of_one_class_leaves_the_others_as_they_are() -> None:
    rng = np.random.default_rng(0)
    likelihood_TC = rng.uniform(0, 1, (400, 2)).repeat(4, axis=0).astype(np.float32)
    both = EventConfig(window_s=0.03, threshold={"a": 0.4, "b": 0.4})
    raised = both.model_copy(update={"threshold": {"a": 0.6, "b": 0.4}, "extent_threshold": {"a": 0.4}})
    before, after = (find_events(likelihood_TC, 100.0, config, classes=["a", "b"]) for config in (both, raised))
    kept = (before["class"] == 1) | (before["likelihood"] > 0.6)
    assert 0 < (before["class"] == 0)[kept].sum() < (before["class"] == 0).sum()
    assert np.array_equal(after, before[kept])  # what a table of events is when its rows are filtered
    one = EventConfig(window_s=0.03, threshold=0.4).model_copy(update={"extent_threshold": {"a": 0.2}})
    highest_C = presence_scores(likelihood_TC, 100.0, one, ["a", "b"])
    pooled_C = presence_scores(likelihood_TC, 100.0, both, ["a", "b"])
    assert highest_C[1] == pooled_C[1] and highest_C[0] < pooled_C[0]  # of an event, of the pooled likelihood
    with pytest.raises(ValueError, match="extent_threshold: 'yeti' is none of the classes a, b"):
        find_events(likelihood_TC, 100.0, EventConfig(extent_threshold={"yeti": 0.1}), classes=["a", "b"])
    with pytest.raises(ValueError, match="extent_threshold: given per class"):
        find_events(likelihood_TC, 100.0, EventConfig(extent_threshold={"a": 0.1}))


@pytest.mark.parametrize("extent", [0.3, {"b": 0.3}])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sweep_counts_what_evaluation_at_each_threshold_counts(seed: int, extent: float | dict[str, float]) -> None:
    rng = np.random.default_rng(seed)
    likelihood_TC = rng.uniform(0, 1, (40, 2)).repeat(8, axis=0).astype(np.float32)
    labels = np.zeros(12, LABEL)
    labels["class"], labels["onset_s"] = rng.integers(0, 2, 12), np.sort(rng.uniform(0, 3, 12))
    labels["offset_s"] = labels["onset_s"] + 0.1
    events = EventConfig(window_s=0.02, peak_share=0.2, extent_threshold=extent)
    sweep = ThresholdSweep(["a", "b"], 100.0, EvaluationConfig(events=events), (0.1, 0.4, 0.7))
    sweep.add(likelihood_TC, labels)
    for number, threshold in enumerate((0.1, 0.4, 0.7)):
        config = EvaluationConfig(events=events.model_copy(update={"threshold": threshold}))
        counts = evaluate([(likelihood_TC, labels)], ["a", "b"], 100.0, config).strict.per_class
        assert sweep.result().predicted[:, number].tolist() == [counts[name].predictions for name in ("a", "b")]
        assert sweep.result().hits[:, number].tolist() == [counts[name].hits for name in ("a", "b")]
