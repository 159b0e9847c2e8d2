"""What a model hears in recordings, in units of a twentieth of a second, kept beside what is reviewed.

Contract. FOLDER/embeddings/ (FOLDER is that of the review: CALLS/review) holds a folder MARK for each model, window and
channel; nothing in it is ever changed, all of it may be deleted and is then made again.

`MARK/about.json`: what all files of MARK share (`About`); written aside and renamed before any of them. Its time of
    change is when it was last asked for: who names no model has the last one.
`MARK/STAMP.npy`: float16 (U, D + C) of a recording, memory-mapped when it is read. Row u is of the frames u * n to
    (u + 1) * n - 1 (n: frames of a unit; the last row may be of fewer): the mean of what the model's head sees, and
    the highest likelihood of each class (C = 0 for a model that is pretrained only). STAMP is of the recording's name,
    the size and time of change of its file, and the channel: a recording that changed has another one and is done
    anew, its old file is never read again. Written aside and renamed: a file that is there is whole.

So a crash leaves hidden files that nothing reads, and loses the recordings that were at hand; a call that was stopped
goes on with the others. Two processes that make the same file both leave a right one.

A unit of UNIT_S: calls of many species last 0.05 to 0.2 s, and in longer units they would be mostly background. Of such
calls in noise (docs/log.md) 73 % of the first ten hits are right with units of 0.02 s, 70 % with 0.05 s, 68 % with 0.1
s and 52 % with 0.25 s. On the disk an hour takes 15 MB for D + C = 104, and 111 MB for 768.

U units, D embedding, C classes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from a2v_data.audio import Channel
from a2v_data.documents import read_json
from a2v_data.state_lines import typed
from a2v_data.storage import write_text_aside
from numpy.typing import NDArray

from ..basics.errors import UserError
from ..basics.fingerprint import fingerprint
from ..predict.plan import Recording, read_headers
from ..predict.state import stamp_of

UNIT_S = 0.05
VERSION = 1
ABOUT, HIDDEN = "about.json", "embeddings"
Rows = NDArray[np.float16]


@dataclass(frozen=True)
class About:
    """What all files of a folder share. model: as tables name it; source: where it was, a folder or URI; digest: of its
    weights; frames: of a unit."""

    model: str
    source: str
    digest: str
    classes: tuple[str, ...]
    thresholds: dict[str, float]
    dim: int
    frames: int
    frame_rate: float
    segment_s: float
    overlap_s: float
    channel: Channel
    version: int = VERSION

    @property
    def unit_s(self) -> float:
        """Seconds of a unit: UNIT_S, but for whole frames."""
        return self.frames / self.frame_rate

    @property
    def mark(self) -> str:
        """The folder's name: of all that decides what is in its files."""
        decides = ("digest", "dim", "frames", "segment_s", "overlap_s", "version")
        config = {name: getattr(self, name) for name in decides} | {"channel": str(self.channel)}
        return fingerprint("embeddings", config)[:16]


@dataclass(frozen=True)
class Units:
    """What is there of some recordings. files: name -> file; left_out: name -> why it has none."""

    about: About
    files: dict[str, Path]
    left_out: dict[str, str] = field(default_factory=dict)

    def rows(self, name: str) -> Rows:
        """Of a recording, memory-mapped (U, D + C)."""
        found: Rows = np.load(self.files[name], mmap_mode="r")
        return found

    def embedding(self, name: str) -> Rows:
        """Of a recording (U, D)."""
        return self.rows(name)[:, : self.about.dim]

    def likelihood(self, name: str) -> Rows:
        """Of a recording (U, C)."""
        return self.rows(name)[:, self.about.dim :]


def unit_frames(frame_rate: float) -> int:
    """Frames of a unit, for so many a second."""
    return max(1, round(UNIT_S * frame_rate))


def unit_files(
    folder: Path, about: About, recordings: Mapping[str, Path]
) -> tuple[dict[str, Path], dict[str, Recording], dict[str, str]]:
    """Of the recordings (name -> path) that can be read their files, there or not, and headers; and why others have
    none."""
    good, wrong = read_headers(dict(recordings), about.channel)
    place = folder / HIDDEN / about.mark
    files = {name: place / f"{stamp_of(one, about.channel)[:24]}.npy" for name, one in good.items()}
    return files, good, wrong


def begin(folder: Path, about: About) -> Path:
    """The folder of a mark, which is from now on the last one that was asked for."""
    place = folder / HIDDEN / about.mark
    write_text_aside(place / ABOUT, json.dumps(asdict(about), indent=1, ensure_ascii=False) + "\n")
    return place


def last_about(folder: Path) -> About | None:
    """What was last asked for; None where nothing was."""
    found = sorted((folder / HIDDEN).glob(f"*/{ABOUT}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in found:
        try:
            about = typed(About, read_json(path))
            about = replace(about, classes=tuple(about.classes))
        except (OSError, ValueError, TypeError, KeyError):
            continue  # of another version of a2v, or somebody's own
        if about.version == VERSION:
            return about
    return None


def kept_units(folder: Path, recordings: Mapping[str, Path], making: str) -> Units:
    """What was made by the last call that made any, of the recordings (name -> path) that can be read.

    making: the command that makes them, for the message. Raises UserError where there are none, or not of all.
    """
    about = last_about(folder)
    if about is None:
        raise UserError(f"{folder}: no embeddings of the recordings yet; make them once: {making}")
    files, _, wrong = unit_files(folder, about, recordings)
    there = set(os.listdir(folder / HIDDEN / about.mark))
    missing = [name for name, path in files.items() if path.name not in there]
    if missing:
        raise UserError(
            f"{folder}: no embeddings of {len(missing)} of {len(files)} recordings, {missing[0]} the first;"
            f" make them: {making}"
        )
    return Units(about, files, wrong)
