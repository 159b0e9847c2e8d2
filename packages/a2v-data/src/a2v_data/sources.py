"""Where recordings and annotations come from: a folder with tables, or MeerKAT's layout.

All forms end in one `Source`: the recordings by name, and annotations that name them.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotation_tables import AnnotationReport, ReadTable, read_tables
from a2v_data.annotations import Annotation, AnnotationError, Annotations
from a2v_data.audio import AUDIO_SUFFIXES
from a2v_data.class_mapping import mapped, mapping_file, relabels
from a2v_data.documents import read_json
from a2v_data.heard_channels import FIRST, Heard
from a2v_data.intervals import Interval, united
from a2v_data.meerkat import (
    JOURNAL,
    MEERKAT_CLASSES,
    PREPARED_META,
    PREPARED_TABLES,
    label_path,
    read_labels,
)
from a2v_data.recording_names import RecordingNames, left_out_names, recording_names
from a2v_data.regions import marked_regions, read_regions, region_tables
from a2v_data.storage import BLOCK_BYTES, check_regular, write_text_aside
from a2v_data.streams.config import StreamConfig
from a2v_data.streams.folder import StreamFolder
from a2v_data.table_files import (
    ANNOTATION_FILE,
    ANNOTATION_FOLDER,
    LABEL_FOLDER,
    LABEL_SUFFIXES,
    FoundTables,
    find_tables,
    others_in,
    tables_in,
)
from a2v_data.weak import WeakLabel, WeakTable, by_recording, read_weak, weak_file

Entry = tuple[list[int] | None, str]  # ([size, mtime_ns], content hash) of one file
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """A folder of recordings. `names` are paths relative to `audio_folder`, sorted, bad ones included.

    form: 'csv' (annotations.csv), 'tables' (others), 'meerkat'; found: the tables, and files that are none.
    """

    folder: Path
    form: Literal["csv", "tables", "meerkat"]
    audio_folder: Path
    names: tuple[str, ...]
    config: AnnotationConfig = field(default_factory=AnnotationConfig)
    found: FoundTables = field(default_factory=FoundTables)

    @property
    def label_folder(self) -> Path:
        """Where MeerKAT's label files lie."""
        return self.folder / LABEL_FOLDER

    def not_used(self) -> list[tuple[str, str]]:
        """Files that lie where annotations do and are not read, with the reason."""
        if self.form != "meerkat":
            return list(self.found.ignored)
        reason = f"MeerKAT's label files in {LABEL_FOLDER}/ are read instead; name what to read with tables"
        unused = others_in(self.label_folder, self.folder, frozenset(LABEL_SUFFIXES), reason)
        inside = (self.folder / ANNOTATION_FOLDER).is_dir()
        return [*unused, (f"{ANNOTATION_FOLDER}/", reason)] if inside else unused

    def annotations(self, heard: Heard = FIRST) -> Annotations:
        """Read all annotations, of the channels that are `heard`; `AnnotationError` names file and row of what is wrong
        and belongs to no recording, `ValueError` what is missing. What is wrong with one recording is in
        `Annotations.wrong`."""
        report = self.read(heard=heard)
        place = {
            "csv": self.folder / ANNOTATION_FILE,
            "tables": self.folder,
            "meerkat": self.label_folder,
        }[self.form]
        of_recordings = {line for lines in report.wrong.values() for line in lines}
        if everywhere := [line for line in report.problems if line not in of_recordings]:
            raise AnnotationError(place, everywhere)
        places = (f"{ANNOTATION_FOLDER}/", f"{LABEL_FOLDER}/")
        unused = [f"{name} is not read: {why}" for name, why in self.not_used() if name.startswith(places)]
        return Annotations(
            place, tuple(report.rows), frozenset(report.annotated), (*report.notices, *unused), report.wrong,
            frozenset(report.with_events), report.regions,
            None if report.written is None else tuple(report.written), report.weak, report.weak_written,
        )  # fmt: skip

    def read(self, progress: Progress | None = None, heard: Heard = FIRST) -> AnnotationReport:
        """Read all annotations and list everything that is wrong instead of raising it.

        `progress(done, total)` counts tables. Raises `ValueError` for a mapping file that is wrong.
        """
        mapped([], self.config, self.folder)  # a mapping that is wrong is told before anything is read
        if self.form == "meerkat":
            report = _read_meerkat(self)
        else:
            names = RecordingNames(self.audio_folder, self.names)
            report = read_tables(self.found.read, names, self.config, MEERKAT_CLASSES, progress, heard)
        found = self._read_regions(report)
        report.with_events = {row.file for row in report.rows}
        weak = self._weak_table(report)
        labels = weak.labels if weak else []
        if relabels(self.config):
            report.written = report.rows
            both: list[Annotation | WeakLabel] = [*report.rows, *labels]
            both, problems, notices = mapped(both, self.config, self.folder)
            report.rows = [row for row in both if isinstance(row, Annotation)]
            labels = [label for label in both if isinstance(label, WeakLabel)]
            report.problems += problems
            report.notices += notices
        self._put_regions(report, found)
        if weak is not None:
            report.weak_written = weak.written
            report.weak, notices = by_recording(weak, labels)
            report.notices += notices
        return report

    def _read_regions(self, report: AnnotationReport) -> list[dict[str, list[Interval]]]:
        """Which parts were annotated by tables of regions or a label, which then is no event any more."""
        found = []
        if self.config.region_label is not None:
            report.rows, marked = marked_regions(report.rows, self.config.region_label)
            found.append(marked)
        names = RecordingNames(self.audio_folder, self.names)
        for table in self._region_tables:
            listed, wrong = read_regions(table, partial(names.resolve, table_folder=table.parent), self.config.encoding)
            found += [listed] if listed or not wrong else []
            for name, line in wrong:
                report.add_problem(name, line)
        return found

    def _put_regions(self, report: AnnotationReport, found: list[dict[str, list[Interval]]]) -> None:
        """The regions, with those that a mapping made of other labels."""
        label = self.config.region_label
        if label is not None:
            report.rows, mapped_ones = marked_regions(report.rows, label)
            found = [*found, mapped_ones]
            if not any(found):
                report.problems.append(f"region_label: no event is labelled {label!r}; correct it or leave it out")
        if found:
            report.regions = {
                name: united(interval for each in found for interval in each.get(name, ()))
                for name in sorted(set().union(*found))
            }
            report.annotated |= report.regions.keys()

    def _weak_table(self, report: AnnotationReport) -> WeakTable | None:
        """The recording-level labels, if a table of them is named; what is wrong in it goes into the report."""
        path = self._weak_file
        if path is None:
            return None
        table = read_weak(path, RecordingNames(self.audio_folder, self.names), self.config)
        report.problems += table.problems
        report.notices += table.notices
        return table

    def read_files(self) -> list[Path]:
        """Every file whose content decides what is prepared."""
        audio = [self.audio_folder / name for name in self.names]
        named = (self._mapping_file, self._weak_file)
        beside = [path for path in named if path is not None] + self._region_tables
        if self.form != "meerkat":
            return [*audio, *[file.path for file in self.found.read], *beside]
        tables = [path for path in map(self.folder.joinpath, PREPARED_TABLES) if path.is_file()]
        return [*audio, *self.label_files(), *tables, *beside]

    def label_files(self) -> list[Path]:
        """MeerKAT's label files, sorted."""
        return _label_files(self.label_folder)

    def left_out(self) -> list[tuple[str, str]]:
        """Recordings whose format is not read, each with the reason and the way out."""
        return left_out_names(self.audio_folder, self.names)

    @property
    def _region_tables(self) -> list[Path]:
        # MeerKAT's segments may be 400 000, which to walk through takes long
        return region_tables(self.folder, self.config.regions, deep=self.form != "meerkat")

    @property
    def _mapping_file(self) -> Path | None:
        return mapping_file(self.config, self.folder)

    @property
    def _weak_file(self) -> Path | None:
        return weak_file(self.config, self.folder)


def open_source(folder: Path, annotations: AnnotationConfig | None = None) -> Source:
    """Find out which form a folder has, its recordings and its annotation tables.

    (a) recordings in `audio/` or in the folder itself, with `annotations.csv`, or with tables in `annotations/` or
    `lbl/` or beside the recordings (Raven, Audacity, TextGrid, BirdNET, ...), or those that `annotations.tables` names;
    with recording-level labels (`annotations.weak`) there may be none;
    (b) MeerKAT's wav/ and lbl/ with HDF5 label files. Sub-folders are searched; names that start with a point are left
    alone. Raises `ValueError` where the folder, its audio or its annotations are missing.
    """
    folder = Path(folder)
    config = annotations or AnnotationConfig()
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; it must hold recordings (audio/ and {ANNOTATION_FILE})")
    if (folder / JOURNAL).exists() and not (folder / PREPARED_META).exists():
        raise ValueError(f"{folder}: its preparation is not finished; run the same `a2v data prepare` again")
    wav = folder / "wav"
    if has_meerkats_layout(folder, config):
        source, missing = Source(folder, "meerkat", wav, recording_names(wav), config), None
    else:
        audio = next((folder / name for name in ("audio", "wav") if (folder / name).is_dir()), folder)
        names = recording_names(audio)
        found = find_tables(folder, audio, RecordingNames(audio, names), config)
        alone = [file.shown for file in found.read] == [ANNOTATION_FILE]
        source = Source(folder, "csv" if alone else "tables", audio, names, config, found)
        missing = None if found.read or config.weak else _no_tables(found, meerkat=audio == wav)
    if not source.names:
        suffixes = ", ".join(sorted(suffix.removeprefix(".") for suffix in AUDIO_SUFFIXES))
        raise ValueError(f"{source.audio_folder}: no audio in it; put recordings there ({suffixes})")
    if missing:
        raise ValueError(f"{folder}: {missing}")
    return source


def has_meerkats_layout(folder: Path, annotations: AnnotationConfig) -> bool:
    """Whether its labels are those in lbl/, one HDF5 file for a segment in wav/. Tables there, without such files, are
    tables; an empty lbl/ is one of a corpus in which nothing is labelled."""
    folders = (folder / "wav").is_dir() and (folder / LABEL_FOLDER).is_dir()
    if not folders or annotations.tables is not None or (folder / ANNOTATION_FILE).exists():
        return False
    return _holds(folder / LABEL_FOLDER, LABEL_SUFFIXES) or not (
        tables_in(folder / LABEL_FOLDER) or tables_in(folder / ANNOTATION_FOLDER)
    )


def _holds(folder: Path, endings: Sequence[str]) -> bool:
    """Whether any file below has one of these endings; stops at the first, for there may be 400 000."""
    return any(name.lower().endswith(tuple(endings)) for _, _, names in os.walk(folder) for name in names)


def _no_tables(found: FoundTables, meerkat: bool) -> str:
    if meerkat:
        return f"lbl/ with one HDF5 label file per segment is missing, and there is no {ANNOTATION_FILE} or other table"
    unused = "; ".join(f"{name} is {reason}" for name, reason in found.ignored[:3])
    return (
        f"{ANNOTATION_FILE} (file,onset_s,offset_s,label) is missing, and no other table is in {ANNOTATION_FOLDER}/ or "
        f"beside the recordings{f' ({unused})' if unused else ''}"
    )


def _label_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in LABEL_SUFFIXES and path.is_file())


def _read_meerkat(source: Source) -> AnnotationReport:
    report = AnnotationReport()
    used: set[Path] = set()
    for name in source.names:
        path = label_path(source.label_folder, name)
        if path is None:
            continue
        shown = path.relative_to(source.folder).as_posix()
        events, wrong = read_labels(path, name, shown)
        report.rows += events
        for line in wrong:
            report.add_problem(name, line)
        report.annotated.add(name)
        report.tables.append(ReadTable(shown, "meerkat", len(events), (name,)))
        used.add(path)
    for path in _label_files(source.label_folder):
        if path not in used:
            shown = path.relative_to(source.folder).as_posix()
            recording = path.relative_to(source.label_folder).with_suffix(".wav").as_posix()
            report.add_problem(
                recording, f"{shown}: its recording wav/{recording} does not exist; add it or remove the labels"
            )
    return report


def source_fingerprint(
    source: Path,
    cache: Path | None = None,
    annotations: AnnotationConfig | None = None,
    streams: Mapping[str, StreamConfig] | None = None,
) -> str:
    """Hex SHA-256 over the names and contents of every file that `pack` reads from `source`, tables of `streams` too.

    Contents are hashed once: `cache`, a JSON file, remembers a file's hash for as long as its path, size and
    modification time (ns) stay the same. A damaged cache is ignored. Raises `ValueError` as `open_source`
    does.
    """
    opened = open_source(Path(source), annotations)
    known = _read_cache(cache)
    paths = opened.read_files()
    if streams:
        paths += StreamFolder.find(opened.folder, opened.audio_folder, opened.names, streams).files
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        entries = list(pool.map(lambda path: _hash_entry(path, known), paths))
    total = hashlib.sha256()
    for path, (_, content) in zip(paths, entries, strict=True):
        inside = path.is_relative_to(opened.folder)
        name = os.fsencode(path.relative_to(opened.folder).as_posix() if inside else path.name)
        total.update(len(name).to_bytes(8, "little") + name + content.encode() + b"\n")
    if cache is not None:
        fresh = {os.path.abspath(path): entry for path, entry in zip(paths, entries, strict=True) if entry[0]}
        if any(known.get(path) != entry for path, entry in fresh.items()):
            write_text_aside(cache, json.dumps({**known, **fresh}))
    return total.hexdigest()


def _hash_entry(path: Path, known: dict[str, Entry]) -> Entry:
    """Stamp and content hash; without a stamp for what cannot be read, which is not cached."""
    try:
        state = path.stat()
        stamp = [state.st_size, state.st_mtime_ns]
        entry = known.get(os.path.abspath(path))
        if entry is not None and entry[0] == stamp:
            return entry
        digest = hashlib.sha256()
        check_regular(path)
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        return stamp, digest.hexdigest()
    except OSError:
        return None, "folder" if path.is_dir() else "unreadable"


def _read_cache(cache: Path | None) -> dict[str, Entry]:
    try:
        content = read_json(cache) if cache is not None else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {path: (entry[0], entry[1]) for path, entry in content.items() if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    match entry:
        case [[int(), int()], str()]:
            return True
    return False
