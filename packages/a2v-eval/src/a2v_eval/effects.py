"""How much better is one variant than another, over folds and seeds; what is left of it among many comparisons.

Scores of a variant are those of cells, seed x fold. They are not independent: all folds of a seed share it, all seeds
of a fold share its recordings, and folds share training recordings. Which test follows from what there is:

folds and seeds  Differences are taken as mean + fold + seed + rest, both random and crossed. Their variances come from
                 the mean squares of a two-way table, none below 0; that of folds enters the variance of the mean not
                 with 1/n but with 1/n + 1/(k - 1), as k folds share training recordings. Degrees of freedom after F. E.
                 Satterthwaite, Biometrics Bulletin 2 (1946), at least those of the smaller of folds and seeds.
folds            One seed: the corrected t-test (C. Nadeau and Y. Bengio, Machine Learning 52, 2003), n - 1 degrees.
seeds            One fold: the t-test over seeds. It says nothing about another split of the recordings.
nothing          One cell: there is a difference, and nothing tells whether it is one.

docs/log.md (2026-11-27) has what intervals of these and of other tests cover where the truth is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Cells = Mapping[int | None, Mapping[int, float]]
"""Scores of one variant: seed (None where there is but one and it has no name) -> fold -> score."""
Over = Literal["folds and seeds", "folds", "seeds", "nothing"]
LEVEL = 0.95  # of intervals
ALPHA = 0.05  # an adjusted p from here on is a tie
ALIKE = 1e-12  # deviation over the mean below which differences do not vary


@dataclass(frozen=True)
class Effect:
    """Variant `first` minus `second` over the cells that both have.

    low, high: the 95 % interval of the difference; p: two-sided; None where that cannot be told, and `note` says why.
    df: degrees of freedom. folds, seeds: how many of each there are in both. over: what the difference is tested over.
    note: what the numbers are worth, empty where there is nothing to add.
    """

    first_mean: float
    second_mean: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    df: float | None
    folds: int
    seeds: int
    over: Over
    note: str


@dataclass(frozen=True)
class Compared:
    """One of several comparisons. first, second: places of the two in what was given; p: adjusted for all of them."""

    first: int
    second: int
    effect: Effect
    p: float | None

    @property
    def tie(self) -> bool:
        """Whether nothing tells the two apart."""
        return self.p is None or self.p >= ALPHA

    @property
    def won(self) -> bool:
        """Whether the first is better than the second."""
        return not self.tie and self.effect.difference > 0

    @property
    def lost(self) -> bool:
        """Whether it is worse, as what was chosen by other scores, or by means over more than both have, may be."""
        return not self.tie and self.effect.difference < 0


def cells_of_both(first: Cells, second: Cells) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of two variants in the cells that both have, each (seeds, folds) S F; a fold counts where all seeds of
    both define it. Variants of different seeds are compared by the means over their own: one row. Empty (S, 0) where
    they have no fold in common."""
    one, other = _defined(first), _defined(second)
    seeds = [seed for seed in one if seed in other]
    if not seeds:
        one, other = {None: _means(one)}, {None: _means(other)}
        seeds = [None]
    folds = sorted(set.intersection(*(set(cells[seed]) for cells in (one, other) for seed in seeds)))
    first_SF, second_SF = (
        np.array([[cells[seed][fold] for fold in folds] for seed in seeds], dtype=np.float64).reshape(len(seeds), -1)
        for cells in (one, other)
    )
    return first_SF, second_SF


def _defined(cells: Cells) -> dict[int | None, dict[int, float]]:
    return {seed: {fold: x for fold, x in folds.items() if math.isfinite(x)} for seed, folds in cells.items()}


def _means(cells: Mapping[int | None, Mapping[int, float]]) -> dict[int, float]:
    """Fold -> mean over seeds, of the folds that all seeds have."""
    common = set.intersection(*(set(folds) for folds in cells.values())) if cells else set()
    return {fold: float(np.mean([folds[fold] for folds in cells.values()])) for fold in sorted(common)}


def paired_effect(first: Cells, second: Cells, k_folds: float | None = None) -> Effect:
    """The mean difference of two variants with a 95 % interval and p; see the module for how.

    k_folds  how many folds the recordings were split into, for the correction; default: as many as both have. Of
             shuffle splits 1 / (share that one evaluates).
    Raises ValueError where they have no fold in common, or for k_folds of 1 or below.
    """
    first_SF, second_SF = cells_of_both(first, second)
    seeds, folds = first_SF.shape
    k = max(folds, 2) if k_folds is None else k_folds
    if folds == 0 or k <= 1:
        raise ValueError(
            f"{folds} folds with a defined score in both variants, of {k:g}; at least one of two is needed"
        )
    difference_SF = first_SF - second_SF
    mean = float(difference_SF.mean())
    over: Over = "nothing"
    if folds > 1:
        over = "folds and seeds" if seeds > 1 else "folds"
    elif seeds > 1:
        over = "seeds"
    low, high, p, df = None, None, None, None
    note = "of this split of the recordings alone" if folds == 1 else ""
    if over == "nothing":
        note = "one score of each: whether they differ cannot be told"
    elif np.ptp(difference_SF) <= ALIKE * max(float(np.abs(difference_SF).max()), 1e-300):
        low, high, p = (0.0, 0.0, 1.0) if mean == 0 else (None, None, None)
        note = "equal scores" if mean == 0 else "all differences are the same: whether that is chance cannot be told"
    else:
        variance, df = mean_variance(difference_SF, k)
        low, high, p = _interval(mean, variance, df)
    means = float(first_SF.mean()), float(second_SF.mean())
    return Effect(*means, mean, low, high, p, df, folds, seeds, over, note)


def mean_variance(difference_SF: NDArray[np.float64], k: float) -> tuple[float, float]:
    """Variance of the mean of paired differences (seeds, folds) over other seeds and splits, and its degrees of
    freedom; see the module. Needs two folds or two seeds."""
    seeds, folds = difference_SF.shape
    cells = seeds * folds
    by_fold_F, by_seed_S = difference_SF.mean(axis=0), difference_SF.mean(axis=1)
    if folds == 1:
        return float(by_seed_S.var(ddof=1)) / seeds, seeds - 1.0
    overlapping = 1 / folds + 1 / (k - 1)
    if seeds == 1:
        return float(by_fold_F.var(ddof=1)) * overlapping, folds - 1.0
    rest_SF = difference_SF - by_fold_F - by_seed_S[:, None] + difference_SF.mean()
    of_rest = float((rest_SF**2).sum()) / ((folds - 1) * (seeds - 1))
    of_folds, of_seeds = seeds * float(by_fold_F.var(ddof=1)), folds * float(by_seed_S.var(ddof=1))  # mean squares
    fold, seed = max(0.0, (of_folds - of_rest) / seeds), max(0.0, (of_seeds - of_rest) / folds)  # components
    variance = fold * overlapping + seed / seeds + of_rest / cells
    # variance is a sum of mean squares with these weights where no component was cut off at 0
    weighted = overlapping / seeds * of_folds, of_seeds / cells, overlapping / seeds * of_rest
    freedoms = folds - 1, seeds - 1, (folds - 1) * (seeds - 1)
    df = variance**2 / sum(part**2 / freedom for part, freedom in zip(weighted, freedoms, strict=True))
    return variance, max(df, float(min(folds, seeds) - 1))


def _interval(mean: float, variance: float, df: float) -> tuple[float, float, float]:
    from scipy.stats import t

    error = math.sqrt(variance)
    half = float(t.ppf((1 + LEVEL) / 2, df)) * error
    return mean - half, mean + half, float(2 * t.sf(abs(mean) / error, df))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p of several tests, adjusted so that with any number of true null hypotheses the chance of one false rejection or
    more stays below the level (S. Holm, Scandinavian Journal of Statistics 6, 1979). None, where there was no test,
    stays None and does not count."""
    tested = sorted((value, place) for place, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, place) in enumerate(tested):
        highest = max(highest, min(1.0, value * (len(tested) - rank)))
        adjusted[place] = highest
    return adjusted


def against_all(
    variants: Sequence[Cells], first: int, k_folds: float | None = None, chosen_by_these: bool = False
) -> list[Compared]:
    """Variant number `first` against each other one, in their order, p adjusted after Holm.

    chosen_by_these  `first` is the one whose scores, these ones, are the best. It is then not one comparison with each
                     other variant but the best-looking of all pairs, and p are adjusted for all pairs: with one for
                     each other variant, 18 variants that are all alike have a winner in up to 17 % of sweeps.
    A pair without a common fold is left out. Raises ValueError as `paired_effect` does for k_folds.
    """
    pairs = [(first, other) for other in range(len(variants)) if other != first]
    wanted = len(pairs)
    if chosen_by_these:
        others = [place for place in range(len(variants)) if place != first]
        pairs += [(a, b) for number, a in enumerate(others) for b in others[number + 1 :]]
    known = [(a, b) for a, b in pairs if cells_of_both(variants[a], variants[b])[0].size]
    effects = [paired_effect(variants[a], variants[b], k_folds) for a, b in known]
    adjusted = holm([effect.p for effect in effects])
    found = [Compared(a, b, effect, p) for (a, b), effect, p in zip(known, effects, adjusted, strict=True)]
    return [one for one in found if (one.first, one.second) in pairs[:wanted]]
