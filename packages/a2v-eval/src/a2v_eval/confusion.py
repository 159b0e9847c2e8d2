"""Which class is taken for which: events predicted against events labelled (strict protocol).

C classes, L labels, P predictions; intervals are half-open frames (SPAN of `matching`).
"""

from __future__ import annotations

import numpy as np

from .matching import match


def confusion(labels: np.ndarray, predictions: np.ndarray, n_classes: int, iou_threshold: float) -> np.ndarray:
    """Counts (C + 1, C + 1) int64: row = class of the label, column = class of the prediction. The last column counts
    labels that were missed, the last row false predictions.

    First each class is matched one to one, as `strict` does (IoU above the threshold, the likeliest prediction
    first), so the diagonal holds its hits. What is left, labels and predictions alike, is then matched one to one
    whatever the classes. So a row sums to the labels of its class and a column to the predictions of its class, and
    a label of a class that accompanies others (as MeerKAT's `focal`) is not taken for a confusion with them.

    labels, predictions   SPAN, of any number of recordings. Raises ValueError as `match`.
    """
    counts = np.zeros((n_classes + 1, n_classes + 1), dtype=np.int64)
    own = match(labels, predictions, n_classes, "strict", iou_threshold)
    np.add.at(counts, (labels["class"][own.pairs.label], predictions["class"][own.pairs.prediction]), 1)
    labels, predictions = labels[own.missed], predictions[own.unmatched]
    other = match(_one_class(labels), _one_class(predictions), 1, "strict", iou_threshold)
    np.add.at(counts, (labels["class"][other.pairs.label], predictions["class"][other.pairs.prediction]), 1)
    np.add.at(counts, (labels["class"][other.missed], n_classes), 1)
    np.add.at(counts, (n_classes, predictions["class"][other.unmatched]), 1)
    return counts


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Shares (C, C + 1) of the labels of each class: found, taken for another class, missed. NaN without labels."""
    rows = counts[:-1].astype(float)
    total = rows.sum(axis=1, keepdims=True)
    return np.divide(rows, total, out=np.full_like(rows, np.nan), where=total > 0)


def _one_class(spans: np.ndarray) -> np.ndarray:
    spans = spans.copy()
    spans["class"] = 0
    return spans
