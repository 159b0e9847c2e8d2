"""How long sounds last together: seconds that events cover, and that events of two classes share.

Legend: E events, C classes. Events are EVENT_DTYPE.
"""

import numpy as np

from a2v_data.listing import Listing, duration_s

APART_S = 1.0  # silence between recordings on the common time axis, so that they never touch


class Timeline:
    """All recordings of a corpus on one time axis, one after another."""

    def __init__(self, corpus: Listing) -> None:
        lengths = np.array([duration_s(recording) for recording in corpus.recordings])
        # An event may end a rounding error after its recording does.
        self._start_s = np.concatenate([[0.0], np.cumsum(lengths + APART_S)])

    def spans(self, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(E,) onsets and (E,) offsets in seconds on the common axis."""
        start_E = self._start_s[events["recording"]]
        return start_E + events["onset_s"], start_E + events["offset_s"]

    def covered_s(self, events: np.ndarray) -> float:
        """Seconds with at least one of the events."""
        onset, offset = _merged(*self.spans(events))
        return float((offset - onset).sum())

    def shared_s(self, events: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(E,) seconds of each event during which at least one of `others` sounds."""
        onset, offset = _merged(*self.spans(others))
        if not len(onset):
            return np.zeros(len(events))
        # Covered time up to t rises by one second a second within the merged events and is flat between them.
        at = np.column_stack([onset, offset]).ravel()
        covered = np.column_stack([np.cumsum(offset - onset) - (offset - onset), np.cumsum(offset - onset)]).ravel()
        first, last = self.spans(events)
        shared_E = np.interp(last, at, covered) - np.interp(first, at, covered)
        return np.where(shared_E < 1e-6, 0.0, shared_E)  # what is left of cancelling seconds of weeks


def _merged(onset_E: np.ndarray, offset_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The union of intervals, as intervals that do not touch, by onset."""
    order = np.argsort(onset_E, kind="stable")
    onset_E, reach_E = onset_E[order], np.maximum.accumulate(offset_E[order]) if len(order) else offset_E
    begins = np.ones(len(order), bool)
    begins[1:] = onset_E[1:] > reach_E[:-1]
    return onset_E[begins], reach_E[np.append(begins[1:], True)] if len(order) else reach_E
