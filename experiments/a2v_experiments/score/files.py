"""The tables of events that `a2v evaluate` takes, of this project or another program, and their recordings.

`read_events`: one table, or a folder of them, becomes events, read and checked by `a2v_data` as for training. There are
no recordings beside them, so that a name stands as it is written, and a table that does not say to which recording a
row belongs belongs to the one it is named like (monday.BirdNET.selection.table.txt, monday.Table.1.selections.txt:
monday). Of a folder that `a2v predict` wrote, its table of all recordings is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotation_tables import NAMELESS, is_description
from a2v_data.annotations import Annotation, check_rows, table_problem
from a2v_data.class_mapping import mapped, mapping_file
from a2v_data.formats import PICKLE_SUFFIXES, read_table, suffixes
from a2v_data.formats.table import Table, TableError
from a2v_data.meerkat import MEERKAT_CLASSES
from a2v_data.outside import within

from ..basics.errors import UserError

SHOWN_PROBLEMS = 10
TABLE_ENDING = re.compile(r"((\.table\.\d+)?\.selections?|\.birdnet\.(selection\.table|results))$", re.IGNORECASE)
OPTIONS = re.compile(r"\b(label_column|default_label|point_duration|unmapped|(?<=with )tier)(_s)?\b")


@dataclass
class EventFiles:
    """All events; `silent`: recordings that were listened to and have none, in their order; `likelihood`: the column
    that ranks the events; `notices`: what a mapping did, a line each."""

    rows: list[Annotation] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    likelihood: str | None = None
    tables: int = 0
    notices: list[str] = field(default_factory=list)


class _AsWritten:
    """Names of recordings where no recordings are at hand."""

    def resolve(self, text: str, table_folder: Path) -> str | None:
        return text or None

    def missing(self, text: str | None) -> str:
        return "file is empty; name a recording"


def read_events(
    path: Path, config: AnnotationConfig | None = None, ranked: bool = True, prefix: str = ""
) -> EventFiles:
    """Read a table, or every table in a folder. Raises UserError naming each wrong row, the first ten.

    config: how to read them; its `tables` are not used. ranked: likelihoods are wanted, so that one that is wrong is
    told, and tables with and without them are not mixed. prefix: of the options that messages name.
    """
    config = config or AnnotationConfig()
    folder = path if path.is_dir() else path.parent
    tables = _tables(path, config)
    found = EventFiles(tables=len(tables))
    problems: list[str] = []
    columns = set()
    for file in tables:
        inside = file.relative_to(path) if path.is_dir() else Path(file.name)
        own = inside.with_name(TABLE_ENDING.sub("", file.stem)).as_posix()
        try:
            table = read_table(file, config, sidecar=True, classes=MEERKAT_CLASSES)
        except TableError as error:
            problems.append(table_problem(inside.as_posix(), error))
            continue
        _add(found, table, inside, own, config, ranked, problems)
        if not all(row.silent for row in table.rows):
            columns.add(table.likelihood)
    heard = dict.fromkeys([*(row.file for row in found.rows), *found.silent])
    if config.outside != "refuse":  # how long the recordings are, is not known here
        placed = within(found.rows, dict.fromkeys(heard, float("inf")), config.outside)
        found.rows, found.notices = placed.rows, placed.notices
    found.rows, unknown, merged = mapped(found.rows, config, folder)
    found.notices += merged
    with_events = {row.file for row in found.rows}
    found.silent = [name for name in heard if name not in with_events]
    problems += unknown
    if ranked and len(columns) > 1:
        named = " or ".join(sorted(str(column) for column in columns if column))
        problems.append(f"some tables have a column {named} and some have none or another one; give all the same")
    if problems:
        more = [f"... and {len(problems) - SHOWN_PROBLEMS} more"] if len(problems) > SHOWN_PROBLEMS else []
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        shown = [OPTIONS.sub(lambda name: _option(name, prefix), line) for line in problems[:SHOWN_PROBLEMS]]
        raise UserError("\n".join([f"{path}: {count}", *shown, *more]))
    if len(columns) == 1:
        found.likelihood = columns.pop()
    return found


def _add(
    found: EventFiles,
    table: Table,
    inside: Path,
    own: str,
    config: AnnotationConfig,
    ranked: bool,
    problems: list[str],
) -> None:
    """Put one table's events and silent recordings to the others; what is wrong goes to `problems`."""
    shown = inside.as_posix()
    rows = table.rows
    if ranked:
        rows = [
            replace(row, problems=(*row.problems, row.likelihood_problem)) if row.likelihood_problem else row
            for row in rows
        ]
    events, _, wrong = check_rows(rows, shown, inside.parent, _AsWritten(), own, config)
    problems += [f"{shown}, {problem}" for problem in table.problems] + [line for _, line in wrong]
    found.rows += events
    found.silent += [row.file or own for row in rows if row.silent]
    if not rows and table.format in (*NAMELESS, "meerkat"):
        found.silent.append(own)


def _option(name: re.Match[str], prefix: str) -> str:
    return f"--{prefix}{name[1].replace('_', '-')}"


def _tables(path: Path, config: AnnotationConfig) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; name a table of events, or a folder of them")
    if (path / "predict.json").is_file() and (path / "events.csv").is_file():
        return [path / "events.csv"]
    mapping = mapping_file(config, path)
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.name.startswith(".") and not is_description(file) and file != mapping
    ]
    endings = suffixes(config.format) - PICKLE_SUFFIXES
    tables = [file for file in files if file.suffix.lower() in endings]
    if not tables and config.format is None:  # beside other tables these may be anything
        tables = [file for file in files if file.suffix.lower() in {".json"} | PICKLE_SUFFIXES]
    if not tables:
        listed = ", ".join(sorted(endings))
        raise UserError(f"{path}: no table in it ({listed}); name a table of events, or a folder of them")
    return tables


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
