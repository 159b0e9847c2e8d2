"""Counts of each fold at thresholds that the other folds chose: nothing is counted on recordings that chose for it.

C classes. As `Evaluation.metrics` and `call_counts` have them, under `strict`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import numpy as np

from .events import EventConfig
from .scores import f1_score, mean_defined, ratio
from .thresholds import ThresholdScores

COUNTED = tuple(f"strict/{what}/" for what in ("F1", "precision", "recall", "found", "predicted", "labelled"))
"""How the names begin of what `counts_at` gives."""


def cross_fitted(folds: Sequence[ThresholdScores], shared_labels: float = 0.0) -> list[dict[str, float]]:
    """`counts_at` of each fold, at the thresholds that are best on the sum of the others.

    shared_labels: as for `ThresholdScores.best`. ValueError for fewer than two folds, and for folds of other classes.
    """
    if len(folds) < 2:
        raise ValueError(f"folds: {len(folds)}; there must be others to choose the thresholds of each")
    return [
        counts_at(fold, reduce(add, [*folds[:number], *folds[number + 1 :]]).best(shared_labels))
        for number, fold in enumerate(folds)
    ]


def counts_at(scores: ThresholdScores, thresholds: Mapping[str, float]) -> dict[str, float]:
    """`strict/found/CLASS`, `strict/predicted/CLASS`, `strict/labelled/CLASS`, `strict/precision/CLASS`,
    `strict/recall/CLASS`, `strict/F1/CLASS`, and the same of `micro`; of `macro`, the means over classes with labels,
    the last three. What is undefined is left out.

    thresholds: class -> one of `scores.thresholds`; classes without one have that of EventConfig, or the next to it.
    """
    usual = EventConfig.model_fields["threshold"].default
    wanted_C = np.array([thresholds.get(name, usual) for name in scores.classes])
    place_C = np.abs(scores.thresholds - wanted_C[:, None]).argmin(axis=1)
    every_C = np.arange(len(scores.classes))
    hits_C, predicted_C = scores.hits[every_C, place_C], scores.predicted[every_C, place_C]
    counts = dict(zip(scores.classes, zip(hits_C, predicted_C, scores.labelled, strict=True), strict=True))
    counts["micro"] = (hits_C.sum(), predicted_C.sum(), scores.labelled.sum())
    values: dict[str, float] = {}
    for name, (found, predicted, labelled) in counts.items():
        values |= {f"strict/found/{name}": found, f"strict/predicted/{name}": predicted}
        values |= {f"strict/labelled/{name}": labelled, f"strict/precision/{name}": ratio(found, predicted)}
        values |= {f"strict/recall/{name}": ratio(found, labelled)}
        values |= {f"strict/F1/{name}": f1_score(found, predicted, labelled)}
    there = [name for name, labelled in zip(scores.classes, scores.labelled, strict=True) if labelled]
    for score in ("precision", "recall", "F1"):
        values[f"strict/{score}/macro"] = mean_defined(np.array([values[f"strict/{score}/{name}"] for name in there]))
    return {name: float(value) for name, value in values.items() if not np.isnan(value)}
