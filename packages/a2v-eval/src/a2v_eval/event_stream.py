"""Events of a recording whose likelihoods come in blocks: the same, to the bit, as `find_events` of the whole.

`avg` and `max` go through the blocks once and keep one pooling window and the runs that are still open; what makes
the result equal is that sums run on over the blocks in the order of the frames. With `peak_share` the frames of open
runs are kept, too, 12 bytes each, since a run is taken apart when all of it is there. `canny`, and a plugin's method,
looks at the whole recording, so it takes one class after another: memory is that of one class; `boxes` takes all
classes of the whole recording at once.

T frames, C classes, W frames of the pooling window, S = T + 1 places between frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .events import EVENT, EventConfig, find_events, shortest_frames, to_reach, window_frames
from .peaks import moving_maximum, split_runs
from .runs import runs_of_ones

Blocks = Callable[[], Iterable[np.ndarray]]


def find_events_in_blocks(
    blocks: Blocks, frame_rate: float, config: EventConfig | None = None, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Events (strict protocol) of one recording as an array of dtype EVENT, ordered by class and start.

    blocks      called for an iterator over the likelihoods (T, C) of consecutive stretches, of any lengths; for
                `canny` and a plugin's method once for each class.
    frame_rate  Hz. Raises ValueError as `find_events`.
    """
    config = config or EventConfig()
    if config.method == "boxes":
        parts = [np.asarray(block) for block in blocks() if len(block)]
        return find_events(np.concatenate(parts), frame_rate, config, classes=classes) if parts else np.zeros(0, EVENT)
    if not config.pools:
        return _by_class(blocks, frame_rate, config, classes)
    streams: list[_Stream] | None = None
    for block_TC in blocks():
        if not len(block_TC):
            continue
        if np.isnan(block_TC).any():
            raise ValueError("likelihood: holds NaN; should be within [0, 1]")
        streams = streams or _streams(config, frame_rate, block_TC.shape[1], classes)
        for stream in streams:
            stream.add(block_TC)
    if streams is None:
        return np.zeros(0, EVENT)
    events = _timed(np.concatenate([stream.events() for stream in streams]), frame_rate)
    n_classes = sum(len(stream.classes) for stream in streams)
    least_C = shortest_frames(config.min_durations_s(n_classes, classes), frame_rate)
    counts = events["stop"] - events["start"] >= least_C[events["class"]]
    if config.extent_threshold is not None:
        counts &= events["likelihood"] > config.mean_thresholds(n_classes, classes)[events["class"]]
    return events[counts]


def _streams(config: EventConfig, frame_rate: float, n_classes: int, classes: Sequence[str] | None) -> list[_Stream]:
    """One for all classes that share a pooling window."""
    windows_C, threshold_C = config.windows_s(n_classes, classes), config.run_thresholds(n_classes, classes)
    widths_C = np.array([window_frames(float(window_s), frame_rate) for window_s in windows_C])
    shared = [np.flatnonzero(widths_C == width) for width in np.unique(widths_C)]
    return [_Stream(config, int(widths_C[own[0]]), own, threshold_C[own]) for own in shared]


@dataclass
class _Run:
    """A run that has not ended yet.

    start   its first frame. total: the sum of the likelihoods before that.
    pooled  with `peak_share`, the pooled likelihoods of the run, a piece from each block. totals: for each of them, the
            sum before the frame in the middle of its window.
    """

    start: int
    total: float
    pooled: list[np.ndarray] = field(default_factory=list)
    totals: list[np.ndarray] = field(default_factory=list)


class _Stream:
    """Pooling and runs over blocks, of some of the classes. Places count from the recording's start."""

    def __init__(self, config: EventConfig, width: int, classes: np.ndarray, threshold_C: np.ndarray) -> None:
        self.method, self.share, self.width, self.classes = config.method, config.peak_share, width, classes
        self.threshold_C = to_reach(threshold_C)
        n_classes = len(threshold_C)
        self.first = 0  # place of the first kept sum
        self.total_SC = np.zeros((1, n_classes))  # sums of the likelihoods before each of the last places
        self.count_SC = np.zeros((1, n_classes))  # the same of frames that reach the threshold
        self.last_TC = np.zeros((0, n_classes), np.float32)  # the frames between them, for the maximum
        self.open: list[_Run | None] = [None] * n_classes
        self.ended: list[tuple[int, _Run]] = []  # class and run, with `peak_share`
        self.whole: list[tuple[float, ...]] = []  # events that were not taken apart: an EVENT each
        self.found: list[np.ndarray] = []  # those that were

    def add(self, block_TC: np.ndarray) -> None:
        block_TC = block_TC[:, self.classes]
        total_SC = _running(self.total_SC, block_TC)
        count_SC, frames_TC, pooled_VC = self.count_SC, self.last_TC, None
        if self.method == "avg":
            pooled_VC = ((total_SC[self.width :] - total_SC[: -self.width]) / self.width).astype(np.float32)
            above_VC = pooled_VC >= self.threshold_C
        else:
            count_SC = _running(count_SC, block_TC >= self.threshold_C)
            above_VC = count_SC[self.width :] > count_SC[: -self.width]
            if self.share:
                frames_TC = np.concatenate([frames_TC, block_TC.astype(np.float32)])
                pooled_VC = moving_maximum(frames_TC.T, self.width).T if len(above_VC) else None
        if len(above_VC):
            self._take(above_VC, total_SC, pooled_VC if self.share else None)
        kept = min(self.width, len(total_SC))  # the next window starts at the first of these
        self.first += len(total_SC) - kept
        self.total_SC, self.count_SC = total_SC[-kept:], count_SC[-kept:]
        self.last_TC = frames_TC[max(len(frames_TC) - (kept - 1), 0) :]

    def _take(self, above_VC: np.ndarray, total_SC: np.ndarray, pooled_VC: np.ndarray | None) -> None:
        half, length = self.width // 2, len(above_VC)
        class_E, start_E, stop_E = runs_of_ones(above_VC.T)
        for class_, run in enumerate(self.open):
            if run is not None and not above_VC[0, class_]:  # ended with the block before
                self._end(class_, run, self.first + half, total_SC[half, class_])
        for class_, start, stop in zip(class_E.tolist(), start_E.tolist(), stop_E.tolist(), strict=True):
            run = self.open[class_]
            if run is None:
                run = self.open[class_] = _Run(self.first + start + half, total_SC[start + half, class_])
            if pooled_VC is not None:  # copies, so that the block can go
                run.pooled.append(pooled_VC[start:stop, class_].copy())
                run.totals.append(total_SC[start + half : stop + half, class_].copy())
            if stop < length:
                self._end(class_, run, self.first + stop + half, total_SC[stop + half, class_])
        self._take_apart()

    def _end(self, class_: int, run: _Run, stop: int, total: float) -> None:
        self.open[class_] = None
        if self.share:
            run.totals.append(np.array([total]))
            self.ended.append((class_, run))
            return
        self.whole.append((0, class_, run.start, stop, 0.0, 0.0, (total - run.total) / (stop - run.start)))

    def _take_apart(self) -> None:
        """The events of the runs that have ended, which are laid end to end."""
        if not self.ended:
            return
        class_R = np.array([class_ for class_, _ in self.ended])
        place_R = np.array([run.start for _, run in self.ended])
        pooled_V = np.concatenate([piece for _, run in self.ended for piece in run.pooled])
        total_S = np.concatenate([piece for _, run in self.ended for piece in run.totals])  # one more for each run
        length_R = np.array([sum(len(piece) for piece in run.pooled) for _, run in self.ended])
        last_R = np.cumsum(length_R)
        first_R = last_R - length_R
        _, start_E, stop_E = split_runs(pooled_V[None], np.zeros_like(first_R), first_R, last_R, self.share)
        run_E = np.searchsorted(last_R, start_E, side="right")
        events = np.zeros(len(start_E), EVENT)
        events["class"] = class_R[run_E]
        events["start"] = place_R[run_E] + start_E - first_R[run_E]
        events["stop"] = events["start"] + (stop_E - start_E)
        events["likelihood"] = (total_S[stop_E + run_E] - total_S[start_E + run_E]) / (stop_E - start_E)
        self.found.append(events)
        self.ended = []

    def events(self) -> np.ndarray:
        """All events; what is open ends with the last window that lies within the recording."""
        half = self.width // 2
        for class_, run in enumerate(self.open):
            if run is not None:
                self._end(class_, run, self.first + half, self.total_SC[half, class_])
        self._take_apart()
        events = np.concatenate([np.array(self.whole, EVENT), *self.found])
        events["class"] = self.classes[events["class"]]
        return events


def _running(sums_SC: np.ndarray, values_TC: np.ndarray) -> np.ndarray:
    """The sums, and those up to each of the next places: in float64, one frame after another."""
    joined = np.concatenate([sums_SC[-1:], values_TC.astype(np.float64)])
    return np.concatenate([sums_SC[:-1], np.cumsum(joined, axis=0)])


def _timed(events: np.ndarray, frame_rate: float) -> np.ndarray:
    events["onset_s"], events["offset_s"] = events["start"] / frame_rate, events["stop"] / frame_rate
    return events[np.lexsort((events["start"], events["class"]))]


def _by_class(blocks: Blocks, frame_rate: float, config: EventConfig, classes: Sequence[str] | None) -> np.ndarray:
    parts = [np.zeros(0, EVENT)]
    first = next(_columns(blocks(), None), None)
    n_classes = 0 if first is None else first.shape[1]
    if not n_classes:
        return parts[0]
    each = zip(config.thresholds(n_classes, classes), config.min_durations_s(n_classes, classes), strict=True)
    for class_, (threshold, least_s) in enumerate(each):
        column_T1 = np.concatenate(list(_columns(blocks(), class_)))
        own = {"threshold": float(threshold), "min_duration_s": float(least_s)}
        events = find_events(column_T1, frame_rate, config.model_copy(update=own))
        events["class"] = class_
        parts.append(events)
    return np.concatenate(parts)


def _columns(blocks: Iterable[np.ndarray], class_: int | None) -> Iterator[np.ndarray]:
    """Copies of one class's column of each block (T, 1), so that the block can go; None: the blocks themselves."""
    for block_TC in blocks:
        yield block_TC if class_ is None else block_TC[:, class_ : class_ + 1].copy()
