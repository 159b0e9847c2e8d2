"""Scores of folds and seeds as tables. Names of metrics are those of `a2v_eval`: `strict/AP/cc`, `any_class/F1`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from a2v_eval.summary import Spread, summarise
from a2v_experiments.stages.seeds import over_seeds, seed_spreads

if TYPE_CHECKING:
    import pandas

SCORES = ("AP", "mAP", "F1", "precision", "recall", "found", "predicted", "labelled")
KINDS = ("labels/train/", "labels/validation/", "labels/evaluation/")  # sample sizes, of a class each
BEFORE = {"energy", "any_class", "validation", "best"}  # a score: of what it is, where it is not the folds' own

# seed -> label share -> fold -> metrics
ByFold = Mapping[int | None, Mapping[float, Mapping[int, Mapping[str, float]]]]


class Meant(NamedTuple):
    """What a metric is of. of: a class, micro or macro, '' where it is of none; protocol: strict, paper, or '' where
    there is none (timesteps, presence, sample sizes); metric: the rest of its name."""

    of: str
    protocol: str
    metric: str


@dataclass(frozen=True)
class Scored:
    """An experiment or one trial of a sweep (`trial` None: no sweep), with the metrics of its folds."""

    trial: str | None
    folds: ByFold


def meant(name: str) -> Meant:
    """`strict/AP/cc` -> (cc, strict, AP), `energy/AP/micro` -> (micro, paper, energy/AP)."""
    for kind in KINDS:
        if name.startswith(kind):
            return Meant(name.removeprefix(kind), "", kind.rstrip("/"))
    parts = name.split("/")
    place = next((number for number, part in enumerate(parts) if part in SCORES), None)
    if place is None:
        return Meant("", "", name)
    before, of = parts[:place], "/".join(parts[place + 1 :])
    kept = [part for part in before if part != "strict"]
    protocol = "strict" if "strict" in before else "paper" if set(kept) <= BEFORE else ""
    return Meant(of, protocol, "/".join([*kept, parts[place]]))


def scores_table(scored: Iterable[Scored]) -> pandas.DataFrame:
    """One row for each score of each fold: (trial,) label_share, (seed,) fold, class, protocol, metric, value."""
    rows = [
        {"trial": one.trial, "label_share": share, "seed": seed, "fold": fold, **_columns(name), "value": value}
        for one in scored
        for seed, shares in one.folds.items()
        for share, folds in shares.items()
        for fold, metrics in folds.items()
        for name, value in metrics.items()
    ]
    return _table(rows, ["trial", "label_share", "seed", "fold", "class", "protocol", "metric", "value"])


def summary_table(scored: Iterable[Scored]) -> pandas.DataFrame:
    """One row for each score: (trial,) label_share, class, protocol, metric, mean, std_folds (of means over seeds),
    std_seeds (of means over folds), folds, and seeds that have it in every fold. A deviation of one value is NaN."""
    rows: list[dict[str, Any]] = []
    for one in scored:
        lists = {
            seed: {share: [dict(folds[fold]) for fold in sorted(folds)] for share, folds in shares.items()}
            for seed, shares in one.folds.items()
        }
        for share, folds in (over_seeds(lists) if lists else {}).items():
            several = len(lists) > 1
            seeds = seed_spreads(lists, share)
            for name, over_folds in summarise(folds).items():
                # A score can be undefined somewhere in every seed (precision of a class that nothing is said to be).
                of_seeds = seeds.get(name, Spread(math.nan, None, 0)) if several else Spread(over_folds.mean, None, 1)
                rows.append(
                    {
                        "trial": one.trial, "label_share": share, **_columns(name), "mean": over_folds.mean,
                        "std_folds": over_folds.std, "std_seeds": of_seeds.std, "folds": over_folds.n,
                        "seeds": of_seeds.n,
                    }
                )  # fmt: skip
    columns = [
        "trial",
        "label_share",
        "class",
        "protocol",
        "metric",
        "mean",
        "std_folds",
        "std_seeds",
        "folds",
        "seeds",
    ]
    table = _table(rows, columns)
    return table.astype({"std_folds": float, "std_seeds": float})


def _columns(name: str) -> dict[str, str]:
    found = meant(name)
    return {"class": found.of, "protocol": found.protocol, "metric": found.metric}


def _table(rows: list[dict[str, Any]], columns: list[str]) -> pandas.DataFrame:
    """With those of `trial` and `seed` that there are: pandas leaves groups of None out."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=columns)
    absent = [name for name in ("trial", "seed") if name in columns and table[name].isna().all()]
    return table.drop(columns=absent)
