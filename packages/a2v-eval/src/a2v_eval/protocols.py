"""Scores per class and over all classes, under one protocol (spec 8.3-8.4). C classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .events import Protocol
from .matching import match
from .scores import average_precision, f1_score, mean_defined, ratio


@dataclass(frozen=True)
class Scores:
    """Scores of one class, or of all classes pooled (micro). NaN where undefined.

    labels        events annotated; under `paper`, runs of labelled frames (labels that touch are one).
    predictions   events predicted.
    positives     what recall is relative to: under `strict` all labels; under `paper` the positive entries.
    hits          positives found at the operating point, which is the threshold of the events.
    ap            average precision; undefined without labels (`paper`: without positive entries).
    precision, recall, f1   at the operating point.
    splits, mergers         see `Matching`.
    """

    labels: int
    predictions: int
    positives: int
    hits: int
    ap: float
    precision: float
    recall: float
    f1: float
    splits: int
    mergers: int

    def operating_point(self) -> dict[str, float]:
        return {"precision": self.precision, "recall": self.recall, "F1": self.f1}


@dataclass(frozen=True)
class ProtocolScores:
    """Scores of one protocol.

    macro_ap           mean AP over the classes for which it is defined.
    macro_ap_official  the same with 0 for the others, as the original implementation has it.
    undefined          classes whose AP is undefined, for want of labels (`paper`: of positive entries).
    """

    protocol: Protocol
    iou_threshold: float
    per_class: dict[str, Scores]
    micro: Scores
    macro_ap: float
    macro_ap_official: float
    undefined: tuple[str, ...]


def score_protocol(
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[str],
    n_frames: int,
    thresholds_C: np.ndarray,
    protocol: Protocol,
    iou_threshold: float,
) -> ProtocolScores:
    """Match SPANs and score them.

    n_frames     frames of all recordings together; the original ranks every frame that holds no entry as a
                 negative of likelihood 0, which matters only for positives of likelihood 0 (`paper` only).
    thresholds_C operating point per class: under `paper` an entry is predicted if its likelihood is above it;
                 under `strict` each entry is an event that passed it already.
    Raises ValueError as `match` does.
    """
    matching = match(labels, predictions, len(classes), protocol, iou_threshold)
    entries = matching.entries
    paper = protocol == "paper"
    said = entries["likelihood"] > thresholds_C[entries["class"]] if paper else np.ones(len(entries), bool)
    order = np.argsort(entries["class"], kind="stable")
    first = np.searchsorted(entries["class"][order], np.arange(len(classes) + 1))
    n_labels_C = np.bincount(labels["class"], minlength=len(classes))
    n_predictions_C = np.bincount(predictions["class"], minlength=len(classes))

    def score(rows: np.ndarray, which: slice) -> Scores:
        target, likelihood = entries["target"][rows], entries["likelihood"][rows]
        n_labels = int(n_labels_C[which].sum())
        positives = int(target.sum()) if paper else n_labels
        slots = n_frames * len(n_labels_C[which])
        hits, predicted = int((target & said[rows]).sum()), int(said[rows].sum())
        return Scores(
            labels=n_labels,
            predictions=int(n_predictions_C[which].sum()),
            positives=positives,
            hits=hits,
            ap=average_precision(target, likelihood, positives, max(slots - len(rows), 0) if paper else 0),
            precision=ratio(hits, predicted),
            recall=ratio(hits, positives),
            f1=f1_score(hits, predicted, positives),
            splits=int(matching.splits[which].sum()),
            mergers=int(matching.mergers[which].sum()),
        )

    per_class = {
        name: score(order[first[c] : first[c + 1]], slice(c, c + 1)) for c, name in enumerate(classes)
    }
    ap_C = np.array([s.ap for s in per_class.values()])
    return ProtocolScores(
        protocol=protocol,
        iou_threshold=iou_threshold,
        per_class=per_class,
        micro=score(np.arange(len(entries)), slice(None)),
        macro_ap=mean_defined(ap_C),
        macro_ap_official=float(np.nan_to_num(ap_C).mean()),
        undefined=tuple(name for name, s in per_class.items() if np.isnan(s.ap)),
    )
