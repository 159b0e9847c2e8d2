"""Praat's TextGrid, long and short, by Praat's own rule: only free-standing numbers, texts in double quotes and
flags such as <exists> count; everything else, and what follows a `!`, is a comment.

https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html
"""

import re
from dataclasses import dataclass

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.formats.table import NUMBER, Row, Table, TableError

TOKEN = re.compile(r'"(?P<text>(?:[^"]|"")*)"|(?P<open>")|!(?P<comment>[^\n]*)|(?P<word>[^\s"]+)')
INTERVALS, POINTS = "IntervalTier", "TextTier"
EXPECTED = "save it from Praat again, as a text file"


@dataclass(frozen=True)
class _Entry:
    line: int
    onset_s: float
    offset_s: float
    label: str


@dataclass(frozen=True)
class _Tier:
    kind: str
    name: str
    entries: list[_Entry]

    @property
    def described(self) -> str:
        kind = "intervals" if self.kind == INTERVALS else "points"
        return f"{self.name!r} ({kind}, {len(self.entries)} labels)"


class _Tokens:
    """Numbers, texts and flags in order, each with its line."""

    def __init__(self, text: str) -> None:
        self._found: list[tuple[int, str | float]] = []
        line, seen = 1, 0
        for match in TOKEN.finditer(text):
            line += text.count("\n", seen, match.start())
            seen = match.start()
            if match["open"]:
                raise TableError(f"line {line}: a quote is not closed, the file is cut off; {EXPECTED}")
            if match["text"] is not None:
                self._found.append((line, match["text"].replace('""', '"')))
            elif match["word"] and NUMBER.fullmatch(match["word"]):
                self._found.append((line, float(match["word"])))
        self._next = 0

    @property
    def line(self) -> int:
        """Line of the value taken last."""
        return self._found[self._next - 1][0] if self._next else 1

    def text(self, what: str) -> str:
        value = self._take(what)
        if isinstance(value, str):
            return value
        raise TableError(f"line {self.line}: {what} must be a text in quotes, not {value:g}; {EXPECTED}")

    def number(self, what: str) -> float:
        value = self._take(what)
        if isinstance(value, float):
            return value
        raise TableError(f"line {self.line}: {what} must be a number, not {value!r}; {EXPECTED}")

    def count(self, what: str) -> int:
        value = self.number(what)
        if value.is_integer() and value >= 0:
            return int(value)
        raise TableError(f"line {self.line}: {what} must be a whole number, not {value:g}; {EXPECTED}")

    def _take(self, what: str) -> str | float:
        if self._next == len(self._found):
            raise TableError(f"ends after line {self.line}, where {what} should follow: it is cut off; {EXPECTED}")
        self._next += 1
        return self._found[self._next - 1][1]


def read_textgrid(text: str, config: AnnotationConfig) -> Table:
    """The events of one tier; intervals without text are gaps, points have onset = offset."""
    if text.startswith("ooBinaryFile"):
        raise TableError("is a binary TextGrid; in Praat choose Save as text file")
    tier = _choose(_tiers(text), config.tier)
    rows = [Row(f"line {entry.line}", None, entry.onset_s, entry.offset_s, entry.label) for entry in tier.entries]
    return Table("textgrid", rows)


def _tiers(text: str) -> list[_Tier]:
    tokens = _Tokens(text)
    if not tokens.text("file type").startswith("ooTextFile") or tokens.text("object class") != "TextGrid":
        raise TableError(f"is no TextGrid; {EXPECTED}")
    tokens.number("start")
    tokens.number("end")
    return [_tier(tokens) for _ in range(tokens.count("number of tiers"))]


def _tier(tokens: _Tokens) -> _Tier:
    kind, name = tokens.text("a tier's class"), tokens.text("a tier's name")
    if kind not in (INTERVALS, POINTS):
        raise TableError(f"line {tokens.line}: a tier must be {INTERVALS} or {POINTS}, not {kind!r}; {EXPECTED}")
    tokens.number("a tier's start")
    tokens.number("a tier's end")
    entries = []
    for _ in range(tokens.count("a tier's size")):
        onset_s = tokens.number("a time")
        line = tokens.line
        offset_s = tokens.number("a time") if kind == INTERVALS else onset_s
        label = " ".join(tokens.text("a label").split())
        if label or kind == POINTS:
            entries.append(_Entry(line, onset_s, offset_s, label))
    return _Tier(kind, name, entries)


def _choose(tiers: list[_Tier], wanted: str | int | None) -> _Tier:
    listed = ", ".join(f"{number}: {tier.described}" for number, tier in enumerate(tiers, start=1)) or "none"
    if wanted is None:
        filled = [tier for tier in tiers if tier.entries]
        if len(filled) > 1:
            raise TableError(f"several tiers have labels ({listed}); choose one with tier")
        if not tiers:
            raise TableError(f"has no tier; {EXPECTED}")
        return (filled or tiers)[0]
    named = [tier for tier in tiers if tier.name == str(wanted)]
    if len(named) == 1:
        return named[0]
    if not named and str(wanted).isdecimal() and 1 <= int(wanted) <= len(tiers):
        return tiers[int(wanted) - 1]
    what = f"no tier {wanted!r}" if not named else f"{len(named)} tiers are named {wanted!r}"
    raise TableError(f"{what} (it has {listed}); give a name or a number")
