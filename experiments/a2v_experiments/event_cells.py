"""The cells of a table of events as text, whatever file they come in: CSV or tabs, Parquet, JSON.

JSON: what `a2v predict` writes, {"file": ..., "events": [{"onset_s": ...}]}, or several of these under "recordings";
or a list of rows with their file, as other programs write tables.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from a2v_data.formats.parquet import load_cells
from a2v_data.formats.table import TableError, read_text

PARQUET_SUFFIXES = (".parquet", ".pq")
JSON_SUFFIX = ".json"
Cells = tuple[list[str], Iterator[tuple[int, list[str]]]]


def read_cells(path: Path) -> Cells:
    """The header, and (number of the row, its cells). Raises TableError for what cannot be read as a whole."""
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        header, body = load_cells(path)
        return header.names, iter(body)
    text = read_text(path)
    if suffix == JSON_SUFFIX:
        return _of_json(text)
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header_cells = [name.strip() for name in next(reader, [])]
    rows = ((reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
    return header_cells, ((number, cells) for number, cells in rows if any(cells))


def _of_json(text: str) -> Cells:
    wanted = "must be a list of events with file, onset_s, offset_s and label, or hold recordings with events"
    try:
        tree: Any = json.loads(text)
    except ValueError as error:
        raise TableError(f"is not readable as JSON ({error}); export it again") from error
    rows = list(_rows(tree))
    if not all(isinstance(row, Mapping) for row in rows) or not (rows or isinstance(tree, dict)):
        raise TableError(wanted)
    header = list(dict.fromkeys(key for row in rows for key in row)) or ["file", "onset_s", "offset_s", "label"]
    if rows and "onset_s" not in header and "label" not in header and set(header) != {"file"}:
        raise TableError(wanted)
    for name in ("onset_s", "offset_s", "label"):
        header += [] if name in header else [name]
    cells = ([_text(row.get(key)) for key in header] for row in rows)
    return [str(key) for key in header], enumerate(cells, start=1)


def _rows(tree: Any) -> Iterator[Any]:
    if isinstance(tree, Mapping) and isinstance(tree.get("recordings"), list):
        for recording in tree["recordings"]:
            yield from _rows(recording)
    elif isinstance(tree, Mapping) and isinstance(tree.get("events"), list):
        file = {"file": tree["file"]} if "file" in tree else {}
        for event in tree["events"]:
            yield {**file, **event} if isinstance(event, Mapping) else event
        if not tree["events"]:
            yield file
    elif isinstance(tree, list):
        yield from tree
    else:
        yield None


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
