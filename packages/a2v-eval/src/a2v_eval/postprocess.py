"""What may be done with found events before they are used: tables (dtype EVENT) in, tables out, no likelihoods.

Every function keeps the order by class and start, and none changes its input. Seconds may be one number or one for each
class, (C,). The `segment` of all events must be the same: they are of one recording.
"""

from __future__ import annotations

import numpy as np

from .events import EVENT

TOLERANCE_S = 1e-9  # so that 0.1 s are 0.1 s, whatever their floats say


def only_classes(events: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The events of the given classes (numbers)."""
    return events[np.isin(events["class"], classes)]


def merge_gaps(events: np.ndarray, gap_s: float | np.ndarray) -> np.ndarray:
    """Events of a class with at most `gap_s` between one's offset and the next one's onset are one event.

    Its likelihood is the mean of theirs, weighted with their durations: what lies in the gap does not count.
    """
    if not len(events):
        return events.copy()
    events = events[np.lexsort((events["start"], events["class"]))]
    # runs of a class do not overlap, so the one before is the one that ends last
    near = events["onset_s"][1:] - events["offset_s"][:-1] <= _of_class(gap_s, events)[1:] + TOLERANCE_S
    first = np.flatnonzero(np.r_[True, (events["class"][1:] != events["class"][:-1]) | ~near])
    last = np.r_[first[1:], len(events)] - 1
    merged = events[first]
    merged["stop"], merged["offset_s"] = events["stop"][last], events["offset_s"][last]
    duration = events["offset_s"] - events["onset_s"]
    weighted = np.add.reduceat(events["likelihood"] * duration, first) / np.add.reduceat(duration, first)
    # events that stay alone keep their likelihood to the bit
    merged["likelihood"] = np.where(first == last, events["likelihood"][first], weighted)
    return merged


def within_durations(
    events: np.ndarray, shortest_s: float | np.ndarray = 0.0, longest_s: float | np.ndarray = np.inf
) -> np.ndarray:
    """The events that last at least `shortest_s` and at most `longest_s` seconds; the others are dropped, not cut."""
    duration = events["offset_s"] - events["onset_s"]
    long_enough = duration >= _of_class(shortest_s, events) - TOLERANCE_S
    return events[long_enough & (duration <= _of_class(longest_s, events) + TOLERANCE_S)]


def by_time(events: np.ndarray) -> np.ndarray:
    """In the order of onset, then class."""
    return events[np.lexsort((events["class"], events["onset_s"]))]


def _of_class(seconds: float | np.ndarray, events: np.ndarray) -> np.ndarray:
    assert events.dtype == EVENT
    return np.broadcast_to(seconds if np.ndim(seconds) == 0 else np.asarray(seconds)[events["class"]], len(events))
