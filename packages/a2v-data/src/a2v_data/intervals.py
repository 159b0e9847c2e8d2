"""Intervals of one recording, in seconds from its start, and what one of unsure time says (see `regions.py`)."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

IGNORED, UNKNOWN = -1, -2  # where an event has the number of its class; `a2v_eval.unsure` has the same
SHORTEST_S = 1e-6  # of an interval; less is what is left of rounding

Interval = tuple[float, float]


def united(intervals: Iterable[Interval]) -> list[Interval]:
    """By onset, those that overlap or touch as one."""
    found: list[Interval] = []
    for onset, offset in sorted(intervals):
        if found and onset <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], offset)
        else:
            found.append((onset, offset))
    return found


def without(intervals: Sequence[Interval], others: Iterable[Interval]) -> list[Interval]:
    """What is left of intervals where the others are not, by onset."""
    taken = united(others)
    left: list[Interval] = []
    for begin, end in sorted(intervals):
        first = bisect_right(taken, begin, key=lambda one: one[1])
        for onset, offset in taken[first:]:
            if onset >= end:
                break
            left.append((begin, onset))
            begin = offset
        left.append((begin, end))
    return [(begin, end) for begin, end in left if end - begin >= SHORTEST_S]


def holds(intervals: Sequence[Interval], place_s: float) -> bool:
    """Whether one of them, which do not overlap and are in order, holds a place."""
    last = bisect_right(intervals, place_s, key=lambda one: one[0]) - 1
    return last >= 0 and place_s < intervals[last][1]
