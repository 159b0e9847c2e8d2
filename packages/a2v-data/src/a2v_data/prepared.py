"""A prepared folder: segments in MeerKAT's form, and which recordings they were cut from.

Beside wav/, lbl/ and manifest/ (`meerkat.py`) it has
- `prepare.json`: format version, sample rate (Hz), samples of a segment, classes, options, what was left out. Written
  last: without it the folder is not finished, and nothing reads it.
- `segments.csv`: segment, recording, start_s, start_sample, samples. A row for each segment: the recording that it
  was cut from, where it starts there, and how many of its samples are the recording's (the rest of the last segment is
  zeros). With random names this is their key.
- `recordings.csv`: recording, source_rate, source_samples, channel, gain, segments.
- `classes.txt`: the classes, one a line, in the order that `lbl_cat` counts them, from 0.
- `unsure.csv`: recording, onset_s, offset_s, label. Time in seconds of the recording of which nobody knows what calls
  there: `ignore`, or `?` for a call of an unknown class (`regions.py`). Only where there is some.

Segments are joined again when the folder is packed: a recording in, the same recording out. An event that crosses a
border is cut at it, and its pieces carry the same number in the label files (`event_id`, counted within the
recording), by which they become one event again. Remove `segments.csv`, `recordings.csv` and `prepare.json`, and what
is left is a folder in MeerKAT's form like any other: each segment is a recording of its own, each piece an event.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from a2v_data.annotations import Annotation, AnnotationError, Annotations
from a2v_data.documents import check_keys, read_json, shown
from a2v_data.meerkat import CLASSES, MEERKAT_CLASSES, RECORDINGS, SEGMENTS, UNSURE, label_path, read_label_file
from a2v_data.meerkat import PREPARED_META as META
from a2v_data.regions import NUMBERS, Unsure
from a2v_data.sources import Source
from a2v_data.storage import check_regular, write_text_aside

FORMAT_VERSION = 1
SEGMENT_COLUMNS = ("segment", "recording", "start_s", "start_sample", "samples")
UNSURE_COLUMNS = ("recording", "onset_s", "offset_s", "label")
NEEDED = {"format_version": int, "sample_rate": int, "segment_samples": int, "classes": list[str]}
FURTHER = {"problems": list[str], "notices": list[str], "audio_folder": str, "events": dict[str, Any]}
LABELS = {number: label for label, number in NUMBERS.items()}
RECORDING_COLUMNS = ("recording", "source_rate", "source_samples", "channel", "gain", "segments")


@dataclass(frozen=True, slots=True)
class PreparedSegment:
    """A segment: its name (relative to wav/), its first sample in the recording, and how many are the recording's."""

    name: str
    start: int
    samples: int


@dataclass(frozen=True, slots=True)
class PreparedRecording:
    """A recording in a prepared folder. source_rate (Hz), source_samples: of its file; gain: applied to it."""

    name: str
    source_rate: int
    source_samples: int
    channel: str
    gain: float
    segments: tuple[PreparedSegment, ...]

    @property
    def samples(self) -> int:
        """Its length at the folder's sample rate."""
        return self.segments[-1].start + self.segments[-1].samples


@dataclass(frozen=True)
class Prepared:
    """A prepared folder, by recording name."""

    folder: Path
    sample_rate: int
    segment_samples: int
    classes: tuple[str, ...]
    recordings: dict[str, PreparedRecording]
    meta: dict[str, Any]

    @property
    def problems(self) -> list[str]:
        """One line for each recording that was left out."""
        return list(self.meta["problems"])

    @property
    def notices(self) -> list[str]:
        """What else is worth knowing, one line each."""
        return list(self.meta["notices"])


def read_prepared(folder: Path) -> Prepared | None:
    """What `folder` was prepared from; None where it does not say. Raises `ValueError` where its tables are wrong."""
    if not (folder / META).is_file():
        return None
    meta = _read_meta(folder / META)
    segments = _read_table(folder / SEGMENTS, SEGMENT_COLUMNS)
    by_recording: dict[str, list[PreparedSegment]] = {}
    for number, row in segments:
        found = by_recording.setdefault(row["recording"], [])
        found.append(PreparedSegment(row["segment"], _int(row, "start_sample"), _int(row, "samples")))
        if found[-1].start != (len(found) - 1) * meta["segment_samples"]:
            raise ValueError(f"{folder / SEGMENTS}, row {number}: segments of {row['recording']} are missing before it")
    recordings = {}
    for number, row in _read_table(folder / RECORDINGS, RECORDING_COLUMNS):
        name = row["recording"]
        found = by_recording.get(name, [])
        if len(found) != _int(row, "segments") or not found:
            raise ValueError(
                f"{folder / RECORDINGS}, row {number}: {name} has {row['segments']} segments, {SEGMENTS} names "
                f"{len(found)}; prepare the folder again"
            )
        recordings[name] = PreparedRecording(
            name,
            _int(row, "source_rate"),
            _int(row, "source_samples"),
            row["channel"],
            float(row["gain"]),
            tuple(found),
        )
    return Prepared(folder, meta["sample_rate"], meta["segment_samples"], tuple(meta["classes"]), recordings, meta)


def write_tables(
    folder: Path, sample_rate: int, segment_samples: int, classes: Sequence[str],
    recordings: Iterable[PreparedRecording], unsure: Mapping[str, Iterable[Unsure]], **described: Any,
) -> None:  # fmt: skip
    """Write everything that `read_prepared` reads, and the manifest; `prepare.json` last."""
    recordings = list(recordings)
    rows = [
        (segment.name, recording.name, f"{segment.start / sample_rate:.6f}", segment.start, segment.samples)
        for recording in recordings
        for segment in recording.segments
    ]
    write_text_aside(folder / SEGMENTS, _csv(SEGMENT_COLUMNS, rows))
    about = [(r.name, r.source_rate, r.source_samples, r.channel, repr(r.gain), len(r.segments)) for r in recordings]
    write_text_aside(folder / RECORDINGS, _csv(RECORDING_COLUMNS, about))
    intervals = [
        (r.name, repr(onset), repr(offset), LABELS[kind])
        for r in recordings
        for kind, onset, offset in unsure.get(r.name, ())
    ]
    if intervals:
        write_text_aside(folder / UNSURE, _csv(UNSURE_COLUMNS, intervals))
    else:
        (folder / UNSURE).unlink(missing_ok=True)
    write_text_aside(folder / CLASSES, "".join(f"{name}\n" for name in classes))
    manifest = "".join(f"{name}\t{segment_samples}\n" for name in sorted(row[0] for row in rows))
    write_text_aside(folder / "manifest" / "pretrain.tsv", f"{folder.absolute() / 'wav'}\n{manifest}")
    meta = {
        "format_version": FORMAT_VERSION,
        "sample_rate": sample_rate,
        "segment_samples": segment_samples,
        "classes": list(classes),
        **described,
    }
    write_text_aside(folder / META, json.dumps(meta, ensure_ascii=False, indent=1) + "\n")


def joined_annotations(source: Source, prepared: Prepared) -> Annotations:
    """Events by recording, in seconds from its start, cut ones joined. Raises `AnnotationError`."""
    rows: list[Annotation] = []
    problems: list[str] = []
    annotated: set[str] = set()
    used: set[Path] = set()
    for recording in prepared.recordings.values():
        paths = [label_path(source.label_folder, segment.name) for segment in recording.segments]
        found = [path for path in paths if path is not None]
        used.update(found)
        if not found:
            continue
        if len(found) < len(paths):
            without = recording.segments[paths.index(None)].name
            problems.append(
                f"lbl: {without} has no labels, but other segments of {recording.name} have; add or remove them"
            )
            continue
        annotated.add(recording.name)
        rows += _join(source, prepared, recording, found, problems)
    for path in sorted(set(source.label_files()) - used):
        shown = path.relative_to(source.folder).as_posix()
        problems.append(f"{shown}: no segment of this name in {SEGMENTS}; remove the labels")
    if problems:
        raise AnnotationError(source.label_folder, problems)
    rows += _unsure(source.folder / UNSURE, prepared)
    with_events = frozenset(row.file for row in rows)
    return Annotations(source.label_folder, tuple(rows), frozenset(annotated), with_events=with_events)


def _join(
    source: Source, prepared: Prepared, recording: PreparedRecording, paths: list[Path], problems: list[str]
) -> list[Annotation]:
    """The events of one recording; a piece that begins where one of the same number ended continues it."""
    rows: list[Annotation] = []
    last: dict[int, int] = {}  # event number -> its row, of those with a piece in the segment before
    sample_s = 1 / prepared.sample_rate
    for segment, path in zip(recording.segments, paths, strict=True):
        shown = path.relative_to(source.folder).as_posix()
        labels = read_label_file(path, recording.name, shown, prepared.classes or MEERKAT_CLASSES)
        problems += labels.problems
        start_s = segment.start / prepared.sample_rate
        here: dict[int, int] = {}
        for piece, number in zip(labels.events, labels.event_ids or [-1] * len(labels.events), strict=True):
            event = replace(piece, onset_s=piece.onset_s + start_s, offset_s=piece.offset_s + start_s)
            before = last.get(number)
            if before is not None and abs(event.onset_s - start_s) <= sample_s >= abs(rows[before].offset_s - start_s):
                if (rows[before].label, rows[before].focal) != (event.label, event.focal):
                    problems.append(f"{piece.where}: goes on from {rows[before].where}, but differs in label or focal")
                rows[before] = replace(rows[before], offset_s=event.offset_s)
                here[number] = before
            else:
                rows.append(event)
                if number >= 0:
                    here[number] = len(rows) - 1
        last = here
    return rows


def _unsure(path: Path, prepared: Prepared) -> Iterator[Annotation]:
    """What the folder's recordings have of unsure time, as the events that it comes from."""
    if not path.is_file():
        return
    for number, row in _read_table(path, UNSURE_COLUMNS):
        where = f"{path.name}, row {number}"
        if row["recording"] not in prepared.recordings or row["label"] not in NUMBERS:
            raise ValueError(f"{path}, row {number}: names no recording or label of this folder; prepare it again")
        yield Annotation(
            row["recording"], float(row["onset_s"]), float(row["offset_s"]), row["label"], False, where
        )  # fmt: skip


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = check_keys(read_json(path), NEEDED, FURTHER)
        version = meta["format_version"]
        if min(meta["sample_rate"], meta["segment_samples"]) < 1:
            raise ValueError("sample_rate and segment_samples should be above 0")
    except ValueError as error:
        raise ValueError(f"{path}: not a description of a prepared folder ({error}); prepare it again") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format version {version}, this a2v reads {FORMAT_VERSION}; prepare it again")
    return meta


def _read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(row number, cells) of a CSV with these columns."""
    try:
        check_regular(path)
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise ValueError(f"{path}, row 1: no column {', '.join(missing)}")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: missing or not readable ({error}); prepare the folder again") from error
    for number, row in rows:
        if any(row[name] is None for name in columns):
            raise ValueError(f"{path}, row {number}: has not a value in each column; prepare the folder again")
    return rows


def _int(row: dict[str, str], column: str) -> int:
    text = row[column]
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ValueError(f"{column} of {row['recording']} is {shown(text)}; it must be a whole number")
    return int(text)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
