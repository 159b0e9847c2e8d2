"""What was found, to look at: the highest-ranked events of each class, and when events happen.

    figures/events-cc.png    the highest-ranked events of class cc, over all recordings in the folder
    figures/activity.png     events of each class by day and hour, where names hold the time; else within recordings
    figures/activity.csv     the same as numbers, with the seconds that were recorded in each cell

Only stretches around the drawn events are read from recordings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from a2v_data.audio import AudioError, Channel, read_info
from a2v_data.recording_times import start_time
from a2v_data.stretch import read_stretch
from a2v_eval.activity import Activity, activity_by_hour, activity_within
from a2v_eval.figures import EventPanel
from numpy.typing import NDArray

from ..basics.tables import clock_text
from .plan import Recording
from .state import Done, load_events, stamp_of

CONTEXT_S = 1.0
LONGEST_S = 8.0  # of a drawn event: of a longer one its beginning


@dataclass(frozen=True)
class Ranked:
    """An event: of a recording, from `onset_s` to `offset_s` in it."""

    done: Done
    onset_s: float
    offset_s: float
    likelihood: float


@dataclass(frozen=True)
class Seen:
    """What one pass over all events saw. classes, in the model's order: name -> the highest ranked, first the highest.
    found_in: name -> recordings with an event of it. activity: None without recordings; undated: names of the
    recordings that it leaves out, since their names hold no time."""

    highest: dict[str, list[Ranked]]
    found_in: dict[str, int]
    activity: Activity | None
    undated: list[str]


def look(out: Path, done: dict[str, Done], classes: Sequence[str], count: int) -> Seen:
    """Rank and count the events of all recordings in `out`. Of equal likelihoods, the first by recording and time."""
    highest: dict[str, list[Ranked]] = {name: [] for name in classes}
    found_in = dict.fromkeys(classes, 0)
    for one in done.values():
        events = load_events(out, one.name)
        for number, name in enumerate(classes):
            of_class = events[events["class"] == number]
            found_in[name] += len(of_class) > 0
            best = of_class[np.argsort(-of_class["likelihood"], kind="stable")[: max(count, 1)]]
            mine = [Ranked(one, float(e["onset_s"]), float(e["offset_s"]), float(e["likelihood"])) for e in best]
            highest[name] = sorted([*highest[name], *mine], key=lambda event: -event.likelihood)[: max(count, 1)]
    undated = [name for name in done if start_time(name) is None]
    if len(undated) < len(done):
        return Seen(highest, found_in, activity_by_hour(_dated(out, done), len(classes)), undated)
    durations_s = [one.duration_s for one in done.values()]
    activity = activity_within(list(done), durations_s, map(_when_and_what, _all_events(out, done)), len(classes))
    return Seen(highest, found_in, activity, [])


def _all_events(out: Path, done: dict[str, Done]) -> Iterator[NDArray[np.void]]:
    return (load_events(out, name) for name in done)


def _when_and_what(events: NDArray[np.void]) -> tuple[np.ndarray, np.ndarray]:
    return events["onset_s"], events["class"]


def _dated(out: Path, done: dict[str, Done]) -> Iterator[tuple]:
    for name, one in done.items():
        if (start := start_time(name)) is not None:
            yield start, one.duration_s, *_when_and_what(load_events(out, name))


def event_panels(events: Sequence[Ranked], channel: Channel, sample_rate: int) -> Iterator[EventPanel]:
    """What `strip_figure` draws, at no more than `sample_rate` Hz, what the model hears; one after another. A recording
    that cannot be read, or is not what it was, gives a panel that says so."""
    width_s = panel_seconds(events)
    for event in events:
        one, duration_s = event.done, event.offset_s - event.onset_s
        rate = min(sample_rate, one.rate)
        middle_s = event.onset_s + min(duration_s, LONGEST_S) / 2
        start_s, end_s = max(0.0, middle_s - width_s / 2), min(one.duration_s, middle_s + width_s / 2)
        waveform, problem = None, ""
        try:
            info = read_info(Path(one.path), channel)
            if stamp_of(Recording(one.name, Path(one.path), info), channel) != one.stamp:
                problem = "its file has changed"
            else:
                waveform = read_stretch(Path(one.path), start_s, end_s, rate, channel)
        except (AudioError, OSError):
            problem = "its file cannot be read"
        yield EventPanel(waveform, rate, start_s - event.onset_s, duration_s, caption(event), problem)


def panel_seconds(events: Sequence[Ranked]) -> float:
    """Width of all panels of a class: the longest of its drawn events, and what surrounds it."""
    return 2 * CONTEXT_S + min(LONGEST_S, max(event.offset_s - event.onset_s for event in events))


def caption(event: Ranked) -> tuple[str, str]:
    """The recording; and when in it the event begins, by the recorder's clock too where that is known, and its
    likelihood."""
    start = start_time(event.done.name)
    clock = f" ({start + timedelta(seconds=event.onset_s):%H:%M:%S})" if start else ""
    return event.done.name, f"at {clock_text(event.onset_s)}{clock} · {event.likelihood:.3f}"


def file_names(classes: Sequence[str]) -> dict[str, str]:
    """A name for each class's figure that every system takes, unlike any other's: events-cc.png."""
    names: dict[str, str] = {}
    for number, name in enumerate(classes):
        plain = re.sub(r"[^\w-]+", "_", name)[:60] or "_"
        if plain.lower() in {other.lower() for other in names.values()}:
            plain = f"{plain}-{number}"
        names[name] = plain
    return {name: f"events-{plain}.png" for name, plain in names.items()}


def activity_rows(activity: Activity, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each cell in which something was recorded."""
    key = "day" if activity.by_day else "recording"
    return [
        {
            key: name,
            "from_s": int(activity.edges_s[column]),
            "recorded_s": round(float(activity.recorded[row, column]), 3),
            **{label: int(count) for label, count in zip(classes, activity.counts[row, column], strict=True)},
        }
        for row, name in enumerate(activity.rows)
        for column in np.flatnonzero(activity.recorded[row] > 0)
    ]
