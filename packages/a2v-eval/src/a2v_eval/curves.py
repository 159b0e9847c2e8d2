"""Precision-recall curves for figures: of one evaluation, and their mean over folds (spec 8.4).

N points of a curve, from the highest likelihood down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evaluation import Evaluation
from .events import Protocol
from .scores import precision_recall_curve

MICRO = "micro"
KEPT_POINTS = 500


@dataclass(frozen=True)
class Curve:
    """Precision and recall (N,) at each distinct likelihood, to be drawn as steps: the precision of a point holds
    from the recall before it up to its own. The area under the steps is `ap` (but for points left out)."""

    precision: np.ndarray
    recall: np.ndarray
    ap: float

    def thinned(self, points: int = KEPT_POINTS) -> Curve:
        """At most so many points, evenly spaced over those at which recall grows, the last included; AP stays."""
        growing = np.flatnonzero(np.diff(self.recall, prepend=0.0) > 0)
        # what stands between two of them is a drop of precision at the same recall
        chosen = np.arange(len(self.recall)) if len(self.recall) <= points else growing
        if len(chosen) > points:
            chosen = chosen[np.linspace(0, len(chosen) - 1, points).round().astype(int)]
        return Curve(self.precision[chosen], self.recall[chosen], self.ap)

    def to_plain(self) -> dict[str, Any]:
        """For JSON; numbers to five digits, which no figure shows."""
        return {"precision": _rounded(self.precision), "recall": _rounded(self.recall), "ap": self.ap}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Curve:
        return cls(np.array(plain["precision"], float), np.array(plain["recall"], float), float(plain["ap"]))


def precision_recall_curves(evaluation: Evaluation, protocol: Protocol) -> dict[str, Curve]:
    """The curve behind every AP: class -> Curve, and `micro` for all classes pooled. A class whose AP is undefined
    (no labels, see `Scores`) has none.

    Under `strict` recall may end below 1: labels that no event matches are never recalled. Under `paper` frames
    without entry count as negatives of likelihood 0, as in AP.
    """
    entries, scores = evaluation.entries(protocol), evaluation.scores(protocol)
    curves: dict[str, Curve] = {}
    for number, name in enumerate((*evaluation.classes, MICRO)):
        of = scores.micro if name == MICRO else scores.per_class[name]
        if np.isnan(of.ap):
            continue
        rows = entries if name == MICRO else entries[entries["class"] == number]
        slots = evaluation.n_frames * (len(evaluation.classes) if name == MICRO else 1)
        zeros = max(slots - len(rows), 0) if protocol == "paper" else 0
        precision, recall, _ = precision_recall_curve(rows["target"], rows["likelihood"], of.positives, zeros)
        curves[name] = Curve(precision, recall, of.ap)
    return curves


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean precision at every recall that occurs in one of the folds' curves; where a fold's recall does not reach,
    its precision is 0. So the area under the mean is the mean AP. ValueError without curves."""
    if not curves:
        raise ValueError("curves: none given; a mean needs at least one")
    recall = np.unique(np.concatenate([curve.recall for curve in curves]))
    precision = np.mean([_precision_at(curve, recall) for curve in curves], axis=0)
    return Curve(precision, recall, float(np.mean([curve.ap for curve in curves])))


def _precision_at(curve: Curve, recall: np.ndarray) -> np.ndarray:
    """Precision where the curve first has at least this recall."""
    place = np.searchsorted(curve.recall, recall, side="left")
    return np.append(curve.precision, 0.0)[place]


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]
