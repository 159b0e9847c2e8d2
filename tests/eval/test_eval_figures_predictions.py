"""Strips of events and activity as a reader sees them."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from a2v_eval.activity import activity_by_hour, activity_within
from a2v_eval.figures import EventPanel, activity_figure, strip_figure
from eval_drawn import complaints, drawn_texts

pytestmark = pytest.mark.slow

RATE = 8000
NAME = "a_very_long_site_name/SITE3_20240618_053000_and_more.wav"


def panel(start_s: float = -1.0, duration_s: float = 0.2, seconds: float = 2.2) -> EventPanel:
    waveform = np.random.default_rng(0).normal(size=round(seconds * RATE)).astype(np.float32)
    return EventPanel(waveform, RATE, start_s, duration_s, (NAME, "at 1:02:03.45 (05:30:00) · 0.987"))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_strips_have_no_fault_and_mark_the_event(count: int):
    figure = strip_figure([panel()] * count, 2.2, 1.0, "cc: events")
    assert complaints(figure) == []
    drawn = [axis for axis in figure.axes if axis.get_images()]
    assert len(drawn) == count
    for axis in drawn:
        (box,) = axis.patches
        assert (box.get_x(), box.get_width()) == pytest.approx((0, 0.2))
        assert axis.get_xlim() == pytest.approx((-1.0, 1.2)) and axis.get_ylim() == (0, 4)


def test_an_event_longer_than_a_panel_and_one_at_the_start_of_its_recording():
    figure = strip_figure([panel(duration_s=30, seconds=10), panel(start_s=-0.1, seconds=1.3)], 10.0, 1.0)
    long, early = figure.axes
    assert long.get_xlim() == pytest.approx((-1, 9))
    assert early.get_xlim() == pytest.approx((-4.9, 5.1))
    assert early.get_images()[0].get_extent()[0] == pytest.approx(-0.1)  # before it there is no sound


def test_a_recording_that_is_gone_says_so_in_its_place():
    gone = EventPanel(None, RATE, -1.0, 0.2, ("b.wav", "at 0:01.00 · 0.9"), "its file cannot be read")
    figure = strip_figure([panel(), gone], 2.2, 1.0)
    assert "its file cannot be read" in [text.get_text() for text in drawn_texts(figure)]
    assert complaints(figure) == []
    with pytest.raises(ValueError, match="empty"):
        strip_figure([], 2.0, 1.0)


@pytest.mark.parametrize("classes", [1, 3, 9])
@pytest.mark.parametrize("days", [1, 120])
def test_activity_by_day_has_no_fault(classes: int, days: int):
    def recordings():
        for day in range(days):
            start = datetime.fromordinal(datetime(2024, 3, 1).toordinal() + day).replace(hour=5)
            yield start, 7200.0, np.linspace(0, 7199, 50), np.arange(50) % classes

    activity = activity_by_hour(recordings(), classes)
    assert activity is not None
    figure = activity_figure(activity, [f"class {number}" for number in range(classes)])
    assert complaints(figure) == []
    texts = [text.get_text() for text in drawn_texts(figure)]
    assert "2024-03-01" in texts and "Hour of the day" in texts
    assert f"class 0 ({days * -(-50 // classes)})" in texts


@pytest.mark.parametrize("names", [["only.wav"], [NAME, "b$_{x}.wav", "_c.wav"], [f"r{n}.wav" for n in range(300)]])
def test_activity_within_recordings_has_no_fault(names: list[str]):
    found = [(np.array([1.0, 50.0]), np.array([0, 1]))] * len(names)
    activity = activity_within(names, [60.0] * len(names), found, 3)
    assert activity is not None
    figure = activity_figure(activity, ["cc", "sn", "never"])
    assert complaints(figure) == []
    texts = [text.get_text() for text in drawn_texts(figure)]
    assert "Time within the recording (s)" in texts and not any("never" in text for text in texts)


def test_activity_without_any_event():
    activity = activity_within(["a.wav"], [60.0], [(np.array([]), np.array([], int))], 1)
    assert activity is not None
    figure = activity_figure(activity, ["cc"])
    assert "no event" in [text.get_text() for text in drawn_texts(figure)] and complaints(figure) == []
