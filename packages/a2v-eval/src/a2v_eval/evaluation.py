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

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .events import PROTOCOLS, EventConfig, Protocol, as_segments, frame_events
from .labels import label_frames, merge_touching, span_means
from .matching import SPAN, match
from .protocols import ProtocolScores, score_protocol
from .scores import none_if_nan

RESERVED = ("micro", "macro")


class EvaluationConfig(BaseModel):
    """How a model is scored: events from likelihoods, and the IoU above which a pair counts, per protocol.

    `strict` asks for an IoU above 0.3; `paper` for any overlap (above 0.0), as the published tables.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: EventConfig = EventConfig()
    iou_threshold: float = Field(default=0.3, ge=0, lt=1)
    paper_iou_threshold: float = Field(default=0.0, ge=0, lt=1)

    def iou(self, protocol: Protocol) -> float:
        return self.iou_threshold if protocol == "strict" else self.paper_iou_threshold


@dataclass(frozen=True)
class Evaluation:
    """All events of all recordings, and their scores. Made by `evaluate`.

    labels, predictions   SPAN arrays per protocol; the strict ones keep annotations as they are, the paper
                          ones merge those of a class that overlap or touch, as frame targets do.
    """

    classes: tuple[str, ...]
    frame_rate: float
    config: EvaluationConfig
    n_recordings: int
    n_frames: int
    labels: dict[Protocol, np.ndarray]
    predictions: dict[Protocol, np.ndarray]

    @cached_property
    def paper(self) -> ProtocolScores:
        return self.scores("paper")

    @cached_property
    def strict(self) -> ProtocolScores:
        return self.scores("strict")

    def scores_of(self, protocol: Protocol) -> ProtocolScores:
        """`paper` or `strict`, computed once."""
        return self.strict if protocol == "strict" else self.paper

    def scores(self, protocol: Protocol, iou_threshold: float | None = None) -> ProtocolScores:
        """Scores of a protocol, at its configured IoU threshold or at another."""
        iou = self.config.iou(protocol) if iou_threshold is None else iou_threshold
        thresholds_C = self.config.events.thresholds(len(self.classes), self.classes)
        return score_protocol(
            self.labels[protocol],
            self.predictions[protocol],
            self.classes,
            self.n_frames,
            thresholds_C,
            protocol,
            iou,
        )

    def entries(self, protocol: Protocol) -> np.ndarray:
        """The ranking behind AP, dtype ENTRY. Under `strict`, recall is relative to all labels of a class
        (`scores(...).per_class[name].positives`), which may be more than there are targets here."""
        iou = self.config.iou(protocol)
        labels, predictions = self.labels[protocol], self.predictions[protocol]
        return match(labels, predictions, len(self.classes), protocol, iou).entries

    def ap_over_iou(
        self, protocol: Protocol, iou_thresholds: Sequence[float] = tuple(np.arange(1, 10) / 10)
    ) -> dict[float, dict[str, float]]:
        """AP per IoU threshold: threshold -> {'micro', 'macro', class: AP}; NaN where undefined."""
        rows = {}
        for threshold in iou_thresholds:
            scores = self.scores(protocol, float(threshold))
            ap = {name: s.ap for name, s in scores.per_class.items()}
            rows[float(threshold)] = {"micro": scores.micro.ap, "macro": scores.macro_ap, **ap}
        return rows

    def metrics(self) -> dict[str, float]:
        """Flat names for tracking: `AP/micro`, `AP/macro`, `AP/<class>`, `precision/...`, `recall/...`,
        `F1/...`, `splits/micro`, `mergers/micro` for `paper`; the same with `strict/` before them for
        `strict`. Undefined ones are left out."""
        values: dict[str, float] = {}
        for prefix, scores in (("", self.paper), ("strict/", self.strict)):
            values[f"{prefix}AP/macro"] = scores.macro_ap
            values[f"{prefix}splits/micro"] = scores.micro.splits
            values[f"{prefix}mergers/micro"] = scores.micro.mergers
            for name, s in {"micro": scores.micro, **scores.per_class}.items():
                values[f"{prefix}AP/{name}"] = s.ap
                values |= {f"{prefix}{score}/{name}": value for score, value in s.operating_point().items()}
        return {name: float(value) for name, value in values.items() if not np.isnan(value)}

    def table(self) -> list[dict[str, str | int | float | None]]:
        """One row per class, then micro and macro; None where a score is undefined (no labels, or no
        events)."""
        rows: list[dict[str, str | int | float | None]] = []
        for name in (*self.classes, *RESERVED):
            row: dict[str, str | int | float | None] = {"class": name}
            for scores in (self.strict, self.paper):
                s = scores.per_class.get(name, scores.micro)
                if scores is self.strict:
                    row |= {"labels": s.labels, "predictions": s.predictions}
                ap = scores.macro_ap if name == "macro" else s.ap
                row[f"AP {scores.protocol}"] = none_if_nan(ap)
                if name != "macro":
                    row |= {
                        f"{key} {scores.protocol}": none_if_nan(value)
                        for key, value in s.operating_point().items()
                    }
            rows.append(row)
        return rows

    def to_json(self) -> str:
        """Everything but the events: configuration, sizes, and both protocols' table. null is undefined."""
        record = {
            "config": self.config.model_dump(),
            "classes": list(self.classes),
            "frame_rate": self.frame_rate,
            "recordings": self.n_recordings,
            "hours": self.n_frames / self.frame_rate / 3600,
            "undefined": list(self.strict.undefined),
            "table": self.table(),
            "macro_ap_official": self.paper.macro_ap_official,
        }
        return json.dumps(record, indent=1, allow_nan=False)


def evaluate(
    recordings: Iterable[tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
    frame_rate: float,
    config: EvaluationConfig | None = None,
) -> Evaluation:
    """Score likelihoods against labels, one recording (or segment) at a time, of any lengths.

    recordings  pairs of likelihoods (T, C) in [0, 1] and labels, a structured array with the fields `class`
                (index into `classes`), `onset_s` and `offset_s` (seconds from the recording's start), as
                dtype LABEL.
    frame_rate  f' in Hz. Labels are rounded to frames of 1 / f', to at least one.

    Predictions come from one threshold; their likelihoods rank them. Scores are computed when asked for.
    Raises ValueError naming the recording's number for a wrong shape, NaN, or a label that is reversed, of an
    unknown class, or outside the recording.
    """
    config = config or EvaluationConfig()
    names = tuple(classes)
    if not names or len(set(names)) < len(names) or set(names) & set(RESERVED):
        raise ValueError(
            f"classes: {list(names)} should be different names, none of them {' or '.join(RESERVED)}"
        )
    config.events.thresholds(len(names), names)
    parts: dict[str, list[np.ndarray]] = {f"{p} {kind}": [] for p in PROTOCOLS for kind in ("label", "event")}
    number, n_frames = -1, 0
    for number, (likelihood_TC, labels) in enumerate(recordings):
        try:
            found = _spans(number, likelihood_TC, labels, names, frame_rate, config.events)
        except ValueError as error:
            raise ValueError(f"recording {number}: {error}") from error
        for key, spans in found.items():
            parts[key].append(spans)
        n_frames += len(likelihood_TC)
    whole = {key: np.concatenate([np.zeros(0, SPAN), *arrays]) for key, arrays in parts.items()}
    return Evaluation(
        classes=names,
        frame_rate=frame_rate,
        config=config,
        n_recordings=number + 1,
        n_frames=n_frames,
        labels={p: whole[f"{p} label"] for p in PROTOCOLS},
        predictions={p: whole[f"{p} event"] for p in PROTOCOLS},
    )


def _spans(
    number: int,
    likelihood_TC: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    frame_rate: float,
    config: EventConfig,
) -> dict[str, np.ndarray]:
    """SPANs of one recording: labels and events, under both protocols."""
    likelihood_TC = np.asarray(likelihood_TC)
    if likelihood_TC.ndim != 2 or likelihood_TC.shape[1] != len(classes):
        raise ValueError(
            f"likelihood: shape {likelihood_TC.shape} should be (frames, {len(classes)} classes)"
        )
    runs = frame_events(as_segments(likelihood_TC), frame_rate, config, classes)
    # One frame has no mean without its last frame; in scoring the original takes that frame's own likelihood.
    mean_open = np.where(runs.stop - runs.start == 1, runs.mean, runs.mean_open)
    class_, start, stop = label_frames(labels, frame_rate, *likelihood_TC.shape)
    flat = merge_touching(class_, start, stop)
    return {
        "strict event": _span(number, runs.class_, runs.start, runs.stop, runs.mean),
        "paper event": _span(number, runs.class_, runs.start, runs.stop, mean_open),
        "strict label": _span(number, class_, start, stop, span_means(likelihood_TC, class_, start, stop)),
        "paper label": _span(number, *flat, span_means(likelihood_TC, *flat, open_end=True)),
    }


def _span(
    number: int, class_: np.ndarray, start: np.ndarray, stop: np.ndarray, likelihood: np.ndarray
) -> np.ndarray:
    spans = np.empty(len(start), dtype=SPAN)
    spans["recording"], spans["class"], spans["likelihood"] = number, class_, likelihood
    spans["start"], spans["stop"] = start, stop
    return spans
