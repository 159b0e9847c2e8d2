"""Licences of recordings, as a table beside them says: that of `importers/xeno_canto.py`."""

import csv
from collections import Counter
from pathlib import Path

from a2v_data.storage import check_regular

TABLE, COLUMN = "recordings.csv", "lic"
NAMED = 5  # licences that are told by name
UNKNOWN = "not recorded"


def recorded_licences(folder: Path) -> str | None:
    """Each licence in the column `lic` of a folder's `recordings.csv`, and how many recordings have it, the most common
    first; None where there is no such table or it names none."""
    try:
        check_regular(folder / TABLE)
        with (folder / TABLE).open(newline="", encoding="utf-8") as file:
            counts = Counter((row.get(COLUMN) or "").strip() or UNKNOWN for row in csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):  # any table may have this name
        return None
    if not set(counts) - {UNKNOWN}:
        return None
    told = [f"{licence} ({count})" for licence, count in counts.most_common(NAMED)]
    return ", ".join(told) + (f" and {len(counts) - NAMED} more" if len(counts) > NAMED else "")
