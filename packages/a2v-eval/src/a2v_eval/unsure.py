"""Time of which nobody knows what calls there, so that it counts neither for nor against a prediction.

Labels may have two classes below 0. `IGNORED`: nobody says what is there (outside the regions that were annotated, or
labels that are not to be used). `UNKNOWN`: a call, but of which class nobody knows. Neither is a label of any class; a
prediction on one is left out before anything is matched, unless it finds a label of its own class; frames under one
are no negatives. Whether there is a call at all is known of `UNKNOWN`: scores that ask of no class count it as a label.

L labels, P predictions, I intervals; intervals are half-open [start, stop) of one recording (SPAN of `matching`).
"""

from __future__ import annotations

import numpy as np

from .events import Protocol
from .labels import merge_touching
from .matching import SPAN, find_overlaps

IGNORED, UNKNOWN = -1, -2


def divided(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of classes, and those that are `IGNORED` or `UNKNOWN`. ValueError for any other class below 0."""
    class_ = labels["class"]
    if (class_ < UNKNOWN).any():
        row = int(np.argmax(class_ < UNKNOWN))
        raise ValueError(f"label row {row}: class {class_[row]} should be a class, {IGNORED} (ignored) or {UNKNOWN}")
    return labels[class_ >= 0], labels[class_ < 0]


def as_class(labels: np.ndarray, given: int, class_: int) -> np.ndarray:
    """Labels in which those of the class `given` are of another."""
    changed = labels.copy()
    changed["class"][labels["class"] == given] = class_
    return changed


def counting(
    predictions: np.ndarray, labels: np.ndarray, unsure: np.ndarray, protocol: Protocol, iou_threshold: float
) -> np.ndarray:
    """(P,) bool: which predictions count; SPAN arrays.

    Left out is one of which half or more is unsure, or that an unknown call would match (IoU above the threshold, as
    the protocol measures it), but for one that a label of its own class matches.
    """
    if not len(unsure) or not len(predictions):
        return np.ones(len(predictions), dtype=bool)
    length = predictions["stop"] - predictions["start"]
    outside = 2 * covered(predictions, unsure) >= length
    unknown = unsure[unsure["class"] == UNKNOWN]
    on_unknown = _matched(_one_class(unknown), _one_class(predictions), protocol, iou_threshold)
    return ~(outside | on_unknown) | _matched(labels, predictions, protocol, iou_threshold)


def covered(spans: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """How much of each of the spans, (n,), the intervals of its recording cover."""
    if not len(spans) or not len(intervals):
        return np.zeros(len(spans), dtype=np.int64)
    recording, start, stop = merge_touching(intervals["recording"], intervals["start"], intervals["stop"])
    longest = int(max(spans["stop"].max(), stop.max())) + 1
    base_I, base_S = recording.astype(np.int64) * longest, spans["recording"].astype(np.int64) * longest
    starts, stops = base_I + start, base_I + stop
    before = np.concatenate([[0], np.cumsum(stop - start)])

    def up_to(place: np.ndarray) -> np.ndarray:
        begun = np.searchsorted(starts, place, side="right")
        beyond = np.maximum(np.concatenate([[0], stops])[begun] - place, 0)
        return before[begun] - beyond

    found: np.ndarray = up_to(base_S + spans["stop"]) - up_to(base_S + spans["start"])
    return found


def unsure_time(unsure: np.ndarray, n_recordings: int) -> np.ndarray:
    """(R,) how much of each recording is unsure, in the unit of the spans."""
    recording, start, stop = merge_touching(unsure["recording"], unsure["start"], unsure["stop"])
    return np.bincount(recording, weights=stop - start, minlength=n_recordings).astype(np.int64)


def _matched(labels: np.ndarray, predictions: np.ndarray, protocol: Protocol, iou_threshold: float) -> np.ndarray:
    pairs = find_overlaps(labels, predictions, protocol)
    found = np.zeros(len(predictions), dtype=bool)
    found[pairs.prediction[pairs.iou > iou_threshold]] = True
    return found


def _one_class(spans: np.ndarray) -> np.ndarray:
    same = np.zeros(len(spans), SPAN)
    for name in ("recording", "start", "stop"):
        same[name] = spans[name]
    return same
