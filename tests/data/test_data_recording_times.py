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
        "site(2024_06_18-05_30_00)x.wav",
        "66711B58.WAV",  # AudioMoth of before 2020: seconds since 1970
        "24F319055FDF2902_20240618_053000.WAV",  # behind its serial number
        "SITE3_20240618$053000.wav",  # Song Meter 2
        "SITE3_0+1_20240618_053000.123.wav",  # Song Meter 3
        "20240618T053000+1000_REC [-37.5397 141.3252].flac",  # Frontier Labs
        "S20240618T053000.123456+1000_E20240618T063000.654321+1000.flac",
        "S1071_20240618_053000_-0500.flac",  # Swift
        "240618-053000.123456.wav",  # Rockhopper
        "671387675.240618053000.wav",  # SoundTrap
        "2024-06-18-birdnet-05:30:00.mp3",
        "Turdus_merula-85-2024-06-18-birdnet-RTSP_1-05:30:00.mp3",
        "T2024-06-18_05-30-00_0000123.wav",
        "WhatsApp Audio 2024-06-18 at 5.30.00 AM (20240618_053000).mpeg",
        "2024-06-18 05-30-00 am.wav",
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
        "240618_0012.wav",  # the twelfth of that day, not twelve past midnight
        "10240618.wav",
        "57123456.wav",  # hexadecimal too, but as likely a number
        "DEADBEEF.wav",
        "66711b58.wav",
        "991332_053000.wav",
        "SN240618_053000x.wav",
        "6.240618053000.wav",
        "20240618_192000Hz.wav",
        "20991231_235959.wav",
        "19450508_120000.wav",
        "2024-06-18 13-30-00 am.wav",
        "20240618_053000/a.wav",  # a folder may be the day of a card's removal
    ],
)
def test_no_time_in_a_name(name: str):
    assert start_time(name) is None


def test_an_hour_of_the_afternoon():
    assert start_time("2024-06-18 at 05.30.00 PM.m4a") == DAWN.replace(hour=17)
    assert start_time("2024-06-18 12.30.00 am.wav") == DAWN.replace(hour=0)
