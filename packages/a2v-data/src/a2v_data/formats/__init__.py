"""The formats in which annotations come, and how a table's format is told from its name and content."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from a2v_data.annotation_config import AnnotationConfig, Format
from a2v_data.audio import AUDIO_SUFFIXES
from a2v_data.formats.any_columns import COLUMNS, in_seconds, read_columns
from a2v_data.formats.columns import MEERKAT_WANTED, read_birdnet, read_csv, read_meerkat_table
from a2v_data.formats.headers import Found, format_of, has_points
from a2v_data.formats.json_events import read_json
from a2v_data.formats.known_columns import NAME_THEM
from a2v_data.formats.lines import NIPS4BPLUS_NAME, read_audacity, read_nips4bplus
from a2v_data.formats.parquet import read_parquet
from a2v_data.formats.raven import read_raven
from a2v_data.formats.table import Row, Table, TableError, grid, looks_like_number, read_text
from a2v_data.formats.textgrid import read_textgrid

__all__ = ["PICKLE_SUFFIXES", "TABLE_SUFFIXES", "detect", "read_table"]

PICKLE_SUFFIXES = frozenset({".pkl", ".pickle"})
PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
TEXT_SUFFIXES: dict[Format, frozenset[str]] = {
    "csv": frozenset({".csv"}),
    "raven": frozenset({".txt", ".tsv", ".csv"}),
    "audacity": frozenset({".txt"}),
    "textgrid": frozenset({".textgrid"}),
    "birdnet": frozenset({".csv", ".txt", ".tsv"}),
    "nips4bplus": frozenset({".csv"}),
    "meerkat": frozenset({".csv", ".tsv"}),
    "json": frozenset({".json"}),
}
TABLE_SUFFIXES = frozenset().union(*TEXT_SUFFIXES.values(), PARQUET_SUFFIXES, PICKLE_SUFFIXES) - TEXT_SUFFIXES["json"]
MAY_BE_EMPTY = ("audacity", "nips4bplus", "csv")  # the first two have no header; of the last, the header is missed
HEADERLESS = ("audacity", "textgrid", "nips4bplus", "json")
NO_CALLS = ("nocall", "no call", "no_call")
EMPTY = "is empty; export it again (with format audacity it says that its recording holds no call)"


def suffixes(wanted: Format | None) -> frozenset[str]:
    """Endings of the tables that may have a format, in lower case; pickles included, so that they are reported. JSON
    may be anything (settings, mostly), so it is a table only where that format or the file is named."""
    if wanted is None:
        return TABLE_SUFFIXES
    parquet = PARQUET_SUFFIXES | PICKLE_SUFFIXES if wanted in ("csv", "meerkat") else frozenset()
    return TEXT_SUFFIXES[wanted] | parquet


def read_table(path: Path, config: AnnotationConfig, sidecar: bool, classes: Sequence[str] = ()) -> Table:
    """Read one table. sidecar: it belongs to one recording by its name, so it need not say which; classes: names
    for the numbers in MeerKAT's `lbl_cat`. Raises `TableError` for what cannot be read as a whole.

    'nocall' is no event: BirdNET and others write it for a recording in which nothing called.
    """
    table = _read(path, config, sidecar, classes)
    table.rows = [_without_no_call(row) for row in table.rows]
    return table


def _without_no_call(row: Row) -> Row:
    if row.label.lower() not in NO_CALLS:
        return row
    return replace(row, onset_s=None, offset_s=None, label="", problems=(), silent=True, likelihood_problem="")


def _read(path: Path, config: AnnotationConfig, sidecar: bool, classes: Sequence[str]) -> Table:
    suffix = path.suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        raise TableError(
            "a pickle can run code and is never opened; export it from pandas as Parquet or CSV "
            f"(df.to_parquet('{path.stem}.parquet', index=False)) with the columns {MEERKAT_WANTED}"
        )
    if suffix in PARQUET_SUFFIXES:
        if path.is_dir():
            raise TableError("is a folder, not a table; rename it")
        return read_parquet(path, config, sidecar, classes)
    text = read_text(path, config.encoding)
    found = _wanted(path, text, config)
    if not text.strip() and found not in MAY_BE_EMPTY:
        raise TableError(EMPTY)
    if found not in ("json", COLUMNS):
        in_seconds(config, found)
    match found:
        case "csv":
            return read_csv(text, config, sidecar)
        case "raven":
            return read_raven(text, config)
        case "birdnet":
            selections = "begin time (s)" in text.partition("\n")[0].lower()
            return read_raven(text, config) if selections else read_birdnet(text, config)
        case "audacity":
            return read_audacity(text)
        case "nips4bplus":
            return read_nips4bplus(text)
        case "textgrid":
            return read_textgrid(text, config)
        case "meerkat":
            return read_meerkat_table(text, config, classes)
        case "json":
            return read_json(text, config, sidecar)
        case _:
            return read_columns(text, config, sidecar)


def _wanted(path: Path, text: str, config: AnnotationConfig) -> Found:
    """The format that is asked for, else that of the table. Where columns of times are named, every table with a header
    is read by these names."""
    try:
        found: Found = config.format or detect(path, text)
    except TableError:
        if not (config.named_times or (config.point_duration_s is not None and has_points(text))):
            raise
        if not text.strip():
            raise
        return COLUMNS
    return COLUMNS if config.named_times and found not in HEADERLESS else found


def detect(path: Path, text: str) -> Found:
    """A text table's format, from its name and first line. Raises `TableError` where it is none of those known."""
    if NIPS4BPLUS_NAME.fullmatch(path.name):
        return "nips4bplus"
    if path.suffix.lower() == ".json":
        return "json"
    if not text.strip() and path.suffix.lower() == ".txt" and Path(path.stem).suffix.lower() in AUDIO_SUFFIXES:
        return "audacity"  # a.wav.txt: the label track of a recording without events
    if path.suffix.lower() == ".textgrid" or text.lstrip().startswith(('File type = "oo', "ooBinaryFile")):
        return "textgrid"
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first and (found := format_of(grid(first, quoted=None)[0])):
        return found
    start, _, rest = first.partition("\t")
    if looks_like_number(start.strip()) and looks_like_number(rest.partition("\t")[0].strip()):
        return "audacity"
    raise TableError(_unknown(first))


def _unknown(first: str) -> str:
    if not first:
        return EMPTY
    shown = first.strip()
    shown = repr(shown if len(shown) <= 60 else shown[:57] + "...")
    if all(looks_like_number(part) for part in first.replace(",", " ").replace(";", " ").split()[:2]):
        if ";" in first:
            return f"row 1 is {shown}; the separator must be a comma (CSV) or a tab (Raven, Audacity)"
        return f"row 1 is {shown}, numbers without a header; add onset_s,offset_s,label, or name the format"
    return f"row 1 is {shown}, the header of no known format; {NAME_THEM}"
