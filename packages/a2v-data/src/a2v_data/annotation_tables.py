"""The annotation tables of a source: what each holds, and what is wrong in them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from a2v_data.analysis_windows import window_lengths
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import TOLERANCE_S, Annotation, check_rows, table_problem
from a2v_data.audio import AudioError, AudioInfo, read_info
from a2v_data.formats import detect, read_table
from a2v_data.formats.table import Table, TableError, read_text
from a2v_data.heard_channels import FIRST, Heard, channel_notices, in_heard_channel
from a2v_data.outside import window_cut
from a2v_data.recording_names import RecordingNames
from a2v_data.repeated_events import without_repeats
from a2v_data.table_files import ANNOTATION_FILE, TableFile, recordings_of

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ReadTable:
    """What one table held: format ('' where it could not be read), events, recordings that it names.

    own: the recording to which it belongs by its name; doubled: rows that show an event a second time; cut: analysis
    windows that passed an end of their recording; moved: events that began up to 5 ms before it. notices: what was
    taken for granted.
    """

    shown: str
    format: str = ""
    events: int = 0
    recordings: tuple[str, ...] = ()
    own: str | None = None
    doubled: int = 0
    cut: int = 0
    moved: int = 0
    notices: tuple[str, ...] = ()


@dataclass
class AnnotationReport:
    """Everything that the tables of a source say: events, recordings that they name, those of which they name an event
    (one that a mapping drops too), one line per problem, which of these lines are of one recording (`wrong`), and which
    parts of the recordings were annotated (None: all that there is).

    written: the events with the labels that stand in the tables, where these became other ones. weak: the classes of
    each recording that a table of recording-level labels names; weak_written: its labels as they stand there."""

    tables: list[ReadTable] = field(default_factory=list)
    rows: list[Annotation] = field(default_factory=list)
    annotated: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    with_events: set[str] = field(default_factory=set)
    regions: dict[str, list[tuple[float, float]]] | None = None
    written: list[Annotation] | None = None
    weak: dict[str, tuple[str, ...]] = field(default_factory=dict)
    weak_written: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add_problem(self, recording: str | None, line: str) -> None:
        """Note what is wrong, and of which recording it is where that is known."""
        self.problems.append(line)
        if recording is not None:
            self.wrong.setdefault(recording, []).append(line)


@dataclass(frozen=True)
class _Opened:
    """One table before its rows are checked; own: the recording that it is named like."""

    file: TableFile
    own: str | None
    table: Table


def read_tables(
    tables: Sequence[TableFile],
    names: RecordingNames,
    config: AnnotationConfig,
    classes: Sequence[str],
    progress: Progress | None = None,
    heard: Heard = FIRST,
) -> AnnotationReport:
    """Read all tables; what is wrong in one is reported and the others are read.

    heard: the channels that are read of recordings; what was marked in others is counted in a notice. An event that
    stands in two tables counts once.
    """
    report = AnnotationReport()
    opened = []
    for done, file in enumerate(tables, start=1):
        opened.append(_open(file, names, config, classes, report))
        if progress:
            progress(done, len(tables))
    good = [one for one in opened if one is not None]
    lengths = window_lengths([one.table for one in good])
    windows = {id(one): length for one, length in zip(good, lengths, strict=True)}
    headers = _Headers(names)
    read: list[tuple[str, list[Annotation]]] = []
    others: list[Annotation] = []
    for file, one in zip(tables, opened, strict=True):
        if one is None:
            report.tables.append(ReadTable(file.shown))
            continue
        rows, told, not_heard = _check(one, names, config, windows[id(one)], heard, headers, report)
        report.tables.append(told)
        read.append((file.shown, rows))
        others += not_heard
    kept, repeated = without_repeats(read)
    report.rows = [row for rows in kept for row in rows]
    report.notices += [*channel_notices(others, heard, headers.channels), *repeated, *_notices(report.tables)]
    return report


def _open(
    file: TableFile, names: RecordingNames, config: AnnotationConfig, classes: Sequence[str], report: AnnotationReport
) -> _Opened | None:
    fitting = recordings_of(file, names) if file.path.name != ANNOTATION_FILE else []
    own = fitting[0] if len(fitting) == 1 else None
    try:
        table = read_table(file.path, _options(file, config), own is not None, classes)
        if own is None and table.rows and all(row.file is None for row in table.rows):
            raise TableError(_nobody(fitting))
    except TableError as error:
        report.add_problem(own, table_problem(file.shown, error))
        return None
    return _Opened(file, own, table)


def _check(
    one: _Opened,
    names: RecordingNames,
    config: AnnotationConfig,
    window_s: float | None,
    heard: Heard,
    headers: "_Headers",
    report: AnnotationReport,
) -> tuple[list[Annotation], ReadTable, list[Annotation]]:
    """The events of one table in the channels that are read, what is told of it, and its events in other channels."""
    file, own, table = one.file, one.own, one.table
    checked = check_rows(table.rows, file.shown, file.path.parent, names, own, config, window_s)
    table_of = own
    rows, others = in_heard_channel(checked.rows, heard)
    annotated = checked.silent | {row.file for row in rows}
    if any(row.file for row in table.rows):
        own = table_of = None
    elif own is not None and (rows or not others):
        annotated.add(own)
    rows, cut = _clipped(rows, window_s if config.point_duration_s is None else config.point_duration_s, headers)
    report.annotated |= annotated
    for line in table.problems:
        report.add_problem(table_of, f"{file.shown}, {line}")
    for recording, line in checked.problems:
        report.add_problem(recording, line)
    told = ReadTable(
        file.shown, table.format, len(rows), tuple(sorted(annotated)), own, table.doubled, cut + checked.cut,
        checked.moved, tuple(table.notices),
    )  # fmt: skip
    return rows, told, others


def _notices(tables: Sequence[ReadTable]) -> list[str]:
    """One line for each thing worth knowing, however many tables it concerns."""
    notices = []
    if doubled := [table for table in tables if table.doubled]:
        rows = sum(table.doubled for table in doubled)
        notices.append(f"{_some(doubled)}: rows that show a selection in a second view or channel, not counted: {rows}")
    if cut := [table for table in tables if table.cut]:
        windows = sum(table.cut for table in cut)
        notices.append(f"{_some(cut)}: analysis windows that pass the end of their recording, cut there: {windows}")
    if moved := [table for table in tables if table.moved]:
        events = sum(table.moved for table in moved)
        notices.append(f"{_some(moved)}: events that start up to 5 ms before their recording, begin with it: {events}")
    said: dict[str, list[ReadTable]] = {}
    for table in tables:
        for line in table.notices:
            said.setdefault(line, []).append(table)
    notices += [f"{_some(of)}: {line}" for line, of in said.items()]
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


class _Headers:
    """What is known of recordings, each read once; one that cannot be read is endless here, and reported where
    recordings are."""

    def __init__(self, names: RecordingNames) -> None:
        self._folder = names.audio_folder
        self._known: dict[str, AudioInfo | None] = {}

    def end_s(self, recording: str) -> float:
        info = self._of(recording)
        return float("inf") if info is None else info.duration_s

    def channels(self, recording: str) -> int | None:
        info = self._of(recording)
        return None if info is None else info.channels

    def _of(self, recording: str) -> AudioInfo | None:
        if recording not in self._known:
            try:
                self._known[recording] = read_info(self._folder / recording)
            except AudioError:
                self._known[recording] = None
        return self._known[recording]


def _clipped(rows: list[Annotation], window_s: float | None, headers: _Headers) -> tuple[list[Annotation], int]:
    """Windows end with their recording, and how many were cut there."""
    if window_s is None:
        return rows, 0
    clipped = [window_cut(row, window_s, headers.end_s(row.file)) for row in rows]
    cut = sum(old.offset_s > new.offset_s + TOLERANCE_S for old, new in zip(rows, clipped, strict=True))
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
