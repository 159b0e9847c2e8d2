"""JSON: what `a2v predict` writes, {"file": ..., "events": [{"onset_s": ...}]}, or several of these under "recordings";
or a list of rows with their file, as other programs write tables."""

from collections.abc import Iterator, Mapping
from typing import Any

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.documents import json_of
from a2v_data.formats.any_columns import COLUMNS, column_rows, in_seconds
from a2v_data.formats.columns import csv_rows
from a2v_data.formats.headers import format_of
from a2v_data.formats.table import Header, Table, TableError

WANTED = "must be a list of events with file, onset_s, offset_s and label, or hold recordings with events"
OWN = ("onset_s", "offset_s", "label")


def read_json(text: str, config: AnnotationConfig, sidecar: bool) -> Table:
    """Events with the keys of this project's CSV; a recording without events is a silent one. Rows count from 1."""
    try:
        tree = json_of(text)
    except ValueError as error:
        raise TableError(f"is not readable as JSON ({error}); export it again") from error
    rows = list(_rows(tree))
    if not all(isinstance(row, Mapping) for row in rows) or not (rows or isinstance(tree, dict)):
        raise TableError(WANTED)
    keys = list(dict.fromkeys(key for row in rows for key in row)) or ["file", *OWN]
    if rows and (config.named_times or format_of(Header(keys)) == COLUMNS):
        body = [(number, [_text(row.get(key)) for key in keys]) for number, row in enumerate(rows, start=1)]
        return column_rows(Header(keys), body, config, sidecar)
    in_seconds(config, "json")
    if rows and not {"onset_s", "label", config.label_column} & set(keys) and set(keys) != {"file"}:
        raise TableError(WANTED)
    keys += [name for name in OWN if name not in keys]
    body = [(number, [_text(row.get(key)) for key in keys]) for number, row in enumerate(rows, start=1)]
    return csv_rows(Header(keys), body, config, sidecar, kind="json")


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
