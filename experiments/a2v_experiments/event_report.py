"""What `a2v evaluate` prints and writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from a2v_data.storage import written_aside
from a2v_eval.event_tables import CLOCK_HZ
from a2v_eval.events import Protocol
from a2v_eval.scores import none_if_nan
from a2v_eval.summary import UNDEFINED_MARK, aligned

from .event_scores import EventScores
from .tables import csv_text

COLUMNS = ("class", "labels", "predictions", "AP", "precision", "recall", "F1", "splits", "mergers")
EXPLAINED: dict[Protocol, tuple[str, ...]] = {
    "strict": ("one to one, intersection over union (IoU) above {iou:g}; a missed label is never recalled",),
    "paper": (
        "intersection over union (IoU) above {iou:g}; a label split in two counts twice",
        "Tables hold no likelihoods of frames, so a missed label enters the ranking with 0: AP is lower than in "
        "published tables.",
    ),
}


def as_text(scores: EventScores) -> str:
    """Both sides, what was put together and how, and a table for each protocol."""
    evaluation = scores.evaluation
    lines = [f"predictions  {scores.predictions}", f"labels       {scores.labels}"]
    lines += [f"recordings   {evaluation.n_recordings}", *(f"  {notice}" for notice in scores.notices)]
    for protocol in scores.protocols:
        lines += ["", *_protocol_lines(scores, protocol)]
    if scores.timesteps is not None:
        s, to_hours = scores.timesteps, 1 / scores.timesteps.frame_rate / 3600
        lines += [
            "",
            "timesteps, any class or none: "
            f"precision {_shown(s.precision)}  recall {_shown(s.recall)}  F1 {_shown(s.f1)}",
            f"  {s.labelled * to_hours:.3g} h labelled and {s.predicted * to_hours:.3g} h predicted "
            f"of {s.frames * to_hours:.3g} h",
        ]
    return "\n".join(lines)


def _protocol_lines(scores: EventScores, protocol: Protocol) -> Iterator[str]:
    evaluation = scores.evaluation
    found = evaluation.scores(protocol)
    first, *more = EXPLAINED[protocol]
    yield f"{protocol} protocol: {first.format(iou=found.iou_threshold)}"
    yield from more
    columns = [*COLUMNS[:4], *(["mAP"] if protocol == "strict" else []), *COLUMNS[4:]]
    intervals = scores.intervals.get(protocol, {})
    rows = [[*columns, *(f"{name} 95 %" for name in ("AP", "F1") if intervals)]]
    for row in evaluation.rows(protocol):
        cells = [_shown(row[name]) for name in columns]
        for name in ("AP", "F1") if intervals else ():
            interval = intervals.get(name, {}).get(str(row["class"]))
            cells.append(f"{interval.low:.3f}–{interval.high:.3f}" if interval else UNDEFINED_MARK)
        rows.append(cells)
    lines = aligned(rows)
    rule = "─" * max(len(line) for line in lines)
    if len(evaluation.classes) == 1:  # micro and macro would say the same again
        yield from (lines[0], rule, lines[1])
    else:
        yield from (lines[0], rule, *lines[1:-2], rule, *lines[-2:])
        yield f"macro: mean over {found.macro.classes} of {len(evaluation.classes)} classes, those with labels"
    if protocol == "strict":
        yield "mAP: mean of AP over IoU thresholds of 0.1 to 0.9"
    if any(UNDEFINED_MARK in row for row in rows):
        reasons = ["of a class without labels or without predictions"]
        reasons += ["AP needs likelihoods"] if not evaluation.ranked else []
        yield f"{UNDEFINED_MARK} undefined: {'; '.join(reasons)}"


def _shown(value: str | int | float | None) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return UNDEFINED_MARK
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def as_dict(scores: EventScores) -> dict[str, Any]:
    """The same for JSON; None is undefined."""
    evaluation = scores.evaluation
    record: dict[str, Any] = {
        "predictions": scores.predictions,
        "labels": scores.labels,
        "recordings": scores.recordings,
        "notices": scores.notices,
        "protocols": {},
        "timesteps": scores.timesteps.to_dict() if scores.timesteps else None,
    }
    for protocol in scores.protocols:
        found = evaluation.scores(protocol)
        record["protocols"][protocol] = {
            "iou_threshold": found.iou_threshold,
            "scores": evaluation.rows(protocol),
            "macro_classes": found.macro.classes,
            "without_labels": list(found.undefined),
            "ap_over_iou": {
                f"{iou:g}": {name: none_if_nan(ap) for name, ap in row.items()}
                for iou, row in evaluation.ap_over_iou(protocol).items()
            },
            "confidence_intervals": {
                score: {name: interval._asdict() for name, interval in by_name.items()}
                for score, by_name in scores.intervals.get(protocol, {}).items()
            },
        }
    return record


def write_tables(scores: EventScores, out: Path) -> None:
    """A folder with evaluation.json, scores_PROTOCOL.csv, ap_over_iou.csv and matches_strict.csv.

    Raises ValueError where it exists and is not empty.
    """
    with written_aside(out) as folder:
        text = json.dumps(as_dict(scores), indent=1, allow_nan=False)
        (folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")
        for protocol in scores.protocols:
            rows = scores.evaluation.rows(protocol)
            (folder / f"scores_{protocol}.csv").write_text(csv_text(rows), encoding="utf-8")
        over_iou = [
            {"protocol": protocol, "iou": iou, "class": name, "AP": none_if_nan(ap)}
            for protocol in scores.protocols
            for iou, row in scores.evaluation.ap_over_iou(protocol).items()
            for name, ap in row.items()
        ]
        (folder / "ap_over_iou.csv").write_text(csv_text(over_iou), encoding="utf-8")
        (folder / "matches_strict.csv").write_text(csv_text(list(_matches(scores))), encoding="utf-8")


def _matches(scores: EventScores) -> Iterator[dict[str, Any]]:
    """Every label and prediction under `strict`: hit, missed or false."""
    evaluation = scores.evaluation
    labels, predictions = evaluation.labels["strict"], evaluation.predictions["strict"]
    found = evaluation.matching("strict")
    pairs = zip(found.pairs.label, found.pairs.prediction, found.pairs.iou, strict=True)
    rows = [("hit", labels[a], predictions[b], iou) for a, b, iou in pairs]
    rows += [("missed", labels[a], None, None) for a in np.flatnonzero(found.missed)]
    rows += [("false", None, predictions[b], None) for b in np.flatnonzero(found.unmatched)]

    def first(row: tuple[str, Any, Any, Any]) -> tuple[int, int]:
        span = row[1] if row[1] is not None else row[2]
        return int(span["recording"]), int(span["start"])

    for outcome, label, prediction, iou in sorted(rows, key=first):
        span = label if label is not None else prediction
        record = {"file": scores.recordings[span["recording"]], "class": evaluation.classes[span["class"]]}
        record["outcome"] = outcome
        for name, side in (("label", label), ("prediction", prediction)):
            record[f"{name}_onset_s"] = "" if side is None else side["start"] / CLOCK_HZ
            record[f"{name}_offset_s"] = "" if side is None else side["stop"] / CLOCK_HZ
        record["likelihood"] = "" if prediction is None or not evaluation.ranked else prediction["likelihood"]
        record["iou"] = "" if iou is None else iou
        yield record
