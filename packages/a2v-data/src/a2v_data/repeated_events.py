"""One event in two tables counts once: a program's table of all recordings lies beside those of each, or events were
written in two formats. So does one that stands twice in a table."""

from collections import Counter
from collections.abc import Sequence

from a2v_data.annotations import Annotation

SAME_S = 0.001  # programs write milliseconds
SAME_LIKELIHOOD = 0.00051  # ... and three decimals or more of a likelihood
SHOWN = 2


def without_repeats(
    tables: Sequence[tuple[str, Sequence[Annotation]]], recordings: Sequence[Sequence[str]] | None = None
) -> tuple[list[list[Annotation]], list[str]]:
    """The events of each table without those that stand in an earlier one, or earlier in it, and a line for the tables
    that share some.

    tables: how each is called, and its events. recordings: of each event, what names its recording, where `file` does
    not. The same is: recording, class, onset and offset to a millisecond, likelihood where both have one, and channel
    where both have one.
    """
    listed = [
        (row.file if recordings is None else recordings[at][n], row.label, row.onset_s, at, n, row)
        for at, (_, rows) in enumerate(tables)
        for n, row in enumerate(rows)
    ]
    listed.sort(key=lambda one: one[:3])
    repeated: list[set[int]] = [set() for _ in tables]
    pairs: Counter[tuple[int, int]] = Counter()
    near: dict[float, list[int]] = {}  # by offset, in steps of 2 ms: what began in the last millisecond and is kept
    for now, one in enumerate(listed):
        if now and listed[now - 1][:2] != one[:2]:
            near.clear()
        step = one[5].offset_s // (2 * SAME_S)
        beside = {step - 1, step, step + 1} & near.keys()
        for at in beside:
            near[at] = [place for place in near[at] if one[2] - listed[place][2] <= SAME_S]
        for place in sorted(place for at in beside for place in near[at]):
            other = listed[place]
            if not _same(one[5], other[5]):
                continue
            first, second = sorted((one, other), key=lambda which: which[3:5])
            repeated[second[3]].add(second[4])
            pairs[first[3], second[3]] += 1
            if second is one:
                break
            near[other[5].offset_s // (2 * SAME_S)].remove(place)
        else:
            near.setdefault(step, []).append(now)
    kept = [
        [row for n, row in enumerate(rows) if n not in left_out]
        for (_, rows), left_out in zip(tables, repeated, strict=True)
    ]
    return kept, _notices([name for name, _ in tables], pairs)


def _same(one: Annotation, other: Annotation) -> bool:
    if abs(one.offset_s - other.offset_s) > SAME_S or one.focal != other.focal:
        return False
    ranked = one.likelihood is not None and other.likelihood is not None
    if ranked and abs((one.likelihood or 0) - (other.likelihood or 0)) > SAME_LIKELIHOOD:
        return False
    return one.channels is None or other.channels is None or one.channels == other.channels


def _notices(names: Sequence[str], pairs: Counter[tuple[int, int]]) -> list[str]:
    """One line for each table that shares events with others, and one for what stands twice in one."""
    lines = []
    if within := {at: count for (at, other), count in pairs.items() if at == other}:
        total = sum(within.values())
        lines.append(f"{_some([names[at] for at in within])}: rows that repeat an earlier one, counted once: {total}")
    left = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    while left:
        shared = Counter(at for pair in left for at in pair)
        hub = max(shared, key=lambda at: (shared[at], -at))
        mine = {pair: count for pair, count in left.items() if hub in pair}
        others = sorted({at for pair in mine for at in pair} - {hub})
        told = f"{names[hub]} and {_some([names[at] for at in others])}"
        lines.append(f"{told}: the same events stand in both, counted once: {sum(mine.values())}")
        left = {pair: count for pair, count in left.items() if pair not in mine}
    return lines


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more table{'s' if more > 1 else ''}" if more > 0 else "")
