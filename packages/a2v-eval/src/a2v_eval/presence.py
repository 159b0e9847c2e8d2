"""Presence per recording: does a class call anywhere in it? What labels of whole recordings can be held against.

R recordings, T frames, C classes, K thresholds. A recording's score of a class is the likelihood of the best event of
it that could be found: the threshold above which it is present is the one at which an event is found.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cross_fitting import counts_at
from .curves import MICRO, Curve
from .events import EventConfig, as_segments, frame_events, window_frames
from .runs import prefix_sums
from .scores import average_precision, mean_defined, none_if_nan, precision_recall_curve
from .summary import UNDEFINED_MARK, Summary, aligned
from .thresholds import THRESHOLDS, ThresholdScores

PRESENCE = "presence/"
COUNTS = ("found", "predicted", "labelled")


def presence_scores(
    likelihood_TC: np.ndarray,
    frame_rate: float,
    config: EventConfig | None = None,
    classes: Sequence[str] | None = None,
) -> np.ndarray:
    """(C,) the highest likelihood that an event of each class has in a recording.

    Without `extent_threshold` that is the highest pooled likelihood, which an event's threshold is held against; with
    it the likelihood of the likeliest event, or the highest pooled likelihood where there is none, which is below all
    events. `canny`, and a plugin's method: the highest likelihood of a frame. Raises ValueError as `frame_events`.
    """
    config = config or EventConfig()
    likelihood_TC = np.asarray(likelihood_TC)
    n_frames, n_classes = likelihood_TC.shape
    windows_C = config.windows_s(n_classes, classes)
    pooled_C = np.array(
        [
            _highest(likelihood_TC[:, c], config.method, window_frames(windows_C[c], frame_rate))
            for c in range(n_classes)
        ]
    )
    if config.extent_threshold is None or not config.pools or not n_frames:
        return pooled_C
    runs = frame_events(as_segments(likelihood_TC), frame_rate, config.model_copy(update={"threshold": 0.0}), classes)
    best_C = np.zeros(n_classes)
    np.maximum.at(best_C, runs.class_, runs.mean)
    extents_C = config.run_thresholds(n_classes, classes)
    found_C = np.where(best_C > 0, best_C, np.minimum(pooled_C, np.nextafter(extents_C, 0)))
    return np.where(config.mean_thresholds(n_classes, classes) < 0, pooled_C, found_C)


def _highest(likelihood_T: np.ndarray, method: str, width: int) -> float:
    width = min(width, len(likelihood_T))
    if not len(likelihood_T):
        return 0.0
    if method != "avg":
        return float(likelihood_T.max())
    total_S = prefix_sums(likelihood_T[None])[0]
    return float(((total_S[width:] - total_S[:-width]) / width).max())


@dataclass(frozen=True)
class PresenceScores:
    """scores (R, C) of `presence_scores`, present (R, C) bool, weak (R,) bool: which recordings are labelled as a whole
    only; of the others events say what is present. Those of several folds may be joined."""

    classes: tuple[str, ...]
    scores: np.ndarray
    present: np.ndarray
    weak: np.ndarray

    def ap(self, name: str) -> float:
        """Average precision of a class over recordings; NaN where no recording has it."""
        number = self.classes.index(name)
        return average_precision(self.present[:, number], self.scores[:, number])

    @property
    def micro(self) -> float:
        """Average precision of all (recording, class) pairs together."""
        return average_precision(self.present.ravel(), self.scores.ravel())

    @property
    def macro(self) -> float:
        """Mean over the classes that some recording has."""
        return mean_defined(np.array([self.ap(name) for name in self.classes]))

    def thresholds(self) -> ThresholdScores:
        """Recordings found at every threshold, as events are counted: hits, predicted, and labelled, those with it."""
        above_RCK = self.scores[:, :, None].astype(np.float32) >= np.asarray(THRESHOLDS, np.float32)
        hits_CK = (above_RCK & self.present[:, :, None]).sum(0)
        return ThresholdScores(
            self.classes, np.asarray(THRESHOLDS, np.float64), hits_CK, above_RCK.sum(0), self.present.sum(0)
        )

    def metrics(self, thresholds: Mapping[str, float] | None = None) -> dict[str, float]:
        """`presence/AP/CLASS`, `presence/mAP/micro`, `presence/mAP/macro`, `presence/recordings`, and of these
        `presence/recordings/weak`; at thresholds (class -> threshold) what `presence_counts` has. Undefined ones are
        left out."""
        values = {f"{PRESENCE}AP/{name}": self.ap(name) for name in self.classes}
        values |= {f"{PRESENCE}mAP/micro": self.micro, f"{PRESENCE}mAP/macro": self.macro}
        values |= {f"{PRESENCE}recordings": float(len(self.weak)), f"{PRESENCE}recordings/weak": float(self.weak.sum())}
        found = {name: value for name, value in values.items() if not np.isnan(value)}
        return found if thresholds is None else found | presence_counts(self.thresholds(), thresholds)

    def curves(self) -> dict[str, Curve]:
        """Precision and recall over recordings: class -> Curve, and `micro`; a class that no recording has has none."""
        found = {}
        for name in (*self.classes, MICRO):
            of = slice(None) if name == MICRO else self.classes.index(name)
            present, scores = self.present[:, of].ravel(), self.scores[:, of].ravel()
            if present.any():
                precision, recall, _ = precision_recall_curve(present, scores)
                found[name] = Curve(precision, recall, average_precision(present, scores))
        return found

    def __add__(self, other: PresenceScores) -> PresenceScores:
        """ValueError where classes differ."""
        if self.classes != other.classes:
            raise ValueError("presence: of other classes; only like ones can be joined")
        pairs = ((self.scores, other.scores), (self.present, other.present), (self.weak, other.weak))
        return PresenceScores(self.classes, *(np.concatenate(pair) for pair in pairs))

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "classes": list(self.classes),
            "scores": [[round(float(score), 6) for score in row] for row in self.scores],
            "present": self.present.astype(int).tolist(),
            "weak": self.weak.astype(int).tolist(),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> PresenceScores:
        classes = tuple(plain["classes"])
        scores = np.array(plain["scores"], float).reshape(-1, len(classes))
        present = np.array(plain["present"], bool).reshape(-1, len(classes))
        return cls(classes, scores, present, np.array(plain["weak"], bool))


class PresenceCollector:
    """Gathers recordings one at a time."""

    def __init__(self, classes: Sequence[str], frame_rate: float, config: EventConfig | None = None) -> None:
        self.classes, self.frame_rate, self.config = tuple(classes), frame_rate, config or EventConfig()
        self._rows: list[tuple[np.ndarray, np.ndarray, bool]] = []

    def add(self, likelihood_TC: np.ndarray, present_C: np.ndarray, weak: bool) -> None:
        """Likelihoods (T, C) of a recording and which classes it has; weak: as `PresenceScores` has it."""
        scores_C = presence_scores(likelihood_TC, self.frame_rate, self.config, self.classes)
        self._rows.append((scores_C, np.asarray(present_C, bool), weak))

    def result(self) -> PresenceScores:
        """Of everything added so far."""
        shape = (len(self._rows), len(self.classes))
        scores, present, weak = (
            (list(column) for column in zip(*self._rows, strict=True)) if self._rows else ([], [], [])
        )
        return PresenceScores(
            self.classes, np.array(scores, float).reshape(shape), np.array(present, bool).reshape(shape),
            np.array(weak, bool),
        )  # fmt: skip


def presence_counts(scores: ThresholdScores, thresholds: Mapping[str, float]) -> dict[str, float]:
    """`counts_at` of recordings: `presence/F1/CLASS`, `presence/found/CLASS`, ..., micro and macro."""
    return {f"{PRESENCE}{key.removeprefix('strict/')}": value for key, value in counts_at(scores, thresholds).items()}


def presence_text(
    summary: Summary,
    classes: Sequence[str],
    counted_at: str | None = None,
    beside: Mapping[str, Summary] | None = None,
) -> str:
    """Class x AP over recordings as aligned text, mean ± standard deviation over folds.

    counted_at: where the thresholds were chosen at which recordings are counted, for the note below. beside: name ->
    another summary, whose AP stands in a column of its own.
    """
    counted = f"{PRESENCE}found/micro" in summary
    others = beside or {}
    rows = [["presence", *((*COUNTS, "F1") if counted else ()), "AP", *others]]
    for name in (*classes, "macro", "micro"):
        cells = _counts(summary, name) if counted else []
        found = [of.get(_ap_name(name)) for of in (summary, *others.values())]
        rows.append([name, *cells, *(UNDEFINED_MARK if cell is None else str(cell) for cell in found)])
    lines = aligned(rows)
    rule = "─" * max(map(len, lines))
    recordings, weak = (summary.get(f"{PRESENCE}{name}") for name in ("recordings", "recordings/weak"))
    notes = []
    if recordings is not None and weak is not None:
        total, whole = (round(one.mean * one.n) for one in (recordings, weak))
        by_events = f", {total - whole} by their events" if total > whole else ""
        folds = f" of {recordings.n} folds" if recordings.n > 1 else ""
        notes.append(
            f"does a class call in a recording? {total} evaluation recordings{folds}: {whole} by recording-level labels"
            f"{by_events}"
        )
    if counted:
        at = f", at {counted_at}" if counted_at else ""
        notes.append(f"found, predicted, labelled: recordings with the class{at}")
    if any(row[-1] == UNDEFINED_MARK for row in rows):
        notes.append(f"{UNDEFINED_MARK} undefined: no recording has that class")
    return "\n".join([*lines[:1], rule, *lines[1:-2], rule, *lines[-2:], *notes])


def presence_table(variants: Mapping[str, Summary], classes: Sequence[str]) -> str:
    """Class x AP over recordings of several models as aligned text, mean ± standard deviation over folds."""
    rows = [["presence AP", *variants]]
    for name in (*classes, "macro", "micro"):
        found = [summary.get(_ap_name(name)) for summary in variants.values()]
        rows.append([name, *(UNDEFINED_MARK if cell is None else str(cell) for cell in found)])
    lines = aligned(rows)
    rule = "─" * max(map(len, lines))
    return "\n".join([*lines[:1], rule, *lines[1:-2], rule, *lines[-2:]])


def presence_csv(summary: Summary, classes: Sequence[str]) -> str:
    """AP over recordings in full precision, one line per class; empty where undefined."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["class", "AP_mean", "AP_std", "folds"])
    for name in (*classes, "macro", "micro"):
        found = summary.get(_ap_name(name))
        writer.writerow([name, *(["", "", 0] if found is None else ["" if v is None else v for v in found])])
    return out.getvalue()


def presence_rows(scores: PresenceScores) -> list[dict[str, str | int | float | None]]:
    """One row per class, then macro and micro: recordings with it, and AP (None where undefined)."""
    counts = dict(zip(scores.classes, scores.present.sum(0).tolist(), strict=True))
    total = sum(counts.values())
    rows: list[dict[str, str | int | float | None]] = [
        {"class": name, "recordings": count, "AP": none_if_nan(scores.ap(name))} for name, count in counts.items()
    ]
    rows.append({"class": "macro", "recordings": total, "AP": none_if_nan(scores.macro)})
    return [*rows, {"class": MICRO, "recordings": total, "AP": none_if_nan(scores.micro)}]


def _ap_name(name: str) -> str:
    return f"{PRESENCE}{'mAP' if name in ('macro', MICRO) else 'AP'}/{name}"


def _counts(summary: Summary, name: str) -> list[str]:
    counts = [summary.get(f"{PRESENCE}{what}/{name}") for what in COUNTS]
    f1 = summary.get(f"{PRESENCE}F1/{name}")
    shown = ["" if count is None else f"{count.mean * count.n:.0f}" for count in counts]
    return [*shown, UNDEFINED_MARK if f1 is None else f"{f1.mean:.2f}"]
