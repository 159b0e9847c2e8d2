"""What intervals of paired differences cover where the truth is known, of four tests: `python effects_simulation.py`.

Differences in cells (seed, fold) are fold + seed + rest, each normal with a variance of its own; the true difference
is 0. Folds are correlated by rho = 0 or, as folds that share training recordings are taken to be, 1 / k (k = folds).
With one fold (seed) the truth is the difference of this fold (seed), as nothing can be said of others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from a2v_eval.effects import mean_variance
from numpy.typing import NDArray
from scipy.stats import t

VARIANCES = [
    (1, 0, 0.05), (1, 0, 1), (0, 0, 1), (1, 1, 1), (0.25, 1, 1), (1, 0.25, 0.25), (0, 1, 1), (0, 1, 0.1), (1, 1, 0.1),
]  # of folds, seeds, rest  # fmt: skip
SHAPES = [(2, 3), (5, 1), (5, 3), (10, 1), (1, 5)]  # folds, seeds
Test = Callable[[NDArray[np.float64], float], tuple[NDArray[np.float64], NDArray[np.float64]]]


def draw(
    count: int, shape: tuple[int, int], variances: tuple[float, float, float], rho: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences (N, seeds, folds) and the truth of each (N)."""
    folds, seeds = shape
    of_fold, of_seed, of_rest = np.sqrt(variances)
    shared = np.sqrt(rho) * rng.standard_normal((count, 1, 1))
    fold = of_fold * (shared + np.sqrt(1 - rho) * rng.standard_normal((count, 1, folds)))
    seed = of_seed * rng.standard_normal((count, seeds, 1))
    truth = (fold[:, 0, 0] if folds == 1 else 0) + (seed[:, 0, 0] if seeds == 1 else 0) + np.zeros(count)
    return fold + seed + of_rest * rng.standard_normal((count, seeds, folds)), truth


def ours(d: NDArray[np.float64], k: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    found = np.array([mean_variance(one, k) for one in d])
    return found[:, 0], found[:, 1]


def fold_means(d: NDArray[np.float64], k: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nadeau and Bengio's over the folds' means over seeds."""
    folds = d.shape[2]
    return d.mean(axis=1).var(axis=1, ddof=1) * (1 / folds + 1 / (k - 1)), np.full(len(d), folds - 1.0)


def all_cells(d: NDArray[np.float64], k: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bouckaert and Frank's of repeated k-fold: all cells as repetitions."""
    cells = d[0].size
    return d.reshape(len(d), -1).var(axis=1, ddof=1) * (1 / cells + 1 / (k - 1)), np.full(len(d), cells - 1.0)


def naive(d: NDArray[np.float64], k: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cells = d[0].size
    return d.reshape(len(d), -1).var(axis=1, ddof=1) / cells, np.full(len(d), cells - 1.0)


TESTS: dict[str, Test] = {
    "crossed, corrected": ours, "fold means (N&B)": fold_means, "all cells (B&F)": all_cells, "naive t": naive,
}  # fmt: skip


def coverage(test: Test, shape: tuple[int, int], count: int, seed: int = 0) -> list[tuple[float, float]]:
    """Of each setting: share of intervals that hold the truth, and their mean half width over the deviation of a
    cell."""
    rng, found = np.random.default_rng(seed), []
    folds = shape[0]
    for variances in VARIANCES:
        for rho in (0.0, 1 / folds) if folds > 1 else (0.0,):
            d, truth = draw(count, shape, variances, rho, rng)
            variance, df = test(d, folds)
            half = t.ppf(0.975, df) * np.sqrt(variance)
            inside = np.abs(d.mean(axis=(1, 2)) - truth) <= half
            found.append((float(inside.mean()), float(half.mean() / np.sqrt(sum(variances)))))
    return found


def false_winners(variants: int, shape: tuple[int, int], count: int, seed: int = 0) -> tuple[float, float]:
    """Share of sweeps over variants that are all alike in which the best one 'wins' over another, at most over the
    settings: with its p adjusted for as many tests as there are others, and for all pairs of variants. With one seed
    only settings in which seeds do not matter: else they are what differs."""
    rng, highest = np.random.default_rng(seed), [0.0, 0.0]
    folds = shape[0]
    for variances in (one for one in VARIANCES if shape[1] > 1 or not one[1]):
        drawn = [draw(count, shape, variances, 1 / folds, rng)[0] for _ in range(variants)]
        score_NVSF = np.stack(drawn, axis=1)
        best_N = score_NVSF.mean(axis=(2, 3)).argmax(axis=1)
        smallest_N = np.ones(count)
        for other in range(variants):
            those = np.flatnonzero(best_N != other)
            d = score_NVSF[those, best_N[those]] - score_NVSF[those, other]
            variance, df = ours(d, folds)
            smallest_N[those] = np.minimum(smallest_N[those], 2 * t.sf(d.mean(axis=(1, 2)) / np.sqrt(variance), df))
        for place, tests in enumerate((variants - 1, variants * (variants - 1) / 2)):
            highest[place] = max(highest[place], float((smallest_N * tests < 0.05).mean()))
    return highest[0], highest[1]


def main(count: int = 10_000) -> None:
    print("| folds x seeds | test | lowest coverage | mean | half width | type 1 error, highest |")
    print("|---|---|---|---|---|---|")
    for shape in SHAPES:
        for name, test in TESTS.items():
            if shape[0] == 1 and test in (fold_means, all_cells):
                continue  # need two folds
            covered, width = np.array(coverage(test, shape, count)).T
            print(
                f"| {shape[0]} x {shape[1]} | {name} | {covered.min():.3f} | {covered.mean():.3f} |"
                f" {width.mean():.2f} | {1 - covered.min():.3f} |"
            )
    print()
    print("| folds x seeds | variants, all alike | a winner, p for n - 1 tests | p for all pairs |")
    print("|---|---|---|---|")
    for shape in ((5, 1), (10, 1), (5, 3)):
        for variants in (3, 6, 18):
            others, pairs = false_winners(variants, shape, max(count // 20, 1))
            print(f"| {shape[0]} x {shape[1]} | {variants} | {others:.3f} | {pairs:.3f} |")


if __name__ == "__main__":
    main()
