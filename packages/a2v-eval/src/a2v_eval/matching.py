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

from .protocol_names import PROTOCOLS, Protocol

SPAN = np.dtype(
    [
        ("recording", "<i4"),
        ("class", "<i2"),
        ("start", "<i8"),
        ("stop", "<i8"),
        ("likelihood", "<f8"),
    ]
)
"""An interval in frames with a likelihood: the event's own, or for a label the mean likelihood over its frames."""

ENTRY = np.dtype([("recording", "<i4"), ("class", "<i2"), ("target", "?"), ("likelihood", "<f8")])
"""A row of a ranking: does it count as found (target), and how likely was it said to be."""


@dataclass(frozen=True)
class Pairs:
    """Labels and predictions that overlap, each (M,): their row numbers, and the IoU as a protocol measures it."""

    label: np.ndarray
    prediction: np.ndarray
    iou: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Pairs:
        return Pairs(self.label[chosen], self.prediction[chosen], self.iou[chosen])


@dataclass(frozen=True)
class Matching:
    """What a protocol makes of labels and predictions.

    entries   (E,) ENTRY. `paper`: one per pair above the threshold (target, the prediction's likelihood), one
              per pair below it (no target, the LABEL's mean likelihood), one per label without any overlap
              (target, the label's mean likelihood), one per prediction without any overlap (no target).
              `strict`: one per prediction; a missed label has none, as it can never be recalled.
    pairs     the pairs above the threshold; one-to-one under `strict`.
    below     number of overlapping pairs that are not among them.
    missed    (L,) bool: `paper`, labels that overlap nothing; `strict`, labels without a partner.
    unmatched (P,) bool, likewise for predictions.
    splits    (C,) predictions that share their label with another prediction.
    mergers   (C,) labels that share their prediction with another label. Both are counted over the pairs
              above the threshold for `paper`, over all overlapping pairs for `strict` (its matches are
              one-to-one).
    """

    entries: np.ndarray
    pairs: Pairs
    below: int
    missed: np.ndarray
    unmatched: np.ndarray
    splits: np.ndarray
    mergers: np.ndarray


def match(
    labels: np.ndarray,
    predictions: np.ndarray,
    n_classes: int,
    protocol: Protocol,
    iou_threshold: float,
    overlaps: Pairs | None = None,
) -> Matching:
    """Match SPAN arrays, in any order. ValueError for an unknown protocol or a threshold outside [0, 1).

    overlaps  what `find_overlaps` gives for them, to be shared by several thresholds.
    """
    if not 0 <= iou_threshold < 1:
        raise ValueError(f"iou_threshold: {iou_threshold} should be at least 0 and below 1")
    pairs = find_overlaps(labels, predictions, protocol) if overlaps is None else overlaps
    matcher = _match_paper if protocol == "paper" else _match_strict
    return matcher(labels, predictions, n_classes, pairs, iou_threshold)


def find_overlaps(labels: np.ndarray, predictions: np.ndarray, protocol: Protocol) -> Pairs:
    """All pairs of SPANs that overlap as the protocol measures it. ValueError for an unknown protocol."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: {protocol!r} should be one of {', '.join(PROTOCOLS)}")
    label, prediction = overlapping_pairs(labels, predictions)
    pairs = Pairs(label, prediction, pair_iou(labels[label], predictions[prediction], protocol))
    return pairs[pairs.iou > 0]


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
    labels: np.ndarray, predictions: np.ndarray, n_classes: int, pairs: Pairs, iou_threshold: float
) -> Matching:
    good, bad = pairs[pairs.iou > iou_threshold], pairs[pairs.iou <= iou_threshold]
    missed = ~_present(pairs.label, len(labels))
    unmatched = ~_present(pairs.prediction, len(predictions))
    entries = np.concatenate(
        [
            _entries(predictions[good.prediction], True),
            _entries(labels[bad.label], False),
            _entries(labels[missed], True),
            _entries(predictions[unmatched], False),
        ]
    )
    splits, mergers = shared(labels, good, n_classes)
    return Matching(entries, good, len(bad.iou), missed, unmatched, splits, mergers)


def _match_strict(
    labels: np.ndarray, predictions: np.ndarray, n_classes: int, pairs: Pairs, iou_threshold: float
) -> Matching:
    good = pairs[pairs.iou > iou_threshold]
    chosen = good[greedy_one_to_one(good, predictions["likelihood"][good.prediction])]
    found = _present(chosen.prediction, len(predictions))
    missed = ~_present(chosen.label, len(labels))
    splits, mergers = shared(labels, pairs, n_classes)
    below = len(pairs.iou) - len(chosen.iou)
    return Matching(_entries(predictions, found), chosen, below, missed, ~found, splits, mergers)


def greedy_one_to_one(pairs: Pairs, likelihood: np.ndarray) -> np.ndarray:
    """Which pairs are chosen, sorted: the likeliest prediction first takes the free label it overlaps
    most.

    Greedy by likelihood, not optimal: so what is matched among the k likeliest predictions does not depend on
    the rest, and every point of the precision-recall curve is what that threshold would have given. Ties go
    to the earlier row. Rather than pair by pair, all pairs that rank first both at their label and at their
    prediction are taken at once, and again among what is left: the result is that of the sequential choice.
    likelihood: of each pair, its prediction's; where it is the pair's own, pairs are taken by it.
    """
    order = np.lexsort((pairs.label, -pairs.iou, pairs.prediction, -likelihood))
    label, prediction = pairs.label[order], pairs.prediction[order]
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


def shared(labels: np.ndarray, pairs: Pairs, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs per class whose label, and whose prediction, is in more than one pair: splits and mergers, (C,) each."""
    counts = []
    class_ = labels["class"][pairs.label]
    for rows in (pairs.label, pairs.prediction):
        _, inverse, times = np.unique(rows, return_inverse=True, return_counts=True)
        counts.append(np.bincount(class_[times[inverse] > 1], minlength=n_classes))
    return counts[0], counts[1]
