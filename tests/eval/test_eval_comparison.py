"""Paired tests over folds: by hand, and against SciPy."""

import csv
import io

import numpy as np
import pytest
from a2v_eval.comparison import compare_folds, comparison_csv, comparison_text, paired_test
from scipy import stats


def test_sign_flips_by_hand():
    # differences 1, 2, 3, -1: of 16 choices of signs those with |sum| >= 5 are 5, -5 and 7, -7, and 5 again by -1 or 1
    test = paired_test([1, 2, 3, 0], [0, 0, 0, 1])
    sums = [abs(a + 2 * b + 3 * c + d) for a in (1, -1) for b in (1, -1) for c in (1, -1) for d in (1, -1)]
    assert test.p_sign_flips == sum(s >= 5 for s in sums) / 16 == 6 / 16
    assert test.smallest_p == 0.125 and test.difference == 1.25


def test_five_folds_cannot_say_less_than_a_sixteenth():
    test = paired_test([0.9, 0.91, 0.92, 0.93, 0.9], [0.1, 0.12, 0.1, 0.11, 0.1])
    assert test.p_sign_flips == test.smallest_p == 0.0625 and test.p_corrected_t < 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_sign_flips_equal_scipy(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0.3, 1, 7), rng.normal(0, 1, 7)
    wanted = stats.permutation_test(
        (first - second,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert paired_test(first, second).p_sign_flips == pytest.approx(wanted.pvalue)


@pytest.mark.parametrize("seed", range(5))
def test_the_corrected_t_is_the_paired_t_with_a_wider_error(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0.5, 1, 5), rng.normal(0, 1, 5)
    plain = stats.ttest_rel(first, second)
    # 1/5 + 1/4 instead of 1/5
    statistic = plain.statistic * np.sqrt((1 / 5) / (1 / 5 + 1 / 4))
    assert paired_test(first, second).p_corrected_t == pytest.approx(2 * stats.t.sf(abs(statistic), 4))
    # 2 of 10 folds run: 1/2 + 1/9
    statistic = stats.ttest_rel(first[:2], second[:2]).statistic * np.sqrt((1 / 2) / (1 / 2 + 1 / 9))
    found = paired_test(first[:2], second[:2], k_folds=10).p_corrected_t
    assert found == pytest.approx(2 * stats.t.sf(abs(statistic), 1))


def test_equal_variants():
    test = paired_test([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert test.p_sign_flips == 1 and test.p_corrected_t is None and test.difference == 0
    # a constant gain does not vary: the sign flips still say what they can
    test = paired_test([0.6, 0.7, 0.8], [0.5, 0.6, 0.7])
    assert test.p_sign_flips == 0.25 and test.p_corrected_t is None


def test_only_folds_in_which_both_define_a_metric():
    first = [{"AP/a": 0.9, "AP/b": 0.5}, {"AP/a": 0.8}, {"AP/a": 0.7, "AP/b": 0.4}]
    second = [{"AP/a": 0.7}, {"AP/a": 0.7, "AP/b": 0.1}, {"AP/a": 0.6, "AP/b": 0.1}]
    (test,) = compare_folds(first, second, ["AP/a", "AP/b"])  # b is in one fold of both
    assert (test.metric, test.folds) == ("AP/a", 3) and test.difference == pytest.approx(0.4 / 3)
    lines = comparison_text([test], "new", "old").splitlines()
    assert lines[0].split()[:3] == ["metric", "new", "old"] and lines[1].split()[:3] == ["AP/a", "0.800", "0.667"]
    assert lines[-1] == "with 3 folds no p of sign flips is below 0.25"
    (row,) = csv.DictReader(io.StringIO(comparison_csv([test])))
    assert row["metric"] == "AP/a" and float(row["p_sign_flips"]) == test.p_sign_flips


def test_refusals():
    with pytest.raises(ValueError, match="AP/a: 1 and 1 folds"):
        paired_test([1], [2], "AP/a")
    with pytest.raises(ValueError, match="3 and 2 folds"):
        compare_folds([{}] * 3, [{}] * 2, [])
    with pytest.raises(ValueError, match="defined score"):
        paired_test([1, np.nan], [2, 3])
