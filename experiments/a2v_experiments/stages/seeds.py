"""Scores of several seeds: each fold as the mean over its seeds, and how they deviate over seeds and over folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from a2v_eval.events import PROTOCOLS
from a2v_eval.presence import PRESENCE
from a2v_eval.summary import STRICT_FIRST, UNDEFINED_MARK, Spread, metric_name, spread, summarise

from ..basics.tables import text_table

Scores = dict[float, list[dict[str, float]]]  # label share -> metrics of its folds, in their order
BySeed = Mapping[int | None, Scores]  # of each seed, in their order; None where the recipe has no seeds

TOLD = ["strict/mAP/micro", *(metric_name(p, "AP", of) for of in ("micro", "macro") for p in STRICT_FIRST)]
TOLD += [f"{PRESENCE}mAP/{of}" for of in ("micro", "macro")]


def over_seeds(by_seed: BySeed) -> Scores:
    """Each fold's metrics as the mean over the seeds that define them; of one seed as they are."""
    if len(by_seed) == 1:
        return next(iter(by_seed.values()))
    found: Scores = {}
    for share in next(iter(by_seed.values())):
        of_seeds = [scores[share] for scores in by_seed.values()]
        folds = max(map(len, of_seeds))
        cells = [[one[fold] for one in of_seeds if fold < len(one)] for fold in range(folds)]
        found[share] = [{name: one.mean for name, one in summarise(cell).items()} for cell in cells]
    return found


def seed_spreads(by_seed: BySeed, share: float) -> dict[str, Spread]:
    """Per metric, mean and deviation over seeds of its mean over folds. A seed counts where it has a score of every
    fold that any seed has one of, so that a seed is not the better for a harder fold that it lacks."""
    of_seeds = [scores[share] for scores in by_seed.values()]
    found = {}
    for name in dict.fromkeys(name for folds in of_seeds for fold in folds for name in fold):
        known = [{number: fold[name] for number, fold in enumerate(folds) if name in fold} for folds in of_seeds]
        every = set().union(*known)
        means = [spread(list(values.values())).mean for values in known if set(values) == every]
        if means:
            found[name] = spread(means)
    return found


def seed_metrics(by_seed: BySeed, share: float) -> dict[str, float]:
    """`strict/AP/micro_seed_std`, ...: of the metrics that two seeds or more have."""
    spreads = seed_spreads(by_seed, share) if len(by_seed) > 1 else {}
    return {f"{name}_seed_std": one.std for name, one in spreads.items() if one.std is not None}


def seeds_text(by_seed: BySeed, share: float) -> str:
    """A table of what scores are over all seeds and folds: mean, deviation over folds (of the mean over seeds),
    deviation over seeds (of the mean over folds), and the mean of each seed."""
    folds, seeds = summarise(over_seeds(by_seed)[share]), seed_spreads(by_seed, share)
    each = {seed: summarise(scores[share]) for seed, scores in by_seed.items()}
    rows = []
    for name in (one for one in TOLD if one in folds):
        deviations = [_number(folds[name].std), _number(seeds[name].std if name in seeds else None)]
        of_seeds = [_number(summary[name].mean if name in summary else None) for summary in each.values()]
        rows.append([_title(name), _number(folds[name].mean), *deviations, *of_seeds])
    head = ["score", "mean", "± over folds", "± over seeds", *(f"seed {seed}" for seed in each)]
    return text_table(head, rows)


def seeds_named(seeds: Sequence[int | None]) -> str:
    """`each fold the mean of seeds 0, 1, 2`, for the head of a table."""
    return f"each fold the mean of seeds {', '.join(map(str, seeds))}"


def _title(metric: str) -> str:
    """`strict/AP/micro` -> 'AP micro strict'."""
    *prefix, score, of = metric.split("/")
    return f"{score} {of} {prefix[0] if prefix else PROTOCOLS[0]}"


def _number(value: float | None) -> str:
    return UNDEFINED_MARK if value is None else f"{value:.3f}"
