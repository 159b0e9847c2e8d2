"""`a2v data annotations`: what the annotation tables of a folder hold, before anything is made from them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..basics.errors import UserError
from .annotation_options import table_options
from .options import channel_of, check_new
from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig
    from a2v_data.annotation_tables import AnnotationReport
    from a2v_data.sources import Source

SHOWN = 20
LeftOut = Sequence[tuple[str, str]]
MOST_CLASSES = 40


@table_options()
def show_annotations(
    source: Annotated[Path, typer.Argument(help="Folder of recordings with their annotation tables.")],
    *,
    annotations: AnnotationConfig,
    channel: Annotated[
        str, typer.Option("--channel", help="Channel that will be read, from 0 (Raven's counts from 1), or 'mix'.")
    ] = "0",
    channels: Annotated[
        Path | None, typer.Option("--channels", help="CSV with file,channel for recordings that need another one.")
    ] = None,
    sample_rate: Annotated[
        int, typer.Option("--sample-rate", min=1, help="At which a model will hear, in Hz: half of it is its highest.")
    ] = 8000,
    write_mapping: Annotated[
        Path | None,
        typer.Option(help="Write all labels to this new CSV, with counts and a class suggested for each: a --mapping."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write all events to this new CSV (file,onset_s,offset_s,label), with their classes."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Read all annotation tables and show what was found: tables, classes, recordings without any, what is wrong."""
    from json import dumps

    from a2v_data.annotation_tables import overlapping_events
    from a2v_data.heard_channels import Heard
    from a2v_data.label_sets import class_notices, counts
    from a2v_data.plan import read_channel_table
    from a2v_data.regions import NUMBERS
    from a2v_data.sources import open_source

    from ..basics.progress import advancing, bar
    from ..score.files import with_options

    for path in (write_mapping, out):
        if path is not None:
            check_new(path)
    heard = Heard(channel_of(channel), read_channel_table(channels) if channels is not None else {})
    opened = open_source(source, annotations)
    if odd := sorted(set(heard.single) - set(opened.names)):
        raise UserError(f"{channels}: no recording {odd[0]!r} in {opened.audio_folder}; correct the name")
    if out is not None:
        _check_apart(out, opened)
    with bar("tables", len(opened.found.read), "tables") as shown:
        report = opened.read(progress=advancing(shown), heard=heard)
    _place(report, opened)
    left_out = opened.left_out()
    for label, count in overlapping_events(report.rows).items():
        report.notices.append(f"{label}: events that overlap an earlier one, with which `prepare` merges them: {count}")
    if unheard := _unheard(report, opened, sample_rate):
        report.notices.append(unheard)
    if not (report.rows or report.weak or report.problems or _empty(report, opened)):
        report.problems.append(_no_event(report, opened))
    report.problems = [with_options(line) for line in report.problems]
    report.notices = [with_options(line) for line in report.notices]
    known = [(row.label, row.file) for row in report.rows if row.label not in NUMBERS]
    if report.rows and not known:
        report.problems.append(
            f"all {len(report.rows)} events are of the class ? or ignore, so there is none to learn or to score; in a "
            "mapping, ? and * are patterns: [?] is the character"
        )
    whole = {file: labels for file, labels in report.weak.items() if file not in report.annotated}
    known += [(label, file) for file, labels in whole.items() for label in labels]
    classes = class_notices(counts(known), len(report.annotated) + len(whole))
    if json:
        say_text(dumps({**_as_json(report, opened, left_out), "warnings": classes}, indent=2, ensure_ascii=False))
    else:
        _show(report, opened, left_out, classes)
    _write(report, opened, write_mapping, out, to_stderr=json)
    if report.problems:
        raise typer.Exit(1)


def _unheard(report: AnnotationReport, source: Source, sample_rate: int) -> str | None:
    """What a model at that rate cannot hear of the labels."""
    from a2v_data.recording_names import RecordingNames
    from a2v_data.unheard import unheard_labels

    names = RecordingNames(source.audio_folder, source.names)
    files = {row.file for row in report.rows if row.band_hz is not None}
    rates = {file: rate for file in files if (rate := names.rate(file)) is not None}
    return unheard_labels(report.rows, rates, sample_rate)


def _empty(report: AnnotationReport, source: Source) -> bool:
    """Whether recordings serve pretraining alone and say so: an `annotations.csv` with a header and nothing else."""
    return source.form == "csv" and not report.annotated and not source.not_used()


def _no_event(report: AnnotationReport, source: Source) -> str:
    """What is said where there are tables, or files like them, and not one event in them."""
    lying = [table.shown for table in report.tables] or [name for name, _ in source.not_used()]
    some = ", ".join(lying[:3]) + (f" and {len(lying) - 3} more" if len(lying) > 3 else "")
    if report.with_events:
        return "the mapping drops every event; nothing can be trained or scored on without any"
    return f"no event was read{f' from {some}' if some else ''}; nothing can be trained or scored on without any"


def _place(report: AnnotationReport, source: Source) -> None:
    """Do with events that pass the end of their recording what was asked for, and report them, recordings that cannot
    be read or are odd, and what regions and unsure events leave."""
    from a2v_data.audio import AudioError, read_info
    from a2v_data.outside import within
    from a2v_data.regions import outside_recordings, region_notices, sure

    ends: dict[str, float] = {}
    known: dict[str, float] = {}
    for file in dict.fromkeys([*(row.file for row in report.rows), *(report.regions or {})]):
        try:
            info = read_info(source.audio_folder / file)
            ends[file] = known[file] = info.duration_s
            report.notices += [f"{file}: {info.notice}"] if info.notice else []
        except AudioError as error:
            ends[file] = float("inf")
            report.problems.append(f"{file}: {error}")
    found = within(report.rows, ends, source.config.outside)
    report.rows, report.notices = found.rows, report.notices + found.notices
    for wrong in (found.wrong, outside_recordings(report.regions or {}, known)):
        report.problems += [line for lines in wrong.values() for line in lines]
    divided = sure(report.rows, report.regions, known)
    report.notices += region_notices(report.regions, report.annotated, divided, known)


def _check_apart(out: Path, source: Source) -> None:
    """Raise UserError where the table would lie among those of the source: each event would be there twice."""
    from ..basics.errors import UserError

    place = out.resolve()
    if place == (source.folder / "annotations.csv").resolve():
        return  # which is then read instead of the others
    if any(place.is_relative_to(folder.resolve()) for folder in (source.folder, source.audio_folder)):
        raise UserError(
            f"{out}: lies in {source.folder}, where it would be read as one more table; name a file elsewhere, or"
            f" {source.folder / 'annotations.csv'}, which is read instead of all others"
        )


def _write(report: AnnotationReport, source: Source, mapping: Path | None, out: Path | None, to_stderr: bool) -> None:
    """Write the files that were asked for. Raises UserError where there is nothing to write, or something is wrong."""
    from a2v_data.annotation_writers import annotation_csv
    from a2v_data.regions import region_csv
    from a2v_data.storage import write_text_aside
    from a2v_data.table_files import REGION_FILE

    from ..basics.errors import UserError

    def told(line: str) -> None:
        say(line, err=True) if to_stderr else say(line)

    if mapping is not None:
        text, labels, classes = _template(report, source)
        if not labels:
            raise UserError(f"{mapping}: not written; there is no label in {source.folder}")
        write_text_aside(mapping, text)
        told(
            f"{mapping}: {labels} labels, {classes} classes suggested; look through its column class (empty: dropped), "
            f"then --mapping {shlex.quote(str(mapping))}"
        )
    if out is not None:
        if report.problems:
            raise UserError(f"{out}: not written; what is wrong is to be put right first")
        with_events = {row.file for row in report.rows}
        silent = sorted(report.annotated - with_events)
        write_text_aside(out, annotation_csv(sorted(report.rows, key=lambda row: (row.file, row.onset_s)), silent))
        told(f"{out}: {len(report.rows)} events, {len(silent)} recordings without any")
        if report.regions is not None:
            beside = out.with_name(REGION_FILE)
            check_new(beside)
            write_text_aside(beside, region_csv(report.regions))
            told(f"{beside}: which parts of {len(report.regions)} recordings were annotated; it belongs to {out.name}")


def _template(report: AnnotationReport, source: Source) -> tuple[str, int, int]:
    """The mapping of all labels as they are in the tables, how many there are, and how many classes."""
    from a2v_data.annotations import Annotation
    from a2v_data.class_mapping import decided, mapping_file, read_mapping, strip_numbers
    from a2v_data.label_sets import class_count, template

    rows = list(report.rows if report.written is None else report.written)
    rows += [Annotation(file, 0, 0, label, False, "") for file, of in report.weak_written.items() for label in of]
    if source.config.strip_numbers:
        rows, _ = strip_numbers(rows)
    path = mapping_file(source.config, source.folder)
    known = {} if path is None else decided((row.label for row in rows), read_mapping(path))
    labels = len({row.label for row in rows})
    return template(rows, known), labels, class_count(rows, known)


def _as_json(report: AnnotationReport, source: Source, left_out: LeftOut) -> dict[str, Any]:
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
        "left_out": [{"file": name, "reason": reason} for name, reason in left_out],
        "not_used": [{"file": name, "reason": reason} for name, reason in source.not_used()],
        "notices": report.notices,
        "problems": report.problems,
    }


def _show(report: AnnotationReport, source: Source, left_out: LeftOut, warnings: Sequence[str]) -> None:
    from a2v_data.annotation_tables import events_per_class

    seconds = sum(row.offset_s - row.onset_s for row in report.rows)
    say(f"{source.folder}: {len(report.rows)} events ({seconds:.1f} s), {len(source.names)} recordings")
    tables = [(t.shown, t.format or "not read", t.events, len(t.recordings)) for t in report.tables]
    _columns(("table", "format", "events", "recordings"), tables, left=2, limit=10)
    classes = [(name, count, f"{length:.1f}", of) for name, count, length, of in events_per_class(report.rows)]
    _columns(("class", "events", "seconds", "recordings"), classes, left=1, limit=MOST_CLASSES)
    _show_weak(report)
    unread = {name for name, _ in left_out}
    without = [name for name in _without(report, source) if name not in unread]
    if without:
        say("", f"without annotations (not listened to): {len(without)} of {len(source.names)} recordings")
    _list("", without, limit=10)
    _list(f"left out ({len(left_out)})", [f"{name}: {reason}" for name, reason in left_out])
    _list("not used", [f"{name}: {reason}" for name, reason in source.not_used()])
    _list("notices", report.notices)
    _list("warnings", warnings)
    _list("wrong", report.problems)
    count = len(report.problems)
    if count:
        say("", f"{count} problem{'' if count == 1 else 's'}: put them right, or take them out")
    else:
        say("", "all can be read; see the warnings before you train on it" if warnings else "all right")


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
    say("", f"recording-level labels (weak): {len(report.weak)} recordings, in {silent} of them nothing calls")
    _columns(("class", "recordings"), _weak(report), left=1)


def _columns(header: Sequence[str], rows: Sequence[Sequence[Any]], left: int, limit: int | None = None) -> None:
    from ..basics.tables import text_table

    if not rows:
        return
    shown = [[str(cell) for cell in row] for row in rows[:limit]]
    say_text("\n" + text_table(header, shown, left))
    if len(rows) > len(shown):
        say(f"... and {len(rows) - len(shown)} more (--json lists all)")


def _list(title: str, lines: Sequence[str], limit: int = SHOWN) -> None:
    if lines and title:
        say("", f"{title}:")
    for line in lines[:limit]:
        say(f"  {line}")
    if len(lines) > limit:
        say(f"  ... and {len(lines) - limit} more (--json lists all)")
