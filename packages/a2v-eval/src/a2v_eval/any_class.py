"""Is there a call at all? Scores that do not ask of which class (the paper's NIPS4Bplus tables).

Any-class event detection is `evaluate(one_class(recordings), ["any"], ...)`; `score_timesteps` counts frames.
T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .events import EventConfig, as_segments, frame_events
from .labels import LABEL, label_frames
from .scores import f1_score, ratio


def one_class(recordings: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Recordings as `evaluate` takes them, with all classes made one: the likelihood of a frame is its
    likeliest class's, (T, 1), and labels that overlap or touch are one label, whatever their classes.

    Raises ValueError where a label's offset is not after its onset.
    """
    for number, (likelihood_TC, labels) in enumerate(recordings):
        if not (labels["offset_s"] > labels["onset_s"]).all():
            raise ValueError(f"recording {number}: offset_s of each label should be after its onset_s")
        rows = np.sort(labels[["onset_s", "offset_s"]], order="onset_s")
        reach = np.maximum.accumulate(rows["offset_s"])
        begins = np.r_[True, rows["onset_s"][1:] > reach[:-1]] if len(rows) else np.zeros(0, bool)
        merged = np.zeros(int(begins.sum()), LABEL)
        merged["onset_s"] = rows["onset_s"][begins]
        merged["offset_s"] = reach[np.r_[begins[1:], True]] if len(rows) else []
        yield np.asarray(likelihood_TC).max(axis=1, keepdims=True), merged


@dataclass(frozen=True)
class TimestepScores:
    """Frames that events cover against frames that labels cover, whatever the class. NaN where undefined."""

    precision: float
    recall: float
    f1: float
    labelled: int
    predicted: int
    frames: int


def score_timesteps(
    recordings: Iterable[tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
    frame_rate: float,
    config: EventConfig | None = None,
) -> TimestepScores:
    """Binary scores per frame of 1 / `frame_rate` seconds; arguments and errors as those of `evaluate`."""
    config = config or EventConfig()
    both = predicted = labelled = frames = 0
    for number, (likelihood_TC, labels) in enumerate(recordings):
        try:
            runs = frame_events(as_segments(likelihood_TC), frame_rate, config, classes)
            _, start, stop = label_frames(labels, frame_rate, len(likelihood_TC), len(classes))
        except ValueError as error:
            raise ValueError(f"recording {number}: {error}") from error
        said_T = _covered(runs.start, runs.stop, len(likelihood_TC))
        true_T = _covered(start, stop, len(likelihood_TC))
        both += int((said_T & true_T).sum())
        predicted += int(said_T.sum())
        labelled += int(true_T.sum())
        frames += len(true_T)
    return TimestepScores(
        precision=ratio(both, predicted),
        recall=ratio(both, labelled),
        f1=f1_score(both, predicted, labelled),
        labelled=labelled,
        predicted=predicted,
        frames=frames,
    )


def _covered(start: np.ndarray, stop: np.ndarray, n_frames: int) -> np.ndarray:
    """(T,) bool: frames that any of the half-open intervals covers."""
    change = np.bincount(start, minlength=n_frames + 1) - np.bincount(stop, minlength=n_frames + 1)
    return np.cumsum(change)[:n_frames] > 0
