"""What the decisions on one recording say of it: its calls, where everything is known, and what only looked like calls.

Regions are the clips that were looked at in full (`whole`, and stretches), and the span of each decided event. A
prediction that nobody decided on is unknown: its span is cut out of them, unless a call of its class stands there
(IoU above SAME). Calls that stand keep all of their time; where an open prediction of another class lies on one, other
classes are not known there (`?`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from a2v_data.annotation_writers import EventRow
from a2v_data.intervals import SHORTEST_S, Interval, united, without
from a2v_data.regions import UNKNOWN_CLASS

from .calls import Event
from .journal import Decision

CALLS, UNSURE, WRONG = ("right", "other"), "unsure", "wrong"
SAME = 0.5
MATCHED = 0.3


@dataclass(frozen=True)
class Judged:
    """A decision: that there is, or is not, a call of a class; of any class (`label` is ''), where it was corrected."""

    span: Interval
    label: str

    def contradicts(self, span: Interval, label: str) -> bool:
        """Whether an older label is of the same call, so that the decision takes its place: of its class, and as the
        strict protocol matches (IoU above MATCHED) or with its middle in it."""
        middle = (span[0] + span[1]) / 2
        inside = self.span[0] <= middle < self.span[1]
        if not self.label:
            return overlap(self.span, span) > MATCHED
        return label in (self.label, UNKNOWN_CLASS) and (inside or overlap(self.span, span) > MATCHED)


@dataclass(frozen=True)
class Known:
    """What is known of a recording. rows: calls, and `?` where one is that nobody can name, by onset; regions: where
    nothing else calls, by onset; wrong: predictions that are no calls of their class; outside: decisions that lie after
    its end, of which nothing is used. full: of the regions what was looked at in full; judged: what single decisions
    are about."""

    rows: list[EventRow] = field(default_factory=list)
    regions: list[Interval] = field(default_factory=list)
    wrong: list[EventRow] = field(default_factory=list)
    outside: int = 0
    full: list[Interval] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)


def known(
    file: str,
    duration_s: float,
    decisions: Iterable[Decision],
    undecided: Sequence[Event] = (),
    likelihoods: Mapping[str, float | None] | None = None,
) -> Known:
    """Everything that standing decisions on one recording say. file: its name in the result; undecided: predictions in
    it that are open; likelihoods: of the predictions, by item."""
    calls: list[_Standing] = []
    wrong: list[EventRow] = []
    parts: list[Interval] = []
    full: list[Interval] = []
    judged: list[Judged] = []
    outside = 0
    for one in decisions:
        span = _within((one.onset_s, one.offset_s), duration_s)
        if span is None:
            outside += 1
            continue
        clip = _within(one.clip, duration_s) if one.whole and one.clip else None
        parts += [span] if clip is None else [span, clip]
        full += [] if clip is None else [clip]
        if one.kind == "stretch":
            full.append(span)
        else:
            judged.append(Judged(span, "" if one.verdict == "other" and one.kind == "event" else one.label))
        if one.verdict == WRONG:
            wrong.append(EventRow(file, *span, one.label, likelihood=(likelihoods or {}).get(one.item)))
        elif one.verdict == UNSURE or one.verdict in CALLS:
            calls.append(_Standing(span, one.label, one.verdict == UNSURE))
    cut, doubtful = _unknown(calls, undecided, duration_s)
    rows = [EventRow(file, *one.span, UNKNOWN_CLASS if one.unsure else one.label) for one in calls]
    rows += [EventRow(file, *span, UNKNOWN_CLASS) for span in doubtful]
    whole = without(united(full), cut)
    return Known(by_onset(rows), without(united(parts), cut), by_onset(wrong), outside, whole, judged)


@dataclass(frozen=True)
class _Standing:
    """A call; unsure: of a class that nobody is sure of, `label` is what was predicted."""

    span: Interval
    label: str
    unsure: bool


def _unknown(
    calls: Sequence[_Standing], undecided: Sequence[Event], duration_s: float
) -> tuple[list[Interval], list[Interval]]:
    """What open predictions leave unknown: time that is cut out, and time on calls of other classes."""
    unsure = [one.span for one in calls if one.unsure]
    cut: list[Interval] = []
    doubtful: list[Interval] = []
    for event in undecided:
        span = _within((event.onset_s, event.offset_s), duration_s)
        same = [one.span for one in calls if one.label == event.label]
        if span is None or any(overlap(span, other) > SAME for other in same):
            continue
        free = without([span], [one.span for one in calls])
        cut += free
        doubtful += without([span], [*free, *unsure, *same])
    return united(cut), united(doubtful)


def by_onset(rows: Iterable[EventRow]) -> list[EventRow]:
    """Sorted, each once."""
    return list(dict.fromkeys(sorted(rows, key=lambda row: (row.onset_s, row.offset_s, row.label))))


def overlap(one: Interval, other: Interval) -> float:
    """Intersection over union."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(shared, 0.0) / (max(one[1], other[1]) - min(one[0], other[0]) if shared > 0 else 1.0)


def _within(span: Interval, duration_s: float) -> Interval | None:
    """Clipped to the recording, to the microsecond that tables have; None where nothing of it is left."""
    onset, offset = round(max(span[0], 0.0), 6), min(round(span[1], 6), duration_s)
    return (onset, offset) if offset - onset >= SHORTEST_S else None
