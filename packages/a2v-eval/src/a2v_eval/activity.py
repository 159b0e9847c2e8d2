"""How many events there were when: by hour of the day, or by time within each recording.

An event counts at its onset. What was not recorded is no zero, so the seconds of sound in each cell are kept too.

R rows, K columns, C classes. Recordings come one after another, so that no more than one's events are held.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

DAY_S, HOUR_S, HOURS = 86_400, 3_600, 24
MOST_DAYS = 730  # between the first and the last: farther apart, days without a recording are left out
MOST_ROWS, MOST_COLUMNS = 400, 48
WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, HOUR_S, 2 * HOUR_S, 6 * HOUR_S, 12 * HOUR_S)


@dataclass(frozen=True)
class Activity:
    """counts: (R, K, C) events by onset; recorded: (R, K) seconds of sound; rows: what each is (a date, a recording);
    edges_s: (K + 1,) seconds from midnight, or from the start of the recording; by_day: which of these."""

    counts: np.ndarray
    recorded: np.ndarray
    rows: tuple[str, ...]
    edges_s: np.ndarray
    by_day: bool


def activity_by_hour(
    recordings: Iterable[tuple[datetime, float, np.ndarray, np.ndarray]], n_classes: int
) -> Activity | None:
    """Events of each hour of each day, from the first to the last day; None without recordings.

    recordings: when it began, its seconds, and of each event the onset in seconds from there and the class.
    """
    counts: dict[int, np.ndarray] = {}
    recorded: dict[int, np.ndarray] = {}
    for start, duration_s, onset_s, class_ in recordings:
        midnight = start.toordinal()
        begin_s = (start - datetime.combine(start.date(), datetime.min.time())).total_seconds()
        for hour in range(int(begin_s // HOUR_S), int(-(-(begin_s + duration_s) // HOUR_S))):
            sound_s = min((hour + 1) * HOUR_S, begin_s + duration_s) - max(hour * HOUR_S, begin_s)
            recorded.setdefault(midnight + hour // HOURS, np.zeros(HOURS))[hour % HOURS] += sound_s
        hours = ((begin_s + np.asarray(onset_s, dtype=np.float64)) // HOUR_S).astype(np.int64)
        for day in np.unique(hours // HOURS):
            of_day = hours // HOURS == day
            day_KC = counts.setdefault(midnight + int(day), np.zeros((HOURS, n_classes), dtype=np.int64))
            np.add.at(day_KC, (hours[of_day] % HOURS, np.asarray(class_)[of_day]), 1)
    found = sorted(counts.keys() | recorded.keys())
    if not found:
        return None
    days = found if found[-1] - found[0] >= MOST_DAYS else range(found[0], found[-1] + 1)
    nothing_KC = np.zeros((HOURS, n_classes), dtype=np.int64)
    return Activity(
        np.stack([counts.get(day, nothing_KC) for day in days]),
        np.stack([recorded.get(day, np.zeros(HOURS)) for day in days]),
        tuple(date.fromordinal(day).isoformat() for day in days),
        np.arange(HOURS + 1) * HOUR_S,
        by_day=True,
    )


def activity_within(
    names: Sequence[str], durations_s: Sequence[float], events: Iterable[tuple[np.ndarray, np.ndarray]], n_classes: int
) -> Activity | None:
    """Events by time within each recording, in at most 48 columns; None without recordings.

    events: onsets in seconds and classes, of one recording after another. Where there are more than 400 recordings, a
    row is as many neighbours as make it fewer, named after the first.
    """
    if not names:
        return None
    longest_s = max(durations_s)
    width_s = next((width for width in WIDTHS_S if longest_s <= width * MOST_COLUMNS), -(-longest_s // MOST_COLUMNS))
    columns = max(1, int(-(-longest_s // width_s)))
    each = -(-len(names) // MOST_ROWS)
    rows = names[::each]
    counts_RKC = np.zeros((len(rows), columns, n_classes), dtype=np.int64)
    recorded_RK = np.zeros((len(rows), columns))
    starts_K = np.arange(columns) * width_s
    for number, (duration_s, (onset_s, class_)) in enumerate(zip(durations_s, events, strict=True)):
        recorded_RK[number // each] += np.clip(duration_s - starts_K, 0, width_s)
        column = np.minimum(np.asarray(onset_s) // width_s, columns - 1).astype(np.int64)
        np.add.at(counts_RKC[number // each], (column, np.asarray(class_)), 1)
    return Activity(counts_RKC, recorded_RK, tuple(rows), np.arange(columns + 1) * width_s, by_day=False)
