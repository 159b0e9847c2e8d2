"""When a recording began, by its name: recorders write the date and time of their clock there.

Forms, as their makers document them or their recordings show: AudioMoth (also the hexadecimal seconds of its firmware
before 1.4), Song Meter 2 to 4 and Mini, Frontier Labs, Swift and Rockhopper, SoundTrap, Titley, BirdNET-Pi, and the ISO
form. A number is a time only where all of its parts can be one: of a date with four digits behind it (Tascam, Olympus,
Sony: 210421_0012) these may as well be a counter, so that is none.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePosixPath

PATTERN = "YYYYMMDD_HHMMSS"
FIRST_YEAR = 1980  # none was recorded before by what writes such names, nor is any from years to come
HEX_FROM, HEX_TO = datetime(2016, 1, 1), datetime(2030, 1, 1)  # AudioMoth's, which names seconds since 1970

_YEAR = r"(?P<year>(?:19|20)\d\d)"
_HOUR, _MINUTE, _SECOND = r"(?P<hour>[01]\d|2[0-3])", r"(?P<minute>[0-5]\d)", r"(?P<second>[0-5]\d)"
_END = r"(?!\d)(?![ _]?k?[hH]z)(?:[ _]?(?P<half>[AaPp])\.?[Mm](?![A-Za-z]))?"  # 192000Hz is a rate
_CLOCK = rf"{_HOUR}[-_.:hH]?{_MINUTE}[-_.:mM]?{_SECOND}{_END}"
_COMPACT = rf"{_HOUR}{_MINUTE}{_SECOND}"
_BETWEEN = r"(?:[-_.T $]|, | at |_-_| - |__|-birdnet-(?:RTSP_\d+-)?)"
# the date with four digits of the year, and something between it and the time
_FULL = re.compile(rf"(?<!\d){_YEAR}([-_.]?)(?P<month>\d\d)\2(?P<day>\d\d){_BETWEEN}{_CLOCK}")
_RUN = re.compile(rf"(?<!\d){_YEAR}([-_.]?)(?P<month>\d\d)\2(?P<day>\d\d){_CLOCK}")  # nothing between
# two digits of the year: only between signs, as a part of its own (Rockhopper, HARP), or after a serial number
# and a point (SoundTrap)
_SHORT = re.compile(
    r"(?:(?<![\w])|(?<=_))(?P<year>\d\d)(?P<month>\d\d)(?P<day>\d\d)[-_]"
    rf"{_COMPACT}(?=$|[-_. ()])(?P<half>)"
)
_SERIAL = re.compile(rf"^\d{{3,12}}\.(?P<year>\d\d)(?P<month>\d\d)(?P<day>\d\d){_COMPACT}(?=$|[._])(?P<half>)")
_HEX = re.compile(r"(?=\d*[A-F])[0-9A-F]{8}T?")  # with a letter: eight digits are a date or a number


def start_time(name: str) -> datetime | None:
    """The date and time in the name of a file, to the second, on the recorder's clock; None where there is none.

    20240618_053000.WAV, also after a prefix, with separators, a fraction or an offset (which are left out), with am or
    pm: SITE3_20240618$053000_000.wav, 20240618T053000+1000_REC.flac, x(2024_06_18-05_30_00).wav,
    2024-06-18-birdnet-05:30:00.wav, 20240618053000.wav; 240618-053000.wav and 5147.240618053000.wav; 66711B58.WAV. The
    first that is a real date counts, of those with all four digits of the year before others. Folders do not.
    """
    file = PurePosixPath(name).name
    return next(_times(file), None) or _hex_time(PurePosixPath(file).stem)


def _times(file: str) -> Iterator[datetime]:
    latest = datetime.now().year + 1
    for pattern in (_FULL, _RUN, _SERIAL, _SHORT):
        for match in pattern.finditer(file):
            year, month, day, minute, second = (
                int(match[part]) for part in ("year", "month", "day", "minute", "second")
            )
            year += 2000 if year < 100 else 0
            if FIRST_YEAR <= year <= latest:
                with suppress(ValueError):  # the 31st of June
                    yield datetime(year, month, day, _hour(int(match["hour"]), match["half"]), minute, second)


def _hour(hour: int, half: str | None) -> int:
    """Of the day; half: the letter of am or pm, if there is one. Raises ValueError where the hour is not of that."""
    if not half:
        return hour
    if half in "Pp" and hour > 12:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError
    return hour % 12 + (12 if half in "Pp" else 0)


def _hex_time(stem: str) -> datetime | None:
    if not _HEX.fullmatch(stem):
        return None
    time = datetime.fromtimestamp(int(stem[:8], 16), UTC).replace(tzinfo=None)
    return time if HEX_FROM <= time < HEX_TO else None
