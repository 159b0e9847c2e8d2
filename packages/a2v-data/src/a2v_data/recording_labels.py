"""The labels of one recording, wherever its folder has them: in MeerKAT's layout, or in tables as `open_source` finds
them."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import Annotation, AnnotationError, read_annotations
from a2v_data.class_mapping import mapped
from a2v_data.formats import suffixes
from a2v_data.heard_channels import Heard
from a2v_data.intervals import Interval, without
from a2v_data.meerkat import MEERKAT_CLASSES, label_path, read_labels
from a2v_data.plan import FOCAL
from a2v_data.recording_names import RecordingNames
from a2v_data.regions import WHOLE, read_regions, region_tables
from a2v_data.sources import has_meerkats_layout, open_source
from a2v_data.table_files import ANNOTATION_FILE, ANNOTATION_FOLDER, LABEL_FOLDER

SEARCHED_FOLDERS = 4
Event = tuple[str, float, float]  # class, onset and offset in seconds from the recording's start


class RecordingLabels(NamedTuple):
    """All events of a recording, None where none are known; where they were read; and when nothing was annotated."""

    events: list[Event] | None
    place: str
    not_annotated: Sequence[Interval] = ()


def labels_of(path: Path, annotations: Path | None, reading: AnnotationConfig, channel: int = 0) -> RecordingLabels:
    """What is known of a recording.

    annotations: the table to read; None: those of its folder, or of one up to three above it. channel: the one that is
    looked at. `focal` events are also events of that class. Raises `ValueError` for labels that are wrong.
    """
    path = Path(os.path.abspath(path))
    if annotations is not None:
        events = _from_table(path, Path(os.path.abspath(annotations)), reading, channel)
        return RecordingLabels(events, str(annotations))
    for folder in list(path.parents)[:SEARCHED_FOLDERS]:
        if folder.name == "wav" and has_meerkats_layout(folder.parent, reading):  # which may have 400 000 recordings
            name = path.relative_to(folder).as_posix()
            label = label_path(folder.parent / "lbl", name)
            if label is None:
                return RecordingLabels(None, "")
            regions = _regions_of(folder, name, reading)
            return RecordingLabels(_from_labels(label, name, reading), str(label), regions)
        if (found := _from_source(path, folder, reading, channel)) is not None:
            return found
    return RecordingLabels(None, "")


def _from_source(path: Path, folder: Path, reading: AnnotationConfig, channel: int) -> RecordingLabels | None:
    """The same from the tables of a folder, as `open_source` finds them; None where it is no source with this
    recording. Tables that belong to other recordings by their name are not read."""
    if not _may_hold_tables(folder, path):
        return None
    try:
        source = open_source(folder, reading)
    except ValueError:  # no audio or no table in it
        return None
    name = os.path.relpath(path, os.path.abspath(source.audio_folder))
    if name not in source.names:
        return None
    names = RecordingNames(source.audio_folder, source.names)
    own = [file for file in source.found.read if not (of := names.of_table(file.relative)) or name in of]
    report = replace(source, found=replace(source.found, read=tuple(own))).read(heard=Heard(channel))
    of_others = {line for recording, lines in report.wrong.items() if recording != name for line in lines}
    if problems := [line for line in report.problems if line not in of_others]:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ValueError(f"{folder}: {problems[0]}{more}")
    if name not in report.annotated:
        return RecordingLabels(None, "")
    used = [table.shown for table in report.tables if name in (*table.recordings, table.own)]
    place = str(folder / used[0]) + (f" and {len(used) - 1} more" if len(used) > 1 else "") if used else str(folder)
    events = _events([row for row in report.rows if row.file == name])
    if report.regions is None:
        return RecordingLabels(events, place)
    return RecordingLabels(events, place, without([WHOLE], report.regions.get(name, ())))


def _may_hold_tables(folder: Path, path: Path) -> bool:
    """Whether a folder above a recording looks like a source of it: to walk through all that is in it takes long."""
    if (folder / ANNOTATION_FILE).is_file() or any(
        (folder / one).is_dir() for one in (ANNOTATION_FOLDER, LABEL_FOLDER)
    ):
        return True
    inside = path.relative_to(folder).parts
    near = len(inside) == 1 or inside[0] in ("audio", "wav")
    try:
        beside = [one for one in os.listdir(folder) if one.lower().endswith(tuple(suffixes(None)))]
    except OSError:
        return False
    return any(near or one.startswith(f"{path.stem}.") for one in beside)


def _regions_of(wav: Path, name: str, reading: AnnotationConfig) -> list[Interval]:
    """When nothing was annotated of a segment in MeerKAT's layout."""
    tables, names = region_tables(wav.parent, reading.regions, deep=False), RecordingNames(wav, [name])
    listed = [read_regions(table, partial(names.resolve, table_folder=table.parent))[0] for table in tables]
    return without([WHOLE], (part for of in listed for part in of.get(name, ()))) if tables else []


def _from_labels(label: Path, name: str, reading: AnnotationConfig) -> list[Event]:
    rows, problems = read_labels(label, name, str(label))
    rows, unknown, _ = mapped(rows, reading, label.parent)
    problems = [*problems, *unknown]
    if problems:
        raise ValueError(problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""))
    return _events(rows)


def _from_table(path: Path, table: Path, reading: AnnotationConfig, channel: int) -> list[Event]:
    audio = table.parent / "audio"
    folder = audio if audio in path.parents else Path(os.path.commonpath([table.parent, path.parent]))
    name = path.relative_to(folder).as_posix()
    try:
        rows = read_annotations(table, folder, name, MEERKAT_CLASSES, reading, channel).rows
    except AnnotationError as error:
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        raise ValueError(f"{table}: {error.problems[0]}{more}") from None
    return _events([row for row in rows if row.file == name])


def _events(rows: Sequence[Annotation]) -> list[Event]:
    events = [(row.label, row.onset_s, row.offset_s) for row in rows]
    return events + [(FOCAL, row.onset_s, row.offset_s) for row in rows if row.focal and row.label != FOCAL]
