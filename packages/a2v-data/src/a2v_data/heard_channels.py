"""Events of the channel that is read: what was marked in another one is no label of its sound.

Channels of tables count from 1, as Raven's; the setting `channel` counts from 0, as an index.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from a2v_data.audio import Channel


class Marked(Protocol):
    """An event as a table has it, an `Annotation`."""

    @property
    def file(self) -> str: ...
    @property
    def where(self) -> str: ...
    @property
    def channels(self) -> frozenset[int] | None: ...


Event = TypeVar("Event", bound=Marked)


@dataclass(frozen=True)
class Heard:
    """The channel that is read of every recording, from 0, or 'mix' for the mean of all; `single`: of some by name."""

    channel: Channel = 0
    single: Mapping[str, Channel] = field(default_factory=dict)

    def of(self, recording: str) -> Channel:
        """The channel that is read of a recording."""
        return self.single.get(recording, self.channel)

    def holds(self, row: Marked) -> bool:
        """Whether an event was marked in that channel, as far as its table says."""
        channel = self.of(row.file)
        return channel == "mix" or row.channels is None or channel + 1 in row.channels


FIRST = Heard()  # as everywhere where nothing else is said


def in_heard_channel(rows: Sequence[Event], heard: Heard) -> tuple[list[Event], list[Event]]:
    """Events that are labels of the sound that is read, and the others."""
    kept: list[Event] = []
    others: list[Event] = []
    for row in rows:
        (kept if heard.holds(row) else others).append(row)
    return kept, others


def channel_notices(
    others: Iterable[Marked], heard: Heard, channels: Callable[[str], int | None] | None = None
) -> list[str]:
    """A line for what was marked in channels that are not read: how many events, where, and what reads them.

    channels: how many a recording has, where that is known.
    """
    counts: Counter[tuple[int, int, int]] = Counter()
    first: dict[tuple[int, int, int], Marked] = {}
    for row in others:
        channel = heard.of(row.file)
        assert row.channels is not None and channel != "mix"
        marked = min(row.channels)
        there = channels(row.file) if channels else None
        key = (marked, channel, there if there is not None and there < marked else 0)
        counts[key] += 1
        first.setdefault(key, row)
    lines = []
    for (marked, read, there), count in sorted(counts.items()):
        row = first[marked, read, there]
        line = (
            f"{_table(row)}: events marked in channel {marked} are not taken, since channel {read + 1} is read: {count}"
        )
        if there:
            lines.append(f"{line}; {row.file} has only {there}: --channel mix (in recipes data.channel) takes all")
        else:
            lines.append(
                f"{line}; --channel {marked - 1} (in recipes data.channel; both count from 0) reads that one, "
                "mix takes all"
            )
    return lines


def _table(row: Marked) -> str:
    return row.where.rpartition(", ")[0]
