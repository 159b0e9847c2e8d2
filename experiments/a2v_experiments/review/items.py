"""What waits to be reviewed, in its order, and how its list is filtered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from .calls import Calls, Event
from .clips import around
from .order import PER_BAND, WINDOW_S, Stretch, ordered, windows

EVENTS_PER_WINDOW = 4  # windows take turns with events, so that both are seen in a short session
STRETCHES = "\0stretches"  # as a class in filters; no class can have this name


@dataclass(frozen=True)
class Item:
    """A prediction (`event`) or a part of a recording (`stretch`, its label is ''). clip: what is shown of it, seconds;
    order: how it came to be shown."""

    id: str
    kind: str
    file: str
    label: str
    onset_s: float
    offset_s: float
    likelihood: float | None
    clip: tuple[float, float]
    order: str


@dataclass(frozen=True)
class Filter:
    """What the list shows. label: '' for all, STRETCHES for those; low, high: likelihoods of events, both within; file:
    a part of its name; undecided: only what is open."""

    label: str = ""
    low: float = 0.0
    high: float = 1.0
    file: str = ""
    undecided: bool = False

    def keeps(self, item: Item) -> bool:
        """Whether an item is shown, but for `undecided`."""
        if self.label == STRETCHES and item.kind != "stretch":
            return False
        if self.label not in ("", STRETCHES) and item.label != self.label:
            return False
        if (self.low > 0 or self.high < 1) and (
            item.likelihood is None or not self.low <= item.likelihood <= self.high
        ):
            return False
        return self.file.casefold() in item.file.casefold()


def of_event(event: Event, calls: Calls, order: str) -> Item:
    """An event as an item."""
    clip = around(event.onset_s, event.offset_s, calls.recordings[event.file].duration_s)
    return Item(
        event.id, "event", event.file, event.label, event.onset_s, event.offset_s, event.likelihood, clip, order
    )


def of_stretch(stretch: Stretch, order: str) -> Item:
    """A part of a recording as an item."""
    span = (stretch.start_s, stretch.stop_s)
    return Item(stretch.id, "stretch", stretch.file, "", *span, None, span, order)


def queue(
    calls: Calls,
    order: str,
    per_band: int = PER_BAND,
    window_count: int = 0,
    window_s: float = WINDOW_S,
    classes: Sequence[str] = (),
    suggested: Iterable[Stretch] = (),
) -> list[Item]:
    """All that is to be reviewed: what was suggested first, then events in their order, a random window after every
    EVENTS_PER_WINDOW of them. classes: only events of these."""
    events = [event for event in calls.events if not classes or event.label in classes]
    found = [of_stretch(one, "suggested") for one in suggested]
    seen = {item.id for item in found}
    chosen, _ = windows(calls, window_s) if window_count else ([], 0.0)
    left = iter([of_stretch(one, "windows") for one in chosen[:window_count] if one.id not in seen])
    for number, event in enumerate(ordered(events, order, calls.thresholds, per_band), 1):
        found.append(of_event(event, calls, order))
        if number % EVENTS_PER_WINDOW == 0:
            found += islice(left, 1)
    return found + list(left)
