"""Event scores of a model over recordings, in both protocols, streamed (spec 8; paper, section on
evaluation).

T frames and C classes of a recording; L labels, P predictions over all recordings. Only events and labels are
kept, never the likelihoods, so memory grows with the number of events.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .boxes import covered
from .events import PROTOCOLS, EventConfig, Protocol, as_segments, columns_of, frame_events
from .labels import label_frames, merge_touching, span_means
from .matching import SPAN, Matching, Pairs, find_overlaps, match
from .protocols import ProtocolScores, score_protocol
from .scores import none_if_nan
from .unsure import counting, divided, unsure_time

RESERVED = ("micro", "macro")
IOU_THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))


class MatchConfig(BaseModel):
    """The IoU above which a pair counts, per protocol.

    `strict` asks for an IoU above 0.3; `paper` for any overlap (above 0.0), as the published tables.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    iou_threshold: float = Field(default=0.3, ge=0, lt=1)
    paper_iou_threshold: float = Field(default=0.0, ge=0, lt=1)

    def iou(self, protocol: Protocol) -> float:
        return self.iou_threshold if protocol == "strict" else self.paper_iou_threshold


class EvaluationConfig(MatchConfig):
    """How a model is scored: events from likelihoods, and how they are matched."""

    events: EventConfig = EventConfig()


@dataclass(frozen=True)
class Evaluation:
    """All events of all recordings, and their scores. Made by `evaluate` and `evaluate_events`.

    frame_rate            Hz; the unit of the SPANs' `start` and `stop`.
    recording_frames      (R,) frames of each recording that count: without those that are unsure (`unsure.py`).
    labels, predictions   SPAN arrays per protocol; the strict ones keep annotations as they are, the paper
                          ones merge those of a class that overlap or touch, as frame targets do.
    thresholds            (C,) per protocol: the operating point, see `score_protocol`.
    ranked                False where predictions have no likelihood: AP is undefined.
    """

    classes: tuple[str, ...]
    frame_rate: float
    config: MatchConfig
    recording_frames: np.ndarray
    labels: dict[Protocol, np.ndarray]
    predictions: dict[Protocol, np.ndarray]
    thresholds: dict[Protocol, np.ndarray]
    ranked: bool = True

    @property
    def n_recordings(self) -> int:
        return len(self.recording_frames)

    @property
    def n_frames(self) -> int:
        return int(self.recording_frames.sum())

    @property
    def paper(self) -> ProtocolScores:
        return self.scores("paper")

    @property
    def strict(self) -> ProtocolScores:
        return self.scores("strict")

    def scores(self, protocol: Protocol, iou_threshold: float | None = None) -> ProtocolScores:
        """Scores of a protocol, at its configured IoU threshold or at another; computed once for each."""
        iou = self.config.iou(protocol) if iou_threshold is None else iou_threshold
        if (protocol, iou) not in self._scores:
            self._scores[protocol, iou] = score_protocol(
                self.labels[protocol],
                self.predictions[protocol],
                self.classes,
                self.n_frames,
                self.thresholds[protocol],
                protocol,
                iou,
                self.ranked,
                self._overlaps(protocol),
            )
        return self._scores[protocol, iou]

    def matching(self, protocol: Protocol) -> Matching:
        """What was matched with what, at the configured IoU threshold; its `entries` are the ranking behind AP.

        Under `strict`, recall is relative to all labels of a class (`scores(...).per_class[name].positives`),
        which may be more than there are targets among the entries.
        """
        labels, predictions, iou = self.labels[protocol], self.predictions[protocol], self.config.iou(protocol)
        return match(labels, predictions, len(self.classes), protocol, iou, self._overlaps(protocol))

    def entries(self, protocol: Protocol) -> np.ndarray:
        """The ranking behind AP, dtype ENTRY; see `matching`."""
        return self.matching(protocol).entries

    def ap_over_iou(
        self, protocol: Protocol, iou_thresholds: Sequence[float] = IOU_THRESHOLDS
    ) -> dict[float, dict[str, float]]:
        """AP per IoU threshold: threshold -> {'micro', 'macro', class: AP}; NaN where undefined."""
        rows = {}
        for threshold in iou_thresholds:
            scores = self.scores(protocol, threshold)
            ap = {name: s.ap for name, s in scores.per_class.items()}
            rows[threshold] = {"micro": scores.micro.ap, "macro": scores.macro.ap, **ap}
        return rows

    @cached_property
    def mean_ap(self) -> dict[str, float]:
        """Strict AP as the mean over the IoU thresholds 0.1 to 0.9: {'micro', 'macro', class: AP}."""
        rows = list(self.ap_over_iou("strict").values())
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _overlaps(self, protocol: Protocol) -> Pairs:
        if protocol not in self._overlaps_of:
            self._overlaps_of[protocol] = find_overlaps(self.labels[protocol], self.predictions[protocol], protocol)
        return self._overlaps_of[protocol]

    @cached_property
    def _overlaps_of(self) -> dict[Protocol, Pairs]:
        return {}

    @cached_property
    def _scores(self) -> dict[tuple[Protocol, float], ProtocolScores]:
        return {}

    def metrics(self) -> dict[str, float]:
        """Flat names for tracking: `AP/micro`, `AP/macro`, `AP/<class>`, `precision/...`, `recall/...`,
        `F1/...`, `splits/micro`, `mergers/micro` for `paper`; the same with `strict/` before them for `strict`,
        which has `strict/mAP/...` too, the mean over the IoU thresholds 0.1 to 0.9. Undefined ones are left
        out."""
        values = {f"strict/mAP/{name}": value for name, value in self.mean_ap.items()}
        for prefix, scores in (("", self.paper), ("strict/", self.strict)):
            values[f"{prefix}splits/micro"] = scores.micro.splits
            values[f"{prefix}mergers/micro"] = scores.micro.mergers
            for name, named in scores.named().items():
                values |= {f"{prefix}{score}/{name}": value for score, value in named.items()}
        return {name: float(value) for name, value in values.items() if not np.isnan(value)}

    def call_counts(self) -> dict[str, float]:
        """Flat names for tracking: `strict/found/<class>`, `strict/predicted/...`, `strict/labelled/...`, and the same
        of `micro`: calls at the operating point, of which precision, recall and F1 are made."""
        counted = {**self.strict.per_class, "micro": self.strict.micro}
        return {
            f"strict/{what}/{name}": float(count)
            for name, scores in counted.items()
            for what, count in (
                ("found", scores.hits), ("predicted", scores.predictions), ("labelled", scores.labels),
            )
        }  # fmt: skip

    def rows(self, protocol: Protocol) -> list[dict[str, str | int | float | None]]:
        """One row per class, then micro and macro, of one protocol; None where a score is undefined (no labels, or
        no events). Macro has the counts of all classes, and mAP stands under `strict` only. found: under `strict`
        labels, under `paper` positive entries, at the operating point."""
        scores = self.scores(protocol)
        rows: list[dict[str, str | int | float | None]] = []
        for name, named in scores.named().items():
            pooled = scores.of("micro" if name == "macro" else name)
            row: dict[str, str | int | float | None] = {"class": name}
            row |= {"labels": pooled.labels, "predictions": pooled.predictions, "found": pooled.hits}
            row |= {score: none_if_nan(value) for score, value in named.items()}
            row |= {"splits": pooled.splits, "mergers": pooled.mergers}
            if protocol == "strict":
                row["mAP"] = none_if_nan(self.mean_ap[name])
            rows.append(row)
        return rows

    def table(self) -> list[dict[str, str | int | float | None]]:
        """The rows of both protocols side by side ('AP strict', 'AP paper', ...), with the counts of `strict`."""
        table = []
        for strict, paper in zip(self.rows("strict"), self.rows("paper"), strict=True):
            row = {name: strict[name] for name in ("class", "labels", "predictions")}
            for protocol, of in (("strict", strict), ("paper", paper)):
                row |= {f"{name} {protocol}": value for name, value in of.items() if name not in row}
            table.append(row)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Everything but the events, for JSON: configuration, sizes, both protocols' table. None is undefined.

        `undefined` are the classes without labels; they are not part of macro, which is over `macro_classes`.
        """
        return {
            "config": self.config.model_dump(),
            "classes": list(self.classes),
            "frame_rate": self.frame_rate,
            "recordings": self.n_recordings,
            "hours": self.n_frames / self.frame_rate / 3600,
            "undefined": list(self.strict.undefined),
            "macro_classes": self.strict.macro.classes,
            "table": self.table(),
            "ap_over_iou": {
                protocol: {
                    f"{iou:g}": {name: none_if_nan(ap) for name, ap in row.items()}
                    for iou, row in self.ap_over_iou(protocol).items()
                }
                for protocol in PROTOCOLS
            },
            "macro_ap_official": self.paper.macro_ap_official,
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


class Collector:
    """Gathers events, recording after recording or segments in blocks; see `evaluate` for what it takes."""

    def __init__(self, classes: Sequence[str], frame_rate: float, config: EvaluationConfig | None = None) -> None:
        self.classes, self.frame_rate = class_names(classes), frame_rate
        self.config = config or EvaluationConfig()
        self._thresholds_C = self.config.events.thresholds(len(self.classes), self.classes)
        self._parts: dict[str, list[np.ndarray]] = {
            f"{p} {kind}": [np.zeros(0, SPAN)] for p in PROTOCOLS for kind in ("label", "event")
        }
        self._frames: list[int] = []

    def add(self, likelihood_TC: np.ndarray, labels: np.ndarray) -> None:
        """One more recording of any length. Raises ValueError naming its number."""
        likelihood_TC = np.asarray(likelihood_TC)
        try:
            columns = columns_of(self.config.events, len(self.classes))
            if likelihood_TC.ndim != 2 or likelihood_TC.shape[1] != columns:
                of = "classes" if columns == len(self.classes) else "columns"
                raise ValueError(f"likelihood: shape {likelihood_TC.shape} should be (frames, {columns} {of})")
            self.add_segments(likelihood_TC[None], labels, np.zeros(len(labels), dtype=np.int64))
        except ValueError as error:
            raise ValueError(f"recording {len(self._frames)}: {error}") from error

    def add_segments(self, likelihood_BTC: np.ndarray, labels: np.ndarray, segment: np.ndarray) -> None:
        """B segments of the same length at once, each a recording of its own: much faster than one by one.

        segment  (L,) which of the B segments each label is in; its times count from that segment's start.
        Raises ValueError as `evaluate`, with the label's row.
        """
        labels, segment = np.asarray(labels), np.asarray(segment)
        likelihood_BTC = as_segments(likelihood_BTC)
        n_segments, n_frames, n_columns = likelihood_BTC.shape
        n_classes = len(self.classes)
        if n_columns != columns_of(self.config.events, n_classes):
            raise ValueError(f"likelihood: {n_columns} classes should be {n_classes}")
        if len(segment) != len(labels) or (len(segment) and not 0 <= segment.min() <= segment.max() < n_segments):
            raise ValueError(f"segment: should be one number within 0 and {n_segments - 1} for each label")
        events = frame_events(likelihood_BTC, self.frame_rate, self.config.events, self.classes)
        if self.config.events.method == "boxes":  # `paper` ranks labels by the likelihoods of their frames
            spans = spans_of(events.segment, events.class_, events.start, events.stop, events.mean)
            likelihood_BTC = covered(spans, (n_segments, n_frames, n_classes))
        known = labels["class"] >= 0
        unsure = unsure_spans(labels[~known], segment[~known], self.frame_rate, n_frames)
        labels, segment = labels[known], segment[known]
        # One frame has no mean without its last; in scoring the original takes that frame's own likelihood.
        mean_open = np.where(events.stop - events.start == 1, events.mean, events.mean_open)
        class_, start, stop = label_frames(labels, self.frame_rate, n_frames, n_classes)
        # paper: runs of labelled frames of each segment and class
        key, flat_start, flat_stop = merge_touching(segment * n_classes + class_, start, stop)
        flat = key // n_classes, key % n_classes, flat_start, flat_stop
        base = len(self._frames)
        unsure["recording"] += base
        said, true = (events.segment, events.class_, events.start, events.stop), (segment, class_, start, stop)
        for name, (at, of, first, last), likelihood in (
            ("strict event", said, events.mean),
            ("paper event", said, mean_open),
            ("strict label", true, span_means(likelihood_BTC, *true)),
            ("paper label", flat, span_means(likelihood_BTC, *flat, open_end=True)),
        ):
            self._parts[name].append(spans_of(base + at, of, first, last, likelihood))
        if len(unsure):
            self._leave_out(unsure)
        self._frames += (n_frames - unsure_time(unsure, base + n_segments)[base:]).tolist()

    def _leave_out(self, unsure: np.ndarray) -> None:
        """What was added last keeps those events that count."""
        for protocol in PROTOCOLS:
            events, labels = (self._parts[f"{protocol} {kind}"] for kind in ("event", "label"))
            chosen = counting(events[-1], labels[-1], unsure, protocol, self.config.iou(protocol))
            events[-1] = events[-1][chosen]

    def evaluation(self) -> Evaluation:
        """Everything so far. Scores are computed when asked for."""
        whole = {key: np.concatenate(arrays) for key, arrays in self._parts.items()}
        return Evaluation(
            classes=self.classes,
            frame_rate=self.frame_rate,
            config=self.config,
            recording_frames=np.array(self._frames, dtype=np.int64),
            labels={p: whole[f"{p} label"] for p in PROTOCOLS},
            predictions={p: whole[f"{p} event"] for p in PROTOCOLS},
            # the original asks the threshold of an entry's mean too; a strict event has passed it as a whole
            thresholds={"paper": self._thresholds_C, "strict": np.full(len(self.classes), -np.inf)},
        )


def evaluate(
    recordings: Iterable[tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
    frame_rate: float,
    config: EvaluationConfig | None = None,
) -> Evaluation:
    """Score likelihoods against labels, one recording (or segment) at a time, of any lengths.

    recordings  pairs of likelihoods (T, C) in [0, 1] (with method `boxes` its maps, (T, 4 C)) and labels, a
                structured array with the fields `class` (index into `classes`; below 0: unsure, see `unsure.py`),
                `onset_s` and `offset_s` (seconds from the recording's start), as dtype LABEL.
    frame_rate  f' in Hz. Labels are rounded to frames of 1 / f', to at least one.

    Predictions come from one threshold; their likelihoods rank them.
    Raises ValueError naming the recording's number for a wrong shape, NaN, or a label that is reversed, of an
    unknown class, or outside the recording.
    """
    collector = Collector(classes, frame_rate, config)
    for likelihood_TC, labels in recordings:
        collector.add(likelihood_TC, labels)
    return collector.evaluation()


def unsure_spans(unsure: np.ndarray, segment: np.ndarray, frame_rate: float, n_frames: int) -> np.ndarray:
    """SPANs in frames of labels that are unsure. ValueError as `label_frames`, or for a class that is not known."""
    _, unsure = divided(unsure)
    placed = unsure.copy()
    placed["class"] = 0
    _, start, stop = label_frames(placed, frame_rate, n_frames, 1)
    return spans_of(segment, unsure["class"], start, stop, np.zeros(len(unsure)))


def class_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple. ValueError where there are none, doubled ones, or `micro` or `macro` among them."""
    names = tuple(classes)
    if not names or len(set(names)) < len(names) or set(names) & set(RESERVED):
        raise ValueError(f"classes: {list(names)} should be different names, none of them {' or '.join(RESERVED)}")
    return names


def spans_of(
    number: int | np.ndarray, class_: np.ndarray, start: np.ndarray, stop: np.ndarray, likelihood: np.ndarray
) -> np.ndarray:
    """SPAN array of a recording's (or recordings') intervals."""
    spans = np.empty(len(start), dtype=SPAN)
    spans["recording"], spans["class"], spans["likelihood"] = number, class_, likelihood
    spans["start"], spans["stop"] = start, stop
    return spans
