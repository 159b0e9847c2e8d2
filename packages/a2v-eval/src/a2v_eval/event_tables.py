"""Scores of events that come as tables, from this project or any other program, by the same two protocols.

A table has no likelihoods of frames. What `evaluate` takes from them is replaced as follows, and with it the `paper`
protocol is not quite the one behind published tables: a label without any overlapping prediction enters the ranking
with likelihood 0, level with everything that holds nothing, so it is never recalled; so does a pair below the IoU
threshold. Times are kept to a microsecond instead of a frame, so labels of a class are one under `paper` only where
they overlap or touch to the microsecond.

Rows of labels and predictions have dtype EVENT_ROW; R recordings, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .any_class import TimestepScores, timestep_scores
from .evaluation import Evaluation, MatchConfig, class_names, spans_of
from .events import PROTOCOLS, Protocol
from .labels import merge_touching, touching_groups
from .unsure import IGNORED, UNKNOWN, as_class, counting, unsure_time

CLOCK_HZ = 1_000_000

EVENT_ROW = np.dtype(
    [("recording", "<i4"), ("class", "<i2"), ("onset_s", "<f8"), ("offset_s", "<f8"), ("likelihood", "<f8")]
)
"""An event of a table: which recording, which class, when; likelihood NaN where it has none. The class of a label
may be below 0, see `unsure.py`."""


def evaluate_events(
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[str],
    n_recordings: int,
    config: MatchConfig | None = None,
    threshold: float | None = None,
    recording_s: np.ndarray | None = None,
) -> Evaluation:
    """Score predicted events against labels, EVENT_ROW arrays in any order.

    Without likelihoods (NaN in any prediction) AP is undefined, and matching prefers earlier predictions.
    threshold    precision, recall, F1, splits and mergers are those of the predictions above it; None: of all. AP
                 ranks all predictions.
    recording_s  (R,) durations in seconds; by default a recording ends with its last event.
    Raises ValueError for class names as `evaluate`, an event that is reversed, negative, not finite, of an unknown
    class or recording, or a threshold without likelihoods.
    """
    names = class_names(classes)
    ranked = not np.isnan(predictions["likelihood"]).any()
    if threshold is not None and not ranked:
        raise ValueError(f"threshold: {threshold} needs a likelihood for each prediction, and some have none")
    for what, rows in (("labels", labels), ("predictions", predictions)):
        _check(what, rows, len(names), n_recordings)
    said = _spans(predictions, predictions["likelihood"] if ranked else np.ones(len(predictions)))
    marked = _spans(labels, np.zeros(len(labels)))
    unsure, strict = marked[marked["class"] < 0], marked[marked["class"] >= 0]
    true: dict[Protocol, np.ndarray] = {"strict": strict, "paper": _merged(strict, len(names))}
    config = config or MatchConfig()
    operating_C = np.full(len(names), -np.inf if threshold is None else threshold)
    lengths = _lengths(labels, predictions, n_recordings, recording_s)
    return Evaluation(
        classes=names,
        frame_rate=CLOCK_HZ,
        config=config,
        recording_frames=np.maximum(lengths - unsure_time(unsure, n_recordings), 0),
        labels=true,
        predictions={p: said[counting(said, true[p], unsure, p, config.iou(p))] for p in PROTOCOLS},
        # never below 0 for `paper`, where what is missed has likelihood 0 and is not predicted
        thresholds={"strict": operating_C, "paper": np.maximum(operating_C, 0)},
        ranked=ranked,
    )


def one_class_rows(rows: np.ndarray) -> np.ndarray:
    """EVENT_ROWs of class 0: events that overlap or touch are one, whatever their classes, as likely as the likeliest
    of them. So is a call of an unknown class; what is ignored stays so."""
    ignored, rows = rows[rows["class"] == IGNORED], rows[rows["class"] != IGNORED]
    order, begins, reach = touching_groups(rows["recording"], _ticks(rows["onset_s"]), _ticks(rows["offset_s"]))
    first = np.flatnonzero(begins)
    merged = rows[order][first]
    merged["class"] = 0
    if len(first):
        merged["offset_s"] = reach[np.r_[first[1:] - 1, len(rows) - 1]] / CLOCK_HZ
        merged["likelihood"] = np.maximum.reduceat(rows["likelihood"][order], first)
    return np.concatenate([merged, ignored])


def score_time(labels: np.ndarray, predictions: np.ndarray, recording_s: np.ndarray) -> TimestepScores:
    """Binary scores of the time that predictions and labels cover, whatever the class: timesteps of a microsecond.

    recording_s  (R,) durations in seconds; what lies beyond one does not count, nor does what labels ignore.
    """
    ignored = labels["class"] == IGNORED
    covered = [one_class_rows(rows) for rows in (labels[~ignored], predictions)]
    covered.append(_united(labels[ignored]))
    length = int(_ticks(recording_s).max(initial=0)) + 1
    edges, sides = [], []
    for side, rows in enumerate(covered):
        base = rows["recording"].astype(np.int64) * length
        end = _ticks(recording_s)[rows["recording"]]
        edges += [base + np.minimum(_ticks(rows[name]), end) for name in ("onset_s", "offset_s")]
        sides += [np.full(len(rows), 1 << side), np.full(len(rows), -(1 << side))]
    edge, change = np.concatenate(edges), np.concatenate(sides)
    order = np.argsort(edge, kind="stable")
    state = np.cumsum(change[order])[:-1]  # 1: labelled, 2: predicted, 3: both; 4 and above: ignored
    spent = np.bincount(state, weights=np.diff(edge[order]), minlength=8).round().astype(np.int64)
    total = int(_ticks(recording_s).sum() - spent[4:].sum())
    return timestep_scores(int(spent[3]), int(spent[2] + spent[3]), int(spent[1] + spent[3]), total, CLOCK_HZ)


def _united(rows: np.ndarray) -> np.ndarray:
    """Of whatever class: rows that overlap or touch as one."""
    return one_class_rows(as_class(rows, IGNORED, 0))


def _check(what: str, rows: np.ndarray, n_classes: int, n_recordings: int) -> None:
    least = UNKNOWN if what == "labels" else 0
    finite = np.isfinite(rows["onset_s"]) & np.isfinite(rows["offset_s"])
    for wrong, right in (
        (~finite | (rows["onset_s"] < 0), "finite times from 0 on"),
        (~(_ticks(rows["offset_s"]) > _ticks(rows["onset_s"])), "an offset after its onset"),
        ((rows["class"] < least) | (rows["class"] >= n_classes), f"a class within 0 and {n_classes - 1}"),
        ((rows["recording"] < 0) | (rows["recording"] >= n_recordings), f"a recording within 0 and {n_recordings - 1}"),
        (rows["likelihood"] < 0, "a likelihood of at least 0"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"{what}, row {row}: {rows[row].tolist()} should have {right}")


def _ticks(seconds: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.rint(seconds * CLOCK_HZ).astype(np.int64)


def _spans(rows: np.ndarray, likelihood: np.ndarray) -> np.ndarray:
    start, stop = _ticks(rows["onset_s"]), _ticks(rows["offset_s"])
    return spans_of(rows["recording"], rows["class"], start, stop, likelihood)


def _merged(spans: np.ndarray, n_classes: int) -> np.ndarray:
    key, start, stop = merge_touching(
        spans["recording"].astype(np.int64) * n_classes + spans["class"], spans["start"], spans["stop"]
    )
    return spans_of(key // n_classes, key % n_classes, start, stop, np.zeros(len(key)))


def _lengths(
    labels: np.ndarray, predictions: np.ndarray, n_recordings: int, recording_s: np.ndarray | None
) -> np.ndarray:
    if recording_s is not None:
        return _ticks(np.asarray(recording_s))
    lengths = np.zeros(n_recordings, dtype=np.int64)
    for rows in (labels, predictions):
        np.maximum.at(lengths, rows["recording"], _ticks(rows["offset_s"]))
    return lengths
