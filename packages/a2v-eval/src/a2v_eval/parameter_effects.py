"""What each parameter of a sweep does to the score.

Where trials are a grid (or variants that differ in one key), two values of a parameter are compared over the
combinations of all other parameters that have both: their scores are averaged over these combinations in each (seed,
fold), then paired. All pairs of values of all parameters are one family of tests, adjusted after Holm: which value is
the best is chosen by the same scores, so it is not enough to count the pairs with the best.

Where combinations were drawn, nothing can be paired: numbers have a rank correlation with the score, choices the means
of their trials; p of either is the share of permutations of the scores among the trials that are as far from none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .effects import ALPHA, Cells, Compared, Effect, cells_of_both, holm, paired_effect

PERMUTATIONS = 9999
MOST_ORDERS = 5040  # 7!: so many orders are all tried
SEED = 0


@dataclass(frozen=True)
class TrialScores:
    """One trial: the values of all parameters that differ in the sweep, and its scores."""

    values: Mapping[str, Any]
    scores: Cells

    @property
    def mean(self) -> float:
        """Over all cells."""
        return float(np.mean([score for folds in self.scores.values() for score in folds.values()]))


@dataclass(frozen=True)
class ValueScore:
    """One value of a parameter. mean: of its trials, where values are paired of those in combinations that all values
    have; trials: how many; effect: against the mean of all other values, None where that is not paired."""

    value: Any
    mean: float
    trials: int
    effect: Effect | None = None


@dataclass(frozen=True)
class ParameterEffect:
    """A parameter whose values are paired. values: the best first; compared: pairs of values, numbers of `values`;
    combinations: of the other parameters, over which the best is compared with the next."""

    key: str
    values: list[ValueScore]
    compared: list[Compared]
    combinations: int

    @property
    def of_best(self) -> list[Compared]:
        """The best value against each other one."""
        return [one for one in self.compared if one.first == 0]

    @property
    def tied(self) -> list[Any]:
        """Values that nothing tells from the best."""
        return [self.values[one.second].value for one in self.of_best if one.tie]


@dataclass(frozen=True)
class Unpaired:
    """A parameter whose combinations do not match. correlation: Spearman's, of value and score, of numbers; values:
    means of the trials with each, of choices, the best first; p, adjusted: of the permutations, None for fewer than
    four trials or where all are alike."""

    key: str
    correlation: float | None
    values: list[ValueScore]
    trials: int
    p: float | None
    adjusted: float | None

    @property
    def tie(self) -> bool:
        return self.adjusted is None or self.adjusted >= ALPHA


def parameter_effects(trials: Sequence[TrialScores], k_folds: float | None = None) -> list[ParameterEffect]:
    """Of every parameter that has two values or more in combinations that match, in the order in which parameters
    come. Trials without scores are left out. Raises ValueError as `paired_effect` does for k_folds."""
    known = [trial for trial in trials if any(trial.scores.values())]
    keys = list(dict.fromkeys(key for trial in known for key in trial.values))
    found = [effect for key in keys if (effect := _of_parameter(key, keys, known, k_folds))]
    adjusted = iter(holm([one.effect.p for effect in found for one in effect.compared]))
    return [
        ParameterEffect(
            effect.key,
            effect.values,
            [Compared(one.first, one.second, one.effect, next(adjusted)) for one in effect.compared],
            effect.combinations,
        )
        for effect in found
    ]


def _of_parameter(
    key: str, keys: Sequence[str], trials: Sequence[TrialScores], k_folds: float | None
) -> ParameterEffect | None:
    """p are not adjusted yet; None where no two values stand in the same combination."""
    values: dict[Hashable, Any] = {_mark(trial.values.get(key)): trial.values.get(key) for trial in trials}
    combinations: dict[Hashable, dict[Hashable, TrialScores]] = {}
    for trial in trials:
        others = tuple(_mark(trial.values.get(other)) for other in keys if other != key)
        combinations.setdefault(others, {})[_mark(trial.values.get(key))] = trial
    whole = [by_value for by_value in combinations.values() if len(by_value) == len(values)]
    of_value = {
        mark: [by_value[mark] for by_value in whole or combinations.values() if mark in by_value] for mark in values
    }
    mean = {mark: float(np.mean([trial.mean for trial in those])) for mark, those in of_value.items()}
    ranked = sorted(values, key=lambda mark: -mean[mark])
    compared, first_combinations = [], 0
    for (a, first), (b, second) in itertools.combinations(enumerate(ranked), 2):
        both = [by_value for by_value in combinations.values() if first in by_value and second in by_value]
        effect = _paired([one[first] for one in both], [one[second] for one in both], k_folds) if both else None
        if effect is not None:
            compared.append(Compared(a, b, effect, None))
            first_combinations = first_combinations or len(both)
    if not compared:
        return None
    scored = []
    for mark in ranked:
        effect = None
        if whole:
            rest = [[one[other] for other in ranked if other != mark] for one in whole]
            means = [TrialScores({}, _average([trial.scores for trial in those])) for those in rest]
            effect = _paired([one[mark] for one in whole], means, k_folds)
        scored.append(ValueScore(values[mark], mean[mark], len(of_value[mark]), effect))
    return ParameterEffect(key, scored, compared, first_combinations)


def _mark(value: Any) -> Hashable:
    """What two values share that are the same: 1 and true are not, 1 and 1.0 are."""
    return (isinstance(value, bool), value if isinstance(value, int | float | str | None) else repr(value))


def _paired(first: Sequence[TrialScores], second: Sequence[TrialScores], k_folds: float | None) -> Effect | None:
    """Trials of two values in the same combinations, averaged over these; None where they have no cell in common."""
    one, other = (_average([trial.scores for trial in trials]) for trials in (first, second))
    return paired_effect(one, other, k_folds) if cells_of_both(one, other)[0].size else None


def _average(scores: Sequence[Cells]) -> dict[int | None, dict[int, float]]:
    """Mean of several trials in each cell that all of them have."""
    seeds = [seed for seed in scores[0] if all(seed in one for one in scores)]
    folds = {seed: [fold for fold in scores[0][seed] if all(fold in one[seed] for one in scores)] for seed in seeds}
    return {seed: {fold: float(np.mean([one[seed][fold] for one in scores])) for fold in folds[seed]} for seed in seeds}


def unpaired_effects(trials: Sequence[TrialScores]) -> list[Unpaired]:
    """Of every parameter with two values or more, in the order in which parameters come; p adjusted after Holm."""
    known = [trial for trial in trials if any(trial.scores.values())]
    keys = dict.fromkeys(key for trial in known for key in trial.values)
    found = [one for key in keys if (one := _unpaired(key, known))]
    return [
        Unpaired(one.key, one.correlation, one.values, one.trials, one.p, adjusted)
        for one, adjusted in zip(found, holm([one.p for one in found]), strict=True)
    ]


def _unpaired(key: str, trials: Sequence[TrialScores]) -> Unpaired | None:
    from scipy.stats import rankdata

    values_N = [trial.values.get(key) for trial in trials]
    groups: dict[Hashable, list[int]] = {}
    for number, value in enumerate(values_N):
        groups.setdefault(_mark(value), []).append(number)
    if len(groups) < 2:
        return None
    score_N = np.array([trial.mean for trial in trials])
    rank_N = rankdata(score_N)
    orders_PN = _orders(len(trials))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values_N):
        value_rank_N = rankdata(np.array(values_N, dtype=np.float64))
        correlation = _correlations(value_rank_N, rank_N[None])[0]
        p = _share(np.abs(_correlations(value_rank_N, rank_N[orders_PN])), abs(correlation))
        return Unpaired(key, float(correlation), [], len(trials), p, None)
    between = _between(list(groups.values()), rank_N[None])[0]
    p = _share(_between(list(groups.values()), rank_N[orders_PN]), between)
    means = [ValueScore(values_N[those[0]], float(score_N[those].mean()), len(those)) for those in groups.values()]
    return Unpaired(key, None, sorted(means, key=lambda one: -one.mean), len(trials), p, None)


def _orders(count: int) -> NDArray[np.int64]:
    """Orders of the trials, (P, N): all of them where there are few, else the one that is there and drawn ones."""
    if math.factorial(min(count, 20)) <= MOST_ORDERS:
        return np.array(list(itertools.permutations(range(count))))
    rng = np.random.default_rng(SEED)
    drawn = rng.permuted(np.tile(np.arange(count), (PERMUTATIONS, 1)), axis=1)
    return np.concatenate([np.arange(count)[None], drawn])


def _correlations(rank_N: NDArray[np.float64], others_PN: NDArray[np.float64]) -> NDArray[np.float64]:
    centred_N, centred_PN = rank_N - rank_N.mean(), others_PN - others_PN.mean(axis=1, keepdims=True)
    size = np.sqrt((centred_N**2).sum() * (centred_PN**2).sum(axis=1))
    return np.asarray(np.divide(centred_PN @ centred_N, size, out=np.zeros(len(size)), where=size > 0))


def _between(groups: Sequence[Sequence[int]], rank_PN: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the mean ranks of groups are from that of all, squared and weighted, as in Kruskal and Wallis' test."""
    overall = rank_PN.mean(axis=1)
    return np.asarray(sum(len(those) * (rank_PN[:, those].mean(axis=1) - overall) ** 2 for those in groups))


def _share(values_P: NDArray[np.float64], observed: float) -> float | None:
    """Of permutations as far out as what was observed; None where there are too few to say anything, or no variety."""
    if len(values_P) < math.factorial(4) or not np.ptp(values_P) > 0:
        return None
    return float((values_P >= observed - 1e-9 * max(1.0, abs(observed))).mean())
