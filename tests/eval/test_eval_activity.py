"""Counts of events by hour and by time within recordings, against counts made by hand."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from a2v_eval.activity import activity_by_hour, activity_within


def events(*pairs: tuple[float, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([onset for onset, _ in pairs], dtype=float), np.array([class_ for _, class_ in pairs], dtype="i2")


def counted(counts: np.ndarray) -> dict[tuple[int, ...], int]:
    return {tuple(int(part) for part in place): int(counts[tuple(place)]) for place in np.argwhere(counts)}


def test_hours_of_a_recording_across_midnight_and_of_a_day_without_one():
    late = datetime(2024, 2, 28, 23, 30), 3600.0, *events((0, 0), (1799.99, 1), (1800, 1), (1800.5, 1), (3599, 0))
    same_hour = datetime(2024, 2, 28, 23, 0), 600.0, *events((5, 0))
    silent = datetime(2024, 3, 2, 4, 59, 0), 90.0, *events()
    activity = activity_by_hour([late, silent, same_hour], 2)
    assert activity is not None and activity.by_day
    assert activity.rows == ("2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02")  # a leap year; a day left out
    assert counted(activity.counts) == {(0, 23, 0): 2, (0, 23, 1): 1, (1, 0, 0): 1, (1, 0, 1): 2}
    assert counted(activity.recorded) == {(0, 23): 2400, (1, 0): 1800, (3, 4): 60, (3, 5): 30}


def test_a_recording_of_days_fills_every_hour():
    onsets = np.arange(0.5, 60, 1) * 3600  # one in each of 60 hours
    activity = activity_by_hour([(datetime(2024, 6, 1, 12), 60 * 3600.0, onsets, np.zeros(60, int))], 1)
    assert activity is not None
    assert activity.counts[:, :, 0].sum(axis=1).tolist() == [12, 24, 24]
    assert activity.counts.max() == 1 and activity.recorded.sum() == 60 * 3600


def test_a_clock_that_was_never_set_makes_no_ten_thousand_empty_days():
    days = [datetime(1970, 1, 1), datetime(2024, 6, 1)]
    activity = activity_by_hour([(day, 10.0, *events((1, 0))) for day in days], 1)
    assert activity is not None and activity.rows == ("1970-01-01", "2024-06-01")
    assert activity_by_hour([], 3) is None


def test_time_within_recordings():
    made = [events((0, 0), (9.99, 0), (10, 1)), events((299, 1)), events()]
    activity = activity_within(["a", "b", "c"], [65.0, 300.0, 10.0], made, 2)
    assert activity is not None and not activity.by_day
    assert activity.edges_s.tolist() == list(range(0, 301, 10))  # the least width that needs at most 48 columns
    assert counted(activity.counts) == {(0, 0, 0): 2, (0, 1, 1): 1, (1, 29, 1): 1}
    assert activity.recorded[0].tolist() == [10] * 6 + [5] + [0] * 23
    assert activity.recorded[1].sum() == 300 and activity.recorded[2].sum() == 10


def test_many_recordings_share_rows():
    names = [f"r{number}" for number in range(1001)]
    activity = activity_within(names, [1.0] * 1001, [events((0.5, 0))] * 1001, 1)
    assert activity is not None
    assert activity.rows[:2] == ("r0", "r3") and len(activity.rows) == 334  # threes, and two at the end
    assert activity.counts[:, 0, 0].tolist() == [3] * 333 + [2]
