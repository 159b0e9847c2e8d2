"""The numbers of a review as text, tables and figures; thresholds for a wanted precision; the run in MLflow.

`write` makes a folder anew (it is derived, nothing in it is lost):
    precision.csv        class, threshold, precision, lower, upper, judged, predicted
    calibration.csv      class, likelihood, probability, lower, upper
    counts_per_day.csv   class, day, predicted, judged, right, lower, upper
    missed.csv           class, missed, lower, upper, recall, recall_lower, recall_upper (with windows)
    thresholds.csv       class, threshold: of an event's likelihood; `found_with` says what `predict` makes of it
    report.json          all of it, and where it comes from
    precision.png, calibration.png
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from a2v_data.intervals import united
from a2v_data.storage import file_digest, write_text_aside, written_aside
from a2v_eval.calibration import Calibration
from a2v_eval.figures import calibration_figure, precision_figure, save
from a2v_eval.missed import Estimate
from a2v_eval.stratified import Share

from ..basics.tables import csv_text, duration, text_table
from ..basics.terminal import one_line
from .calls import Calls
from .found_with import found_with, of_events
from .journal import NAME, State
from .numbers import UNDATED, ClassNumbers, Numbers

STEPS = 100
FEW = 10


@dataclass(frozen=True)
class Chosen:
    """The lowest threshold with a wanted precision, and the share that is right there, or why there is none.

    Of a hundred estimates over thresholds some are high by chance, so the mean probability of the predictions that
    reach it has to say so too (calibration). Or, for those who must be sure, the lower limit of the share itself.
    """

    threshold: float | None
    share: Share | None
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """Numbers, and for each class the threshold for `precision` (sure: its lower limit). surely: class -> the threshold
    from which on its lower limit reaches it, where there is one. origin: what they rest on."""

    numbers: Numbers
    precision: float
    sure: bool
    chosen: dict[str, Chosen]
    surely: dict[str, float]
    origin: dict[str, Any]

    @property
    def thresholds(self) -> dict[str, float]:
        return {name: one.threshold for name, one in self.chosen.items() if one.threshold is not None}

    @property
    def for_predict(self) -> bool:
        """Whether `a2v predict` understands these thresholds as they are meant; see `found_with`."""
        settings = self.origin["found_with"]
        return settings is not None and of_events(settings, self.thresholds)


def report_of(calls: Calls, state: State, numbers: Numbers, precision: float, sure: bool) -> Report:
    """Thresholds and origin."""
    origin = origin_of(calls, state)
    settings = origin["found_with"]

    def chosen(one: ClassNumbers, sure: bool) -> Chosen:
        # without an extent's threshold, events may have a lower likelihood than the threshold that found them
        cut = settings is None or of_events(settings, [one.label])
        return _chosen(one, precision, sure, calls.thresholds.get(one.label, 0.0) if cut else 0.0)

    predicted = [one for one in numbers.classes if one.predicted]
    surely = {one.label: at for one in predicted if (at := chosen(one, True).threshold) is not None}
    return Report(numbers, precision, sure, {one.label: chosen(one, sure) for one in predicted}, surely, origin)


def origin_of(calls: Calls, state: State) -> dict[str, Any]:
    """What numbers rest on: predictions, model, decisions, who made them, minutes that were looked at, the journal."""
    journal = calls.folder / NAME
    standing = state.standing()
    clips: dict[str, list[tuple[float, float]]] = {}
    for one in standing:
        clips.setdefault(one.file, []).append(one.clip or (one.onset_s, one.offset_s))
    looked_s = sum(stop - start for intervals in clips.values() for start, stop in united(intervals))
    return {
        "calls": calls.path.name,
        "model": calls.model,
        "found_with": found_with(calls),
        "decisions": len(standing),
        "reviewers": sorted({one.reviewer for one in standing if one.reviewer}),
        "orders": sorted({one.order for one in standing if one.order}),
        "reviewed_minutes": round(looked_s / 60, 3),
        "journal": file_digest(journal) if journal.is_file() else None,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _chosen(one: ClassNumbers, precision: float, sure: bool, found_from: float) -> Chosen:
    """found_from: the threshold that the events were found with; below it nothing is known."""
    if one.precision is None:
        return Chosen(None, None, "nothing judged in random order")
    known = [(at, share) for at, share in zip(one.curve.thresholds, one.curve.shares, strict=True) if share is not None]
    known = [(at, share) for at, share in known if share.covered == 1]
    if not known:
        return Chosen(None, None, "a band of likelihood was not looked at")
    if sure:
        fitting = [(at, share) for at, share in known if share.lower >= precision]
    elif one.sampled == one.predicted:  # all were judged: nothing is estimated
        fitting = [(at, share) for at, share in known if share.estimate >= precision]
    elif isinstance(one.calibration, str):
        return Chosen(None, None, one.calibration)
    else:
        probability = one.calibration.probability(one.predictions)
        fitting = [
            (at, share)
            for at, share in known
            if min(probability[one.predictions >= at].mean(), share.estimate) >= precision
        ]
    if not fitting:
        return Chosen(None, None, f"at no threshold {'the lower limit reaches it' if sure else 'it is reached'}")
    return Chosen(max(fitting[0][0], found_from), fitting[0][1])


def text(report: Report) -> str:
    """What a reader sees first: precision with its interval, then what to do with it."""
    classes = report.numbers.classes
    rows = [
        [
            one.label, str(one.predicted), str(one.decided), str(one.sampled), _percent(one.precision),
            _covered(one.precision),
        ]
        for one in classes
    ]  # fmt: skip
    header = ["class", "predicted", "decided", "of the sample", "right (95 %)", "of what is predicted"]
    lines = [text_table(header, rows), ""]
    wanted = f"{'surely ' if report.sure else ''}{100 * report.precision:g} % right"
    rows = []
    for name, one in report.chosen.items():
        surely = "none" if name not in report.surely else f"{report.surely[name]:g}"
        if one.threshold is None or one.share is None:
            rows.append([name, "none", one.reason, "", surely])
        else:
            rows.append([name, f"{one.threshold:g}", _percent(one.share), str(one.share.size), surely])
    header = ["class", f"threshold for {wanted}", "right (95 %)", "predictions", "surely from (--sure)"]
    kept = 4 if report.sure else 5
    lines += [text_table(header[:kept], [row[:kept] for row in rows], 1), ""]
    lines += _missed_lines(report.numbers)
    lines += map(one_line, _notes(report))
    return "\n".join(lines)


def _missed_lines(numbers: Numbers) -> list[str]:
    seen = numbers.windows
    if seen.others:
        others = (
            f"{seen.others} random stretches that were looked at are none of those that there are now: give the"
            " --window-s of the review (or predictions changed since)"
        )
        return [others, "misses are not known", ""] if not seen.looked else [others, *_missed_table(numbers)]
    if not seen.looked:
        return ["misses are not known: no random stretch without predictions was looked at (--windows N)", ""]
    return _missed_table(numbers)


def _missed_table(numbers: Numbers) -> list[str]:
    seen = numbers.windows
    rows = [
        [one.label, _number(one.missed), _percent(one.recall) if one.recall is not None else "unknown"]
        for one in numbers.classes
        if one.missed is not None
    ]
    told = (
        f"{seen.looked} of {seen.count} stretches without predictions were looked at,"
        f" {duration(seen.looked_s)} of {duration(seen.total_s)}"
    )
    if seen.lost_s > 0.01 * (seen.total_s + seen.lost_s):
        told += f"; gaps shorter than a second, {duration(seen.lost_s)} in all, are no part of it"
    return [text_table(["class", "missed (95 %)", "recall (95 %)"], rows), told, ""]


def _notes(report: Report) -> list[str]:
    lines = []
    classes = report.numbers.classes
    decided, sampled = sum(one.decided for one in classes), sum(one.sampled for one in classes)
    unsure = sum(one.verdicts.get("unsure", 0) for one in classes)
    if sampled + unsure < decided:
        lines.append(
            f"{decided} were decided, of which {sampled} count here: the others were shown in another order than a"
            " random one (--order stratified)"
        )
    if unsure:
        lines.append(f"{unsure} were uncertain; they are in no share")
    few = [one.label for one in classes if one.predicted > one.sampled and one.sampled < FEW]
    if report.thresholds and not report.for_predict:
        lines.append(
            "the thresholds are of an event's likelihood, as tables of events have it: keep the rows that reach them."
            f" `a2v predict --thresholds` {'may' if report.origin['found_with'] is None else 'would'} ask them of the"
            " pooled likelihood and find more events, of which fewer are right; --model MODEL --model-out FOLDER makes"
            " a copy of the model that finds just these"
        )
    if few:
        lines.append(f"fewer than {FEW} judged: {', '.join(few)}; go on with a2v review --order stratified")
    return lines


def _percent(one: Share | Estimate | None) -> str:
    return "unknown" if one is None else f"{100 * one.estimate:.0f} % ({100 * one.lower:.0f} to {100 * one.upper:.0f})"


def _covered(share: Share | None) -> str:
    return "" if share is None else f"{100 * share.covered:.0f} %"


def _number(one: Estimate | None) -> str:
    return "unknown" if one is None else f"{one.estimate:.0f} ({one.lower:.0f} to {one.upper:.0f})"


def rows_of(report: Report) -> dict[str, list[dict[str, Any]]]:
    """The tables, by the name of their file without its ending."""
    classes = report.numbers.classes
    precision = [
        {
            "class": one.label, "threshold": at, "precision": share.estimate, "lower": share.lower,
            "upper": share.upper, "judged": share.judged, "predicted": share.size, "covered": share.covered,
        }
        for one in classes
        for at, share in zip(one.curve.thresholds, one.curve.shares, strict=True)
        if share is not None
    ]  # fmt: skip
    return {
        "precision": precision,
        "calibration": [row for one in classes for row in _calibration(one)],
        "counts_per_day": [
            {"class": one.label, "day": one.day or "undated", "predicted": one.predicted, "judged": one.judged}
            | _cells("right", one.right)
            for one in report.numbers.days
        ],
        "missed": [
            {"class": one.label} | _cells("missed", one.missed) | _cells("recall", one.recall, "recall_")
            for one in classes
            if one.missed is not None
        ],
        "thresholds": [{"class": name, "threshold": value} for name, value in report.thresholds.items()],
    }


def _cells(name: str, one: Estimate | None, prefix: str = "") -> dict[str, Any]:
    if one is None:
        return {name: "", f"{prefix}lower": "", f"{prefix}upper": ""}
    return {name: one.estimate, f"{prefix}lower": one.lower, f"{prefix}upper": one.upper}


def _calibration(one: ClassNumbers) -> list[dict[str, Any]]:
    if isinstance(one.calibration, str):
        return []
    grid = np.arange(1, STEPS) / STEPS
    lower, upper = one.calibration.interval(grid)
    values = zip(grid, one.calibration.probability(grid), lower, upper, strict=True)
    return [
        {"class": one.label} | dict(zip(("likelihood", "probability", "lower", "upper"), map(float, row), strict=True))
        for row in values
    ]


def plain(report: Report) -> dict[str, Any]:
    """For JSON."""
    seen = report.numbers.windows
    return {
        **report.origin,
        "wanted_precision": report.precision,
        "sure": report.sure,
        "windows": asdict(seen),
        "classes": {
            one.label: {
                "predicted": one.predicted,
                "decided": one.decided,
                **one.verdicts,
                "sampled": one.sampled,
                "precision": one.precision and asdict(one.precision),
                "calibration": _calibration_plain(one.calibration),
                "missed": one.missed and asdict(one.missed),
                "recall": one.recall and asdict(one.recall),
                "threshold": _chosen_plain(report.chosen.get(one.label)),
                "surely_from": report.surely.get(one.label),
            }
            for one in report.numbers.classes
        },
        "days": [
            {"class": one.label, "day": one.day if one.day != UNDATED else None, "predicted": one.predicted,
             "judged": one.judged, "right": one.right and asdict(one.right)}
            for one in report.numbers.days
        ],
    }  # fmt: skip


def _calibration_plain(one: Calibration | str) -> dict[str, Any]:
    if isinstance(one, str):
        return {"none": one}
    return {
        "intercept": one.intercept, "slope": one.slope, "covariance": one.covariance.tolist(), "judged": one.judged
    }  # fmt: skip


def _chosen_plain(one: Chosen | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"threshold": one.threshold, "share": one.share and asdict(one.share), "reason": one.reason}


def write(report: Report, out: Path) -> None:
    """Make the folder anew. Raises ValueError where `out` holds other things than a report."""
    if out.is_dir() and any(out.iterdir()) and not (out / "report.json").is_file():
        raise ValueError(f"{out}: holds other things than a report; name another folder")
    aside = out.with_name(f".{out.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    with written_aside(aside) as folder:
        for name, rows in rows_of(report).items():
            if rows:
                write_text_aside(folder / f"{name}.csv", csv_text(rows))
        write_text_aside(folder / "report.json", json.dumps(plain(report), ensure_ascii=False, indent=1) + "\n")
        for name, figure in figures(report.numbers.classes, report).items():
            save(figure, folder / name)
    shutil.rmtree(out, ignore_errors=True)
    aside.rename(out)


def figures(classes: Sequence[ClassNumbers], report: Report) -> dict[str, Any]:
    """File name -> figure, of the classes that have predictions."""
    shown = [one for one in classes if one.predicted]
    if not shown:
        return {}
    judged = {one.label: (one.likelihood, one.right) for one in shown}
    return {
        "precision.png": precision_figure({one.label: one.curve for one in shown}, report.thresholds, report.precision),
        "calibration.png": calibration_figure({one.label: one.calibration for one in shown}, judged),
    }
