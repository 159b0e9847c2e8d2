"""`a2v data annotations`: what the annotation tables of a folder hold, before anything is made from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .annotation_options import table_options
from .options import say

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig
    from a2v_data.annotation_tables import AnnotationReport
    from a2v_data.sources import Source

SHOWN = 20


@table_options()
def show_annotations(
    source: Annotated[Path, typer.Argument(help="Folder of recordings with their annotation tables.")],
    *,
    annotations: AnnotationConfig,
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Read all annotation tables and show what was found: tables, classes, recordings without any, what is wrong."""
    from json import dumps

    from a2v_data.annotation_tables import overlapping_events
    from a2v_data.sources import open_source

    from ..basics.progress import advancing, bar

    opened = open_source(source, annotations)
    with bar("tables", len(opened.found.read), "tables") as shown:
        report = opened.read(progress=advancing(shown))
    report.problems += _outside(report, opened)
    for label, count in overlapping_events(report.rows).items():
        report.notices.append(f"{label}: events that overlap an earlier one, with which `prepare` merges them: {count}")
    if json:
        say(dumps(_as_json(report, opened), indent=2, ensure_ascii=False))
    else:
        _show(report, opened)
    if report.problems:
        raise typer.Exit(1)


def _outside(report: AnnotationReport, source: Source) -> list[str]:
    """Events that pass the end of their recording, and recordings that cannot be read."""
    from a2v_data.annotations import end_problem
    from a2v_data.audio import AudioError
    from a2v_data.recording_names import read_header

    ends: dict[str, float | None] = {}
    problems = []
    for row in report.rows:
        if row.file not in ends:
            try:
                ends[row.file] = read_header(source.audio_folder / row.file).duration_s
            except AudioError as error:
                ends[row.file] = None
                problems.append(f"{row.file}: {error}")
        end = ends[row.file]
        if end is not None and (problem := end_problem(row, end)):
            problems.append(problem)
    return problems


def _as_json(report: AnnotationReport, source: Source) -> dict[str, Any]:
    from a2v_data.annotation_tables import events_per_class

    return {
        "source": str(source.folder),
        "audio_folder": str(source.audio_folder),
        "form": source.form,
        "recordings": len(source.names),
        "annotated": len(report.annotated),
        "not_annotated": _without(report, source),
        "events": len(report.rows),
        **_weak_json(report),
        "classes": [
            {"class": label, "events": events, "seconds": round(seconds, 6), "recordings": recordings}
            for label, events, seconds, recordings in events_per_class(report.rows)
        ],
        "tables": [
            {"table": table.shown, "format": table.format, "events": table.events, "recordings": list(table.recordings)}
            for table in report.tables
        ],
        "not_used": [{"file": name, "reason": reason} for name, reason in source.found.ignored],
        "notices": report.notices,
        "problems": report.problems,
    }


def _show(report: AnnotationReport, source: Source) -> None:
    from a2v_data.annotation_tables import events_per_class

    seconds = sum(row.offset_s - row.onset_s for row in report.rows)
    say(f"{source.folder}: {len(report.rows)} events ({seconds:.1f} s), {len(source.names)} recordings")
    tables = [(t.shown, t.format or "not read", t.events, len(t.recordings)) for t in report.tables]
    _columns(("table", "format", "events", "recordings"), tables, left=2, limit=10)
    classes = [(name, count, f"{length:.1f}", of) for name, count, length, of in events_per_class(report.rows)]
    _columns(("class", "events", "seconds", "recordings"), classes, left=1)
    _show_weak(report)
    without = _without(report, source)
    if without:
        say(f"\nwithout annotations (not listened to): {len(without)} of {len(source.names)} recordings")
    _list("", without, limit=10)
    _list("not used", [f"{name}: {reason}" for name, reason in source.found.ignored])
    _list("notices", report.notices)
    _list("wrong", report.problems)
    count = len(report.problems)
    say(f"\n{count} problem{'' if count == 1 else 's'}: put them right, or take them out" if count else "\nall right")


def _without(report: AnnotationReport, source: Source) -> list[str]:
    return [name for name in source.names if name not in report.annotated and name not in report.weak]


def _weak(report: AnnotationReport) -> list[tuple[str, int]]:
    """Class, and recordings in which it calls by a table of recording-level labels; by class."""
    counts = Counter(label for labels in report.weak.values() for label in labels)
    return sorted(counts.items())


def _weak_json(report: AnnotationReport) -> dict[str, Any]:
    if not report.weak:
        return {}
    return {
        "weak_recordings": len(report.weak),
        "weak_silent": sum(not labels for labels in report.weak.values()),
        "weak_classes": [{"class": label, "recordings": count} for label, count in _weak(report)],
    }


def _show_weak(report: AnnotationReport) -> None:
    if not report.weak:
        return
    silent = sum(not labels for labels in report.weak.values())
    say(f"\nrecording-level labels (weak): {len(report.weak)} recordings, in {silent} of them nothing calls")
    _columns(("class", "recordings"), _weak(report), left=1)


def _columns(header: Sequence[str], rows: Sequence[Sequence[Any]], left: int, limit: int | None = None) -> None:
    from ..basics.tables import text_table

    if not rows:
        return
    shown = [[str(cell) for cell in row] for row in rows[:limit]]
    say("\n" + text_table(header, shown, left))
    if len(rows) > len(shown):
        say(f"... and {len(rows) - len(shown)} more (--json lists all)")


def _list(title: str, lines: Sequence[str], limit: int = SHOWN) -> None:
    if lines and title:
        say(f"\n{title}:")
    for line in lines[:limit]:
        say(f"  {line}")
    if len(lines) > limit:
        say(f"  ... and {len(lines) - limit} more (--json lists all)")
