"""Parquet tables with the columns of this project's CSV, MeerKAT's label fields, Raven or BirdNET, one event a row.

A pandas table can only be a pickle with code in it, so pickles are refused; Parquet holds nothing but values.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.documents import reason
from a2v_data.formats.any_columns import COLUMNS, column_rows, in_seconds
from a2v_data.formats.columns import MEERKAT_WANTED, birdnet_rows, csv_rows, meerkat_rows
from a2v_data.formats.headers import format_of
from a2v_data.formats.raven import raven_rows
from a2v_data.formats.table import Cells, Header, Table, TableError
from a2v_data.parquet_files import ParquetError, read_parquet_table

MOST_ROWS = 2_000_000  # a few bytes stand for any number of equal ones, and a row takes half a kilobyte of memory


def read_parquet(path: Path, config: AnnotationConfig, sidecar: bool, classes: Sequence[str]) -> Table:
    """Rows are counted from 1. A row whose cells are lists of one length stands for that many events."""
    header, body = load_cells(path)
    found = COLUMNS if config.named_times else format_of(header)
    if found not in (None, COLUMNS):
        in_seconds(config, str(found))
    if found == "meerkat":
        return meerkat_rows(header, body, config, classes, "")
    if found == "csv":
        return csv_rows(header, body, config, sidecar)
    if found == "raven":
        return raven_rows(header, body, config)
    if found == "birdnet":
        return birdnet_rows(header, body, config)
    if found == COLUMNS:
        return column_rows(header, body, config, sidecar)
    raise TableError(
        f"has the columns {header.listed}; it must have {MEERKAT_WANTED}, or file, onset_s, offset_s, label; or "
        "name its columns with onset_column, offset_column, label_column and file_column"
    )


def load_cells(path: Path) -> tuple[Header, Cells]:
    """Column names, and the cells of every row as text with its number. Raises `TableError`."""
    try:
        table = read_parquet_table(path, MOST_ROWS)
        names, columns = table.column_names, [column.to_pylist() for column in table.columns]
    except ParquetError as error:
        raise TableError(str(error)) from error
    except Exception as error:  # dates that Python has not, texts that are none
        raise TableError(f"is not readable as Parquet ({reason(error)}); export it again") from error
    body: Cells = []
    for number, values in enumerate(zip(*columns, strict=True), start=1):
        body += [(number, [_text(value) for value in event]) for event in _events(number, values)]
    return Header(names), body


def _events(number: int, values: Sequence[Any]) -> list[list[Any]]:
    lengths = {len(value) for value in values if isinstance(value, list)}
    if not lengths:
        return [list(values)]
    if len(lengths) > 1:
        raise TableError(f"row {number}: lists of {sorted(lengths)} entries; each must have one entry per event")
    count = lengths.pop()
    return [[value[at] if isinstance(value, list) else value for value in values] for at in range(count)]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
