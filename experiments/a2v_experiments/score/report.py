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
from a2v_eval.summary import STRICT_FIRST, UNDEFINED_MARK, aligned, flattery_note, paper_flatters

from ..basics.tables import csv_text
from ..basics.terminal import one_line
from .scores import EventScores

COLUMNS = ("class", "labels", "predictions", "AP", "precision", "recall", "F1", "splits", "mergers")
STRICT_COLUMNS = (*COLUMNS[:3], "found", "AP", "mAP", *COLUMNS[4:])
HEADED = {"predictions": "predicted"}
FLATTERED = "any overlap counts, and a label that is split in two counts twice"
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
    lines += [f"recordings   {evaluation.n_recordings}", *(f"  {one_line(notice)}" for notice in scores.notices)]
    for protocol in STRICT_FIRST:
        if protocol in scores.protocols:
            lines += ["", *_protocol_lines(scores, protocol)]
    lines += _flattery(scores)
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
    columns = STRICT_COLUMNS if protocol == "strict" else COLUMNS
    rows = [[HEADED.get(name, name) for name in columns]]
    rows += [[_shown(row[name]) for name in columns] for row in evaluation.rows(protocol)]
    yield from _ruled(rows)
    if len(evaluation.classes) > 1:
        yield f"macro: mean over {found.macro.classes} of {len(evaluation.classes)} classes, those with labels"
    if protocol == "strict":
        yield "mAP: mean of AP over IoU thresholds of 0.1 to 0.9"
    if any(UNDEFINED_MARK in row for row in rows):
        reasons = ["of a class without labels or without predictions"]
        reasons += ["AP needs likelihoods"] if not evaluation.ranked else []
        yield f"{UNDEFINED_MARK} undefined: {'; '.join(reasons)}"
    if intervals := scores.intervals.get(protocol):
        yield ""
        rows = [["class", "AP 95 %", "F1 95 %"]]  # a table of its own, or it would be too wide for a terminal
        for name in (str(row["class"]) for row in evaluation.rows(protocol)):
            found_of = [intervals.get(score, {}).get(name) for score in ("AP", "F1")]
            rows.append([name, *(f"{i.low:.3f}–{i.high:.3f}" if i else UNDEFINED_MARK for i in found_of)])
        yield from _ruled(rows)


def _ruled(rows: list[list[str]]) -> list[str]:
    """Aligned, with rules; of one class without micro and macro, which would say the same again."""
    lines = aligned(rows)
    rule = "─" * max(len(line) for line in lines)
    return [lines[0], rule, lines[1]] if len(rows) == 4 else [lines[0], rule, *lines[1:-2], rule, *lines[-2:]]


def _flattery(scores: EventScores) -> list[str]:
    """Where `paper` is shown and says more than there is."""
    if "paper" not in scores.protocols or not scores.evaluation.ranked:
        return []
    named: dict[Protocol, dict[str, float | None]] = {
        protocol: {name: none_if_nan(s["AP"]) for name, s in scores.evaluation.scores(protocol).named().items()}
        for protocol in STRICT_FIRST
    }
    named["paper"].pop("macro")
    notes = flattery_note(paper_flatters(named["paper"], named["strict"]), FLATTERED)
    return ["", *notes] if notes else []


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
