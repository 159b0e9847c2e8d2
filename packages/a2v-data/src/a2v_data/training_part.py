"""The recordings of a corpus that a training may hear, with their events indexed once.

Sampling and augmentation read audio and labels through a `TrainingPart` only. It holds positions in its own list, not
in the corpus, so a recording that was not given (one to evaluate on) cannot be reached.
Legend: R recordings, E events, C classes, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from a2v_data.corpus import FULL_SCALE, Corpus
from a2v_data.intervals import IGNORED

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
LEAST_GAP_S = 0.05


@dataclass(frozen=True)
class EventIndex:
    """Events of the training recordings, by recording, then onset.

    recording: position in the part. number: class. onset_s, offset_s: as annotated. start, end: the samples of the
    event, at least one. before, after: samples on either side up to the next event of any class, to unsure time, or to
    the recording's end; 0 where another event overlaps that edge. by_class: the events of each class that has some.
    """

    recording: Ints
    number: Ints
    onset_s: NDArray[np.float64]
    offset_s: NDArray[np.float64]
    start: Ints
    end: Ints
    before: Ints
    after: Ints
    by_class: tuple[Ints, ...]

    def __len__(self) -> int:
        return len(self.start)

    def within(self, recording: int, start: int, end: int) -> Ints:
        """The events of a recording that sound in its samples [start, end)."""
        first, last = np.searchsorted(self.recording, [recording, recording + 1])
        return np.flatnonzero((self.end[first:last] > start) & (self.start[first:last] < end)) + first

    def draw(self, class_power: float, rng: Generator) -> int:
        """One event: a class by its number of events ** class_power, then one of its events uniformly."""
        counts = np.array([len(events) for events in self.by_class], np.float64)
        events = self.by_class[weighted(np.cumsum(counts**class_power), rng)]
        return int(events[rng.integers(len(events))])


@dataclass(frozen=True)
class Stretches:
    """Stretches [start, end) of training recordings, in samples."""

    recording: Ints
    start: Ints
    end: Ints

    @classmethod
    def between(cls, taken: Sequence[tuple[Ints, Ints]], lengths: Ints, least: int, among: Sequence[bool]) -> Stretches:
        """What nothing takes of those recordings that are `among`, `least` samples or more. taken: of each recording
        the starts, in order, and the ends of what does."""
        rows = [np.empty((3, 0), np.int64)]
        for number, (start, end) in enumerate(taken):
            if not among[number]:
                continue
            starts, ends = np.append(start, lengths[number]), np.concatenate([[0], np.maximum.accumulate(end)])
            free = starts - ends >= least
            rows.append(np.stack([np.full(free.sum(), number), ends[free], starts[free]]))
        return cls(*np.concatenate(rows, axis=1).astype(np.int64))

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def until(self) -> Ints:
        """Their lengths, summed up."""
        return np.cumsum(self.end - self.start)

    def draw(self, rng: Generator) -> int:
        """One of them, each as likely as it is long."""
        return weighted(self.until, rng)


class TrainingPart:
    """corpus: packed store; recordings: positions in it that may be heard, in any order.

    Raises `ValueError` where there is no recording. Events are read when first asked for: pretraining never does.
    """

    def __init__(self, corpus: Corpus, recordings: Sequence[int]) -> None:
        self._corpus = corpus
        self._positions = np.unique(np.asarray(recordings, np.int64))
        if not len(self._positions):
            raise ValueError(f"{corpus.folder}: no recording to train on was given; give one or more")
        chosen = [corpus.recordings[number] for number in self._positions]
        self._offsets = np.array([recording.offset for recording in chosen], np.int64)
        self._labelled = [recording.labelled for recording in chosen]
        self.lengths: Ints = np.array([recording.n_samples for recording in chosen], np.int64)
        self.sample_rate, self.classes = corpus.sample_rate, corpus.classes
        self._until = np.cumsum(self.lengths)

    def samples(self, recording: int, start: int, end: int) -> Floats:
        """Samples [start, end) of a recording of this part, float32 in [-1, 1]."""
        assert 0 <= recording < len(self.lengths) and 0 <= start <= end <= self.lengths[recording]
        first = self._offsets[recording]
        stored = self._corpus.audio[first + start : first + end]
        return np.multiply(stored, np.float32(1 / FULL_SCALE), dtype=np.float32)

    def read(self, segment: np.void, samples: int, frame_rate: float, frames: int) -> tuple[Floats, Floats]:
        """The samples of a drawn segment (SEGMENT_DTYPE), fewer where its recording ends, and its targets (T, C)."""
        waveform_N = self.samples(*self.place(segment, samples))
        return waveform_N, self._corpus.targets(np.array([segment]), frame_rate, frames)[0]

    def place(self, segment: np.void, samples: int) -> tuple[int, int, int]:
        """The recording of this part that a drawn segment is of, and its samples [start, end)."""
        recording = int(np.searchsorted(self._positions, segment["recording"]))
        assert self.position(recording) == segment["recording"], "a segment of another part"
        start = int(segment["start"])
        return recording, start, min(start + samples, int(self.lengths[recording]))

    def streams(self, recording: int) -> dict[str, Floats]:
        """What was recorded beside a recording of this part: grids (M, C) by name (`Corpus.stream_grids`)."""
        return self._corpus.stream_grids(self.position(recording))

    def position(self, recording: int) -> int:
        """Where a recording of this part stands in the corpus."""
        return int(self._positions[recording])

    def draw_recording(self, rng: Generator) -> int:
        """A recording, each as likely as it is long."""
        return weighted(self._until, rng)

    @cached_property
    def events(self) -> EventIndex:
        """The events of these recordings."""
        found = [self._corpus.labels(int(number)) for number in self._positions]
        recording = np.repeat(np.arange(len(found)), [len(events) for events in found])
        events = np.concatenate(found)
        spans = [self._samples_of(of, number) for number, of in enumerate(found)]
        rooms = [
            _rooms(*own, *taken, int(length))
            for own, taken, length in zip(spans, self._taken, self.lengths, strict=True)
        ]
        start, end = (np.concatenate(parts) for parts in zip(*spans, strict=True))
        before, after = (np.concatenate(parts) for parts in zip(*rooms, strict=True))
        numbers = events["class"].astype(np.int64)
        by_class = tuple(np.flatnonzero(numbers == number) for number in np.unique(numbers))
        onset_s, offset_s = events["onset_s"].copy(), events["offset_s"].copy()
        return EventIndex(recording, numbers, onset_s, offset_s, start, end, before, after, by_class)

    @cached_property
    def gaps(self) -> Stretches:
        """Event-free stretches of the labelled recordings, of 0.05 s or more; unlabelled ones may hold calls
        anywhere."""
        return Stretches.between(
            self._taken, self.lengths, math.ceil(LEAST_GAP_S * self.sample_rate), self._labelled
        )  # fmt: skip

    @cached_property
    def known(self) -> Stretches | None:
        """What is annotated of the recordings; None where all is that a target is read from."""
        if not any(len(self._ignored(number)) for number in self._positions):
            return None
        spans = [self._samples_of(self._ignored(at), number) for number, at in enumerate(self._positions)]
        return Stretches.between(spans, self.lengths, 1, np.ones(len(spans), bool).tolist())

    def _ignored(self, position: int) -> NDArray[np.void]:
        unsure = self._corpus.unsure_of(int(position))
        return unsure[unsure["class"] == IGNORED]

    @cached_property
    def _taken(self) -> list[tuple[Ints, Ints]]:
        """Of each recording, where events and unsure time start and end, in samples, by start."""
        return [self._samples_of(self._corpus.truth(int(at)), number) for number, at in enumerate(self._positions)]

    def _samples_of(self, events: NDArray[np.void], recording: int) -> tuple[Ints, Ints]:
        """Starts, in order, and ends of events of one recording of this part, at least one sample each."""
        length = self.lengths[recording]
        start = np.clip(np.round(events["onset_s"] * self.sample_rate).astype(np.int64), 0, length - 1)
        end = np.clip(np.round(events["offset_s"] * self.sample_rate).astype(np.int64), start + 1, length)
        order = np.argsort(start, kind="stable")
        return start[order], end[order]


def weighted(cumulative: NDArray[np.generic], rng: Generator) -> int:
    """A place of a rising cumulative sum, each as likely as its step is high."""
    drawn = rng.random() * cumulative[-1]
    return min(int(np.searchsorted(cumulative, drawn, side="right")), len(cumulative) - 1)


def _rooms(start: Ints, end: Ints, starts: Ints, ends: Ints, length: int) -> tuple[Ints, Ints]:
    """Samples before and after each event of one recording that nothing else takes. starts, ends: of all that takes
    some, these events included, by start."""
    if not len(start):
        return start, end
    latest = np.concatenate([[0], np.maximum.accumulate(ends)])  # latest end of the first i
    before = start - latest[np.searchsorted(starts, start, side="left")]
    order = np.argsort(ends, kind="stable")
    earliest = np.append(np.minimum.accumulate(starts[order][::-1])[::-1], length)  # earliest start of the last i
    after = earliest[np.searchsorted(ends[order], end, side="right")] - end
    return np.maximum(before, 0), np.maximum(after, 0)
