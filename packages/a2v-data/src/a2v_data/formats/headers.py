"""Which format a table has, by the names of its columns."""

from typing import Literal

from a2v_data.annotation_config import Format
from a2v_data.formats.any_columns import COLUMNS
from a2v_data.formats.known_columns import CLASSIFIED, FILES, has_label, has_onsets, has_times
from a2v_data.formats.table import Header, grid

OF_RAVEN = {"selection", "view", "begin file", "begin path", "file offset s"}
Found = Format | Literal["columns"]


def format_of(header: Header) -> Found | None:
    """The format with these columns; None where it is none of those known, `COLUMNS` where they say by themselves when
    an event is."""
    plain = set(header.plain)
    if "begin time s" in plain and (plain & OF_RAVEN or not plain & {*FILES}):
        return "raven"
    if "start time lbl" in plain:
        return "meerkat"
    if "start s" in plain and plain & {*CLASSIFIED, "confidence"}:
        return "birdnet"
    if {"onset_s", "offset_s"} <= {name.lower() for name in header.names} and (
        "label" in plain or not has_label(header)
    ):
        return "csv"
    if has_times(header):
        return COLUMNS
    return "csv" if "onset s" in plain else None


def has_points(text: str) -> bool:
    """Whether a table has a class and says where events are, but not how long."""
    header, _, _ = grid(text)
    return has_onsets(header) and has_label(header)
