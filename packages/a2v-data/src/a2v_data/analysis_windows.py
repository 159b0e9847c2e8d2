"""Events that are analysis windows of a program: the first and the last of a recording may pass its ends.

Such programs fill the last window up with silence (BirdNET: 3 s), so that it ends with the recording, not after it.
"""

from collections import Counter
from collections.abc import Sequence

from a2v_data.formats.table import Row, Table

SAME_S = 0.0015  # lengths are equal within this: programs write milliseconds
LONGEST_S = 60.0  # windows are shorter; what is longer and of one length was marked as whole files
SHORTEST_S = 2.0  # people mark calls of one short length, too, so that only a likelihood tells such a window


def window_lengths(tables: Sequence[Table]) -> list[float | None]:
    """Of each table the length of its windows in seconds, None where its events are none.

    A program is known to have windows (BirdNET and those like it), or its tables show it: two or more events in all
    tables of a format, all of one length, and with likelihoods, or on a grid of whole or half windows. A table's own
    length is the one that most of its events have.
    """
    found: list[float | None] = [None] * len(tables)
    lengths = [[length for row in table.rows if (length := _length(row)) is not None] for table in tables]
    for format_ in {table.format for table in tables if not table.windows}:
        members = [at for at, table in enumerate(tables) if table.format == format_ and not table.windows]
        spans = [span for at in members for span in lengths[at]]
        if len(spans) < 2 or max(spans) > LONGEST_S or max(spans) - min(spans) > SAME_S:
            continue
        rows = [row for at in members for row in tables[at].rows]
        likely = all(tables[at].likelihood is not None for at in members)
        if (likely and max(spans) > 2 * SAME_S) or (max(spans) >= SHORTEST_S and _on_grid(rows, max(spans) / 2)):
            for at in members:
                found[at] = max(spans)
    for at, table in enumerate(tables):
        if table.windows and lengths[at]:
            counts = Counter(round(length, 3) for length in lengths[at])
            found[at] = max(counts, key=lambda length: (counts[length], length))
    return found


def _on_grid(rows: Sequence[Row], step_s: float) -> bool:
    """Whether all events start at multiples of a step."""
    onsets = [row.onset_s for row in rows if row.onset_s is not None]
    return all(abs(onset - round(onset / step_s) * step_s) <= SAME_S for onset in onsets)


def _length(row: Row) -> float | None:
    """A point has none, and what ends before it starts is wrong."""
    if row.onset_s is None or row.offset_s is None or row.in_samples or row.offset_s <= row.onset_s:
        return None
    return row.offset_s - row.onset_s
