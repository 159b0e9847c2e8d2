"""When a recording began, by its name: recorders write the date and time of their clock there."""

import re
from datetime import datetime
from pathlib import PurePosixPath

PATTERN = "YYYYMMDD_HHMMSS"
_TIME = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)[-_.T ]?([01]\d|2[0-3])([-_.:hH]?)([0-5]\d)[-_.:mM]?([0-5]\d)(?!\d)"
)


def start_time(name: str) -> datetime | None:
    """The date and time in the name of a file, to the second, on the recorder's clock; None where there is none.

    As AudioMoth, Song Meter and most others write it, 20240618_053000.WAV, also after a prefix or with separators:
    SITE3_20240618_053000.wav, 2024-06-18T05-30-00.flac, 20240618053000.wav. The first that is a real date counts.
    Folders do not.
    """
    for match in _TIME.finditer(PurePosixPath(name).name):
        try:
            year, month, day, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 7, 8))
            return datetime(year, month, day, hour, minute, second)
        except ValueError:  # the 31st of June
            continue
    return None
