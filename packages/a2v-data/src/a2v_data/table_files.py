"""Which files of a source are its annotation tables, and which lie there and are none."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.audio import AUDIO_SUFFIXES
from a2v_data.formats import PARQUET_SUFFIXES, PICKLE_SUFFIXES, detect, suffixes
from a2v_data.formats.any_columns import COLUMNS
from a2v_data.formats.known_columns import has_label
from a2v_data.formats.side_files import READ_WHERE_NAMED, is_description, not_events
from a2v_data.formats.table import TableError, grid, looks_like_number, read_text
from a2v_data.recording_names import RecordingNames
from a2v_data.streams.folder import is_of_streams
from a2v_data.weak import weak_file

ANNOTATION_FILE = "annotations.csv"
ANNOTATION_FOLDER = "annotations"
REGION_FILE = "regions.csv"  # see `regions.py`
REVIEW_FILE = "review.json"  # what a review that was exported says of itself
LABEL_FOLDER = "lbl"
NAMELESS = ("audacity", "textgrid", "nips4bplus")  # formats that never say to which recording they belong
LABEL_SUFFIXES = (".h5", ".hdf5")  # of MeerKAT's label files
WORKBOOKS = (".xlsx", ".xls", ".ods", ".numbers")
OF_PREDICT = ("raven", "audacity", "csv", "parquet", "json")
LISTED = 3  # more files of one ending become one line
UNKNOWN = "not named like a recording, and no known table"


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


def find_tables(folder: Path, audio_folder: Path, names: RecordingNames, config: AnnotationConfig) -> FoundTables:
    """The tables of a source: those in `config.tables`; else `annotations.csv`; else everything in `annotations/` and
    `lbl/`, and beside the recordings what is named like one or is a known table. Raises `ValueError` where a table in
    `config.tables` does not exist."""
    inside = [folder / name for name in (ANNOTATION_FOLDER, LABEL_FOLDER)]
    if config.tables is not None:
        return _named_tables(folder, audio_folder, names, config)
    if (folder / ANNOTATION_FILE).is_file():
        reason = f"{ANNOTATION_FILE} is read instead; name what to read with tables"
        found = (TableFile(folder / ANNOTATION_FILE, ANNOTATION_FILE, ANNOTATION_FILE),)
        return FoundTables(found, tuple((f"{place.name}/", reason) for place in inside if place.is_dir()))
    read: list[TableFile] = []
    ignored: list[tuple[str, str]] = []
    for place in inside:
        _sort(_walk(place, place, folder, config), names, config, read, ignored)
        ignored += others_in(place, folder, suffixes(config.format), f"no {config.format} by its ending")
    beside = _walk(audio_folder, audio_folder, folder, config)
    if audio_folder != folder:
        beside += [table for table in _walk(folder, folder, folder, config) if "/" not in table.shown]
    for table in beside:
        if audio_folder == folder and any(table.path.is_relative_to(place) for place in inside):
            continue
        if table.path.suffix.lower() in PICKLE_SUFFIXES:
            read.append(table)
        elif recordings_of(table, names):
            _sort([table], names, config, read, ignored)
        elif unlike := _not_a_table(table.path, config):
            ignored.append((table.shown, unlike))
        else:
            read.append(table)
    return FoundTables(tuple(read), tuple(ignored))


def _sort(
    tables: Sequence[TableFile],
    names: RecordingNames,
    config: AnnotationConfig,
    read: list[TableFile],
    ignored: list[tuple[str, str]],
) -> None:
    """Put each of the files to those that are read, or to those that hold no events."""
    for table in tables:
        if reason := why_no_table(table.path, config, own=bool(recordings_of(table, names))):
            ignored.append((table.shown, reason))
        else:
            read.append(table)


def recordings_of(table: TableFile, names: RecordingNames) -> list[str]:
    """Recordings to which a table belongs by its name; `a2v predict` puts each format into a folder of its own."""
    if found := names.of_table(table.relative):
        return found
    first, _, rest = table.relative.partition("/")
    return names.of_table(rest) if first in OF_PREDICT and rest else []


def why_no_table(path: Path, config: AnnotationConfig, own: bool = False) -> str | None:
    """Why a file that is named like a table holds no events; None where it may be meant to hold some. own: it is named
    like a recording."""
    if path.suffix.lower() in PARQUET_SUFFIXES | PICKLE_SUFFIXES:
        return None
    try:
        known = not path.is_dir() and _known(path, read_text(path, config.encoding))
    except TableError:
        known = False
    return not_events(path, config, known and path.suffix.lower() != ".json", own)


def _known(path: Path, text: str) -> bool:
    """Whether a table has a known format; one with nothing but known times may be settings."""
    found = detect(path, text)
    return found != COLUMNS or has_label(grid(text)[0])


def others_in(place: Path, folder: Path, endings: frozenset[str], of_tables: str) -> list[tuple[str, str]]:
    """Files in a folder of annotations that have none of these endings, with why they are not read (`of_tables`: why
    tables are not); recordings and hidden files apart."""
    found: dict[str, list[Path]] = {}
    for parent, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            suffix = path.suffix.lower()
            if not name.startswith(".") and suffix not in endings | AUDIO_SUFFIXES:
                found.setdefault(suffix, []).append(path)
    named = []
    for suffix, paths in found.items():
        if len(paths) > LISTED:
            named.append((f"{_shown(place, folder)}/*{suffix} ({len(paths)} files)", _of_ending(suffix, of_tables)))
        else:
            named += [(_shown(path, folder), _of_ending(suffix, of_tables)) for path in paths]
    return named


def _of_ending(suffix: str, of_tables: str) -> str:
    if suffix in suffixes(None):
        return of_tables
    if suffix == ".json":
        return READ_WHERE_NAMED
    if suffix in WORKBOOKS:
        return "a workbook; save its sheet as CSV if it holds annotations"
    if suffix in LABEL_SUFFIXES:
        return "a label file as MeerKAT's, which are read from lbl/ beside wav/, and where no other tables are"
    return f"no table ({suffix or 'no ending'})"


def tables_in(place: Path) -> bool:
    """Whether any file below is named like a table."""
    return any(
        Path(name).suffix.lower() in suffixes(None) and not name.startswith(".")
        for _, _, names in os.walk(place)
        for name in names
    )


def _named_tables(folder: Path, audio_folder: Path, names: RecordingNames, config: AnnotationConfig) -> FoundTables:
    found: dict[Path, TableFile] = {}
    ignored: list[tuple[str, str]] = []
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
                read: list[TableFile] = []
                _sort(_walk(match, match, folder, config), names, config, read, ignored)
                found |= {table.path: table for table in read}
                continue
            beside = match.is_relative_to(audio_folder)
            relative = match.relative_to(audio_folder).as_posix() if beside else match.name
            table = TableFile(match, _shown(match, folder), relative)
            if len(matches) == 1:  # asked for by its name
                found[match] = table
                continue
            several: list[TableFile] = []
            _sort([table], names, config, several, ignored)
            found |= {one.path: one for one in several}
    if not found:
        more = f" ({ignored[0][0]}: {ignored[0][1]})" if ignored else ""
        raise ValueError(
            f"{', '.join(config.tables or ())}: no table in it{more}; put tables there, or name other ones"
        )
    return FoundTables(tuple(found.values()), tuple(ignored))


def _walk(root: Path, base: Path, folder: Path, config: AnnotationConfig) -> list[TableFile]:
    """Everything under `root` that is named like a table, folders too, so that they can be reported; no mapping, no
    regions, no recording-level labels and no streams."""
    wanted = suffixes(config.format)
    named = [*(folder / name for name in (config.mapping, config.regions) if name), weak_file(config, folder)]
    beside = {os.path.abspath(path) for path in named if path}
    found = []
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*folders, *files]):
            path = Path(parent, name)
            if (
                path.suffix.lower() in wanted
                and not name.startswith(".")
                and os.path.abspath(path) not in beside
                and name.lower() != REGION_FILE
                and not is_of_streams(_shown(path, folder))
            ):
                found.append(TableFile(path, _shown(path, folder), path.relative_to(base).as_posix()))
    return found


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _not_a_table(path: Path, config: AnnotationConfig) -> str | None:
    """Why a file that is not named like a recording holds no annotations; None where it seems to hold some."""
    if path.is_dir():
        return "a folder"
    if path.suffix.lower() in PARQUET_SUFFIXES:
        return None
    if is_description(path):
        return "a description"
    try:
        text = read_text(path, config.encoding)
        found = detect(path, text)
    except TableError:
        asked = config.named_times and not not_events(path, config, known=False)
        return None if asked else UNKNOWN
    if found in NAMELESS:
        return "not named like a recording, and it does not say to which it belongs"
    return UNKNOWN if found == COLUMNS and not config.named_times and not _complete(text) else None


def _complete(text: str) -> bool:
    """Whether a table of unknown origin beside recordings has a class, and times that are numbers: lists of dates and
    places have columns start and end, too."""
    header, body, _ = grid(text)
    cells = [row[at] for at, name in enumerate(header.plain) for _, row in body[:1] if at < len(row) and name]
    return has_label(header) and sum(map(looks_like_number, cells)) >= 2
