"""Date and time out of the names that recorders write."""

from __future__ import annotations

from datetime import datetime

import pytest
from a2v_data.recording_times import start_time

DAWN = datetime(2024, 6, 18, 5, 30, 0)


@pytest.mark.parametrize(
    "name",
    [
        "20240618_053000.WAV",  # AudioMoth
        "20240618_053000T.WAV",  # AudioMoth, triggered
        "SITE3_20240618_053000.wav",  # Song Meter
        "SITE3_20240618_053000_000.wav",
        "mic2-2024-06-18T05-30-00.flac",
        "2024-06-18 05.30.00.wav",
        "20240618053000.wav",
        "2023/night/20240618_053000.WAV",
        "20240631_053000_20240618_053000.wav",  # the first is no date
    ],
)
def test_time_in_a_name(name: str):
    assert start_time(name) == DAWN


@pytest.mark.parametrize(
    "name",
    [
        "monday.wav",
        "20240618.wav",
        "20240618_0530.wav",
        "bl26lb16_210412_0722.7932.flac",
        "20241318_053000.wav",
        "20240618_243000.wav",
        "120240618_053000.wav",
        "20240618_0530001.wav",
        "20240618_053000/a.wav",  # a folder may be the day of a card's removal
    ],
)
def test_no_time_in_a_name(name: str):
    assert start_time(name) is None
