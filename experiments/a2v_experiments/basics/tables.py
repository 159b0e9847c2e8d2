"""Tables as text, for a terminal or a pipe (never cut off, whatever the width), and as CSV."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from .terminal import one_line


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows under a header; the first `left` columns are aligned to the left, the others (numbers) to the right."""
    table = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(cell))
            cells.append(cell + space if place < left else space + cell)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    """Places on a terminal: East Asian characters take two, combining accents none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def clock_text(seconds: float) -> str:
    """1:02:03.45: hours, minutes and seconds."""
    hundredths = round(100 * seconds)
    minutes, rest = divmod(hundredths, 6000)
    if minutes < 60:
        return f"{minutes}:{rest / 100:05.2f}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest / 100:05.2f}"


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; a column for every key, in the order in which they first come."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def duration(seconds: float) -> str:
    """As long as one reads at a glance: 48 s, 12 min, 3 h 05 min, 2 d 07 h."""
    seconds = max(round(seconds), 0)
    if seconds < 100:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24:02d} h"
