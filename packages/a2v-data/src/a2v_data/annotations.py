"""Annotations: which call, from when to when, in which recording; read from CSV with every wrong row named.

Rows are numbered as a spreadsheet or text editor shows them: the header is row 1. Times are seconds from the
start of the recording.
"""

import csv
import difflib
import math
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

REQUIRED_COLUMNS = ("file", "onset_s", "offset_s", "label")
SHOWN_PROBLEMS = 10
FOCAL_WORDS = {"1": True, "1.0": True, "true": True, "yes": True} | dict.fromkeys(
    ("0", "0.0", "false", "no", ""), False
)


class AnnotationError(ValueError):
    """Wrong annotations: every problem in `problems`, the first ten in the message, one per line."""

    def __init__(self, path: Path | str, problems: Sequence[str]) -> None:
        self.path, self.problems = path, list(problems)
        count = len(self.problems)
        lines = [
            f"{path}: {count} wrong annotation{'s' if count != 1 else ''}",
            *self.problems[:SHOWN_PROBLEMS],
        ]
        if count > SHOWN_PROBLEMS:
            lines.append(f"... and {count - SHOWN_PROBLEMS} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type, tuple[Path | str, list[str]]]:
        return type(self), (self.path, self.problems)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One event: `onset_s` to `offset_s` (seconds) in recording `file`; `where` is for messages."""

    file: str
    onset_s: float
    offset_s: float
    label: str
    focal: bool
    where: str


@dataclass(frozen=True)
class Annotations:
    """All events of a source; `annotated` are the recordings that were looked at (named by any row)."""

    path: Path
    rows: tuple[Annotation, ...]
    annotated: frozenset[str] = field(default_factory=frozenset)


def read_annotations(path: Path, audio_folder: Path) -> Annotations:
    """Read a CSV with the columns file, onset_s, offset_s, label and, where known, focal (1 or 0).

    `file` is a path relative to `audio_folder` or to the CSV's own folder; in the result it is relative to
    `audio_folder`. Further columns are ignored, empty lines too. Raises `AnnotationError` naming file and row
    for everything that is wrong, `ValueError` where the file is missing or is no UTF-8 text.
    """
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; annotations are a CSV with {','.join(REQUIRED_COLUMNS)}[,focal]"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            table = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; save the CSV as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{path}: not readable as CSV ({error})") from error
    names = _Names(path.parent, audio_folder)
    rows: list[Annotation] = []
    problems: list[str] = []
    for number, cells in table:
        where = f"{path.name}, row {number}"
        found = _parse_row(where, header, cells, names)
        if isinstance(found, Annotation):
            rows.append(found)
        else:
            problems += [f"{where}: {problem}" for problem in found]
    if problems:
        raise AnnotationError(path, problems)
    return Annotations(path, tuple(rows), frozenset(row.file for row in rows))


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    doubled = sorted(
        {name for name in header if header.count(name) > 1 and name in (*REQUIRED_COLUMNS, "focal")}
    )
    if missing:
        has = ", ".join(header) or "nothing"
        hint = "; the separator must be a comma" if len(header) == 1 and {";", "\t"} & set(header[0]) else ""
        wanted = ",".join(REQUIRED_COLUMNS)
        names = ", ".join(missing)
        raise AnnotationError(
            path,
            [f"{path.name}, row 1: no column {names} (the header has {has}); it must have {wanted}{hint}"],
        )
    if doubled:
        raise AnnotationError(path, [f"{path.name}, row 1: column {doubled[0]} twice; each may stand once"])


def _parse_row(where: str, header: list[str], cells: list[str], names: "_Names") -> Annotation | list[str]:
    """The annotation in one row, or what is wrong with it."""
    if len(cells) != len(header):
        return [f"{len(cells)} fields, the header has {len(header)}; decimals need a point, commas quotes"]
    row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    problems: list[str] = []
    onset_s = _seconds("onset_s", row["onset_s"], problems)
    offset_s = _seconds("offset_s", row["offset_s"], problems)
    problems += event_problems(onset_s, offset_s, row["label"])
    focal = FOCAL_WORDS.get(row.get("focal", "").lower())
    if focal is None:
        problems.append(f"focal is {row['focal']!r}; it must be 1 or 0")
    file = names.resolve(row["file"])
    if file is None:
        problems.append(names.missing(row["file"]))
    if problems or file is None or onset_s is None or offset_s is None:
        return problems
    return Annotation(file, onset_s, offset_s, row["label"], bool(focal), where)


def _seconds(name: str, text: str, problems: list[str]) -> float | None:
    try:
        value = float(text)
    except ValueError:
        problems.append(f"{name} is {text!r}; it must be a number of seconds")
        return None
    if not math.isfinite(value):
        problems.append(f"{name} is {text}; it must be a finite number of seconds")
        return None
    return value


def event_problems(onset_s: float | None, offset_s: float | None, label: str) -> list[str]:
    """What is wrong with one event by itself, whatever the form in which it was written."""
    problems = []
    if onset_s is not None and onset_s < 0:
        problems.append(
            f"onset_s is {onset_s:g}; it must not be negative (seconds from the recording's start)"
        )
    if onset_s is not None and offset_s is not None and offset_s <= onset_s:
        problems.append(
            f"offset_s {offset_s:g} is not after onset_s {onset_s:g}; an event ends after it starts"
        )
    if not label.strip():
        problems.append("label is empty; name the class, or remove the row")
    return problems


class _Names:
    """Finds the recording that a row means; answers are kept, since thousands of rows name the same file."""

    def __init__(self, csv_folder: Path, audio_folder: Path) -> None:
        self._folders = (audio_folder, csv_folder)
        self._audio_folder = audio_folder
        self._known: dict[str, str | None] = {}

    def resolve(self, text: str) -> str | None:
        if text not in self._known:
            self._known[text] = self._find(text)
        return self._known[text]

    def _find(self, text: str) -> str | None:
        if not text or "\0" in text:
            return None
        for spelling in (text, text.replace("\\", "/")):
            for folder in self._folders:
                name = Path(os.path.relpath(folder / spelling, self._audio_folder)).as_posix()
                try:
                    found = not name.startswith("..") and name != "." and (self._audio_folder / name).exists()
                except OSError:  # a name longer than the file system takes
                    found = False
                if found:
                    return name
        # Accents are stored composed or decomposed, depending on the system that wrote the name.
        composed = unicodedata.normalize("NFC", text.replace("\\", "/"))
        prefix = Path(os.path.relpath(self._audio_folder, self._folders[1])).as_posix() + "/"
        return self._listing.get(composed) or self._listing.get(composed.removeprefix(prefix))

    def missing(self, text: str) -> str:
        if not text:
            return "file is empty; name a recording"
        close = difflib.get_close_matches(text, self._listing, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "; correct the name or add the recording"
        return f"file {text!r} does not exist in {self._audio_folder}{hint}"

    @cached_property
    def _listing(self) -> dict[str, str]:
        """Composed (NFC) spelling -> recording name, by relative path and, where unique, by bare name."""
        by_path: dict[str, str] = {}
        by_name: dict[str, list[str]] = {}
        for folder, _, files in os.walk(self._audio_folder):
            for file in files:
                name = Path(os.path.relpath(os.path.join(folder, file), self._audio_folder)).as_posix()
                by_path[unicodedata.normalize("NFC", name)] = name
                by_name.setdefault(unicodedata.normalize("NFC", file), []).append(name)
        return {name: paths[0] for name, paths in by_name.items() if len(paths) == 1} | by_path
