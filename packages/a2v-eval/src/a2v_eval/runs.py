"""Runs of ones in rows of booleans. N rows of T frames; a run is half-open: `start` is in it, `stop` is not."""

from __future__ import annotations

import numpy as np


def runs_of_ones(on_NT: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, start and stop of every run of ones along the last axis, in the order of row and start."""
    padded = np.zeros((on_NT.shape[0], on_NT.shape[1] + 2), dtype=bool)
    padded[:, 1:-1] = on_NT
    row, edge = np.nonzero(padded[:, 1:] != padded[:, :-1])
    return row[::2], edge[::2], edge[1::2]


def prefix_sums(values_NT: np.ndarray) -> np.ndarray:
    """(N, T + 1) float64: sums over the frames before each frame. Float64 keeps hours of frames exact enough."""
    sums_NS = np.zeros((values_NT.shape[0], values_NT.shape[1] + 1), dtype=np.float64)
    np.cumsum(values_NT, axis=1, dtype=np.float64, out=sums_NS[:, 1:])
    return sums_NS


class Runs:
    """The runs of ones of (N, T) booleans, and which of them begin before, end after or hold given frames."""

    def __init__(self, on_NT: np.ndarray) -> None:
        row, start, stop = runs_of_ones(on_NT)
        self.on_NT = on_NT
        # all rows laid on one axis, on which each has T + 1 places
        self._row_length = on_NT.shape[1] + 1
        self._starts = row * self._row_length + start
        self._stops = row * self._row_length + stop

    def hold(self, row: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Is the frame in a run?"""
        return self.on_NT[row, frame]

    def last_start(self, row: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Where the last run begins that begins at or before the frame; -1 where the row has none."""
        base = row * self._row_length
        found = np.searchsorted(self._starts, base + frame, side="right")
        return np.maximum(np.r_[-1, self._starts][found] - base, -1)

    def next_stop(self, row: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Where the first run ends that ends after the frame; T + 1 where the row has none."""
        base = row * self._row_length
        found = np.searchsorted(self._stops, base + frame, side="right")
        return np.minimum(np.r_[self._stops, np.iinfo(np.int64).max][found] - base, self._row_length)
