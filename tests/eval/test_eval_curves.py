"""Precision-recall curves for figures: against scikit-learn, and their mean over folds."""

import json

import numpy as np
import pytest
from a2v_eval import LABEL, evaluate
from a2v_eval.curves import Curve, mean_curve, precision_recall_curves
from sklearn.metrics import average_precision_score, precision_recall_curve

NAMES = ["a", "b", "never"]


def recordings(seed, quality=0.6):
    rng = np.random.default_rng(seed)
    for _ in range(6):
        likelihood_TC = (rng.random((300, 3)) * 0.1).astype(np.float32)
        rows = []
        for c in range(2):
            for slot in range(3):
                start = 10 + slot * 95 + int(rng.integers(0, 30))
                rows.append((c, start / 100, (start + 30) / 100))
                shift = 0 if rng.random() < quality else 28
                likelihood_TC[start + shift : start + shift + 30, c] = 0.2 + 0.8 * rng.random()
        yield likelihood_TC, np.array(rows, LABEL)


def area(curve: Curve) -> float:
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_points_and_area_are_scikit_learns(protocol, seed):
    """Missed labels under `strict` are targets that are never said: scikit-learn's curve, with its recall scaled."""
    found = evaluate(recordings(seed), NAMES, 100)
    curves = precision_recall_curves(found, protocol)
    assert list(curves) == ["a", "b", "micro"]  # a class without labels has no curve
    entries, scores = found.entries(protocol), found.scores(protocol)
    for number, name in enumerate(["a", "b", "micro"]):
        rows = entries if name == "micro" else entries[entries["class"] == number]
        positives = (scores.micro if name == "micro" else scores.per_class[name]).positives
        precision, recall, _ = precision_recall_curve(rows["target"], rows["likelihood"])
        scale = rows["target"].sum() / positives
        np.testing.assert_allclose(curves[name].precision[::-1], precision[:-1])
        np.testing.assert_allclose(curves[name].recall[::-1], recall[:-1] * scale)
        expected = average_precision_score(rows["target"], rows["likelihood"]) * scale
        assert curves[name].ap == pytest.approx(expected) == pytest.approx(area(curves[name]))
    if protocol == "strict":
        assert curves["micro"].recall[-1] < 1


def test_mean_of_folds_by_hand():
    """Fold one: precision 1 up to recall .5, then .5 up to 1; fold two: .8 up to recall .4 and no further."""
    one = Curve(np.array([1.0, 0.5]), np.array([0.5, 1.0]), 0.75)
    two = Curve(np.array([0.8]), np.array([0.4]), 0.32)
    mean = mean_curve([one, two])
    np.testing.assert_allclose(mean.recall, [0.4, 0.5, 1.0])
    np.testing.assert_allclose(mean.precision, [0.9, 0.5, 0.25])
    assert mean.ap == pytest.approx(0.535) == pytest.approx(area(mean))
    with pytest.raises(ValueError, match="curves: none given"):
        mean_curve([])


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_area_under_the_mean_is_the_mean_of_the_areas(protocol):
    folds = [precision_recall_curves(evaluate(recordings(seed), NAMES, 100), protocol)["micro"] for seed in range(4)]
    assert area(mean_curve(folds)) == pytest.approx(np.mean([area(fold) for fold in folds]))


def test_thinning_keeps_the_ends_and_nearly_the_area():
    rng = np.random.default_rng(0)
    target = rng.random(20_000) < 0.3
    likelihood = np.where(target, rng.beta(3, 2, 20_000), rng.beta(2, 3, 20_000))
    precision, recall, _ = precision_recall_curve(target, likelihood)
    whole = Curve(precision[:-1][::-1], recall[:-1][::-1], average_precision_score(target, likelihood))
    thin = whole.thinned(200)
    assert len(thin.recall) <= 200 and thin.ap == whole.ap
    assert thin.recall[0] == whole.recall[whole.recall > 0][0] and thin.recall[-1] == 1
    assert set(zip(thin.recall, thin.precision, strict=True)) <= set(zip(whole.recall, whole.precision, strict=True))
    assert area(thin) == pytest.approx(area(whole), abs=0.003)
    few = Curve(np.array([1.0, 0.5, 0.6]), np.array([0.5, 0.5, 1.0]), 0.8)
    assert few.thinned(3).precision.tolist() == [1.0, 0.5, 0.6]


def test_json_and_back():
    curve = precision_recall_curves(evaluate(recordings(0), NAMES, 100), "strict")["a"]
    again = Curve.from_plain(json.loads(json.dumps(curve.to_plain())))
    np.testing.assert_allclose(again.precision, curve.precision, atol=1e-5)
    np.testing.assert_allclose(again.recall, curve.recall, atol=1e-5)
    assert again.ap == curve.ap
