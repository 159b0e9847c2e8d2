"""What was decided, kept so that nothing is lost: `journal.jsonl` in the folder of a review.

Contract. A file of `a2v_data.state_lines`: UTF-8, one JSON object a line, only ever appended to; a line is on the disk
before the page is told so; of a process that is killed at most the last line is not whole, and is ignored. While a
review runs it holds a lock on the file, which readers (`read_journal`) need not have. Line 1 says the version. Each
further line is a `Decision`:

    n          number of the line, from 1
    item       what it is about: id of a prediction or stretch, or of a call that a reviewer drew
    kind       event (a prediction), stretch (a part of a recording that was looked at), drawn (a call without one)
    verdict    right, wrong, other (a call of another class), unsure: of an event or a drawn call
               seen: of a stretch, that it was looked at in full
               removed: of a drawn call, that it is none after all
               undone: the last decision on the item that was not undone is taken back
    file       the recording
    label, onset_s, offset_s      what is true after it: the class and the edges (seconds); of `wrong` those of the
               prediction; label is '' for a stretch
    clip       what was shown, [start_s, stop_s], or null
    whole      all of the clip was looked at, and what had been missed was drawn: then it counts as looked at in full
    order      how it came to be shown (likelihood, uncertain, random, stratified, windows, suggested, search, chosen)
    reviewer   a name, or ''
    time       UTC, ISO 8601, seconds
    spent_s    seconds that the clip was on the screen, or null

The last decision on an item that was not undone counts. Who decides says which line on the item was the last that was
known (`seen`): when another page was faster `ConflictError` is raised and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from a2v_data.state_lines import StateLines, damaged, open_lines, parsed, typed

NAME = "journal.jsonl"
VERSION = 1
KINDS = ("event", "stretch", "drawn")
OF_CALLS = ("right", "wrong", "other", "unsure")
VERDICTS = {
    "event": (*OF_CALLS, "undone"),
    "drawn": ("right", "other", "unsure", "removed", "undone"),
    "stretch": ("seen", "undone"),
}


@dataclass(frozen=True)
class Decision:
    """A line of the journal; see the module."""

    n: int
    item: str
    kind: str
    verdict: str
    file: str
    label: str
    onset_s: float
    offset_s: float
    clip: tuple[float, float] | None = None
    whole: bool = False
    order: str = ""
    reviewer: str = ""
    time: str = ""
    spent_s: float | None = None


class ConflictError(ValueError):
    """Another page decided on the item meanwhile; `last` is that decision."""

    def __init__(self, last: Decision) -> None:
        self.last = last
        super().__init__(f"{last.reviewer or 'another page'} said {last.verdict!r} of it meanwhile")


@dataclass
class State:
    """All decisions in their order, and what counts."""

    lines: list[Decision] = field(default_factory=list)
    _stacks: dict[str, list[Decision]] = field(default_factory=dict)
    _last: dict[str, Decision] = field(default_factory=dict)

    def add(self, decision: Decision) -> None:
        """Take a line in."""
        self.lines.append(decision)
        self._last[decision.item] = decision
        stack = self._stacks.setdefault(decision.item, [])
        if decision.verdict != "undone":
            stack.append(decision)
        elif stack:
            stack.pop()

    def of(self, item: str) -> Decision | None:
        """The decision on an item that counts; None where it is open."""
        stack = self._stacks.get(item)
        return stack[-1] if stack else None

    def last(self, item: str) -> Decision | None:
        """The last line on an item, also one that takes another back."""
        return self._last.get(item)

    def standing(self, *kinds: str) -> list[Decision]:
        """The decisions that count on all items of some kinds, of all where none is named, in the order in which they
        were made; of drawn calls those that were not removed."""
        wanted = kinds or KINDS
        found = [stack[-1] for stack in self._stacks.values() if stack and stack[-1].kind in wanted]
        return sorted((one for one in found if one.verdict != "removed"), key=lambda one: one.n)


class Journal:
    """A journal, open and locked."""

    def __init__(self, lines: StateLines, state: State) -> None:
        self.state, self._lines = state, lines

    def decide(self, decision: Decision, seen: int = 0) -> Decision:
        """Write a decision down, with its number and time; it is on the disk when this returns.

        seen: `n` of the last line on the item that whoever decides knew, 0: none. Raises ConflictError where there is a
        later one, ValueError for a decision that cannot be.
        """
        check(decision)
        last = self.state.last(decision.item)
        if last is not None and last.n != seen:
            raise ConflictError(last)
        values = asdict(decision) | {"n": len(self.state.lines) + 1}
        values["time"] = decision.time or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._lines.append(values)
        kept = _decision(values)
        self.state.add(kept)
        return kept


def check(decision: Decision) -> None:
    """Raise ValueError with what is wrong and what would be right."""
    allowed = VERDICTS.get(decision.kind)
    if allowed is None:
        raise ValueError(f"kind: {decision.kind!r}; should be {', '.join(KINDS)}")
    if decision.verdict not in allowed:
        raise ValueError(f"verdict: {decision.verdict!r} of a {decision.kind}; should be {', '.join(allowed)}")
    if not 0 <= decision.onset_s < decision.offset_s < float("inf"):
        raise ValueError(f"onset_s, offset_s: {decision.onset_s}, {decision.offset_s}; should ascend from 0")
    if decision.kind != "stretch" and not decision.label.strip():
        raise ValueError("label: is empty; should be a class")
    if any(character in decision.label for character in "\n\r\t\0"):
        raise ValueError("label: holds a tab or a line break; should be one line")


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """The journal of a review, to be written to; made where there is none. Raises ValueError where it is damaged, or
    another `a2v review` writes to it."""
    path = folder / NAME
    with open_lines(path, path, {}, VERSION, "a2v review") as lines:
        yield Journal(lines, _state(path, lines.lines))


def read_journal(folder: Path) -> State:
    """What was decided so far, also while a review runs; empty where nothing was. Raises ValueError where it is
    damaged."""
    path = folder / NAME
    if not path.is_file():
        return State()
    whole = path.read_text(encoding="utf-8", errors="surrogateescape").rpartition("\n")[0]
    try:
        lines = [parsed(line) for line in whole.split("\n") if line]
    except TypeError as error:
        raise damaged(path, error) from None
    if lines and lines[0].get("version") != VERSION:
        raise ValueError(f"{path}: written by another version of a2v; use that one")
    return _state(path, lines[1:])


def _state(path: Path, lines: list[dict[str, Any]]) -> State:
    state = State()
    for line in lines:
        try:
            state.add(_decision(line))
        except (TypeError, ValueError) as error:
            raise damaged(path, error) from error
    return state


_NAMES = frozenset(field.name for field in fields(Decision))


def _decision(line: dict[str, Any]) -> Decision:
    values = {name: value for name, value in line.items() if name in _NAMES}
    if values.get("clip") is not None:
        start, stop = values["clip"]
        values["clip"] = (float(start), float(stop))
    return typed(Decision, values)
