"""Text on a terminal: what names of files and classes hold that would move its cursor, colour it or turn the direction
of writing is shown as an escape. Files are written as they are, and JSON means the same with these escapes."""

from __future__ import annotations

import re

# Controls (C0 but tab and line break, DEL, C1), marks of direction, line and paragraph separators, lone surrogates
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_LONG = re.compile(r"(\S{400})\S{600,}")  # no name of a file or a class has so many letters


def printable(text: str) -> str:
    """The text with its controls as JSON writes them, `\\u001b`; line breaks and tabs stay."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """`printable`, line breaks as `\\n`, and words of a thousand letters cut: for a name, or a line that holds one."""
    return _LONG.sub(r"\1...", printable(text).replace("\n", "\\n"))
