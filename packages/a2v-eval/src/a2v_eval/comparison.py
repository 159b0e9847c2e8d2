"""Are two variants different? Paired tests over the same folds.

Folds are few and share training recordings, so no test is strong here, and two are given side by side:

sign flips   If the variants were alike, each fold's difference could as well have had the other sign. All 2^n choices
             of signs are tried; p is the share whose mean difference is at least as large. Exact, and assumes nothing
             about distributions, but with n folds it cannot be below 2 / 2^n: 0.0625 for 5 folds, whatever the
             difference. `smallest_p` says so.
corrected t  The paired t-test with the variance corrected for training sets that overlap: with k folds each pair of
             them shares most recordings, so the variance of the mean is (1/n + 1/(k - 1)) s^2 instead of s^2 / n.
             C. Nadeau and Y. Bengio, Machine Learning 52 (2003). Smaller p are possible, at the price of assuming
             normal differences.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from .summary import UNDEFINED_MARK, aligned

MOST_FOLDS = 20  # a million choices of signs


@dataclass(frozen=True)
class PairedTest:
    """Variant `first` minus `second` in one metric, over the `folds` folds in which both define it.

    std is the sample standard deviation of the differences; the corrected t-test is None where they do not vary.
    """

    metric: str
    folds: int
    first_mean: float
    second_mean: float
    difference: float
    std: float
    p_sign_flips: float
    smallest_p: float
    p_corrected_t: float | None


def paired_test(
    first: Sequence[float], second: Sequence[float], metric: str = "", k_folds: float | None = None
) -> PairedTest:
    """Two-sided tests of fold-wise scores.

    k_folds  how many folds the recordings were split into, for the correction; default: as many as are given. With
             fewer folds run than made, say how many were made; of shuffle splits 1 / (share that one evaluates).
    Raises ValueError for sequences of different length, undefined scores, or fewer than 2 or more than 20 folds.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n = len(difference)
    k = n if k_folds is None else k_folds
    if len(first) != len(second) or not 2 <= n <= MOST_FOLDS or np.isnan(difference).any() or k <= 1:
        raise ValueError(
            f"{metric or 'scores'}: {len(first)} and {len(second)} folds; both variants need a defined score in the "
            f"same 2 to {MOST_FOLDS} folds"
        )
    mean, std = float(difference.mean()), float(difference.std(ddof=1))
    signs = np.array(list(itertools.product((1, -1), repeat=n)))
    flipped = np.abs(signs @ difference)
    observed = abs(difference.sum())
    tolerance = 1e-12 * max(np.abs(difference).sum(), 1e-300)
    return PairedTest(
        metric=metric,
        folds=n,
        first_mean=float(np.mean(first)),
        second_mean=float(np.mean(second)),
        difference=mean,
        std=std,
        p_sign_flips=float((flipped >= observed - tolerance).mean()),
        smallest_p=2.0 / 2**n,
        p_corrected_t=_corrected_t(mean, std, n, k),
    )


def _corrected_t(mean: float, std: float, n: int, k: float) -> float | None:
    from scipy.stats import t

    if std <= 1e-12 * max(abs(mean), 1e-300):
        return None
    statistic = mean / (std * np.sqrt(1 / n + 1 / (k - 1)))
    return float(2 * t.sf(abs(statistic), n - 1))


def compare_folds(
    first: Sequence[Mapping[str, float]],
    second: Sequence[Mapping[str, float]],
    metrics: Sequence[str],
    k_folds: float | None = None,
) -> list[PairedTest]:
    """One test per metric, over the folds in which both variants define it; metrics with fewer than 2 such folds have
    none. `first` and `second`: the metrics of the same folds in the same order, as `Evaluation.metrics` gives them."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} folds; paired tests need the same folds of both variants")
    tests = []
    for metric in metrics:
        both = [(a[metric], b[metric]) for a, b in zip(first, second, strict=True) if metric in a and metric in b]
        if len(both) >= 2:
            tests.append(paired_test([a for a, _ in both], [b for _, b in both], metric, k_folds))
    return tests


def comparison_text(tests: Sequence[PairedTest], first: str, second: str) -> str:
    """The tests as aligned text, with what their p can say."""
    rows = [["metric", first, second, "difference", "p sign flips", "p corrected t", "folds"]]
    for test in tests:
        means = [f"{value:.3f}" for value in (test.first_mean, test.second_mean)]
        difference = f"{test.difference:+.3f} ± {test.std:.3f}"
        rows.append([test.metric, *means, difference, _p(test.p_sign_flips), _p(test.p_corrected_t), str(test.folds)])
    lines = aligned(rows)
    smallest = sorted({(test.folds, test.smallest_p) for test in tests})
    notes = [f"with {n} folds no p of sign flips is below {p:.3g}" for n, p in smallest]
    return "\n".join([*lines, *notes])


def _p(value: float | None) -> str:
    if value is None:
        return UNDEFINED_MARK
    return "< 0.001" if value < 0.001 else f"{value:.3g}"


def comparison_csv(tests: Sequence[PairedTest]) -> str:
    """The tests in full precision, one line each."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(PairedTest)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(test) for test in tests)
    return out.getvalue()
