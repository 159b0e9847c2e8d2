"""Confidence intervals of scores by drawing recordings again, with replacement (percentile bootstrap).

Recordings are what is independent: events of one recording share its animals, its noise and its microphone. So whole
recordings are drawn, matching stays as it is, and each drawn set is scored as the whole was. B. Efron and R. J.
Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

D draws; R recordings; C classes; E entries of a ranking.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from .evaluation import Evaluation
from .events import Protocol

BLOCK_ENTRIES = 4_000_000  # draws are worked through in blocks of so many entries, 32 MB each array


class Interval(NamedTuple):
    """A score and its interval; `defined`: share of the draws in which the score is defined."""

    value: float
    low: float
    high: float
    defined: float


def confidence_intervals(
    evaluation: Evaluation, protocol: Protocol, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """Percentile intervals of AP, precision, recall and F1: {'AP': {'micro', 'macro', class: Interval}, ...}.

    Scores that are undefined in the whole (classes without labels) have no entry. Classes whose labels are not drawn
    are left out of that draw's macro. Raises ValueError for fewer than 2 recordings or draws, or a level outside
    (0, 1).
    """
    if evaluation.n_recordings < 2 or draws < 2 or not 0 < level < 1:
        raise ValueError(
            f"confidence_intervals: {evaluation.n_recordings} recordings, {draws} draws, level {level}; "
            "needs at least 2 recordings, 2 draws and a level within (0, 1)"
        )
    n = evaluation.n_recordings
    times_DR = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    sampled = _sampled(evaluation, protocol, times_DR)
    found: dict[str, dict[str, Interval]] = {}
    for name, named in evaluation.scores(protocol).named().items():
        for score, value in named.items():
            values_D = sampled[score][name]
            values_D = values_D[~np.isnan(values_D)]
            if np.isnan(value) or not len(values_D):
                continue
            low, high = np.quantile(values_D, [(1 - level) / 2, (1 + level) / 2])
            interval = Interval(value, float(low), float(high), len(values_D) / draws)
            found.setdefault(score, {})[name] = interval
    return found


def intervals_csv(intervals: Mapping[Protocol, Mapping[str, Mapping[str, Interval]]]) -> str:
    """Protocol -> what `confidence_intervals` gives, one line per protocol, score and class, in full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["protocol", "score", "class", *Interval._fields])
    for protocol, by_score in intervals.items():
        for score, by_name in by_score.items():
            writer.writerows([protocol, score, name, *interval] for name, interval in by_name.items())
    return out.getvalue()


def _sampled(evaluation: Evaluation, protocol: Protocol, times_DR: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Each score of each draw, (D,), under the names of the whole."""
    classes, n_classes, n = evaluation.classes, len(evaluation.classes), evaluation.n_recordings
    entries = evaluation.entries(protocol)
    said = entries["likelihood"] > evaluation.thresholds[protocol][entries["class"]]
    at = entries["recording"].astype(np.int64) * n_classes + entries["class"]

    def per_recording(chosen: np.ndarray) -> np.ndarray:
        counts_RC = np.bincount(at[chosen], minlength=n * n_classes).reshape(n, n_classes)
        return times_DR @ counts_RC

    if protocol == "paper":
        positive_DC = per_recording(entries["target"])
    else:
        labels = evaluation.labels[protocol]
        where = labels["recording"].astype(np.int64) * n_classes + labels["class"]
        positive_DC = times_DR @ np.bincount(where, minlength=n * n_classes).reshape(n, n_classes)
    hits_DC, said_DC = per_recording(entries["target"] & said), per_recording(said)
    # the original ranks every frame without an entry as a negative of likelihood 0
    frames_D = times_DR @ evaluation.recording_frames if protocol == "paper" else np.zeros(len(times_DR))
    ap_DC = np.full(positive_DC.shape, np.nan)
    ap_micro_D = np.full(len(times_DR), np.nan)
    if evaluation.ranked:
        for c in range(n_classes):
            rows = entries[entries["class"] == c]
            ap_DC[:, c] = _average_precision(rows, times_DR, positive_DC[:, c], frames_D)
        ap_micro_D = _average_precision(entries, times_DR, positive_DC.sum(axis=1), frames_D * n_classes)
        if protocol == "paper":  # undefined in a draw in which nothing is predicted, see `Scores`
            predicted = evaluation.predictions[protocol]
            where = predicted["recording"].astype(np.int64) * n_classes + predicted["class"]
            predicted_DC = times_DR @ np.bincount(where, minlength=n * n_classes).reshape(n, n_classes)
            ap_DC[predicted_DC == 0] = np.nan
            ap_micro_D[predicted_DC.sum(axis=1) == 0] = np.nan
    found = {"AP": _named(classes, ap_DC, ap_micro_D)}
    for score, part, whole in (
        ("precision", hits_DC, said_DC),
        ("recall", hits_DC, positive_DC),
        ("F1", 2 * hits_DC, said_DC + positive_DC),
    ):
        labelled = positive_DC > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            by_class_DC = np.where(labelled if score == "F1" else True, part / whole, np.nan)
            micro_D = part.sum(axis=1) / whole.sum(axis=1)
        found[score] = _named(classes, by_class_DC, micro_D, labelled)
    return found


def _named(
    classes: tuple[str, ...], by_class_DC: np.ndarray, micro_D: np.ndarray, in_macro_DC: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    values_DC = by_class_DC if in_macro_DC is None else np.where(in_macro_DC, by_class_DC, np.nan)
    defined_DC = ~np.isnan(values_DC)
    with np.errstate(invalid="ignore"):
        macro_D = np.where(defined_DC, values_DC, 0).sum(axis=1) / defined_DC.sum(axis=1)
    return {"micro": micro_D, "macro": macro_D, **dict(zip(classes, by_class_DC.T, strict=True))}


def _average_precision(
    entries: np.ndarray, times_DR: np.ndarray, positive_D: np.ndarray, slots_D: np.ndarray
) -> np.ndarray:
    """AP of each draw, (D,): an entry counts as often as its recording was drawn. As `average_precision`."""
    order = np.argsort(-entries["likelihood"], kind="stable")
    likelihood, target = entries["likelihood"][order], entries["target"][order]
    recording = entries["recording"][order]
    last = np.flatnonzero(np.r_[likelihood[1:] != likelihood[:-1], True]) if len(order) else order
    last_zero = likelihood[last] <= 0
    ap_D = np.zeros(len(times_DR))
    for rows in _blocks(len(times_DR), len(order)):
        times_DE = times_DR[rows][:, recording]
        hits = np.cumsum(times_DE * target, axis=1)[:, last]
        said = np.cumsum(times_DE, axis=1)[:, last]
        said += np.maximum(slots_D[rows] - times_DE.sum(axis=1), 0)[:, None] * last_zero
        with np.errstate(invalid="ignore"):
            precision = np.where(said > 0, hits / said, 0.0)
        ap_D[rows] = (np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(positive_D > 0, ap_D / positive_D, np.nan)


def _blocks(draws: int, entries: int) -> Iterator[slice]:
    step = max(1, BLOCK_ENTRIES // max(entries, 1))
    for first in range(0, draws, step):
        yield slice(first, first + step)
