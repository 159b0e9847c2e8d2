"""Events that begin before their recording or pass its end: refused, cut, or dropped, and every one of them named."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from a2v_data.annotation_config import Outside

TOLERANCE_S = 0.005


class Placed(Protocol):
    """A dataclass of an event in a recording; `where` is for messages. An `Annotation` is one."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def file(self) -> str: ...
    @property
    def onset_s(self) -> float: ...
    @property
    def offset_s(self) -> float: ...
    @property
    def where(self) -> str: ...


Event = TypeVar("Event", bound=Placed)


@dataclass
class Within(Generic[Event]):
    """Events that lie in their recordings (5 ms of tolerance at its end), by recording what is wrong with others, and
    what was done about them, one line for each recording and table."""

    rows: list[Event] = field(default_factory=list)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def within(rows: Iterable[Event], durations_s: Mapping[str, float], outside: Outside = "refuse") -> Within[Event]:
    """Events of the recordings in `durations_s`, clipped to them; those of others are left out.

    outside: `refuse`: an event that passes the end by more than 5 ms is wrong, and stays as it is; `clip`: it ends with
    its recording, or begins with it; `drop`: it is left out. Of an event that lies outside altogether `clip` leaves
    nothing.
    """
    found: Within[Event] = Within()
    refused: list[Event] = []
    cut: list[Event] = []
    dropped: list[Event] = []
    for row in rows:
        end_s = durations_s.get(row.file)
        if end_s is None:
            continue
        apart = row.onset_s >= end_s or row.offset_s <= 0
        if apart or row.onset_s < 0 or row.offset_s > end_s + TOLERANCE_S:
            if outside == "refuse":
                refused.append(row)
                found.rows.append(row)
                continue
            if apart or outside == "drop":
                dropped.append(row)
                continue
            else:
                cut.append(row)
        clipped = row if outside == "refuse" else replace(row, onset_s=max(row.onset_s, 0.0))
        found.rows.append(replace(clipped, offset_s=min(row.offset_s, end_s)))
    for file, line in _by_table(refused, lambda one: _refused(one, durations_s[one[0].file])):
        found.wrong.setdefault(file, []).append(line)
    found.notices += [line for _, line in _by_table(cut, lambda one: _told(one, durations_s, "cut at the ends of"))]
    found.notices += [line for _, line in _by_table(dropped, lambda one: _told(one, durations_s, "left out, outside"))]
    return found


def window_cut(row: Event, window_s: float | None, end_s: float) -> Event:
    """An analysis window of `window_s` seconds (None: the event is none) that ends with its recording where it passes
    the end by less than its length; what passes it by more was not made on this recording, and stays as it is."""
    if window_s is None or not row.onset_s < end_s < row.offset_s < end_s + window_s:
        return row
    return replace(row, offset_s=end_s)


def _by_table(rows: Sequence[Placed], line: Callable[[Sequence[Placed]], str]) -> list[tuple[str, str]]:
    """(recording, line) for the rows of each recording and table."""
    groups: dict[tuple[str, str], list[Placed]] = {}
    for row in rows:
        groups.setdefault((row.file, _table(row)), []).append(row)
    return [(file, line(group)) for (file, _), group in groups.items()]


def _refused(rows: Sequence[Placed], end_s: float) -> str:
    fix = "correct the times or the file, or say outside: clip or drop"
    recording = f"outside {rows[0].file}, which is {end_s:.3f} s long"
    if len(rows) == 1:
        return f"{rows[0].where}: {_span(rows[0])} lies {recording}; {fix}"
    listed = ", ".join(f"{_place(row)}: {_span(row)}" for row in rows)
    return f"{_table(rows[0])}: {len(rows)} events lie {recording} ({listed}); {fix}"


def _told(rows: Sequence[Placed], durations_s: Mapping[str, float], what: str) -> str:
    listed = ", ".join(f"{_place(row)}: {_span(row)}" for row in rows)
    file = rows[0].file
    count = f"{len(rows)} event{'s' if len(rows) > 1 else ''}"
    return f"{_table(rows[0])}: {count} {what} {file}, which is {durations_s[file]:.3f} s long ({listed})"


def _table(row: Placed) -> str:
    return row.where.rpartition(", ")[0]


def _place(row: Placed) -> str:
    return row.where.rpartition(", ")[2]


def _span(row: Placed) -> str:
    return f"{row.onset_s:g} to {row.offset_s:g} s"
