"""One recording as segments of one length, each with its labels: the work of one task of `prepare.py`.

Everything is written in `.work/` of the output folder first and renamed when the recording is complete, so that a
recording's segments are all there or none is, but for a kill in the middle of the renaming.
"""

import hashlib
import math
import os
import shutil
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from a2v_data.annotations import Annotation
from a2v_data.audio import AudioError
from a2v_data.conversion import Converted, SourceRecording, convert
from a2v_data.meerkat import write_events
from a2v_data.resampling import resampled_length
from a2v_data.scheduling import Advance

WORK = ".work"
WAV_HEAD_BYTES = 44
Piece = tuple[str, float, float, bool, int]  # label, onset and offset in the segment (s), focal, number of the event


@dataclass(frozen=True, slots=True)
class SegmentNames:
    """Names of a recording's segments: after the recording (`stem`), or by chance from `seed`."""

    recording: str
    stem: str
    seed: int | None

    def __call__(self, index: int) -> str:
        if self.seed is None:
            return f"{self.stem}_s{index:05d}"
        return hashlib.blake2b(f"{self.seed}\n{index}\n{self.recording}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """A recording to cut into `folder`. events: None where it is not labelled. audio: False for the labels alone."""

    recording: SourceRecording
    names: SegmentNames
    folder: Path
    sample_rate: int
    segment_samples: int
    classes: tuple[str, ...]
    events: tuple[Annotation, ...] | None
    audio: bool = True

    @property
    def samples(self) -> int:
        """Samples of the recording at the new rate."""
        return resampled_length(self.recording.samples, self.recording.rate, self.sample_rate)

    @property
    def segments(self) -> int:
        """How many segments it becomes; the last one may be padded."""
        return -(-self.samples // self.segment_samples)

    @property
    def segment_bytes(self) -> int:
        """Size of one WAV file."""
        return WAV_HEAD_BYTES + 2 * self.segment_samples

    def wav(self, index: int) -> Path:
        """Where segment `index` lies."""
        return self.folder / "wav" / f"{self.names(index)}.wav"

    def label(self, index: int) -> Path:
        """Where its labels lie."""
        return self.folder / "lbl" / f"{self.names(index)}.h5"


def segment_recording(task: SegmentTask, advance: Advance) -> Converted | AudioError | None:
    """Write the segments and labels of one recording; None where only labels were wanted."""
    name = hashlib.blake2b(task.recording.name.encode(), digest_size=8).hexdigest()
    aside = task.folder / WORK / name
    aside.mkdir(parents=True, exist_ok=True)
    try:
        converted = None
        if task.audio:
            converted = convert(task.recording, task.sample_rate, partial(_write_wavs, aside, task), advance)
        else:
            advance(task.recording.duration_s)
        _write_labels(aside, task)
        _move_into_place(aside, task)
        return converted
    except AudioError as error:
        return error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def cut_events(
    events: Sequence[Annotation], segments: int, segment_samples: int, sample_rate: int
) -> list[list[Piece]]:
    """The pieces of each segment. An event's pieces share its number, which counts the recording's events by onset.

    A piece of less than half a sample belongs to the neighbour that has the rest of the event.
    """
    pieces: list[list[Piece]] = [[] for _ in range(segments)]
    segment_s = segment_samples / sample_rate
    for number, event in enumerate(sorted(events, key=lambda event: (event.onset_s, event.offset_s, event.label))):
        first = min(math.floor(event.onset_s / segment_s), segments - 1)
        last = max(first, min(math.ceil(event.offset_s / segment_s), segments) - 1)
        cut = []
        for index in range(first, last + 1):
            start_s = index * segment_samples / sample_rate
            onset_s = max(event.onset_s - start_s, 0.0)
            offset_s = min(event.offset_s - start_s, segment_s)
            cut.append((offset_s - onset_s, index, (event.label, onset_s, offset_s, event.focal, number)))
        longest = max(cut)[0]
        for length_s, index, piece in cut:
            if length_s == longest or length_s * sample_rate >= 0.5:
                pieces[index].append(piece)
    return pieces


def _write_wavs(folder: Path, task: SegmentTask, blocks: Iterator[np.ndarray]) -> None:
    """Segments 0.wav, 1.wav ... of the blocks' samples, the last one padded with zeros."""
    index = 0
    file: wave.Wave_write | None = None
    left = 0
    try:
        for block in blocks:
            while len(block):
                if file is None:
                    file, left = _new_wav(folder / f"{index}.wav", task), task.segment_samples
                file.writeframesraw(block[:left].astype("<i2").tobytes())
                left, block = left - min(left, len(block)), block[left:]
                if left == 0:
                    file.close()
                    file, index = None, index + 1
        if file is not None:
            file.writeframesraw(bytes(2 * left))
    finally:
        if file is not None:
            file.close()


def _new_wav(path: Path, task: SegmentTask) -> wave.Wave_write:
    file = wave.open(str(path), "wb")  # noqa: SIM115  # the caller closes it
    file.setparams((1, 2, task.sample_rate, task.segment_samples, "NONE", ""))
    return file


def _write_labels(folder: Path, task: SegmentTask) -> None:
    if task.events is None:
        return
    cut = cut_events(task.events, task.segments, task.segment_samples, task.sample_rate)
    for index, pieces in enumerate(cut):
        write_events(folder / f"{index}.h5", pieces, task.sample_rate, task.classes)


def _move_into_place(aside: Path, task: SegmentTask) -> None:
    for index in range(task.segments):
        wav, label = task.wav(index), task.label(index)
        if task.audio:
            wav.parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside / f"{index}.wav", wav)
        if task.events is None:
            label.unlink(missing_ok=True)
        else:
            label.parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside / f"{index}.h5", label)
