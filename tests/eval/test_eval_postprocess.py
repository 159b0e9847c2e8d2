"""Post-processing of events, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from a2v_eval.events import EVENT
from a2v_eval.postprocess import by_time, merge_gaps, only_classes, within_durations

RATE = 10.0


def table(*rows: tuple[int, int, int, float]) -> np.ndarray:
    """(class, start, stop, likelihood); 10 frames a second."""
    events = np.zeros(len(rows), EVENT)
    for event, (class_, start, stop, likelihood) in zip(events, rows, strict=True):
        event["class"], event["start"], event["stop"], event["likelihood"] = class_, start, stop, likelihood
        event["onset_s"], event["offset_s"] = start / RATE, stop / RATE
    return events


def rows(events: np.ndarray) -> list[tuple[int, int, int, float]]:
    assert np.array_equal(events["onset_s"], events["start"] / RATE)
    assert np.array_equal(events["offset_s"], events["stop"] / RATE)
    return [(int(e["class"]), int(e["start"]), int(e["stop"]), round(float(e["likelihood"]), 9)) for e in events]


EVENTS = [(0, 0, 10, 0.9), (0, 13, 14, 0.2), (0, 17, 20, 0.5), (1, 8, 12, 0.6), (1, 13, 14, 0.7)]


def test_gaps_up_to_the_limit_are_closed_within_a_class():
    given = table(*EVENTS)
    before = given.copy()
    # 0.3 s between all of class 0: (10 * 0.9 + 1 * 0.2 + 3 * 0.5) / 14; 0.1 s in class 1: (4 * 0.6 + 0.7) / 5
    assert rows(merge_gaps(given, 0.3)) == [(0, 0, 20, round(10.7 / 14, 9)), (1, 8, 14, 0.62)]
    assert rows(merge_gaps(given, 0.29)) == [*EVENTS[:3], (1, 8, 14, 0.62)]
    assert rows(merge_gaps(given, np.array([0.3, 0.0]))) == [(0, 0, 20, round(10.7 / 14, 9)), *EVENTS[3:]]
    assert np.array_equal(given, before)


def test_a_gap_of_zero_joins_only_what_touches():
    assert rows(merge_gaps(table((0, 0, 3, 0.4), (0, 3, 6, 0.8), (0, 7, 8, 0.1)), 0.0)) == [
        (0, 0, 6, 0.6),
        (0, 7, 8, 0.1),
    ]


def test_events_that_stay_alone_keep_their_likelihood_to_the_bit():
    """Times a duration and divided by it, 0.7 for 0.3 s would be another number; so would a mean over one event."""
    alone = [(0, 10 * n, 10 * n + 1 + n % 7, 0.7 + 0.003 * n) for n in range(60)]
    duration = np.array([stop / RATE - start / RATE for _, start, stop, _ in alone])
    likelihood = np.array([row[3] for row in alone])
    assert np.sum(likelihood * duration / duration != likelihood) > 5
    given = table(*alone, (1, 0, 2, 0.7), (1, 3, 5, 0.9))  # and two that become one beside them
    found = merge_gaps(given, 0.2)
    assert found["likelihood"][:-1].tolist() == likelihood.tolist()
    assert rows(found)[-1] == (1, 0, 5, 0.8)


def test_classes_that_follow_each_other_are_never_joined():
    given = [(0, 0, 10, 0.9), (1, 10, 12, 0.1)]
    assert rows(merge_gaps(table(*given), 5.0)) == given


def test_durations_include_their_limits_and_drop_what_lies_outside():
    given = table((0, 0, 1, 0.1), (0, 5, 8, 0.2), (1, 0, 3, 0.3), (1, 5, 12, 0.4))
    assert rows(within_durations(given, 0.3)) == [(0, 5, 8, 0.2), (1, 0, 3, 0.3), (1, 5, 12, 0.4)]
    assert rows(within_durations(given, 0.0, 0.3)) == [(0, 0, 1, 0.1), (0, 5, 8, 0.2), (1, 0, 3, 0.3)]
    assert rows(within_durations(given, np.array([0.0, 0.31]))) == [(0, 0, 1, 0.1), (0, 5, 8, 0.2), (1, 5, 12, 0.4)]


def test_only_some_classes():
    assert rows(only_classes(table(*EVENTS), np.array([1]))) == EVENTS[3:]


def test_by_time_orders_by_onset_then_class():
    given = table((0, 5, 6, 0.1), (1, 0, 3, 0.2), (1, 5, 9, 0.3))
    assert rows(by_time(given)) == [(1, 0, 3, 0.2), (0, 5, 6, 0.1), (1, 5, 9, 0.3)]


@pytest.mark.parametrize("function", [lambda e: merge_gaps(e, 1.0), within_durations, by_time])
def test_nothing_stays_nothing(function):
    assert len(function(table())) == 0
