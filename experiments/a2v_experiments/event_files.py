"""Tables of events, from this project or another program, as `a2v evaluate` takes them.

`read_events` is the one door: one table, or a folder of them, becomes rows with file, times, label and, where the table
has one, a likelihood. Formats: this project's tables (file,onset_s,offset_s,label as CSV, Parquet or JSON), Raven
selection tables, and BirdNET's selection tables and CSV, which may have likelihoods; and, without them, every other
that a2v_data reads (TextGrid, NIPS4Bplus, MeerKAT's fields as CSV or Parquet). Audacity's labels have them where
`a2v predict` wrote them (`cc 0.8731`). A table that does not say to which recording a row belongs belongs to the one it
is named like (monday.BirdNET.selection.table.txt, monday.Table.1.selections.txt: monday). Of a folder that
`a2v predict` wrote, its table of all recordings is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

from .errors import UserError

SHOWN_PROBLEMS = 10
SUFFIXES = (".csv", ".txt", ".tsv", ".textgrid", ".parquet", ".pq")
AUDACITY_LIKELIHOOD = re.compile(r"(.+) ([01]\.\d{4})")
TABLE_ENDING = re.compile(r"((\.table\.\d+)?\.selections?|\.birdnet\.(selection\.table|results))$", re.IGNORECASE)
LIKELIHOOD_COLUMNS = ("likelihood", "confidence", "score")
FORMATS = (  # columns by which a format is told, then its columns for file, onset, offset and label, first found first
    ("onset_s", ("file",), ("onset_s",), ("offset_s",), ("label",)),
    (
        "begin time (s)",
        ("begin path", "begin file"),
        ("file offset (s)", "begin time (s)"),
        ("end time (s)",),
        ("annotation", "label", "class", "call type", "type", "common name", "species", "species code", "tag"),
    ),
    ("start (s)", ("file",), ("start (s)",), ("end (s)",), ("common name", "scientific name", "label")),
)


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event; file as written, or the stem of a table that does not say; place: 'table.csv, row 3'."""

    file: str
    onset_s: float
    offset_s: float
    label: str
    likelihood: float | None
    place: str


@dataclass
class EventFiles:
    """All rows; `silent`: recordings with a row that holds their name alone; `likelihood`: the column it came from."""

    rows: list[EventRow] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    likelihood: str | None = None
    tables: int = 0


def read_events(path: Path) -> EventFiles:
    """Read a table, or every table in a folder. Raises UserError naming each wrong row, the first ten."""
    tables = _tables(path)
    found = EventFiles(tables=len(tables))
    problems: list[str] = []
    columns = set()
    for table in tables:
        inside = table.relative_to(path) if path.is_dir() else Path(table.name)
        own = inside.with_name(TABLE_ENDING.sub("", table.stem)).as_posix()
        column, rows, silent = _read_table(table, own, problems)
        found.rows += rows
        found.silent += silent
        if rows:
            columns.add(column)
    if len(columns) > 1:
        named = " or ".join(sorted(str(column) for column in columns if column))
        problems.append(f"some tables have a column {named} and some have none or another one; give all the same")
    if problems:
        more = [f"... and {len(problems) - SHOWN_PROBLEMS} more"] if len(problems) > SHOWN_PROBLEMS else []
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        raise UserError("\n".join([f"{path}: {count}", *problems[:SHOWN_PROBLEMS], *more]))
    found.likelihood = next(iter(columns), None)
    return found


def _tables(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; name a table of events, or a folder of them")
    if (path / "predict.json").is_file() and (path / "events.csv").is_file():
        return [path / "events.csv"]
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    tables = [p for p in files if p.suffix.lower() in SUFFIXES]
    if not tables:  # beside other tables it may be anything
        tables = [p for p in files if p.suffix.lower() == ".json"]
    if not tables:
        raise UserError(f"{path}: no table in it ({', '.join(SUFFIXES)}); name a table of events, or a folder of them")
    return tables


def _read_table(path: Path, own: str, problems: list[str]) -> tuple[str | None, list[EventRow], list[str]]:
    """The likelihood's column, the rows, and recordings named without an event; what is wrong goes to `problems`.

    own: the recording that the table is named like. Raven shows a selection once for each view; it is read once.
    """
    from a2v_data.annotations import table_problem
    from a2v_data.formats.table import TableError

    from .event_cells import JSON_SUFFIX, read_cells

    try:
        header, body = read_cells(path)
    except TableError as error:
        if path.suffix.lower() != JSON_SUFFIX:  # other formats may be read in another way, or say it again
            return _read_without_likelihoods(path, own, problems)
        problems.append(table_problem(path.name, error))
        return None, [], []
    if not {name.lower() for name in header} & {mark for mark, *_ in FORMATS}:
        return _read_without_likelihoods(path, own, problems)
    columns = _columns(path, header, problems)
    if columns is None:
        return None, [], []
    rows, silent = [], []
    seen = set()
    for number, cells in body:
        place = f"{path.name}, row {number}"
        if len(cells) != len(header):
            problems.append(f"{place}: {len(cells)} fields, the header has {len(header)}")
            continue
        found = _row(columns, cells, own, place, problems)
        if isinstance(found, EventRow):
            selection = (cells[columns.selection], *astuple(found)[:4]) if columns.selection is not None else place
            if selection not in seen:
                rows.append(found)
            seen.add(selection)
        elif found:
            silent.append(found)
    if columns.sequence and len({row.file for row in rows}) > 1:
        problems.append(f"{path.name}: several recordings but no column File Offset (s); add it in Raven")
    return columns.likelihood_name, rows, silent


def _read_without_likelihoods(
    path: Path, own: str, problems: list[str]
) -> tuple[str | None, list[EventRow], list[str]]:
    """A table in any other format of annotations; a likelihood may be in Audacity's labels only."""
    from a2v_data.annotation_config import AnnotationConfig
    from a2v_data.annotations import event_problems, table_problem
    from a2v_data.audio import AUDIO_SUFFIXES
    from a2v_data.formats import read_table
    from a2v_data.formats.table import TableError
    from a2v_data.meerkat import MEERKAT_CLASSES

    if path.stat().st_size == 0 and Path(own).suffix.lower() in AUDIO_SUFFIXES:
        return None, [], [own]  # a.wav.txt: a label track of a recording without events
    try:
        table = read_table(path, AnnotationConfig(), sidecar=True, classes=MEERKAT_CLASSES)
    except TableError as error:
        problems.append(table_problem(path.name, error))
        return None, [], []
    problems += [f"{path.name}, {problem}" for problem in table.problems]
    rows: list[EventRow] = []
    silent: list[str] = []
    for row in table.rows:
        file, place = row.file or own, f"{path.name}, {row.place}"
        if row.silent:
            silent.append(file)
            continue
        wrong = [*row.problems, *event_problems(row.onset_s, row.offset_s, row.label)]
        problems += [f"{place}: {problem}" for problem in wrong]
        if not wrong and row.onset_s is not None and row.offset_s is not None:
            rows.append(EventRow(file, row.onset_s, row.offset_s, row.label, None, place))
    if table.format == "audacity" and rows and (likely := _likelihoods_in_labels(rows)):
        return "likelihood", likely, silent
    return None, rows, silent if rows or silent else [own]


def _likelihoods_in_labels(rows: list[EventRow]) -> list[EventRow] | None:
    """The rows with likelihoods out of their labels, if every one has it."""
    matches = [AUDACITY_LIKELIHOOD.fullmatch(row.label) for row in rows]
    if not all(matches):
        return None
    return [
        replace(row, label=match[1], likelihood=float(match[2]))
        for row, match in zip(rows, matches, strict=True)
        if match is not None
    ]


@dataclass(frozen=True)
class _Columns:
    """Where a table has what. Raven's `begin` counts from the start of all recordings, `onset` from that of the own
    one; `sequence`: a selection table without that column."""

    file: int | None
    onset: int
    begin: int
    offset: int
    label: int
    selection: int | None
    likelihood: int | None
    likelihood_name: str | None
    sequence: bool


def _columns(path: Path, header: Sequence[str], problems: list[str]) -> _Columns | None:
    lower = [name.lower() for name in header]

    def find(names: Sequence[str]) -> int | None:
        return next((lower.index(name) for name in names if name in lower), None)

    for mark, file, onset, offset, label in FORMATS:
        if mark not in lower:
            continue
        begin_at, onset_at, offset_at, label_at = lower.index(mark), find(onset), find(offset), find(label)
        missing = [names[0] for names, at in ((offset, offset_at), (label, label_at)) if at is None]
        if onset_at is None or offset_at is None or label_at is None:
            problems.append(f"{path.name}, row 1: no column {', '.join(missing)} (the header has {', '.join(header)})")
            return None
        at = find(LIKELIHOOD_COLUMNS)
        sequence = mark == "begin time (s)" and onset_at == begin_at
        return _Columns(
            find(file), onset_at, begin_at, offset_at, label_at,
            selection=find(["selection"]), likelihood=at, likelihood_name=None if at is None else header[at],
            sequence=sequence,
        )  # fmt: skip
    raise AssertionError("the caller has found one of the marks in the header")


def _row(columns: _Columns, cells: list[str], own: str, place: str, problems: list[str]) -> EventRow | str | None:
    """The event; or the recording's name where there is nothing else in the row; None where it is wrong."""
    file = cells[columns.file] if columns.file is not None else own
    if not file:
        problems.append(f"{place}: no file; name the recording")
        return None
    if not any(cells[at] for at in (columns.onset, columns.offset, columns.label)):
        return file
    wrong: list[str] = []
    onset = _number("onset", cells[columns.onset] or cells[columns.begin], wrong)
    begin = _number("onset", cells[columns.begin], wrong) if columns.begin != columns.onset else onset
    end = _number("offset", cells[columns.offset], wrong)
    offset = end if onset is None or begin is None or end is None else end - (begin - onset)
    if onset is not None and onset < 0:
        wrong.append(f"onset {onset:g} is negative; seconds count from the recording's start")
    if onset is not None and offset is not None and offset <= onset:
        wrong.append(f"offset {offset:g} is not after onset {onset:g}; an event ends after it starts")
    if not cells[columns.label]:
        wrong.append("no label; name the class")
    likelihood = None
    if columns.likelihood is not None:
        likelihood = _number(str(columns.likelihood_name), cells[columns.likelihood], wrong)
        if likelihood is not None and likelihood < 0:
            wrong.append(f"{columns.likelihood_name} {likelihood:g} is negative; a likelihood is at least 0")
    problems += [f"{place}: {problem}" for problem in wrong]
    if wrong or onset is None or offset is None:
        return None
    return EventRow(file, onset, offset, cells[columns.label], likelihood, place)


def _number(name: str, text: str, wrong: list[str]) -> float | None:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        wrong.append(f"{name} is {text!r}; it must be a number")
        return None
    return value


class RecordingMatcher:
    """Finds recordings by what another table calls them: path, the end of a path, bare name, or name without ending."""

    def __init__(self, names: Sequence[str]) -> None:
        self._exact: dict[str, str] = {}
        for name in names:
            self._exact.setdefault(_tidy(name), name)
        self.names = list(self._exact.values())
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for name in self.names:
            bare = _tidy(name).rpartition("/")[2]
            self._by_name.setdefault(bare, []).append(name)
            self._by_stem.setdefault(bare.rpartition(".")[0] or bare, []).append(name)

    def find(self, text: str) -> str | None:
        """The recording, or None. Raises UserError where several would fit."""
        wanted = _tidy(text)
        if wanted in self._exact:
            return self._exact[wanted]
        bare = wanted.rpartition("/")[2]
        for index, key in ((self._by_name, bare), (self._by_stem, bare), (self._by_stem, bare.rpartition(".")[0])):
            fitting = index.get(key, [])
            if len(fitting) > 1:
                fitting = list(_same_end(wanted, fitting)) or fitting
            if len(fitting) > 1:
                raise UserError(f"{text!r} may be {' or '.join(fitting)}; write the path that tells them apart")
            if fitting:
                return fitting[0]
        return None


def _same_end(wanted: str, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        tidy = _tidy(name)
        if f"/{wanted}".endswith(f"/{tidy}") or f"/{tidy}".endswith(f"/{wanted}"):
            yield name


def _tidy(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")
