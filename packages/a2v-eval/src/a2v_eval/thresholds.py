"""F1 per class over thresholds, and the best threshold of each class (strict protocol).

C classes, K thresholds. F1 here is what `evaluate` reports with that threshold: with `extent_threshold` it is a cut
through one ranking of events; without, each threshold gives events of its own, which are found and matched anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .boxes import MAPS, of_classes
from .evaluation import EvaluationConfig, unsure_spans
from .events import EventConfig, FrameEvents, as_segments, frame_events
from .labels import label_frames
from .matching import SPAN, match
from .unsure import counting

# finer where focal loss puts most likelihoods
THRESHOLDS = tuple(round(step * 0.01, 2) for step in range(1, 10)) + tuple(
    round(step * 0.025, 3) for step in range(4, 40)
)
HELD_SPANS = 200_000


@dataclass(frozen=True)
class ThresholdScores:
    """Counts at every threshold: `hits` and `predicted` (C, K) events, `labelled` (C,). Sums over recordings, so
    those of several folds may be added."""

    classes: tuple[str, ...]
    thresholds: np.ndarray
    hits: np.ndarray
    predicted: np.ndarray
    labelled: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """(C, K) in [0, 1]; NaN for a class without labels."""
        return _ratio(2 * self.hits, np.where(self.labelled[:, None] > 0, self.predicted + self.labelled[:, None], 0))

    @property
    def precision(self) -> np.ndarray:
        """(C, K); NaN where nothing is predicted."""
        return _ratio(self.hits, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """(C, K); NaN for a class without labels."""
        return _ratio(self.hits, np.broadcast_to(self.labelled[:, None], self.hits.shape))

    def best(self, shared_labels: float = 0.0) -> dict[str, float]:
        """Class -> the threshold with the highest F1, of several equal ones that in their middle. Classes without
        labels, or of which no threshold finds a label, have none.

        shared_labels: so many labels' worth of what all classes have together is added to the counts of each, so that
        a class with few labels does not get a threshold by chance.
        """
        chosen = {}
        every = shared_labels / max(int(self.labelled.sum()), 1)
        hits, predicted = (counts + every * counts.sum(0) for counts in (self.hits, self.predicted))
        labelled = self.labelled + every * self.labelled.sum()
        f1_CK = _ratio(2 * hits, predicted + labelled[:, None])
        f1_CK = np.where(self.hits > 0, f1_CK, np.nan)  # never a threshold at which nothing of the class is found
        found_C = np.nan_to_num(self.f1).max(axis=1, initial=0) > 0
        for name, f1_K, found in zip(self.classes, f1_CK, found_C, strict=True):
            if not found:
                continue
            highest = np.flatnonzero(f1_K == np.nanmax(f1_K))
            chosen[name] = float(self.thresholds[highest[(len(highest) - 1) // 2]])
        return chosen

    def __add__(self, other: ThresholdScores) -> ThresholdScores:
        """ValueError where classes or thresholds differ."""
        if self.classes != other.classes or not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError("threshold scores: of other classes or thresholds; only like ones can be added")
        return ThresholdScores(
            self.classes,
            self.thresholds,
            self.hits + other.hits,
            self.predicted + other.predicted,
            self.labelled + other.labelled,
        )

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        plain: dict[str, Any] = {"classes": list(self.classes)}
        return plain | {name: getattr(self, name).tolist() for name in ("thresholds", *_COUNTS)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> ThresholdScores:
        counts = (np.array(plain[name], dtype=np.int64) for name in _COUNTS)
        return cls(tuple(plain["classes"]), np.array(plain["thresholds"], dtype=float), *counts)


_COUNTS = ("hits", "predicted", "labelled")


class ThresholdSweep:
    """Collects recordings one at a time, as `evaluate` takes them; keeps events only until they are matched."""

    def __init__(
        self,
        classes: Sequence[str],
        frame_rate: float,
        config: EvaluationConfig | None = None,
        thresholds: Sequence[float] = THRESHOLDS,
    ) -> None:
        """config: how events are found (its own threshold aside) and the IoU of `strict`. ValueError for thresholds
        that do not ascend within [0, 1)."""
        self.config = config or EvaluationConfig()
        self.classes, self.frame_rate = tuple(classes), frame_rate
        self.thresholds = np.asarray(thresholds, dtype=np.float64)
        ascending = len(self.thresholds) > 0 and (np.diff(self.thresholds) > 0).all()
        if not ascending or not (self.thresholds[0] >= 0 and self.thresholds[-1] < 1):
            raise ValueError(f"thresholds: {list(thresholds)} should ascend within [0, 1)")
        shape = (len(self.classes), len(self.thresholds))
        self._hits, self._predicted = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._labelled = np.zeros(shape[0], np.int64)
        self._labels: list[np.ndarray] = []
        self._events: list[np.ndarray] = []
        self._recordings = 0
        self._held = 0

    def add(self, likelihood_TC: np.ndarray, labels: np.ndarray) -> None:
        """Likelihoods (T, C) of a recording and its labels (dtype LABEL). Raises ValueError as `evaluate`."""
        known = labels["class"] >= 0
        unsure_of = labels[~known]
        unsure = unsure_spans(unsure_of, np.zeros(len(unsure_of)), self.frame_rate, len(likelihood_TC))
        class_, start, stop = label_frames(labels[known], self.frame_rate, len(likelihood_TC), len(self.classes))
        own = _spans(0, class_, start, stop, 0.0)
        peak_C = np.asarray(likelihood_TC).max(axis=0, initial=0)
        if self.config.events.method == "boxes":  # an event is as likely as its onset or its offset, at most
            peak_C = peak_C.reshape(MAPS, -1)[:2].max(axis=0) + 0 * peak_C.sum()  # NaN where there is any
        if np.isnan(peak_C).any():
            raise ValueError("likelihood: holds NaN; should be within [0, 1]")
        self._labelled += np.bincount(class_, minlength=len(self.classes))
        # what is a recording to the matching is one recording at one threshold here
        count = len(self.thresholds)
        first = self._recordings * count
        places = np.repeat(first + np.arange(count), len(class_))
        class_, start, stop = (np.tile(part, count) for part in (class_, start, stop))
        self._labels.append(_spans(places, class_, start, stop, 0.0))
        for k, (active, runs) in enumerate(self._events_of(likelihood_TC, peak_C)):
            events = _spans(0, active[runs.class_], runs.start, runs.stop, runs.mean)
            events = events[counting(events, own, unsure, "strict", self.config.iou("strict"))]
            events["recording"] = first + k
            self._events.append(events)
            self._held += len(events)
        self._held += len(places)
        self._recordings += 1
        if self._held > HELD_SPANS:
            self._match()

    def _events_of(self, likelihood_TC: np.ndarray, peak_C: np.ndarray) -> Iterator[tuple[np.ndarray, FrameEvents]]:
        """At each threshold up to the highest likelihood: the classes that reach it, and events numbered by them."""
        extent, found = self.config.events.extent_threshold, None
        boxes = self.config.events.method == "boxes"
        for threshold in self.thresholds:
            active = np.flatnonzero(peak_C.astype(np.float32) >= np.float32(threshold))
            if not len(active):
                break
            if not (boxes or isinstance(extent, float)) or found is None:
                events = self._of(active).model_copy(update={"threshold": float(threshold)})
                names = [self.classes[class_] for class_ in active]
                columns = of_classes(likelihood_TC, active) if boxes else likelihood_TC[:, active]
                runs = frame_events(as_segments(columns), self.frame_rate, events, names)
                found = active, runs
            else:  # the same events, of which fewer count
                active, runs = found
                counts = runs.mean.astype(np.float32) >= np.float32(threshold) if boxes else runs.mean > threshold
                runs = FrameEvents(*(getattr(runs, field.name)[counts] for field in fields(FrameEvents)))
            yield active, runs

    def _of(self, active: np.ndarray) -> EventConfig:
        """The event settings of some of the classes."""
        events = self.config.events
        given = {name: getattr(events, name) for name in ("window_s", "min_duration_s")}
        own = {
            name: {self.classes[class_]: value[self.classes[class_]] for class_ in active}
            for name, value in given.items()
            if isinstance(value, dict)
        }
        if isinstance(events.extent_threshold, dict):  # which need not name all
            names = {self.classes[class_] for class_ in active}
            own["extent_threshold"] = {name: value for name, value in events.extent_threshold.items() if name in names}
        return events.model_copy(update=own)

    def result(self) -> ThresholdScores:
        """Of everything added so far."""
        self._match()
        return ThresholdScores(
            self.classes, self.thresholds, self._hits.copy(), self._predicted.copy(), self._labelled.copy()
        )

    def _match(self) -> None:
        labels = np.concatenate([np.zeros(0, SPAN), *self._labels])
        events = np.concatenate([np.zeros(0, SPAN), *self._events])
        matching = match(labels, events, len(self.classes), "strict", self.config.iou("strict"))
        for counts, rows in ((self._predicted, events), (self._hits, events[matching.pairs.prediction])):
            np.add.at(counts, (rows["class"], rows["recording"] % len(self.thresholds)), 1)
        self._labels, self._events, self._recordings, self._held = [], [], 0, 0


def _spans(
    recording: int | np.ndarray, class_: np.ndarray, start: np.ndarray, stop: np.ndarray, likelihood: float | np.ndarray
) -> np.ndarray:
    spans = np.empty(len(start), dtype=SPAN)
    spans["recording"], spans["class"], spans["likelihood"] = recording, class_, likelihood
    spans["start"], spans["stop"] = start, stop
    return spans


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
