"""What plugins may add to evaluation and prediction: methods that find events in likelihoods (docs/plugins.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from a2v_eval.parts import Registry

BUILT_IN = ("avg", "max", "canny", "boxes")
EVENT_METHODS = Registry("event_method", BUILT_IN)

register_event_method = EVENT_METHODS.register
"""A function of (likelihood, threshold, frame_rate, config): likelihoods (N, T) of one class each, of those that reach
their threshold (N,) in some frame. It gives three whole-number arrays (E,) of events: row, first frame, and the frame
after the last. An event's likelihood is the mean over its frames, found by who calls it."""


def own_runs(
    method: str, options: Mapping[str, Any], likelihood_NT: np.ndarray, threshold_N: np.ndarray, frame_rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, start, stop) of the events that a plugin's method finds, each (E,), ordered by row and start; ValueError
    where they lie outside or overlap."""
    part = EVENT_METHODS.get(method)
    name = f"event_method {method} of plugin {part.plugin}"
    found = part.make(likelihood_NT, threshold_N, frame_rate, EVENT_METHODS.config(method, options))
    if not isinstance(found, tuple) or len(found) != 3:
        raise ValueError(f"{name}: gives a {type(found).__name__}; must be (row, start, stop)")
    row, start, stop = (np.atleast_1d(np.asarray(values)) for values in found)
    if not len(row) == len(start) == len(stop) or any(values.ndim != 1 for values in (row, start, stop)):
        raise ValueError(f"{name}: row, start and stop must be as long as one another, one number for each event")
    if not all(len(values) == 0 or np.issubdtype(values.dtype, np.integer) for values in (row, start, stop)):
        raise ValueError(f"{name}: row, start and stop must be whole numbers")
    row, start, stop = (values.astype(np.int64) for values in (row, start, stop))
    rows, frames = likelihood_NT.shape
    if (row < 0).any() or (row >= rows).any() or (start < 0).any() or (stop > frames).any() or (start >= stop).any():
        raise ValueError(f"{name}: gives an event outside of the {rows} rows of {frames} frames, or without any frame")
    order = np.lexsort((start, row))
    row, start, stop = row[order], start[order], stop[order]
    if ((row[1:] == row[:-1]) & (start[1:] < stop[:-1])).any():
        raise ValueError(f"{name}: gives two events of one class that overlap")
    return row, start, stop
