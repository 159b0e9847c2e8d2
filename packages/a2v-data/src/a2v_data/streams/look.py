"""Streams that lie beside recordings and nobody named yet: what to write into a recipe to hear them."""

from pathlib import Path

import numpy as np

from a2v_data.streams.config import FILE, TIME
from a2v_data.streams.folder import FOLDER, shared_tables, tables_in
from a2v_data.streams.tables import HDF5, StreamError, read_table

ENOUGH = 10_000  # rows that tell a rate


def unnamed_streams(folder: Path) -> str | None:
    """One line for a source with tables of streams: their columns and rate, as `data.streams` has them; None where
    there are none. Only CSV and Parquet are looked into."""
    shared = shared_tables(folder)
    paths = shared or tables_in(folder / FOLDER)
    if not paths:
        return None
    path = paths[0]
    shown = path.relative_to(folder).as_posix()
    heard = f"{shown if shared else f'{FOLDER}/'}: recorded beside sound, and heard only where data.streams names it"
    try:
        table = read_table(path, shown) if path.suffix.lower() not in HDF5 else None
    except StreamError:
        table = None
    columns = [] if table is None else [name for name in table.column_names if name not in (TIME, FILE)]
    if table is None or TIME not in table.column_names or not columns:
        return f"{heard}: {{NAME: {{columns: [...], rate: HZ}}}}"
    try:
        times_s = table.column(TIME).slice(0, ENOUGH).to_numpy(zero_copy_only=False).astype(float)
    except (TypeError, ValueError, OverflowError):  # told where streams are read
        times_s = np.empty(0)
    steps_s = np.diff(times_s)
    steps_s = steps_s[np.isfinite(steps_s) & (steps_s > 0)]
    rate = f"{1 / float(np.median(steps_s)):.3g}" if len(steps_s) else "HZ"
    return f"{heard}: {{NAME: {{columns: [{', '.join(columns)}], rate: {rate}}}}}"
