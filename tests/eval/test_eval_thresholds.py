"""F1 over thresholds: at each of them what `evaluate` says with that threshold; the best by brute force."""

import json

import numpy as np
import pytest
from a2v_eval import LABEL, EvaluationConfig, EventConfig, evaluate
from a2v_eval import thresholds as module
from a2v_eval.thresholds import THRESHOLDS, ThresholdScores, ThresholdSweep

NAMES = ["a", "b", "never"]
GRID = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9)


def recordings(seed, n=5):
    rng = np.random.default_rng(seed)
    for length in rng.integers(150, 400, n):
        smooth = np.convolve(rng.random(length * 3), np.ones(12) / 12, "same").reshape(3, length).T
        likelihood_TC = ((smooth - 0.3) * 1.8).clip(0, 1).astype(np.float32)
        likelihood_TC[:, 2] *= 0.2
        onset = rng.integers(0, length - 40, 6)
        rows = [(c % 2, start / 100, (start + 25) / 100) for c, start in enumerate(onset)]
        for c, start, stop in rows:
            likelihood_TC[int(start * 100) : int(stop * 100), c] += 0.3 * rng.random()
        yield likelihood_TC.clip(0, 1), np.array(rows, LABEL)


def sweep(seed, grid=GRID, config=None):
    found = ThresholdSweep(NAMES, 100, config, grid)
    for recording in recordings(seed):
        found.add(*recording)
    return found


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", ["avg", "max"])
def test_every_point_is_an_evaluation_with_that_threshold(seed, method):
    config = EvaluationConfig(events=EventConfig(method=method, window_s=0.04), iou_threshold=0.25)
    found = sweep(seed, config=config).result()
    for k, threshold in enumerate(GRID):
        events = config.events.model_copy(update={"threshold": threshold})
        one = evaluate(recordings(seed), NAMES, 100, config.model_copy(update={"events": events})).strict
        for c, name in enumerate(NAMES):
            of = one.per_class[name]
            assert (of.hits, of.predictions, of.labels) == (
                found.hits[c, k], found.predicted[c, k], found.labelled[c],
            )  # fmt: skip
            np.testing.assert_equal(found.f1[c, k], of.f1)
            np.testing.assert_equal(found.precision[c, k], of.precision)
            np.testing.assert_equal(found.recall[c, k], of.recall)
    assert np.isnan(found.f1[2]).all() and found.hits[:2].any()


@pytest.mark.parametrize("seed", range(4))
def test_best_threshold_by_brute_force(seed):
    best = sweep(seed).result().best()
    assert set(best) == {"a", "b"}  # nothing to choose for a class without labels
    for name, chosen in best.items():
        f1 = {}
        for threshold in GRID:
            config = EvaluationConfig(events=EventConfig(threshold=threshold))
            f1[threshold] = evaluate(recordings(seed), NAMES, 100, config).strict.per_class[name].f1
        assert f1[chosen] == max(f1.values()) > 0


def test_of_equal_ones_the_middle_and_none_where_nothing_is_found():
    counts = np.array([[1, 3, 3, 3, 0], [0, 0, 0, 0, 0]])
    scores = ThresholdScores(
        ("a", "b"), np.array([0.1, 0.2, 0.3, 0.4, 0.5]), counts, np.full((2, 5), 3), np.array([3, 3])
    )
    np.testing.assert_allclose(scores.f1[0], [1 / 3, 1, 1, 1, 0])
    assert scores.best() == {"a": 0.3}


def test_matching_in_parts_changes_nothing(monkeypatch):
    whole = sweep(0).result()
    monkeypatch.setattr(module, "HELD_SPANS", 50)
    parts = sweep(0).result()
    for name in ("hits", "predicted", "labelled"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_folds_add_up():
    both = ThresholdSweep(NAMES, 100, thresholds=GRID)
    for seed in (0, 1):
        for recording in recordings(seed):
            both.add(*recording)
    total = sweep(0).result() + ThresholdScores.from_plain(json.loads(json.dumps(sweep(1).result().to_plain())))
    np.testing.assert_array_equal(total.hits, both.result().hits)
    np.testing.assert_array_equal(total.predicted, both.result().predicted)
    np.testing.assert_array_equal(total.labelled, both.result().labelled)
    with pytest.raises(ValueError, match="other classes or thresholds"):
        sweep(0).result() + sweep(1, grid=GRID[:-1]).result()


@pytest.mark.parametrize("grid", [(), (0.2, 0.1), (0.1, 0.1), (-0.1, 0.5), (0.5, 1.0)])
def test_wrong_thresholds(grid):
    with pytest.raises(ValueError, match="should ascend within"):
        ThresholdSweep(NAMES, 100, thresholds=grid)


def test_nan_and_the_thresholds_that_are_tried():
    likelihood_TC = np.zeros((100, 3), np.float32)
    likelihood_TC[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        ThresholdSweep(NAMES, 100).add(likelihood_TC, np.zeros(0, LABEL))
    assert THRESHOLDS[0] == 0.01 and THRESHOLDS[-1] == 0.975 and 0.15 in THRESHOLDS and np.all(np.diff(THRESHOLDS) > 0)
