"""Average precision against scikit-learn and against cases worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from a2v_eval.scores import average_precision, f1_score, mean_defined, precision_recall_curve, ratio
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score
from sklearn.metrics import precision_recall_curve as sklearn_curve

GOLDENS = Path(__file__).parent / "goldens"


@pytest.mark.parametrize("seed", range(8))
def test_equals_scikit_learn_with_and_without_ties(seed):
    rng = np.random.default_rng(seed)
    target = rng.random(300) < 0.3
    likelihood = np.round(rng.random(300), 1 if seed % 2 else 12)
    assert average_precision(target, likelihood) == pytest.approx(
        average_precision_score(target, likelihood), abs=1e-12
    )
    precision, recall, value = precision_recall_curve(target, likelihood)
    their_precision, their_recall, their_value = sklearn_curve(target, likelihood)
    np.testing.assert_allclose(precision, their_precision[:-1][::-1])
    np.testing.assert_allclose(recall, their_recall[:-1][::-1])
    np.testing.assert_allclose(value, their_value[::-1])


@pytest.mark.parametrize("seed", range(8))
def test_missed_positives_are_never_recalled(seed):
    rng = np.random.default_rng(seed)
    target, likelihood, missed = rng.random(200) < 0.4, rng.random(200), 37
    hits = int(target.sum())
    ours = average_precision(target, likelihood, hits + missed)
    # the same ranking, only its recall is smaller
    shrunk = average_precision_score(target, likelihood) * hits / (hits + missed)
    assert ours == pytest.approx(shrunk, abs=1e-12)
    # what appending them at the bottom would give is larger, by the last step of the curve
    appended = average_precision_score(np.r_[target, np.ones(missed)], np.r_[likelihood, np.full(missed, -1.0)])
    last_step = missed / (hits + missed) * (hits + missed) / (200 + missed)
    assert ours == pytest.approx(appended - last_step, abs=1e-12)
    assert precision_recall_curve(target, likelihood, hits + missed)[1][-1] == hits / (hits + missed)


@pytest.mark.parametrize("seed", range(4))
def test_unlisted_zeros_are_negatives_of_likelihood_zero(seed):
    rng = np.random.default_rng(seed)
    target = rng.random(60) < 0.5
    likelihood = np.where(rng.random(60) < 0.3, 0.0, rng.random(60))
    padded = average_precision_score(np.r_[target, np.zeros(500)], np.r_[likelihood, np.zeros(500)])
    assert average_precision(target, likelihood, n_zeros=500) == pytest.approx(padded, abs=1e-12)


def test_by_hand():
    # ranks: hit, miss, hit; four labels: 1/4 * 1/1 + 1/4 * 2/3
    assert average_precision([1, 0, 1], [0.9, 0.8, 0.7], 4) == pytest.approx(1 / 4 + 1 / 6)
    # equal likelihoods are one step: 2 of 3 right
    assert average_precision([1, 0, 1], [0.5, 0.5, 0.5]) == pytest.approx(2 / 3)
    assert average_precision([], [], 3) == 0


def test_undefined_is_neither_zero_nor_one():
    assert np.isnan(average_precision([0, 0], [0.5, 0.4]))
    assert np.isnan(average_precision([], []))
    assert np.isnan(ratio(0, 0)) and np.isnan(f1_score(0, 5, 0)) and f1_score(0, 0, 5) == 0
    assert mean_defined([0.5, np.nan, 1.0]) == 0.75 and np.isnan(mean_defined([np.nan]))


def test_refusals():
    with pytest.raises(ValueError, match="NaN"):
        average_precision([1, 0], [0.5, np.nan])
    with pytest.raises(ValueError, match="n_positive: 1"):
        average_precision([1, 1], [0.5, 0.4], 1)


def test_framewise_average_precision_equals_the_golden():
    arrays = load_file(GOLDENS / "g9_arrays.safetensors")
    wanted = json.loads((GOLDENS / "g9_event_evaluation.json").read_text())["cases"][2]["ap_framewise"]
    target_NC = arrays["e2e_target"].reshape(-1, 6)
    likelihood_NC = arrays["e2e_probs"].reshape(-1, 6)
    for c, value in enumerate(wanted["per_class"]):
        found = average_precision(target_NC[:, c], likelihood_NC[:, c])
        assert np.isnan(found) if value is None else found == pytest.approx(value, abs=1e-9)
    assert average_precision(target_NC.ravel(), likelihood_NC.ravel()) == pytest.approx(wanted["micro"], abs=1e-9)
