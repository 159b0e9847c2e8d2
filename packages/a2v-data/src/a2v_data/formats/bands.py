"""Frequencies of events, where a table has them: Raven's Low Freq and High Freq, and columns called alike.

They are only looked at to say what a model cannot hear, so a field that is no frequency is no mistake.
"""

import math
from collections.abc import Sequence

from a2v_data.formats.table import Header, TableError

Band = tuple[float, float]  # lowest and highest frequency in Hz
LOW = ("Low Freq (Hz)", "low_hz", "low_freq", "freq_low", "min_freq", "freq_min", "f_min", "fmin", "low_frequency",
       "min_frequency", "minimum_frequency", "LowFreq", "Low Frequency (Hz)")  # fmt: skip
HIGH = ("High Freq (Hz)", "high_hz", "high_freq", "freq_high", "max_freq", "freq_max", "f_max", "fmax",
        "high_frequency", "max_frequency", "maximum_frequency", "HighFreq", "High Frequency (Hz)")  # fmt: skip


def band_columns(header: Header) -> tuple[int | None, int] | None:
    """Positions of the lowest (None: there is none) and the highest frequency; None without the highest."""
    try:
        low, high = header.find(*LOW), header.find(*HIGH)
    except TableError:  # a column stands twice
        return None
    return None if high is None else (low, high)


def band_in(columns: tuple[int | None, int] | None, row: Sequence[str]) -> Band | None:
    """The band of a row; None where it has none."""
    if columns is None or columns[1] >= len(row):
        return None
    low, high = columns
    return band(row[low] if low is not None and low < len(row) else "0", row[high])


def band(low: str, high: str) -> Band | None:
    """Two fields as a band; None where they are no frequencies in order."""
    try:
        low_hz, high_hz = float(low or 0), float(high)
    except ValueError:
        return None
    return (low_hz, high_hz) if math.isfinite(high_hz) and 0 <= low_hz < high_hz else None
