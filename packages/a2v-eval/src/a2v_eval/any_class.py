"""Is there a call at all? Scores that do not ask of which class (the paper's NIPS4Bplus tables).

Any-class event detection evaluates what `one_class` makes of each recording; `TimestepCounter` counts frames.
T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .boxes import one_class_maps
from .evaluation import EvaluationConfig
from .events import EventConfig, as_segments, frame_events
from .labels import LABEL, label_frames
from .scores import f1_score, none_if_nan, ratio
from .unsure import IGNORED, UNKNOWN, as_class


def one_class(
    likelihood_TC: np.ndarray, labels: np.ndarray, config: EventConfig | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A recording, as `evaluate` takes it, with all classes made one: the likelihood of a frame is its likeliest
    class's, (T, 1), and labels that overlap or touch are one label, whatever their classes. A call of an unknown class
    is one too; what is ignored stays so. config: how events are found; with method `boxes` there are its maps, of which
    the likeliest are taken, (T, 4).

    Raises ValueError where a label's offset is not after its onset.
    """
    if not (labels["offset_s"] > labels["onset_s"]).all():
        raise ValueError("offset_s of each label should be after its onset_s")
    ignored = labels[labels["class"] == IGNORED]
    labels = labels[labels["class"] != IGNORED]
    rows = np.sort(labels[["onset_s", "offset_s"]], order="onset_s")
    reach = np.maximum.accumulate(rows["offset_s"])
    begins = np.r_[True, rows["onset_s"][1:] > reach[:-1]] if len(rows) else np.zeros(0, bool)
    merged = np.zeros(int(begins.sum()), LABEL)
    merged["onset_s"] = rows["onset_s"][begins]
    merged["offset_s"] = reach[np.r_[begins[1:], True]] if len(rows) else []
    kept = np.zeros(len(ignored), LABEL)
    for name in LABEL.names or ():
        kept[name] = ignored[name]
    rows = np.concatenate([merged, kept])
    if config is not None and config.method == "boxes":
        return one_class_maps(np.asarray(likelihood_TC)), rows
    return np.asarray(likelihood_TC).max(axis=1, keepdims=True), rows


def one_class_config(config: EvaluationConfig) -> EvaluationConfig:
    """For one class, or classes of other names: of what is given per class (threshold, window, ...) the lowest."""
    lowest = {name: min(given.values()) for name, given in config.events.by_class.items() if given}
    return config.model_copy(update={"events": config.events.model_copy(update=lowest)})


@dataclass(frozen=True)
class TimestepScores:
    """Frames that events cover against frames that labels cover, whatever the class. NaN where undefined.

    frame_rate  Hz; of tables of events it is the clock that counts their time, see `event_tables.py`.
    """

    precision: float
    recall: float
    f1: float
    labelled: int
    predicted: int
    frames: int
    frame_rate: float

    def to_dict(self) -> dict[str, float | None]:
        """Scores, and times in seconds; None where undefined."""
        seconds = {f"{name}_s": getattr(self, name) / self.frame_rate for name in ("labelled", "predicted", "frames")}
        seconds["total_s"] = seconds.pop("frames_s")
        scores = {"precision": self.precision, "recall": self.recall, "F1": self.f1}
        return {name: none_if_nan(value) for name, value in {**scores, **seconds}.items()}


class TimestepCounter:
    """Counts frames, one recording after the other; arguments as those of `evaluate`."""

    def __init__(self, classes: Sequence[str], frame_rate: float, config: EventConfig | None = None) -> None:
        self.classes, self.frame_rate, self.config = tuple(classes), frame_rate, config or EventConfig()
        self._both = self._predicted = self._labelled = self._frames = 0

    def add(self, likelihood_TC: np.ndarray, labels: np.ndarray) -> None:
        """One more recording. Raises ValueError as `Collector.add`, without the recording's number."""
        n_frames = len(likelihood_TC)
        events = frame_events(as_segments(likelihood_TC), self.frame_rate, self.config, self.classes)
        ignored = as_class(labels[labels["class"] == IGNORED], IGNORED, 0)
        called = as_class(labels[labels["class"] != IGNORED], UNKNOWN, 0)
        _, begin, end = label_frames(ignored, self.frame_rate, n_frames, 1)
        _, start, stop = label_frames(called, self.frame_rate, n_frames, len(self.classes))
        counts_T = ~_covered(begin, end, n_frames)
        said_T = _covered(events.start, events.stop, n_frames) & counts_T
        true_T = _covered(start, stop, n_frames) & counts_T
        self._both += int((said_T & true_T).sum())
        self._predicted += int(said_T.sum())
        self._labelled += int(true_T.sum())
        self._frames += int(counts_T.sum())

    def scores(self) -> TimestepScores:
        """Binary scores per frame of 1 / `frame_rate` seconds."""
        return timestep_scores(self._both, self._predicted, self._labelled, self._frames, self.frame_rate)


def timestep_scores(both: int, predicted: int, labelled: int, frames: int, frame_rate: float) -> TimestepScores:
    """From the numbers of frames that are predicted and labelled, predicted, labelled, and there at all."""
    return TimestepScores(
        precision=ratio(both, predicted),
        recall=ratio(both, labelled),
        f1=f1_score(both, predicted, labelled),
        labelled=labelled,
        predicted=predicted,
        frames=frames,
        frame_rate=frame_rate,
    )


def _covered(start: np.ndarray, stop: np.ndarray, n_frames: int) -> np.ndarray:
    """(T,) bool: frames that any of the half-open intervals covers."""
    change = np.bincount(start, minlength=n_frames + 1) - np.bincount(stop, minlength=n_frames + 1)
    return np.cumsum(change)[:n_frames] > 0
