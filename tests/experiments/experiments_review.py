"""A folder to review: synthetic meerkat calls in recordings named as by a recorder, and a table of what a model could
have found in them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile
from a2v_data.meerkat import read_label_file
from a2v_data.synth import synthesise

RATE = 8000


def make_calls(folder: Path, minutes: int = 4, seed: int = 3) -> tuple[Path, Path]:
    """Recordings of a minute and predictions in them; the table and the folder of the recordings. Some calls are not
    found, some are found where none is, edges are off by up to 30 ms."""
    rng = np.random.default_rng(seed)
    corpus = synthesise(folder / "corpus", minutes, seed)
    audio = folder / "audio"
    audio.mkdir()
    rows: list[list[object]] = []
    for minute in range(minutes):
        name = f"SITE3_2024061{8 + minute // 60}_{5 + minute // 60:02d}{minute % 60:02d}00.wav"
        parts = []
        for segment in range(6):
            stem = f"r{minute:04d}_s{segment}"
            parts.append(soundfile.read(corpus / "wav" / f"{stem}.wav", dtype="int16")[0])
            for label, onset_s, offset_s in calls_of(corpus / "lbl" / f"{stem}.h5"):
                if rng.random() < 0.85:
                    onset, offset = np.array([onset_s, offset_s]) + rng.uniform(-0.03, 0.03, 2) + segment * 10
                    rows.append(
                        [
                            name,
                            round(max(onset, 0), 3),
                            round(max(offset, onset + 0.03), 3),
                            label,
                            round(rng.beta(5, 2), 3),
                        ]
                    )
        for onset in rng.uniform(0, 59, 3):
            rows.append(
                [name, round(onset, 3), round(onset + rng.uniform(0.1, 0.4), 3), "cc", round(rng.beta(2, 5), 3)]
            )
        soundfile.write(audio / name, np.concatenate(parts), RATE, subtype="PCM_16")
    table = folder / "calls.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "onset_s", "offset_s", "label", "likelihood"], *rows])
    return table, audio


def calls_of(labels: Path) -> list[tuple[str, float, float]]:
    """Class, onset and offset of each call but synch pulses."""
    events = read_label_file(labels, labels.stem, labels.name).events
    return [(one.label, one.onset_s, one.offset_s) for one in events if one.label != "synch"]
