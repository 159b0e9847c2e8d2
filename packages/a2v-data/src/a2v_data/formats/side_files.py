"""Files that lie among tables of events and are none: settings, lists, logs of the program that wrote the others.

What may be meant as events is never passed over: a file that has a column of times, or recordings and classes, or
numbers that may be starts and ends, or numbers where a header should be, is a table, and what is wrong in it is told.
"""

import re
from pathlib import Path

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.audio import AUDIO_SUFFIXES
from a2v_data.documents import read_json
from a2v_data.formats.known_columns import ENDS, FILES, ONSETS, has_label, has_times
from a2v_data.formats.table import (
    NUMBER,
    Header,
    TableError,
    decode,
    grid,
    looks_like_number,
    plain_name,
    with_points,
)
from a2v_data.storage import check_regular

HEAD_BYTES = 1 << 16
DESCRIPTIONS = ("readme", "license", "licence", "copying", "citation")
SETTINGS = re.compile(
    r"(?:.*[^a-z])?(params|parameters|settings|config|configuration|options|log|logs|error|errors|stderr|stdout)",
    re.IGNORECASE,
)
OWN_LISTS = ("recordings.csv", "segments.csv", "classes.txt", "classes.csv")  # of `predict`, `prepare` and importers
ALL_LABELS = "birdnet_audacitylabels.txt"  # BirdNET's combined one
LONGEST_NAME = 5  # words; what is longer is a sentence
NAMES = frozenset({"parameter", "parameters", "setting", "settings", "option", "key", "name", "variable", "field"})
VALUES = frozenset({"value", "values", "setting"})
NO_TIMES = "without a column of times that is known (name it with onset_column if there are events in it)"
SUMMARY = frozenset({
    "count", "counts", "n", "number", "total", "mean", "median", "sd", "std", "sum", "min", "max", "events",
    "detections", "files", "recordings", "calls", "seconds", "minutes", "hours", "rate", "threshold", "precision",
    "recall", "confidence", "score", "probability", "lat", "lon", "latitude", "longitude", "samples", "channels",
    "size", "bytes", "year", "month", "day", "week", "id", "index", "low", "high", "freq", "hz",
})  # fmt: skip
READ_WHERE_NAMED = "JSON, which is read where it is named (tables, format: json)"


def is_description(path: Path) -> bool:
    """Whether a file beside tables is named as a text about them."""
    return path.stem.lower().startswith(DESCRIPTIONS)


def not_events(path: Path, config: AnnotationConfig, known: bool, own: bool = False) -> str | None:
    """Why a file that may be a table holds no events; None where it may be meant to hold some.

    known: whether it has a known format. own: whether it is named like a recording, so that it is meant as its table
    unless it says clearly that it holds settings.
    """
    if path.is_dir():
        return None
    if is_description(path):
        return "a description"
    if path.name.lower() == ALL_LABELS:
        return "labels of all recordings together, of which none says whose it is"
    if known:
        return None
    if SETTINGS.fullmatch(path.stem):
        return "settings or a log, by its name"
    if path.suffix.lower() == ".json":
        return _not_json_events(path)
    text = _head(path, config)
    first = next((line for line in (text or "").splitlines() if line.strip()), "")
    try:
        header, _, _ = grid(first)
    except TableError:
        return None
    if not first or _named(header, config):
        return None
    if len(header.plain) == 2 and header.plain[0] in NAMES and header.plain[1] in VALUES:
        return "settings, a name and a value in each row"
    if own:
        return None
    if path.name.lower() in OWN_LISTS and not _timed(header):
        return "a list, not of events"
    if all(looks_like_number(part) for part in re.split(r"[\s,;]+", first.strip())[:2]):
        return None
    if len(header.names) == 1:
        words = Header(first.split())
        return None if has_times(words) else "a list or a text, without columns"
    return None if _timed(header) or _of_recordings(header) or _spans(text or "") else NO_TIMES


def _named(header: Header, config: AnnotationConfig) -> bool:
    """Whether it has a column of times that the user names."""
    names = (config.onset_column, config.offset_column, config.duration_column)
    return any(name is not None and plain_name(name) in header.plain for name in names)


def _timed(header: Header) -> bool:
    """Whether any column is called as one of times within a recording."""
    dated = any("date" in name.split() for name in header.plain)
    for name in header.plain:
        words = name.split()
        if {"date", "clock", "utc"} & set(words) or len(words) > LONGEST_NAME:
            continue
        if name in ONSETS | ENDS or {"onset", "offset", "start", "begin", "end", "stop"} & set(words):
            return True
        if words[:1] == ["time"] and not dated:
            return True
    return False


def _spans(text: str) -> bool:
    """Whether two columns that stand side by side may be where events start and end or how long they are, whatever they
    are called: numbers beside the name of a recording, or that grow from one to the other in each of several rows."""
    try:
        header, body, delimiter = grid(text)
    except TableError:
        return False
    rows = [row for _, row in with_points(body, delimiter) if len(row) == len(header.names)]
    for at in range(len(header.names) - 1):
        words = {word for name in header.plain[at : at + 2] for word in name.split()}
        if words & SUMMARY or not all(NUMBER.fullmatch(cell) for row in rows for cell in row[at : at + 2]):
            continue
        spans = {(float(row[at]), float(row[at + 1])) for row in rows}
        named = all(any(Path(cell).suffix.lower() in AUDIO_SUFFIXES for cell in row) for row in rows)
        if spans and named and all(onset >= 0 and last > 0 for onset, last in spans):
            return True
        if len(spans) > 1 and all(0 <= onset < offset for onset, offset in spans):
            return True
    return False


def _of_recordings(header: Header) -> bool:
    """Whether it gives recordings a class."""
    return has_label(header) and not {*FILES}.isdisjoint(header.plain)


def _head(path: Path, config: AnnotationConfig) -> str | None:
    """The first lines of a text; None where they cannot be read, which is told where the table is read."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            data = file.read(HEAD_BYTES)
            whole = len(data) < HEAD_BYTES
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return decode(data if whole or utf16 else data[: data.rfind(b"\n") + 1], config.encoding)
    except (OSError, TableError):
        return None


def _not_json_events(path: Path) -> str | None:
    try:
        tree = read_json(path)
    except (OSError, ValueError):
        return None
    if isinstance(tree, dict) and not {"events", "recordings"} & set(tree):
        return "settings or other JSON, without events"
    return None
