"""Streams on a regular grid. Value k of a grid of r Hz stands for [k / r, (k + 1) / r) seconds of the recording.

M values of a grid, C columns.
"""

import numpy as np
from numpy.typing import NDArray

from a2v_data.streams.config import LEAST_GAP

Values = NDArray[np.float32]


def grid_length(duration_s: float, rate: float) -> int:
    """Values of a recording of so many seconds; a begun step counts."""
    return max(1, int(np.ceil(np.round(duration_s * rate, 6))))


def on_grid(
    times_s: NDArray[np.float64], values: NDArray[np.float64], rate: float, duration_s: float, gap_s: float | None
) -> Values:
    """Values (n, C) at any times (n,), seconds, as (M, C) at `rate` Hz; NaN where the stream is not there.

    Each step has the mean of the values within it; a step without any is interpolated between its neighbours where
    these are at most `gap_s` seconds apart (`StreamConfig`). NaN among the values is one that was not measured: each
    column has times of its own. Values outside the recording are not used.
    """
    length = grid_length(duration_s, rate)
    found = np.full((length, values.shape[1]), np.nan, np.float32)
    for column in range(values.shape[1]):
        known = np.isfinite(values[:, column]) & (times_s >= 0) & (times_s < length / rate)
        if known.any():
            found[:, column] = _column(times_s[known], values[known, column], rate, length, gap_s)
    return found


def _column(
    times_s: NDArray[np.float64], values: NDArray[np.float64], rate: float, length: int, gap_s: float | None
) -> NDArray[np.float64]:
    order = np.argsort(times_s, kind="stable")
    times_s, values = times_s[order], values[order]
    step = np.clip(np.floor(np.round(times_s * rate, 6)).astype(np.int64), 0, length - 1)
    steps, first, counts = np.unique(step, return_index=True, return_counts=True)
    means, when_s = np.add.reduceat(values, first) / counts, np.add.reduceat(times_s, first) / counts
    grid = np.full(length, np.nan)
    grid[steps] = means
    empty = np.flatnonzero(np.isnan(grid))
    if gap_s is None:
        usual_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
        gap_s = LEAST_GAP * max(usual_s, 1 / rate)
    centre_s = (empty + 0.5) / rate
    after = np.searchsorted(when_s, centre_s)
    inside = (after > 0) & (after < len(when_s))
    empty, centre_s, after = empty[inside], centre_s[inside], after[inside]
    near = when_s[after] - when_s[after - 1] <= gap_s + 1e-9
    grid[empty[near]] = np.interp(centre_s[near], when_s, means)
    return grid


def window(grid_MC: Values, rate: float, start_s: float, length: int) -> Values:
    """`length` values (C columns) of a grid from `start_s` seconds on, at the grid's rate: interpolated where that is
    between two of its values; NaN beyond its ends, and where one of the two is NaN."""
    place = start_s * rate + np.arange(length)
    before = np.floor(np.round(place, 6)).astype(np.int64)
    share = (place - before).clip(0, 1).astype(np.float32)[:, None]
    share[share < 1e-5] = 0
    values = _at(grid_MC, before)
    between = share[:, 0] > 0
    values[between] += share[between] * (_at(grid_MC, before[between] + 1) - values[between])
    return values


def _at(grid_MC: Values, places: NDArray[np.int64]) -> Values:
    inside = (places >= 0) & (places < len(grid_MC))
    found = np.full((len(places), grid_MC.shape[1]), np.nan, np.float32)
    found[inside] = grid_MC[places[inside]]
    return found
