"""What every reader returns: rows as a table has them, with numbers where they are numbers, not yet checked.

Rows are counted as a spreadsheet or text editor shows them: the first line is row 1.
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from a2v_data.storage import check_regular

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
LIKELIHOOD_COLUMNS = ("likelihood", "confidence", "score")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
CAMELS = re.compile(r"[A-Za-z][a-z]+([A-Z][a-z]+)+")
MOST_BYTES = 1 << 29  # of a text table: a million rows have a tenth of it
MOST_ROWS = 5_000_000  # a row takes half a kilobyte of memory, however short it is
Cells = list[tuple[int, list[str]]]  # (row number, fields) of each row that is not empty


class TableError(ValueError):
    """A table cannot be read at all; one line, without the table's name."""


@dataclass(frozen=True, slots=True)
class Row:
    """One event as its table has it.

    place: 'row 3', for messages; file: the recording as written, None where the table does not say; onset_s and
    offset_s: seconds from the recording's start, None where that was no number (then `problems` says so); silent:
    the recording was listened to and holds no call. likelihood: where the table has a column for it; what is wrong
    with it, `likelihood_problem` says, apart from `problems`, since labels do not need it. channels: in which of the
    recording's channels it is marked, counted from 1 as Raven does; None: the table does not say. in_samples: its times
    are samples of its recording, not seconds. band_hz: its lowest and highest frequency, where the table has them.
    """

    place: str
    file: str | None
    onset_s: float | None
    offset_s: float | None
    label: str
    focal: str = ""
    problems: tuple[str, ...] = ()
    silent: bool = False
    likelihood: float | None = None
    likelihood_problem: str = ""
    channels: frozenset[int] | None = None
    in_samples: bool = False
    band_hz: tuple[float, float] | None = None


@dataclass
class Table:
    """Rows of one table, and one line ('row 3: ...') for each that is none.

    doubled: rows that show an event a second time and are not read. windows: its events are analysis windows, the
    last of which may pass the recording's end. likelihood: name of the column that the rows' likelihoods are from.
    notices: what was taken for granted, a line each.
    """

    format: str
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    doubled: int = 0
    windows: bool = False
    likelihood: str | None = None
    notices: list[str] = field(default_factory=list)


def read_text(path: Path, encoding: str | None = None) -> str:
    """A text table's content. Raises `TableError` for what is no text, a folder, or not there."""
    if path.is_dir():
        raise TableError("is a folder, not a table; rename it")
    try:
        check_regular(path)
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise TableError(f"cannot be read ({error.strerror}); check that it exists and may be read") from error
    if len(data) > MOST_BYTES:
        raise TableError(f"is larger than {MOST_BYTES >> 20} MB, too large for a table; divide it")
    return decode(data, encoding)


def decode(data: bytes, encoding: str | None = None) -> str:
    """Text from a table's bytes: UTF-8, UTF-16 with a byte order mark, or `encoding`. Raises `TableError`."""
    if encoding is None:
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        encoding = "utf-16" if utf16 else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeError as error:
        name = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
        row = data[: getattr(error, "start", len(data))].count(b"\n") + 1
        raise TableError(f"row {row}: not {name}; save it as UTF-8, or name its encoding (Windows: cp1252)") from error
    if "\0" in text:
        raise TableError("holds NUL bytes, it is no text; export it again as UTF-8 text")
    return text


def cells(text: str, delimiter: str, quoted: bool) -> Cells:
    """Fields of every row that is not empty, stripped; `quoted`: as CSV has it, else quotes are plain characters."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    try:
        found = [(reader.line_num, [cell.strip() for cell in row]) for row in islice(reader, MOST_ROWS + 1)]
    except csv.Error as error:
        raise TableError(f"row {reader.line_num}: not readable ({error}); export it again") from error
    if len(found) > MOST_ROWS:
        raise TableError(f"has more than {MOST_ROWS} rows; divide it")
    return [(number, row) for number, row in found if any(row)]


def grid(text: str, quoted: bool | None = None) -> "tuple[Header, Cells, str]":
    """Header, rows and delimiter: tabs where the first line has one, else the more frequent of commas and semicolons.

    quoted: None: with commas and semicolons, and with tabs where the header is quoted (R writes so, Raven does not).
    Row names, which R writes without a name in the header, become a column without a name.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = delimiter_of(first)
    plain = delimiter == "\t" and not first.startswith('"')
    rows = cells(text, delimiter, quoted=not plain if quoted is None else quoted)
    names, body = (rows[0][1], rows[1:]) if rows else ([], [])
    quoted_names = first.startswith('"') and all(len(row) == len(names) + 1 for _, row in body)
    if body and quoted_names and len({row[0] for _, row in body}) == len(body):
        names = ["", *names]
    return Header(names), body, delimiter


def delimiter_of(first: str) -> str:
    """What separates the columns of a table with this first line."""
    if "\t" in first:
        return "\t"
    bare = re.sub(r'"[^"]*"', "", first)
    return ";" if bare.count(";") > bare.count(",") else ","


def plain_name(name: str) -> str:
    """A column's name without the signs that programs change: R makes 'Begin.Time..s.' of 'Begin Time (s)', others
    'begin_time_s'."""
    if CAMELS.fullmatch(name):  # startTime, FileName
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


class Header:
    """Column names of a table; found whatever their case, and as R and others write them (`plain_name`)."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = [name.strip() for name in names]
        self._lower = [name.lower() for name in self.names]
        self.plain = [plain_name(name) for name in self.names]

    @property
    def listed(self) -> str:
        return ", ".join(name for name in self.names if name) or "nothing"

    def find(self, *wanted: str) -> int | None:
        """Position of the first of `wanted` that there is. Raises `TableError` where that one stands twice."""
        for name in wanted:
            for names, this in ((self._lower, name.lower()), (self.plain, plain_name(name))):
                if (count := names.count(this)) > 1 and this:
                    raise TableError(f"row 1: column {name} twice; each may stand once")
                if count and this:
                    return names.index(this)
        return None

    def likelihood(self) -> int | None:
        """Position of the column that ranks the events; the first one, since labels do not need it."""
        return next((self._lower.index(name) for name in LIKELIHOOD_COLUMNS if name in self._lower), None)

    def need(self, *wanted: str, fix: str) -> int:
        """As `find`; `TableError` with `fix` (what would be right) where there is none."""
        found = self.find(*wanted)
        if found is None:
            raise TableError(f"row 1: no column {' or '.join(wanted)} (the header has {self.listed}); {fix}")
        return found

    def label(self, chosen: str | None, known: Sequence[str], rows: Cells) -> int | None:
        """The column that holds the class: the chosen one, or the only known one that is not empty.

        None where there is none. Raises `TableError` where the chosen one is missing or several would do.
        """
        if chosen is not None:
            return self.need(chosen, fix="name the column that holds the class")
        there = list(dict.fromkeys(at for name in known if (at := self.find(name)) is not None))
        filled = [at for at in there if any(at < len(row) and row[at] for _, row in rows)]
        if len(filled) > 1:
            names = " and ".join(self.names[at] for at in filled)
            raise TableError(f"row 1: columns {names} may all hold the class; choose one with label_column")
        return next(iter(filled or there), None)


def whole_rows(body: Cells, header: Header, delimiter: str) -> tuple[Cells, list[str]]:
    """Rows with as many fields as the header, and a line for each of the others."""
    whole, problems = [], []
    fix = "decimals need a point, commas quotes" if delimiter == "," else "the row is cut off, or a tab is in it"
    for number, row in body:
        if len(row) == len(header.names):
            whole.append((number, row))
        else:
            problems.append(f"row {number}: {len(row)} fields, the header has {len(header.names)}; {fix}")
    return whole, problems


def with_points(body: Cells, delimiter: str) -> Cells:
    """Rows whose decimal commas are points, where semicolons separate the fields: so spreadsheets write in countries
    with decimal commas, and there a comma can be nothing else."""
    if delimiter != ";":
        return body
    return [
        (number, [cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell for cell in row])
        for number, row in body
    ]


def channel_of(text: str) -> int | None:
    """A field as the number of a channel, as it is written; None where it holds none."""
    number = text.removesuffix(".0")
    return int(number) if number.isascii() and number.isdecimal() else None


def channels_of(texts: Sequence[str], first: int | None) -> list[int | None]:
    """A column's channels, counted from 1. first: what the table calls the first one; None: 0 where that occurs, else
    1."""
    numbers = [channel_of(text) for text in texts]
    if first is None:
        first = 0 if 0 in numbers else 1
    return [None if number is None else number + 1 - first for number in numbers]


def seconds(name: str, text: str | float, problems: list[str]) -> float | None:
    """A field as seconds; None, with a line in `problems`, where it is no finite number."""
    try:
        value = float(text)
    except ValueError:
        decimals = isinstance(text, str) and DECIMAL_COMMA.fullmatch(text)
        fix = "decimals need a point, not a comma" if decimals else "it must be a number of seconds"
        problems.append(f"{name} is {text!r}; {fix}")
        return None
    if not math.isfinite(value):
        problems.append(f"{name} is {text}; it must be a finite number of seconds")
        return None
    return value


def likelihood_of(header: Header, at: int | None, row: Sequence[str]) -> tuple[float | None, str]:
    """The likelihood in column `at` (None: there is none) of a row, and what is wrong with it ('': nothing)."""
    if at is None:
        return None, ""
    problems: list[str] = []
    value = seconds(header.names[at], row[at], problems)
    if value is None:
        return None, f"{header.names[at]} is {row[at]!r}; it must be a number"
    if value < 0:
        return None, f"{header.names[at]} {value:g} is negative; a likelihood is at least 0"
    return value, ""


def looks_like_number(text: str) -> bool:
    """Whether a field was meant as a number, with a decimal comma too."""
    return bool(NUMBER.fullmatch(text) or DECIMAL_COMMA.fullmatch(text))
