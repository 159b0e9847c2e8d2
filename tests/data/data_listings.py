"""Corpora without audio, from what is in them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from a2v_data.corpus_files import EVENT_DTYPE, Recording
from a2v_data.listing import SourceListing

RATE = 1000


def listing(
    seconds: Sequence[float],
    classes: Sequence[str],
    events: Sequence[tuple[int, int, float, float]],
    unlabelled: Sequence[int] = (),
    names: Sequence[str] | None = None,
) -> SourceListing:
    """Recordings of given lengths at 1000 Hz, and events (recording, class, onset, offset)."""
    recordings = []
    for number, length in enumerate(seconds):
        name = names[number] if names else f"r{number:03d}.wav"
        samples = round(length * RATE)
        recordings.append(Recording(name, samples, number not in unlabelled, 0, RATE, samples))
    rows = np.array(list(events), EVENT_DTYPE)
    rows = rows[np.lexsort((rows["onset_s"], rows["recording"]))]
    meta = {"source": {"audio_folder": "/data/audio"}}
    return SourceListing(Path("somewhere"), tuple(classes), recordings, rows, meta, [], [])


def of_counts(counts: np.ndarray, names: Sequence[str] | None = None) -> SourceListing:
    """One recording per row of `counts` (events per class)."""
    events = [
        (row, column, 0.01 * k, 0.01 * k + 0.005)
        for row in range(len(counts))
        for column in range(counts.shape[1])
        for k in range(counts[row, column])
    ]
    classes = [f"c{column}" for column in range(counts.shape[1])]
    return listing([10.0] * len(counts), classes, events, names=names)
