"""Runs of pooled likelihood taken apart at their valleys, so that calls that follow one another closely stay several.

A low threshold ranks well and separates badly: two syllables with some milliseconds between them are one run above it.
A valley divides two peaks when it falls below a share of the lower of them. That is hysteresis with a ratio, the scan
for turning points that ignores small ones; what it keeps are the peaks whose persistence, as a ratio, is large enough.

N rows of V pooled positions, R runs, E events. Runs and events are half-open.
"""

from __future__ import annotations

import numpy as np


def split_runs(
    pooled_NV: np.ndarray, row_R: np.ndarray, start_R: np.ndarray, stop_R: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, start and stop of the events of each run, (E,) each, in the order of the runs and of start.

    pooled_NV  float32, not negative. share: within [0, 1).

    Between two neighbouring peaks of a run the pooled likelihood falls below `share` times the lower one; the run's
    ends count as valleys of 0, so that each run has a peak. An event is what lies around its peak without a gap, within
    the run, and is above `share` times the peak: events never overlap, and a shoulder belongs to none. Of equal maxima
    the first is the peak.
    """
    if not len(row_R):
        return row_R, start_R, stop_R
    ratio = np.float32(share)
    lowest_R, highest_R = _extremes(pooled_NV, row_R, start_R, stop_R)
    whole_R = lowest_R > ratio * highest_R  # nothing to take apart or off
    run, first, stop = [], [], []
    for index in np.flatnonzero(~whole_R).tolist():
        begin = int(start_R[index])
        values_V = pooled_NV[row_R[index], begin : stop_R[index]]
        for left, right in _events((ratio * values_V).tolist(), values_V.tolist()):
            run.append(index)
            first.append(begin + left)
            stop.append(begin + right)
    run_E = np.r_[np.flatnonzero(whole_R), np.array(run, dtype=np.int64)]
    order = np.argsort(run_E, kind="stable")
    start_E = np.r_[start_R[whole_R], np.array(first, dtype=start_R.dtype)]
    stop_E = np.r_[stop_R[whole_R], np.array(stop, dtype=stop_R.dtype)]
    return row_R[run_E[order]], start_E[order], stop_E[order]


def moving_maximum(likelihood_NT: np.ndarray, width: int) -> np.ndarray:
    """(N, V) float32, V = T - width + 1: the maximum over each window that lies within the row. T >= width."""
    from scipy.ndimage import maximum_filter1d  # slow to import, and only needed with method max

    likelihood_NT = likelihood_NT.astype(np.float32)
    before = width // 2  # the filter's window begins so many frames before its place
    every_NT = maximum_filter1d(likelihood_NT, width, axis=1)
    return every_NT[:, before : before + likelihood_NT.shape[1] - width + 1]


def _extremes(
    pooled_NV: np.ndarray, row_R: np.ndarray, start_R: np.ndarray, stop_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value of each run."""
    flat = pooled_NV.ravel()
    edges = (row_R * pooled_NV.shape[1] + np.stack([start_R, stop_R])).T.ravel()
    edges = edges[: np.searchsorted(edges, flat.size)]  # a run may end where everything ends
    return np.minimum.reduceat(flat, edges)[::2], np.maximum.reduceat(flat, edges)[::2]


def _events(floors: list[float], values: list[float]) -> list[tuple[int, int]]:
    """(start, stop) around each peak of a run. floors: the share of each value that its event must exceed."""
    events = []
    for peak in _peaks(floors, values):
        floor, left, right = floors[peak], peak, peak + 1
        while left > 0 and values[left - 1] > floor:
            left -= 1
        while right < len(values) and values[right] > floor:
            right += 1
        events.append((left, right))
    return events


def _peaks(floors: list[float], values: list[float]) -> list[int]:
    """Places of the peaks: highest and lowest values in turn, of which each is confirmed by the way to the next."""
    peaks = []
    rising, peak, valley = True, 0, 0.0
    for place, value in enumerate(values):
        if rising:
            if value > values[peak]:
                peak = place
            elif value < floors[peak]:
                peaks.append(peak)
                rising, valley = False, value
        elif valley < floors[place]:
            rising, peak = True, place
        else:
            valley = min(valley, value)
    if rising:
        peaks.append(peak)
    return peaks
