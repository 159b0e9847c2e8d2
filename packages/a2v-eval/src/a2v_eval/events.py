"""From frame likelihoods to events (spec 8.1-8.2; animal2vec paper, arXiv 2406.01253).

Shapes: B segments, T frames, C classes; N the (segment, class) columns that hold anything above threshold;
E events. Frame rate f' in Hz. Runs are half-open in frames: `start` belongs to the event, `stop` does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .boxes import MAPS, box_spans, classes_of, covered
from .canny import canny_runs, frames_below
from .peaks import moving_maximum, split_runs
from .protocol_names import PROTOCOLS as PROTOCOLS
from .protocol_names import Protocol as Protocol
from .registry import BUILT_IN, EVENT_METHODS, own_runs
from .runs import prefix_sums, runs_of_ones

EVENT = np.dtype(
    [
        ("segment", "<i4"),
        ("class", "<i2"),
        ("start", "<i4"),
        ("stop", "<i4"),
        ("onset_s", "<f8"),
        ("offset_s", "<f8"),
        ("likelihood", "<f8"),
    ]
)

# Columns are worked through in blocks of at most this many frames, so that memory stays flat (64 MB in
# float64).
BLOCK_FRAMES = 8_000_000

Probability = Annotated[float, Field(ge=0, lt=1)]
Seconds = Annotated[float, Field(gt=0)]


def _a_method(name: str) -> str:
    if name in BUILT_IN or name in EVENT_METHODS.parts:
        return name
    known = ", ".join([*BUILT_IN, *sorted(EVENT_METHODS.parts)])
    raise ValueError(f"is {name!r}; must be one of {known}, or the name of a method that a plugin brings")


class EventConfig(BaseModel):
    """How likelihoods become events. Defaults are the paper's.

    method           'avg': moving average over `window_s`; 'max': moving maximum over it; 'canny': where the
                     smoothed likelihood bends (see `canny.py`); 'boxes': onsets matched with offsets, the method of
                     detectors with `finetune.head: boxes` and of them only: 4 C columns stand where others have the
                     likelihoods of C classes (see `boxes.py`).
    window_s         seconds; for `avg` and `max` it is round(window_s * frame_rate) frames, half a frame to the even
                     number as the original rounds it, at least 1; for `canny` the standard deviation of its Gaussians.
                     Short calls need a short one.
    threshold        `avg`, `max`: an event is where the pooled likelihood reaches it, equality included (and is not
                     0); `canny`: an event's likelihood must exceed it somewhere; `boxes`: it must reach it. One number,
                     or class name -> number.
                     The original's default is 0.125, that of its published example 0.15, which is ours.
    low_threshold    `canny` only: where an event without an edge ends.
    max_duration_s   `canny` only: seconds; longer events are cut.
    min_duration_s   seconds; shorter events are none. One number, or class name -> number.
    peak_share       `avg`, `max`: a run above the threshold is as many events as it has peaks between which the pooled
                     likelihood falls below this share of the lower one, and an event is what exceeds this share of its
                     own peak (see `peaks.py`). 0: a run is an event.
    extent_threshold `avg`, `max`: two thresholds, as is usual in sound event detection: where the pooled likelihood
                     reaches this one there may be an event, which counts where its own likelihood, the mean over its
                     frames, is above `threshold`. So a threshold moves no edges. One number, or class name -> number,
                     where `threshold` is both for classes that are not named. None: it is for all.
    options          the section of a plugin's method (`registry.py`), which `method` names; it has a threshold and a
                     shortest duration beside.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Annotated[str, AfterValidator(_a_method)] = "avg"
    window_s: Seconds | dict[str, Seconds] = 0.1
    threshold: Probability | dict[str, Probability] = 0.15
    low_threshold: Probability = 0.125
    max_duration_s: float = Field(default=0.5, gt=0)
    min_duration_s: Annotated[float, Field(ge=0)] | dict[str, Annotated[float, Field(ge=0)]] = Field(
        default=0.0, exclude_if=lambda seconds: seconds == 0
    )  # in no dump where it is off, so that recipes of before it keep their fingerprints
    peak_share: Probability = Field(default=0.0, exclude_if=lambda share: share == 0)  # neither is this one

    extent_threshold: Probability | dict[str, Probability] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    options: dict[str, Any] = Field(default={}, exclude_if=lambda options: not options)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        method = given.get("method") if isinstance(given, Mapping) else None
        if not isinstance(method, str) or method not in EVENT_METHODS.parts:
            return given
        options = given.get("options") or {}
        if not isinstance(options, Mapping):
            raise ValueError(f"options = {options!r}: must be a mapping, the keys of method {method}")
        return {**given, "options": EVENT_METHODS.plain(method, options)}

    @model_validator(mode="after")
    def _of_the_method(self) -> Self:
        if self.is_own:
            for name in ("window_s", "peak_share", "extent_threshold"):
                value = getattr(self, name)
                if value != type(self).model_fields[name].default:
                    raise ValueError(f"{name}: {value} has no effect with method {self.method} of a plugin")
        elif self.options:
            raise ValueError(f"options: have no effect with method {self.method}; they are for methods of plugins")
        for name in ("low_threshold", "max_duration_s"):
            value, default = getattr(self, name), type(self).model_fields[name].default
            if self.method != "canny" and value != default:
                raise ValueError(f"{name}: {value} has no effect with method {self.method}; it is for canny only")
        if self.method == "canny" and self.peak_share != 0:
            raise ValueError(f"peak_share: {self.peak_share} has no effect with method canny; it is for avg and max")
        if self.method == "canny" and self.extent_threshold is not None:
            raise ValueError("extent_threshold: has no effect with method canny; it is for avg and max")
        if self.method == "boxes":
            for name in ("window_s", "peak_share", "extent_threshold"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name}: has no effect with method boxes; it is for methods that pool frames")
        if self.method == "canny" and isinstance(self.window_s, Mapping):
            raise ValueError("window_s: is given per class, canny has one for all classes; give a number")
        return self

    @property
    def by_class(self) -> dict[str, Mapping[str, float]]:
        """Field -> what it says of each class, of those that are given per class."""
        return {name: given for name, given in self if isinstance(given, Mapping) and name != "options"}

    @property
    def is_own(self) -> bool:
        """Whether a plugin finds the events."""
        return self.method not in BUILT_IN

    @property
    def pools(self) -> bool:
        """Whether events are where likelihoods pooled over a window reach a threshold."""
        return self.method in ("avg", "max")

    def thresholds(self, n_classes: int, classes: Sequence[str] | None = None) -> np.ndarray:
        """One threshold per class, (C,) float64. ValueError when class names are missing or do not fit."""
        return _of_classes("threshold", self.threshold, n_classes, classes)

    def run_thresholds(self, n_classes: int, classes: Sequence[str] | None = None) -> np.ndarray:
        """What runs of pooled likelihood reach, per class, (C,) float64; ValueError as `thresholds`."""
        thresholds_C = self.thresholds(n_classes, classes)
        extents_C = self._extents(n_classes, classes)
        return np.where(np.isnan(extents_C), thresholds_C, extents_C)

    def mean_thresholds(self, n_classes: int, classes: Sequence[str] | None = None) -> np.ndarray:
        """What the mean likelihood of an event is above, per class, (C,) float64; -1 where its threshold is that of its
        extent, so that any mean is. ValueError as `thresholds`."""
        extents_C = self._extents(n_classes, classes)
        return np.where(np.isnan(extents_C), -1.0, self.thresholds(n_classes, classes))

    def _extents(self, n_classes: int, classes: Sequence[str] | None) -> np.ndarray:
        """(C,), NaN where a class has none."""
        given = self.extent_threshold
        if not isinstance(given, Mapping):
            return np.full(n_classes, np.nan if given is None else given)
        if classes is None:
            raise ValueError("extent_threshold: given per class, so the class names are needed (classes=...)")
        if odd := sorted(set(given) - set(classes)):
            raise ValueError(f"extent_threshold: {odd[0]!r} is none of the classes {', '.join(classes)}")
        return np.array([given.get(name, np.nan) for name in classes], dtype=np.float64)

    def windows_s(self, n_classes: int, classes: Sequence[str] | None = None) -> np.ndarray:
        """One pooling window per class in seconds, (C,); ValueError as `thresholds`."""
        return _of_classes("window_s", self.window_s, n_classes, classes)

    def min_durations_s(self, n_classes: int, classes: Sequence[str] | None = None) -> np.ndarray:
        """The shortest event of each class in seconds, (C,); ValueError as `thresholds`."""
        return _of_classes("min_duration_s", self.min_duration_s, n_classes, classes)


def _of_classes(
    name: str, given: float | Mapping[str, float], n_classes: int, classes: Sequence[str] | None
) -> np.ndarray:
    if not isinstance(given, Mapping):
        return np.full(n_classes, given, dtype=np.float64)
    if classes is None:
        raise ValueError(f"{name}: given per class, so the class names are needed (classes=...)")
    if set(given) != set(classes):
        odd = sorted(set(given) ^ set(classes))
        raise ValueError(f"{name}: {odd} should be given exactly once for each class of {list(classes)}")
    return np.array([given[name] for name in classes], dtype=np.float64)


@dataclass(frozen=True)
class FrameEvents:
    """Events in frames, ordered by segment, class and start; every field is (E,).

    mean       mean likelihood over [start, stop): the `strict` likelihood.
    mean_open  mean over [start, stop - 1), the last frame left out: the `paper` likelihood; NaN for one
               frame.
    """

    segment: np.ndarray
    class_: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    mean: np.ndarray
    mean_open: np.ndarray


def columns_of(config: EventConfig, n_classes: int) -> int:
    """How many columns the method takes where there are so many classes."""
    return MAPS * n_classes if config.method == "boxes" else n_classes


def frame_likelihoods(outputs: np.ndarray, frame_rate: float, config: EventConfig) -> np.ndarray:
    """Likelihoods of frames and classes (T, C) to look at, of what a detector gives: as they are, or with method
    `boxes` those of the likeliest event that covers a frame."""
    if config.method != "boxes":
        return outputs
    return covered(box_spans(outputs[None], frame_rate), (1, len(outputs), classes_of(outputs)))[0]


def find_events(
    likelihood: np.ndarray,
    frame_rate: float,
    config: EventConfig | None = None,
    protocol: Protocol = "strict",
    classes: Sequence[str] | None = None,
    adjacent: bool = False,
) -> np.ndarray:
    """Events of one recording (T, C), or of B segments laid end to end (B, T, C), as an array of dtype EVENT.

    `start` and `stop` are half-open frames from the beginning of the segment in which the event starts;
    `onset_s` and `offset_s` are seconds on the clock of the segments laid end to end. The pooling window must
    lie inside the segment, and an event's frames are shifted by half the window, so that no event starts in
    the first half window or ends in the last.

    adjacent  the segments follow one another in one recording: what crosses a border is one event, whose
              `stop` lies beyond its segment. Otherwise, as in the original, events end at a segment's border.

    strict  times are start / f' and stop / f'; likelihood is the mean over the event's frames.
    paper   as the original computes them (goldens g7): B*T points run from 0 to the end *inclusive*, so a
            frame is a little longer than 1 / f'; the offset is the time of the frame after the last (at most
            the segment's last); the mean leaves the last frame out and is NaN for an event of one frame.

    Raises ValueError for a wrong shape, a NaN likelihood, an unknown protocol, or thresholds that do not fit.
    """
    config = config or EventConfig()
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: {protocol!r} should be one of {', '.join(PROTOCOLS)}")
    likelihood_BTC = as_segments(likelihood)
    n_segments, n_frames, n_classes = likelihood_BTC.shape
    if adjacent:
        likelihood_BTC = likelihood_BTC.reshape(1, n_segments * n_frames, n_classes)
    runs = frame_events(likelihood_BTC, frame_rate, config, classes)
    events = np.empty(len(runs.start), dtype=EVENT)
    events["class"] = runs.class_
    length = likelihood_BTC.shape[1]
    first = runs.segment.astype(np.int64) * length
    if protocol == "strict":
        events["onset_s"] = (first + runs.start) / frame_rate
        events["offset_s"] = (first + runs.stop) / frame_rate
        events["likelihood"] = runs.mean
    else:
        points = n_segments * n_frames
        step_s = points / frame_rate / max(points - 1, 1)
        events["onset_s"] = (first + runs.start) * step_s
        events["offset_s"] = (first + np.minimum(runs.stop, length - 1)) * step_s
        events["likelihood"] = runs.mean_open
    # on the caller's segments, whether or not they were joined
    events["segment"] = (first + runs.start) // max(n_frames, 1)
    events["start"] = (first + runs.start) % max(n_frames, 1)
    events["stop"] = events["start"] + (runs.stop - runs.start)
    return events


def as_segments(likelihood: np.ndarray) -> np.ndarray:
    """(T, C) or (B, T, C) -> (B, T, C). ValueError for anything else."""
    likelihood = np.asarray(likelihood)
    if likelihood.ndim == 2:
        likelihood = likelihood[None]
    if likelihood.ndim != 3 or not np.issubdtype(likelihood.dtype, np.floating):
        raise ValueError(
            f"likelihood: shape {likelihood.shape} of {likelihood.dtype} should be floats, "
            "(frames, classes) or (segments, frames, classes)"
        )
    return likelihood


def frame_events(
    likelihood_BTC: np.ndarray, frame_rate: float, config: EventConfig, classes: Sequence[str] | None = None
) -> FrameEvents:
    """The events in frames, for all segments and classes at once. Raises as `find_events`."""
    if not frame_rate > 0:
        raise ValueError(f"frame_rate: {frame_rate} should be above 0 Hz")
    if config.method == "boxes":
        return _box_events(likelihood_BTC, frame_rate, config, classes)
    _, n_frames, n_classes = likelihood_BTC.shape
    thresholds_C, runs_C = config.thresholds(n_classes, classes), config.run_thresholds(n_classes, classes)
    means_C = config.mean_thresholds(n_classes, classes)
    if n_frames == 0:
        return _join([])
    peak_BC = likelihood_BTC.max(axis=1)
    if np.isnan(peak_BC).any():
        segment, class_ = np.argwhere(np.isnan(peak_BC))[0]
        raise ValueError(f"likelihood: NaN in segment {segment}, class {class_}; should be within [0, 1]")
    # A mean or a maximum that reaches the threshold needs a frame that does: most columns are done here.
    active_N2 = np.argwhere(peak_BC.astype(np.float32) >= to_reach(np.maximum(thresholds_C, runs_C)))
    windows_C = config.windows_s(n_classes, classes)
    least_C = shortest_frames(config.min_durations_s(n_classes, classes), frame_rate)
    parts = []
    for block_N2, window_s in _blocks(active_N2, n_frames, windows_C):
        segment_N, class_N = block_N2.T
        likelihood_NT = likelihood_BTC[segment_N, :, class_N]
        total_NS = prefix_sums(likelihood_NT)
        row, start, stop = _runs(likelihood_NT, total_NS, runs_C[class_N], frame_rate, config, window_s)
        total = total_NS[row, stop] - total_NS[row, start]
        counts = stop - start >= least_C[class_N[row]]
        if config.extent_threshold is not None:
            counts &= total / (stop - start) > means_C[class_N[row]]
        row, start, stop, total = row[counts], start[counts], stop[counts], total[counts]
        without_last = total_NS[row, stop - 1] - total_NS[row, start]
        with np.errstate(invalid="ignore"):
            mean_open = without_last / (stop - 1 - start)
        parts.append((segment_N[row], class_N[row], start, stop, total / (stop - start), mean_open))
    found = _join(parts)
    if len(np.unique(windows_C)) == 1:
        return found
    order = np.lexsort((found.start, found.class_, found.segment))
    return FrameEvents(*(getattr(found, field.name)[order] for field in fields(FrameEvents)))


def _box_events(
    maps_BTM: np.ndarray, frame_rate: float, config: EventConfig, classes: Sequence[str] | None
) -> FrameEvents:
    if np.isnan(maps_BTM).any():
        raise ValueError("likelihood: holds NaN; should be within [0, 1]")
    n_classes = classes_of(maps_BTM)
    spans = box_spans(maps_BTM, frame_rate)
    least_C = shortest_frames(config.min_durations_s(n_classes, classes), frame_rate)
    reached_C = to_reach(config.thresholds(n_classes, classes))
    spans = spans[
        (spans["likelihood"].astype(np.float32) >= reached_C[spans["class"]])
        & (spans["stop"] - spans["start"] >= least_C[spans["class"]])
    ]
    names = ("recording", "class", "start", "stop", "likelihood", "likelihood")
    return _join([tuple(spans[name] for name in names)])


def shortest_frames(min_duration_s: np.ndarray, frame_rate: float) -> np.ndarray:
    """The fewest frames of an event that lasts at least so many seconds, whatever their floats say."""
    return np.ceil(np.round(min_duration_s * frame_rate, 6)).astype(np.int64)


def window_frames(window_s: float, frame_rate: float) -> int:
    """The window in frames: nearest whole number, of two as near the even one (2.5 is 2, as in the original, whose
    baseline has 0.1 s at 25 Hz), at least 1."""
    return max(1, round(window_s * frame_rate))


def to_reach(thresholds: np.ndarray) -> np.ndarray:
    """The least pooled likelihood of an event, float32 as the original's: the threshold itself. No golden has one that
    is equal, so this is how 'binarise at the threshold' (spec 8) is read. Nothing at all, 0, is never an event."""
    return np.maximum(thresholds.astype(np.float32), np.finfo(np.float32).tiny)


def _runs(
    likelihood_NT: np.ndarray,
    total_NS: np.ndarray,
    threshold_N: np.ndarray,
    frame_rate: float,
    config: EventConfig,
    window_s: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, start, stop) of every event, each (E,)."""
    if config.is_own:
        return own_runs(config.method, config.options, likelihood_NT, threshold_N, frame_rate)
    if config.method == "canny":
        sigma = frames_below(window_s, frame_rate)
        longest = frames_below(config.max_duration_s, frame_rate)
        return canny_runs(likelihood_NT, threshold_N, sigma, longest, config.low_threshold)
    width = window_frames(window_s, frame_rate)
    if likelihood_NT.shape[1] < width:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty
    threshold_N1 = to_reach(threshold_N)[:, None]
    if config.method == "avg":
        pooled_NV = ((total_NS[:, width:] - total_NS[:, :-width]) / width).astype(np.float32)
        above_NV = pooled_NV >= threshold_N1
    else:
        count_NS = prefix_sums(likelihood_NT >= threshold_N1)
        above_NV = count_NS[:, width:] > count_NS[:, :-width]
        if config.peak_share:
            pooled_NV = moving_maximum(likelihood_NT, width)
    row, start, stop = runs_of_ones(above_NV)
    if config.peak_share:
        row, start, stop = split_runs(pooled_NV, row, start, stop, config.peak_share)
    return row, start + width // 2, stop + width // 2


def _blocks(active_N2: np.ndarray, n_frames: int, windows_C: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Columns that share a window, and that window in seconds."""
    rows = max(1, BLOCK_FRAMES // n_frames)
    for window_s in np.unique(windows_C):
        own_N2 = active_N2[windows_C[active_N2[:, 1]] == window_s]
        for first in range(0, len(own_N2), rows):
            yield own_N2[first : first + rows], float(window_s)


def _join(parts: Sequence[tuple[np.ndarray, ...]]) -> FrameEvents:
    types = (np.int32, np.int16, np.int32, np.int32, np.float64, np.float64)
    empty = tuple(np.zeros(0) for _ in types)
    columns = zip(*[empty, *parts], strict=True)
    return FrameEvents(*(np.concatenate(column).astype(t) for column, t in zip(columns, types, strict=True)))
