"""Matching predictions to labels under the two protocols (spec 8.3; goldens g9).

L labels, P predictions, M overlapping pairs, E entries. Intervals are half-open frames [start, stop) of one
(recording, class); `overlapping_pairs` finds every overlap by binary search, without a loop over either.

The protocols measure overlap differently:
  strict  frames as they are: an interval of n frames is n long.
  paper   the original's points: [first, last] is last - first long, so intervals that share only one frame do
          not overlap, and an event of one frame overlaps only the very same event (with IoU 1).
A pair counts when its IoU is *above* the threshold (default 0.0 for paper, 0.3 for strict).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .events import PROTOCOLS, Protocol

SPAN = np.dtype(
    [
        ("recording", "<i4"),
        ("class", "<i2"),
        ("start", "<i4"),
        ("stop", "<i4"),
        ("likelihood", "<f8"),
    ]
)
"""An interval with a likelihood: the event's own, or for a label the mean likelihood over its frames."""

ENTRY = np.dtype([("recording", "<i4"), ("class", "<i2"), ("target", "?"), ("likelihood", "<f8")])
"""A row of a ranking: does it count as found (target), and how likely was it said to be."""


@dataclass(frozen=True)
class Matching:
    """What a protocol makes of labels and predictions.

    entries   (E,) ENTRY. `paper`: one per pair above the threshold (target, the prediction's likelihood), one
              per pair below it (no target, the LABEL's mean likelihood), one per label without any overlap
              (target, the label's mean likelihood), one per prediction without any overlap (no target).
              `strict`: one per prediction; a missed label has none, as it can never be recalled.
    label, prediction   (M,) row numbers of the pairs above the threshold; one-to-one under `strict`.
    iou       (M,) their IoU.
    below     number of overlapping pairs that are not among them.
    missed    (L,) bool: `paper`, labels that overlap nothing; `strict`, labels without a partner.
    unmatched (P,) bool, likewise for predictions.
    splits    (C,) predictions that share their label with another prediction.
    mergers   (C,) labels that share their prediction with another label. Both are counted over the pairs
              above the threshold for `paper`, over all overlapping pairs for `strict` (its matches are
              one-to-one).
    """

    entries: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    iou: np.ndarray
    below: int
    missed: np.ndarray
    unmatched: np.ndarray
    splits: np.ndarray
    mergers: np.ndarray


def match(
    labels: np.ndarray, predictions: np.ndarray, n_classes: int, protocol: Protocol, iou_threshold: float
) -> Matching:
    """Match SPAN arrays, in any order. ValueError for an unknown protocol or a threshold outside [0, 1)."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: {protocol!r} should be one of {', '.join(PROTOCOLS)}")
    if not 0 <= iou_threshold < 1:
        raise ValueError(f"iou_threshold: {iou_threshold} should be at least 0 and below 1")
    label, prediction = overlapping_pairs(labels, predictions)
    iou = pair_iou(labels[label], predictions[prediction], protocol)
    overlap = iou > 0
    label, prediction, iou = label[overlap], prediction[overlap], iou[overlap]
    if protocol == "paper":
        return _match_paper(labels, predictions, n_classes, label, prediction, iou, iou_threshold)
    return _match_strict(labels, predictions, n_classes, label, prediction, iou, iou_threshold)


def overlapping_pairs(labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (label, prediction) of all pairs of one recording and class that share a frame, each (M,).

    Intervals may overlap others of their own kind. Ordered by label, then by the prediction's start.
    """
    starts_L, stops_L = _on_one_axis(labels, predictions)
    starts_P, stops_P = _on_one_axis(predictions, labels)
    order = np.argsort(starts_P, kind="stable")
    # the running maximum of the stops is sorted even where predictions overlap each other
    reach = np.maximum.accumulate(stops_P[order]) if len(order) else stops_P
    low = np.searchsorted(reach, starts_L, side="right")
    high = np.searchsorted(starts_P[order], stops_L, side="left")
    count = np.maximum(high - low, 0)
    label = np.repeat(np.arange(len(labels)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    prediction = order[np.repeat(low, count) + within] if len(label) else np.zeros(0, dtype=np.int64)
    share = (starts_P[prediction] < stops_L[label]) & (starts_L[label] < stops_P[prediction])
    return label[share], prediction[share]


def pair_iou(a: np.ndarray, b: np.ndarray, protocol: Protocol) -> np.ndarray:
    """IoU of SPANs row by row, (M,): intersection over union of their lengths, as the protocol measures
    them."""
    shorter = 1 if protocol == "paper" else 0
    intersection = np.minimum(a["stop"], b["stop"]) - np.maximum(a["start"], b["start"]) - shorter
    length = (a["stop"] - a["start"] - shorter) + (b["stop"] - b["start"] - shorter)
    intersection = np.maximum(intersection, 0)
    union = length - intersection
    same_point = union == 0  # paper: the same single frame
    return np.where(same_point, 1.0, intersection / np.where(same_point, 1, union))


def _match_paper(
    labels: np.ndarray,
    predictions: np.ndarray,
    n_classes: int,
    label: np.ndarray,
    prediction: np.ndarray,
    iou: np.ndarray,
    iou_threshold: float,
) -> Matching:
    good = iou > iou_threshold
    missed = ~_present(label, len(labels))
    unmatched = ~_present(prediction, len(predictions))
    entries = np.concatenate(
        [
            _entries(predictions[prediction[good]], True),
            _entries(labels[label[~good]], False),
            _entries(labels[missed], True),
            _entries(predictions[unmatched], False),
        ]
    )
    splits, mergers = _shared(labels["class"][label[good]], label[good], prediction[good], n_classes)
    below = int((~good).sum())
    pairs = (label[good], prediction[good], iou[good])
    return Matching(entries, *pairs, below, missed, unmatched, splits, mergers)


def _match_strict(
    labels: np.ndarray,
    predictions: np.ndarray,
    n_classes: int,
    label: np.ndarray,
    prediction: np.ndarray,
    iou: np.ndarray,
    iou_threshold: float,
) -> Matching:
    splits, mergers = _shared(labels["class"][label], label, prediction, n_classes)
    good = iou > iou_threshold
    chosen = np.flatnonzero(good)[
        greedy_one_to_one(
            label[good], prediction[good], iou[good], predictions["likelihood"][prediction[good]]
        )
    ]
    found = _present(prediction[chosen], len(predictions))
    entries = _entries(predictions, found)
    missed = ~_present(label[chosen], len(labels))
    pairs = (label[chosen], prediction[chosen], iou[chosen])
    return Matching(entries, *pairs, len(iou) - len(chosen), missed, ~found, splits, mergers)


def greedy_one_to_one(
    label: np.ndarray, prediction: np.ndarray, iou: np.ndarray, likelihood: np.ndarray
) -> np.ndarray:
    """Indices of the chosen pairs, sorted: the likeliest prediction first takes the free label it overlaps
    most.

    Greedy by likelihood, not optimal: so what is matched among the k likeliest predictions does not depend on
    the rest, and every point of the precision-recall curve is what that threshold would have given. Ties go
    to the earlier row. Rather than pair by pair, all pairs that rank first both at their label and at their
    prediction are taken at once, and again among what is left: the result is that of the sequential choice.
    """
    order = np.lexsort((label, -iou, prediction, -likelihood))
    label, prediction = label[order], prediction[order]
    left = np.arange(len(order))
    chosen = []
    while len(left):
        best = _is_first(label[left]) & _is_first(prediction[left])
        chosen.append(left[best])
        taken = np.isin(label[left], label[left[best]]) | np.isin(prediction[left], prediction[left[best]])
        left = left[~taken]
    return np.sort(order[np.concatenate(chosen)]) if chosen else np.zeros(0, dtype=np.int64)


def _is_first(values: np.ndarray) -> np.ndarray:
    first = np.zeros(len(values), dtype=bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def _on_one_axis(spans: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops on one axis on which each recording and class has a stretch of its own, (n,) int64."""
    longest = max((int(s["stop"].max()) for s in (spans, others) if len(s)), default=0) + 1
    classes = max((int(s["class"].max()) for s in (spans, others) if len(s)), default=0) + 1
    base = (spans["recording"].astype(np.int64) * classes + spans["class"]) * longest
    return base + spans["start"], base + spans["stop"]


def _present(rows: np.ndarray, n: int) -> np.ndarray:
    present = np.zeros(n, dtype=bool)
    present[rows] = True
    return present


def _entries(spans: np.ndarray, target: bool | np.ndarray) -> np.ndarray:
    entries = np.empty(len(spans), dtype=ENTRY)
    for name in ("recording", "class", "likelihood"):
        entries[name] = spans[name]
    entries["target"] = target
    return entries


def _shared(
    class_: np.ndarray, label: np.ndarray, prediction: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs per class whose label, and whose prediction, is in more than one pair: splits and mergers."""
    counts = []
    for rows in (label, prediction):
        _, inverse, times = np.unique(rows, return_inverse=True, return_counts=True)
        counts.append(np.bincount(class_[times[inverse] > 1], minlength=n_classes))
    return counts[0], counts[1]
