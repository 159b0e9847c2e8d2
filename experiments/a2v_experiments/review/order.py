"""What is shown first, and which of the decisions are a random sample of the predictions.

Every item has a fixed random number (`calls.unit`). Within a band of likelihood of a class, the events up to the first
open one in the order of these numbers are a simple random sample of the band without replacement, whatever else was
reviewed, in whatever order and how often the review was stopped. Only they count for numbers (`bands`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile, zip_longest

from a2v_data.intervals import without

from .calls import Calls, Event, item_id, unit
from .journal import Decision, State

ORDERS = ("likelihood", "uncertain", "random", "stratified")
BANDS = 10
PER_BAND = 10
WINDOW_S = 10.0
SHORTEST_S = 1.0
USUAL_THRESHOLD = 0.5
HOUR_S = 3600


@dataclass(frozen=True)
class Stretch:
    """A part of a recording to look at in full, `start_s` to `stop_s`."""

    id: str
    file: str
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class Band:
    """Events of a class with a likelihood in [low, high), of the highest band up to 1; `events` in their random order,
    `sampled` the decisions on the first of them up to the first open one."""

    label: str
    low: float
    high: float
    events: tuple[Event, ...]
    sampled: tuple[Decision, ...]


def stretch(file: str, start_s: float, stop_s: float) -> Stretch:
    """With its id."""
    return Stretch(item_id(file, float(start_s), float(stop_s)), file, start_s, stop_s)


def band_of(likelihood: float | None) -> int:
    """The band, from 0; events without a likelihood are all in the first."""
    return 0 if likelihood is None else min(int(likelihood * BANDS + 1e-9), BANDS - 1)


def by_band(events: Iterable[Event]) -> dict[tuple[str, int], list[Event]]:
    """Class and band -> its events in their random order, by class and band."""
    found: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in events:
        found[event.label, band_of(event.likelihood)].append(event)
    return {key: sorted(found[key], key=lambda event: unit(event.id)) for key in sorted(found)}


def bands(events: Iterable[Event], state: State) -> list[Band]:
    """All bands that hold events, and what is known of them."""
    found = []
    for (label, number), members in by_band(events).items():
        decided = (state.of(event.id) for event in members)
        sampled = tuple(one for one in takewhile(lambda one: one is not None, decided) if one is not None)
        found.append(Band(label, number / BANDS, (number + 1) / BANDS, tuple(members), sampled))
    return found


def ordered(
    events: Sequence[Event], order: str, thresholds: dict[str, float] | None = None, per_band: int = PER_BAND
) -> list[Event]:
    """The events in the order in which they are shown: classes take turns, and within a class recordings and hours.

    stratified: the first `per_band` of each band only, by their random numbers. thresholds: what `uncertain` is about,
    the nearest first. ValueError for another order.
    """
    if order not in ORDERS:
        raise ValueError(f"order: {order!r}; should be {', '.join(ORDERS)}")
    known = thresholds or {}
    if order in ("likelihood", "uncertain"):
        keys: dict[str, Callable[[Event], float]] = {
            "likelihood": lambda event: -(event.likelihood or 0.0),
            "uncertain": lambda event: abs((event.likelihood or 0.0) - known.get(event.label, USUAL_THRESHOLD)),
        }
        classes = _grouped(sorted(events, key=lambda event: (keys[order](event), unit(event.id))), _class)
        return _in_turns([_spread(members) for members in classes])
    if order == "random":
        return sorted(events, key=lambda event: unit(event.id))
    chosen = [event for members in by_band(events).values() for event in members[:per_band]]
    return _in_turns(_grouped(sorted(chosen, key=lambda event: unit(event.id)), _class_and_band))


def windows(calls: Calls, window_s: float = WINDOW_S) -> tuple[list[Stretch], float]:
    """All stretches without a prediction, at most `window_s` long, in their random order; and the seconds of gaps
    shorter than SHORTEST_S, which are none of them.

    Each gap between predictions is cut into equal pieces.
    """
    events = defaultdict(list)
    for event in calls.events:
        events[event.file].append((event.onset_s, event.offset_s))
    found, lost_s = [], 0.0
    for name, recorded in calls.recordings.items():
        for begin, end in without([(0.0, recorded.duration_s)], events[name]):
            if end - begin < SHORTEST_S:
                lost_s += end - begin
                continue
            count = max(1, -int(-(end - begin - 1e-9) // window_s))
            edges = [begin + (end - begin) * place / count for place in range(count + 1)]
            found += [stretch(name, start, stop) for start, stop in pairwise(edges)]
    return sorted(found, key=lambda one: unit(one.id)), lost_s


def sampled_windows(stretches: Sequence[Stretch], state: State) -> list[Stretch]:
    """Of stretches in their random order those up to the first that was not looked at: a random sample of all."""
    return list(takewhile(lambda one: state.of(one.id) is not None, stretches))


def _class(event: Event) -> object:
    return event.label


def _class_and_band(event: Event) -> object:
    return event.label, band_of(event.likelihood)


def _grouped(events: Iterable[Event], key: Callable[[Event], object]) -> list[list[Event]]:
    groups: dict[object, list[Event]] = defaultdict(list)
    for event in events:
        groups[key(event)].append(event)
    return list(groups.values())


def _spread(events: Sequence[Event]) -> list[Event]:
    """As they come, but of neighbouring ranks (a tenth of all, at least 10) recordings and hours take turns, so that
    not one loud hour fills the first page."""
    size = max(10, len(events) // 10)
    found: list[Event] = []
    for first in range(0, len(events), size):
        chunk = events[first : first + size]
        found += _in_turns(_grouped(chunk, lambda event: (event.file, int(event.onset_s // HOUR_S))))
    return found


def _in_turns(groups: Sequence[Sequence[Event]]) -> list[Event]:
    return [event for turn in zip_longest(*groups) for event in turn if event is not None]
