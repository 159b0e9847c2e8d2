"""Events that are analysis windows of a program: the first and the last of a recording may pass its ends.

Such programs fill the last window up with silence (BirdNET: 3 s), so that it ends with the recording, not after it.
"""

from collections import Counter
from collections.abc import Sequence

from a2v_data.formats.table import Row, Table

SAME_S = 0.0015  # lengths are equal within this: programs write milliseconds
LONGEST_S = 60.0  # windows are shorter; what is longer and of one length was marked as whole files


def window_lengths(tables: Sequence[Table]) -> list[float | None]:
    """Of each table the length of its windows in seconds, None where its events are none.

    A program is known to have windows (BirdNET and those like it), or its tables show it: two or more events in all
    tables of a format, and all of one length. A table's own is the one that most of its events have.
    """
    found: list[float | None] = [None] * len(tables)
    lengths = [[length for row in table.rows if (length := _length(row)) is not None] for table in tables]
    for format_ in {table.format for table in tables if not table.windows}:
        members = [at for at, table in enumerate(tables) if table.format == format_ and not table.windows]
        spans = [span for at in members for span in lengths[at]]
        if len(spans) > 1 and 2 * SAME_S < max(spans) <= LONGEST_S and max(spans) - min(spans) <= SAME_S:
            for at in members:
                found[at] = max(spans)
    for at, table in enumerate(tables):
        if table.windows and lengths[at]:
            counts = Counter(round(length, 3) for length in lengths[at])
            found[at] = max(counts, key=lambda length: (counts[length], length))
    return found


def _length(row: Row) -> float | None:
    """A point has none, and what ends before it starts is wrong."""
    if row.onset_s is None or row.offset_s is None or row.in_samples or row.offset_s <= row.onset_s:
        return None
    return row.offset_s - row.onset_s
