"""Scores per class and over all classes, under one protocol (spec 8.3-8.4). C classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .events import Protocol
from .matching import Pairs, match
from .scores import UNDEFINED, average_precision, f1_score, mean_defined, ratio


@dataclass(frozen=True, kw_only=True)
class BasicScores:
    """ap: average precision. precision, recall, f1: at the operating point. NaN where undefined."""

    ap: float
    precision: float
    recall: float
    f1: float

    def named(self) -> dict[str, float]:
        return {"AP": self.ap, "precision": self.precision, "recall": self.recall, "F1": self.f1}


@dataclass(frozen=True, kw_only=True)
class Scores(BasicScores):
    """Scores of one class, or of all classes pooled (micro).

    ap            undefined without labels (`paper`: without positive entries), where the predictions have no
                  likelihoods to rank them by, and under `paper` where nothing is predicted: missed labels are all that
                  is ranked then, which would read 1.00 for a detector that finds nothing.
    labels        events annotated; under `paper`, runs of labelled frames (labels that touch are one).
    predictions   events predicted at the operating point.
    positives     what recall is relative to: under `strict` all labels; under `paper` the positive entries.
    hits          positives found at the operating point.
    splits, mergers   see `Matching`.
    """

    labels: int
    predictions: int
    positives: int
    hits: int
    splits: int
    mergers: int


@dataclass(frozen=True, kw_only=True)
class MacroScores(BasicScores):
    """Means over the `classes` classes that have labels (`paper`: positive entries); of those, over the ones for
    which a score is defined. Classes without labels are left out: they count neither as 0 nor as 1."""

    classes: int


@dataclass(frozen=True)
class ProtocolScores:
    """Scores of one protocol.

    macro_ap_official  mean AP over all classes with 0 where there are no positives, as the original implementation has
                       it: a class of which nothing is predicted counts as 1.
    undefined          classes without labels (`paper`: without positive entries).
    """

    protocol: Protocol
    iou_threshold: float
    per_class: dict[str, Scores]
    micro: Scores
    macro: MacroScores
    macro_ap_official: float
    undefined: tuple[str, ...]

    def of(self, name: str) -> Scores:
        """Scores of a class, or of all pooled with the name `micro`."""
        return self.micro if name == "micro" else self.per_class[name]

    def named(self) -> dict[str, dict[str, float]]:
        """class, `micro` or `macro` -> {'AP', 'precision', 'recall', 'F1'}."""
        return {name: s.named() for name, s in ({**self.per_class, "micro": self.micro, "macro": self.macro}).items()}


def score_protocol(
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[str],
    n_frames: int,
    thresholds_C: np.ndarray,
    protocol: Protocol,
    iou_threshold: float,
    ranked: bool = True,
    overlaps: Pairs | None = None,
    official: bool = False,
) -> ProtocolScores:
    """Match SPANs and score them.

    n_frames      frames of all recordings together; the original ranks every frame that holds no entry as a
                  negative of likelihood 0, which matters only for positives of likelihood 0 (`paper` only).
    thresholds_C  operating point per class: an entry is predicted if its likelihood is above it. Minus infinity
                  where all predictions have passed a threshold already.
    ranked        False where the predictions' likelihoods mean nothing: AP is then undefined.
    overlaps      as for `match`.
    official      AP under `paper` as the original has it where nothing is predicted: 1, not undefined.
    Raises ValueError as `match` does.
    """
    matching = match(labels, predictions, len(classes), protocol, iou_threshold, overlaps)
    entries = matching.entries
    paper = protocol == "paper"
    said = entries["likelihood"] > thresholds_C[entries["class"]]
    order = np.argsort(entries["class"], kind="stable")
    first = np.searchsorted(entries["class"][order], np.arange(len(classes) + 1))
    n_labels_C = np.bincount(labels["class"], minlength=len(classes))
    shown = predictions["likelihood"] > thresholds_C[predictions["class"]]
    n_predictions_C = np.bincount(predictions["class"][shown], minlength=len(classes))
    n_ranked_C = np.bincount(predictions["class"], minlength=len(classes))
    splits_C, mergers_C = matching.splits, matching.mergers
    if not shown.all():  # those of the predictions at the operating point
        rest = match(labels, predictions[shown], len(classes), protocol, iou_threshold)
        splits_C, mergers_C = rest.splits, rest.mergers

    def positives_of(rows: np.ndarray, which: slice) -> int:
        return int((entries["target"][rows] if paper else n_labels_C[which]).sum())

    def ap_of(rows: np.ndarray, which: slice) -> float:
        zeros = max(n_frames * len(n_labels_C[which]) - len(rows), 0) if paper else 0
        target, likelihood = entries["target"][rows], entries["likelihood"][rows]
        return average_precision(target, likelihood, positives_of(rows, which), zeros)

    def score(rows: np.ndarray, which: slice) -> Scores:
        target, positives = entries["target"][rows], positives_of(rows, which)
        hits, predicted = int((target & said[rows]).sum()), int(said[rows].sum())
        defined = ranked and (official or not paper or n_ranked_C[which].any())
        return Scores(
            labels=int(n_labels_C[which].sum()),
            predictions=int(n_predictions_C[which].sum()),
            positives=positives,
            hits=hits,
            ap=ap_of(rows, which) if defined else UNDEFINED,
            precision=ratio(hits, predicted),
            recall=ratio(hits, positives),
            f1=f1_score(hits, predicted, positives),
            splits=int(splits_C[which].sum()),
            mergers=int(mergers_C[which].sum()),
        )

    of_class = [(order[first[c] : first[c + 1]], slice(c, c + 1)) for c in range(len(classes))]
    per_class = {name: score(*of) for name, of in zip(classes, of_class, strict=True)}
    official_C = np.array([ap_of(*of) if ranked else UNDEFINED for of in of_class])
    return ProtocolScores(
        protocol=protocol,
        iou_threshold=iou_threshold,
        per_class=per_class,
        micro=score(np.arange(len(entries)), slice(None)),
        macro=_macro([s for s in per_class.values() if s.positives]),
        macro_ap_official=float(np.nan_to_num(official_C).mean()),
        undefined=tuple(name for name, s in per_class.items() if not s.positives),
    )


def _macro(with_labels: Sequence[Scores]) -> MacroScores:
    def mean(name: str) -> float:
        return mean_defined(np.array([getattr(s, name) for s in with_labels]))

    return MacroScores(
        ap=mean("ap"),
        precision=mean("precision"),
        recall=mean("recall"),
        f1=mean("f1"),
        classes=len(with_labels),
    )
