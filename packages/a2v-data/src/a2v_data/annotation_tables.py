"""The annotation tables of a source: which there are, what each holds, and what is wrong in them."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import Annotation, check_rows, table_problem
from a2v_data.audio import AudioError
from a2v_data.formats import PICKLE_SUFFIXES, detect, read_table, suffixes
from a2v_data.formats.table import TableError, read_text
from a2v_data.recording_names import RecordingNames, read_header
from a2v_data.weak import weak_file

ANNOTATION_FILE = "annotations.csv"
ANNOTATION_FOLDER = "annotations"
NAMELESS = ("audacity", "textgrid", "nips4bplus")  # formats that never say to which recording they belong
NO_TABLES = ("readme", "license", "licence", "copying", "citation")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TableFile:
    """One table: its path, how messages call it, and its name relative to the recordings (for matching)."""

    path: Path
    shown: str
    relative: str


@dataclass(frozen=True)
class FoundTables:
    """Tables that are read, and files that are not, with the reason."""

    read: tuple[TableFile, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ReadTable:
    """What one table held: format ('' where it could not be read), events, recordings that it names.

    own: the recording to which it belongs by its name; doubled: rows that show an event a second time; cut: analysis
    windows that passed the end of their recording.
    """

    shown: str
    format: str = ""
    events: int = 0
    recordings: tuple[str, ...] = ()
    own: str | None = None
    doubled: int = 0
    cut: int = 0


@dataclass
class AnnotationReport:
    """Everything that the tables of a source say: events, recordings that they name, those of which they name an event
    (one that a mapping drops too), one line per problem, and which of these lines are of one recording (`wrong`).
    weak: the classes of each recording that a table of recording-level labels names."""

    tables: list[ReadTable] = field(default_factory=list)
    rows: list[Annotation] = field(default_factory=list)
    annotated: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    with_events: set[str] = field(default_factory=set)
    weak: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add_problem(self, recording: str | None, line: str) -> None:
        """Note what is wrong, and of which recording it is where that is known."""
        self.problems.append(line)
        if recording is not None:
            self.wrong.setdefault(recording, []).append(line)


def find_tables(folder: Path, audio_folder: Path, names: RecordingNames, config: AnnotationConfig) -> FoundTables:
    """The tables of a source: those in `config.tables`; else `annotations.csv`; else everything in `annotations/`,
    and beside the recordings what is named like one or is a known table. Raises `ValueError` where a table in
    `config.tables` does not exist."""
    inside = folder / ANNOTATION_FOLDER
    if config.tables is not None:
        return FoundTables(tuple(_named_tables(folder, audio_folder, config)))
    if (folder / ANNOTATION_FILE).is_file():
        unused = ((f"{ANNOTATION_FOLDER}/", f"{ANNOTATION_FILE} is read instead; name what to read with tables"),)
        found = (TableFile(folder / ANNOTATION_FILE, ANNOTATION_FILE, ANNOTATION_FILE),)
        return FoundTables(found, unused if inside.is_dir() else ())
    read: list[TableFile] = []
    ignored: list[tuple[str, str]] = []
    for table in _walk(inside, inside, folder, config):
        if is_description(table.path):
            ignored.append((table.shown, "a description"))
        else:
            read.append(table)
    beside = _walk(audio_folder, audio_folder, folder, config)
    if audio_folder != folder:
        beside += [table for table in _walk(folder, folder, folder, config) if "/" not in table.shown]
    for table in beside:
        if audio_folder == folder and table.path.is_relative_to(inside):
            continue
        if names.of_table(table.relative) or table.path.suffix.lower() in PICKLE_SUFFIXES:
            read.append(table)
        elif reason := _not_a_table(table.path, config):
            ignored.append((table.shown, reason))
        else:
            read.append(table)
    return FoundTables(tuple(read), tuple(ignored))


def _named_tables(folder: Path, audio_folder: Path, config: AnnotationConfig) -> list[TableFile]:
    found: dict[Path, TableFile] = {}
    for pattern in config.tables or ():
        for base in (folder, Path()):
            matches = [Path(match) for match in sorted(glob.glob(str(base / pattern), recursive=True))]
            if (exact := base / pattern).exists():  # brackets in a name are no pattern
                matches = [exact]
            if matches:
                break
        if not matches:
            raise ValueError(f"{folder / pattern}: no such table; name a file, a folder or a pattern such as *.txt")
        for match in matches:
            if match.is_dir() and len(matches) == 1:
                found |= {table.path: table for table in _walk(match, match, folder, config)}
                continue
            beside = match.is_relative_to(audio_folder)
            relative = match.relative_to(audio_folder).as_posix() if beside else match.name
            found[match] = TableFile(match, _shown(match, folder), relative)
    if not found:
        raise ValueError(f"{', '.join(config.tables or ())}: no table in it; put tables there, or name other ones")
    return list(found.values())


def _walk(root: Path, base: Path, folder: Path, config: AnnotationConfig) -> list[TableFile]:
    """Everything under `root` that is named like a table, folders too, so that they can be reported; no
    mapping, nor recording-level labels."""
    wanted = suffixes(config.format)
    named = [folder / config.mapping if config.mapping else None, weak_file(config, folder)]
    others = {os.path.abspath(path) for path in named if path}
    found = []
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*folders, *files]):
            path = Path(parent, name)
            if path.suffix.lower() in wanted and not name.startswith(".") and os.path.abspath(path) not in others:
                found.append(TableFile(path, _shown(path, folder), path.relative_to(base).as_posix()))
    return found


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def is_description(path: Path) -> bool:
    """Whether a file beside tables is named as a text about them."""
    return path.stem.lower().startswith(NO_TABLES)


def _not_a_table(path: Path, config: AnnotationConfig) -> str | None:
    """Why a file that is not named like a recording holds no annotations; None where it seems to hold some."""
    if path.is_dir():
        return "a folder"
    if is_description(path):
        return "a description"
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return None
        found = detect(path, read_text(path, config.encoding))
    except TableError:
        return "not named like a recording, and no known table"
    if found in NAMELESS:
        return "not named like a recording, and it does not say to which it belongs"
    return None


def read_tables(
    tables: Sequence[TableFile],
    names: RecordingNames,
    config: AnnotationConfig,
    classes: Sequence[str],
    progress: Progress | None = None,
) -> AnnotationReport:
    """Read all tables; what is wrong in one is reported and the others are read."""
    report = AnnotationReport()
    for done, table in enumerate(tables, start=1):
        report.tables.append(_read(table, names, config, classes, report))
        if progress:
            progress(done, len(tables))
    report.notices += _notices(report.tables)
    return report


def _read(
    file: TableFile,
    names: RecordingNames,
    config: AnnotationConfig,
    classes: Sequence[str],
    report: AnnotationReport,
) -> ReadTable:
    """Read one table and add its events and what is wrong in it to the report."""
    fitting = names.of_table(file.relative) if file.path.name != ANNOTATION_FILE else []
    own = fitting[0] if len(fitting) == 1 else None
    try:
        table = read_table(file.path, _options(file, config), own is not None, classes)
        if own is None and table.rows and all(row.file is None for row in table.rows):
            raise TableError(_nobody(fitting))
    except TableError as error:
        report.add_problem(own, table_problem(file.shown, error))
        return ReadTable(file.shown)
    rows, annotated, problems = check_rows(table.rows, file.shown, file.path.parent, names, own, config)
    table_of = own
    if any(row.file for row in table.rows):
        own = table_of = None
    elif own is not None:
        annotated.add(own)
    cut = 0
    if table.windows:
        rows, cut = _clip_windows(rows, names.audio_folder)
    report.rows += rows
    report.annotated |= annotated
    for line in table.problems:
        report.add_problem(table_of, f"{file.shown}, {line}")
    for recording, line in problems:
        report.add_problem(recording, line)
    recordings = tuple(sorted(annotated))
    return ReadTable(file.shown, table.format, len(rows), recordings, own, table.doubled, cut)


def _notices(tables: Sequence[ReadTable]) -> list[str]:
    """One line for each thing worth knowing, however many tables it concerns."""
    notices = []
    if doubled := [table for table in tables if table.doubled]:
        rows = sum(table.doubled for table in doubled)
        notices.append(f"{_some(doubled)}: rows that show a selection in a second view or channel, not counted: {rows}")
    if cut := [table for table in tables if table.cut]:
        windows = sum(table.cut for table in cut)
        notices.append(f"{_some(cut)}: analysis windows that pass the end of their recording, cut there: {windows}")
    if empty := [table for table in tables if table.format and not table.events]:
        notices.append(f"{_some(empty)}: no event")
    by_recording: dict[str, list[str]] = {}
    for table in tables:
        if table.own is not None:
            by_recording.setdefault(table.own, []).append(table.shown)
    for recording, shown in by_recording.items():
        if len(shown) > 1:
            notices.append(f"{recording}: events of {len(shown)} tables put together ({', '.join(shown)})")
    return notices


def _some(tables: Sequence[ReadTable]) -> str:
    more = f" and {len(tables) - 1} more tables" if len(tables) > 1 else ""
    return f"{tables[0].shown}{more}"


def _options(file: TableFile, config: AnnotationConfig) -> AnnotationConfig:
    """`annotations.csv` is this project's CSV where its header does not say otherwise."""
    if config.format is not None or file.path.name != ANNOTATION_FILE:
        return config
    try:
        detect(file.path, read_text(file.path, config.encoding))
    except TableError:
        return config.model_copy(update={"format": "csv"})
    return config


def _nobody(recordings: Sequence[str]) -> str:
    if recordings:
        return f"its name fits {', '.join(recordings)}; it must fit one recording"
    return "does not say to which recording it belongs; name it like the recording (monday.wav: monday.txt)"


def _clip_windows(rows: list[Annotation], audio_folder: Path) -> tuple[list[Annotation], int]:
    """Windows end with their recording; the last one is filled up with silence by the program that wrote it."""
    ends: dict[str, float] = {}
    clipped = []
    cut = 0
    for row in rows:
        if row.file not in ends:
            try:
                ends[row.file] = read_header(audio_folder / row.file).duration_s
            except AudioError:  # reported where recordings are
                ends[row.file] = float("inf")
        if row.onset_s < ends[row.file] < row.offset_s:
            row = replace(row, offset_s=ends[row.file])
            cut += 1
        clipped.append(row)
    return clipped, cut


def overlapping_events(rows: Sequence[Annotation]) -> dict[str, int]:
    """How many events of each class start before an earlier one of their recording and class has ended."""
    found: Counter[str] = Counter()
    ends: dict[tuple[str, str], float] = {}
    for row in sorted(rows, key=lambda row: row.onset_s):
        end = ends.get((row.file, row.label), 0.0)
        found[row.label] += row.onset_s < end
        ends[row.file, row.label] = max(end, row.offset_s)
    return {label: count for label, count in sorted(found.items()) if count}


def events_per_class(rows: Sequence[Annotation]) -> list[tuple[str, int, float, int]]:
    """Class, events, seconds, and recordings that hold some; by class name."""
    events = Counter(row.label for row in rows)
    seconds = dict.fromkeys(events, 0.0)
    recordings: dict[str, set[str]] = {label: set() for label in events}
    for row in rows:
        seconds[row.label] += row.offset_s - row.onset_s
        recordings[row.label].add(row.file)
    return [(label, events[label], seconds[label], len(recordings[label])) for label in sorted(events)]
