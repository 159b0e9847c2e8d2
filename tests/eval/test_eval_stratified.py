"""Precision from a stratified sample, calibration and misses: closed forms, and how often the
interval holds the truth in simulated reviews."""

from __future__ import annotations

import numpy as np
import pytest
from a2v_eval.calibration import Calibration, calibrate, logit
from a2v_eval.figures import precision_figure
from a2v_eval.missed import Estimate, missed_calls, recall
from a2v_eval.stratified import BandSample, Share, Stratum, clopper_pearson, precision_curve, share_right
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

BANDS = np.arange(10)
PRECISION = {
    "calibrated": (BANDS + 0.5) / 10,
    "all right": np.ones(10),
    "nearly all right": np.full(10, 0.98),
    "nearly all wrong": np.full(10, 0.02),
    "overconfident": 0.3 * (BANDS + 0.5) / 10,
    "steep": 1 / (1 + np.exp(-2.0 * (BANDS - 5))),
    "half": np.full(10, 0.5),
}
SIZES = {
    "even": np.full(10, 100),
    "few": np.array([9, 7, 6, 5, 4, 4, 3, 3, 2, 2]),
    "high ones": np.array([5, 5, 5, 8, 10, 15, 20, 40, 90, 800]),
    "low ones": np.array([5000, 900, 300, 120, 60, 40, 30, 25, 20, 20]),
    "rare": np.array([3, 2, 2, 2, 1, 1, 1, 1, 1, 1]),
}


def covered(precision: np.ndarray, sizes: np.ndarray, per_band: int, reviews: int, seed: int) -> int:
    """In how many simulated reviews the interval holds the share of right events among all that there are."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(reviews):
        right = rng.binomial(sizes, precision)
        judged = np.minimum(per_band, sizes)
        seen = rng.hypergeometric(right, sizes - right, judged)
        share = share_right(Stratum(*map(int, one)) for one in zip(sizes, judged, seen, strict=True))
        assert share is not None
        held += share.lower - 1e-9 <= right.sum() / sizes.sum() <= share.upper + 1e-9
    return held


@pytest.mark.parametrize("shape", SIZES)
def test_the_interval_holds_the_truth_in_90_of_100_reviews(shape: str) -> None:
    for number, precision in enumerate(PRECISION.values()):
        for per_band in (3, 5, 10):
            held = covered(precision, SIZES[shape], per_band, 200, seed=number)
            assert held >= 180, (list(PRECISION)[number], per_band, held)


def test_one_band_is_clopper_and_pearson() -> None:
    share = share_right([Stratum(10**9, 40, 31)])
    exact = binomtest(31, 40).proportion_ci(0.95, "exact")
    lower, upper = clopper_pearson(31 / 40, 40)
    assert (lower, upper) == pytest.approx((exact.low, exact.high))
    assert share is not None and share.estimate == 31 / 40
    assert share.lower == pytest.approx(exact.low, abs=0.02) and share.upper == pytest.approx(exact.high, abs=0.02)


def test_bands_are_weighted_with_their_sizes() -> None:
    share = share_right([Stratum(900, 10, 1), Stratum(100, 10, 9), Stratum(50, 0, 0)])
    assert share is not None and share.estimate == pytest.approx(0.9 * 0.1 + 0.1 * 0.9)
    assert share.covered == pytest.approx(1000 / 1050) and share.judged == 20 and share.size == 1050
    assert share_right([Stratum(5, 0, 0)]) is None


def test_what_was_judged_in_full_is_known() -> None:
    assert share_right([Stratum(7, 7, 3), Stratum(3, 3, 3)]) == Share(0.6, 0.6, 0.6, 10, 10, 1.0)
    with pytest.raises(ValueError, match="should be"):
        Stratum(3, 4, 1)


def test_precision_over_thresholds() -> None:
    low = BandSample(np.array([0.21, 0.22, 0.28, 0.29]), np.array([0.21, 0.28]), np.array([False, True]))
    high = BandSample(np.array([0.91, 0.95]), np.array([0.91, 0.95]), np.array([True, True]))
    curve = precision_curve([low, high])
    assert curve.thresholds[0] == 0.21 and curve.thresholds[-1] == 0.95
    at = dict(zip(curve.thresholds, curve.shares, strict=True))
    everything, part, top = at[0.21], at[0.25], at[0.9]
    assert everything is not None and everything.estimate == pytest.approx((4 * 0.5 + 2) / 6)
    assert part is not None and part.estimate == 1 and part.size == 4 and part.judged == 3
    assert top is not None and (top.lower, top.upper) == (1, 1)
    assert precision_curve([]).thresholds == ()


def test_the_figure_tells_what_is_known_of_a_part_only() -> None:
    low = BandSample(np.array([0.21, 0.28]), np.array([]), np.array([], bool))
    high = BandSample(np.array([0.91, 0.95]), np.array([0.91]), np.array([True]))
    for bands, part in (([high], False), ([low, high], True)):
        axis = precision_figure({"cc": precision_curve(bands)}, {}, 0.9).axes[0]
        lines = {str(line.get_label()): line for line in axis.lines}
        assert ("of a part of the events" in lines) == part
        drawn = np.isfinite(np.asarray(lines["precision"].get_ydata(), dtype=float))
        assert np.asarray(lines["precision"].get_xdata(), dtype=float)[drawn].min() > 0.28


def test_calibration_meets_logistic_regression_and_the_truth() -> None:
    rng = np.random.default_rng(0)
    likelihood = rng.uniform(0.05, 0.95, 4000)
    right = rng.random(4000) < 1 / (1 + np.exp(-(-1 + 2 * logit(likelihood))))
    found = calibrate(likelihood, right)
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(likelihood)[:, None], right)
    assert isinstance(found, Calibration)
    assert found.slope == pytest.approx(oracle.coef_[0, 0], abs=0.01)
    assert found.intercept == pytest.approx(oracle.intercept_[0], abs=0.01)
    lower, upper = found.interval(np.array([0.3, 0.7]))
    truth = 1 / (1 + np.exp(-(-1 + 2 * logit(np.array([0.3, 0.7])))))
    assert (lower < truth).all() and (truth < upper).all()
    at = found.likelihood(0.5)
    assert at is not None and found.probability(np.array(at)) == pytest.approx(0.5)


@pytest.mark.parametrize("line", [(-0.5, 1.2), (0.0, 1.0), (-2.0, 0.5), (1.5, 1.5)])
def test_the_interval_of_a_calibration_holds_the_truth(line: tuple[float, float]) -> None:
    at = np.array([0.05, 0.15, 0.3, 0.5, 0.7, 0.9, 0.97])
    truth = 1 / (1 + np.exp(-(line[0] + line[1] * logit(at))))
    held = np.zeros(len(at))
    for seed in range(100):
        rng = np.random.default_rng(seed)
        likelihood = np.concatenate([rng.uniform(low / 10, (low + 1) / 10, 5) for low in range(10)])
        found = calibrate(likelihood, rng.random(50) < 1 / (1 + np.exp(-(line[0] + line[1] * logit(likelihood)))))
        assert isinstance(found, Calibration)
        lower, upper = found.interval(at)
        held += (lower <= truth) & (truth <= upper)
    assert (held >= 90).all(), held


def test_calibration_of_few_stays_finite() -> None:
    likelihood = np.linspace(0.1, 0.9, 12)
    parted = calibrate(likelihood, likelihood > 0.5)
    assert isinstance(parted, Calibration) and 0 < parted.slope < 20 and np.isfinite(parted.covariance).all()
    alike = calibrate(likelihood, np.ones(12, bool))
    assert isinstance(alike, Calibration) and (alike.probability(likelihood) > 0.5).all()
    assert calibrate(likelihood[:9], likelihood[:9] > 0.5) == "9 judged; 10 are needed"
    assert "same likelihood" in str(calibrate(np.full(12, 0.4), likelihood > 0.5))


def test_firth_of_an_intercept_is_known() -> None:
    """With a likelihood that says nothing (balanced), the intercept is logit((x + .5) / (n + 1)) up to the share of the
    penalty that goes to the slope; both kinds alike give exactly 0."""
    likelihood = np.array([0.3, 0.7] * 10)
    found = calibrate(likelihood, np.array([True, True, False, False] * 5))
    assert isinstance(found, Calibration) and found.slope == pytest.approx(0, abs=1e-8)
    assert found.intercept == pytest.approx(0, abs=1e-8)


def test_missed_calls() -> None:
    none = missed_calls(np.zeros(30), np.full(30, 10.0), 3600.0)
    assert none.estimate == 0 and none.lower == 0
    assert none.upper == pytest.approx(3.6889 / 300 * 3300, rel=1e-3)  # exact Poisson, 97.5 %
    some = missed_calls(np.array([1.0, 0, 0, 1, 0, 0, 1, 0, 0, 0]), np.full(10, 10.0), 1000.0)
    assert some.estimate == pytest.approx(3 + 3 / 100 * 900)
    assert some.lower == pytest.approx(3 + 0.6187 / 100 * 900, rel=1e-3)
    assert some.upper == pytest.approx(3 + 8.7673 / 100 * 900, rel=1e-3)
    bout = missed_calls(np.array([3.0] + [0] * 9), np.full(10, 10.0), 1000.0)
    assert bout.estimate == some.estimate and bout.upper > some.upper
    every = missed_calls(np.array([2.0, 1.0]), np.array([10.0, 5.0]), 15.0)
    assert every == Estimate(3, 3, 3)
    with pytest.raises(ValueError, match="no stretch"):
        missed_calls(np.zeros(0), np.zeros(0), 10.0)


@pytest.mark.parametrize("bouts", [None, 1.0, 0.3])
@pytest.mark.parametrize("rate", [0.0005, 0.005, 0.05, 0.2])
def test_missed_calls_hold_the_truth(rate: float, bouts: float | None) -> None:
    """bouts: shape of the gamma distribution of rates; of .3 half of the calls are in a twelfth of the stretches."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        counts = rng.poisson(rate * 10 if bouts is None else rng.gamma(bouts, rate * 10 / bouts, 360), 360)
        found = missed_calls(counts[:40].astype(float), np.full(40, 10.0), 3600.0)
        held += found.lower <= counts.sum() <= found.upper
    assert held >= 180


def test_recall() -> None:
    found = recall(Estimate(80, 70, 90), Estimate(20, 10, 40))
    assert found.estimate == pytest.approx(0.8) and found.lower < 0.8 < found.upper
    assert 0.64 < found.lower < 80 / 120 + 0.05 and found.upper > 80 / 90 - 0.02
    assert recall(Estimate(5, 5, 5), Estimate(0, 0, 0)) == Estimate(1, 1, 1)
    assert recall(Estimate(0, 0, 0), Estimate(3, 1, 9)).estimate == 0
