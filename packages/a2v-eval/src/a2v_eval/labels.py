"""Labels in seconds to labels in frames. L labels, T frames, C classes; intervals are half-open frames."""

from __future__ import annotations

import numpy as np

from .runs import prefix_sums

LABEL = np.dtype([("class", "<i2"), ("onset_s", "<f8"), ("offset_s", "<f8")])
"""An annotated event of one recording: index of its class, onset and offset in seconds from its start."""


def label_frames(
    labels: np.ndarray, frame_rate: float, n_frames: int, n_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class, start and stop of each label, (L,): rounded to the nearest frame, at least one frame, within [0,
    T).

    Raises ValueError with the label's row for a reversed or empty label, one that starts before the recording
    or after its end, an unknown class, or missing fields.
    """
    if not frame_rate > 0:
        raise ValueError(f"frame_rate: {frame_rate} should be above 0 Hz")
    missing = [name for name in LABEL.names or () if name not in (labels.dtype.names or ())]
    if missing:
        raise ValueError(f"labels: without field {', '.join(missing)}; should have class, onset_s, offset_s")
    class_ = labels["class"].astype(np.int64)
    onset_s, offset_s = labels["onset_s"].astype(np.float64), labels["offset_s"].astype(np.float64)
    _refuse(~((class_ >= 0) & (class_ < n_classes)), "class", class_, f"within 0 and {n_classes - 1}")
    _refuse(~(offset_s > onset_s), "offset_s", offset_s, "after its onset_s")
    # a recording may hold a fraction of a frame more than its likelihoods do
    end_s = (n_frames + 1) / frame_rate
    _refuse(~((onset_s >= 0) & (onset_s < end_s)), "onset_s", onset_s, f"within the recording of {end_s:.2f} s")
    start = np.minimum((onset_s * frame_rate + 0.5).astype(np.int64), max(n_frames - 1, 0))
    # clipped while still a float: an offset of infinity ends with the recording
    stop = np.minimum(offset_s * frame_rate + 0.5, n_frames).astype(np.int64)
    return class_, start, np.maximum(stop, start + 1)


def merge_touching(
    class_: np.ndarray, start: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of a class that overlap or touch become one, as in frame targets; sorted by class and start."""
    order, begins, reach = touching_groups(class_, start, stop)
    ends = np.r_[begins[1:], True] if len(begins) else begins
    return class_[order][begins], start[order][begins], reach[ends]


def touching_groups(
    class_: np.ndarray, start: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(order, begins, reach), each (L,): the order of class and start, in it where a group of intervals of a class
    that overlap or touch begins, and how far the group has reached with each interval."""
    order = np.lexsort((start, class_))
    if not len(order):
        return order, np.zeros(0, dtype=bool), stop
    class_, start, stop = class_[order].astype(np.int64), start[order], stop[order]
    # classes laid end to end, so that the running maximum of the stops never reaches into the next class
    base = class_ * (int(stop.max()) + 1)
    reach = np.maximum.accumulate(base + stop)
    begins = np.r_[True, (base + start)[1:] > reach[:-1]]
    return order, begins, reach - base


def span_means(
    likelihood_BTC: np.ndarray,
    segment: np.ndarray,
    class_: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    open_end: bool = False,
) -> np.ndarray:
    """Mean likelihood over each span, (L,); with `open_end` without its last frame, if it has more than one."""
    if not len(start):
        return np.zeros(0)
    stop = np.where(stop - start > 1, stop - 1, stop) if open_end else stop
    n_classes = likelihood_BTC.shape[2]
    used, row = np.unique(segment.astype(np.int64) * n_classes + class_, return_inverse=True)
    sums_NS = prefix_sums(likelihood_BTC[used // n_classes, :, used % n_classes])
    return (sums_NS[row, stop] - sums_NS[row, start]) / (stop - start)


def _refuse(wrong: np.ndarray, field: str, values: np.ndarray, right: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"label row {row}: {field} {values[row]} should be {right}")
