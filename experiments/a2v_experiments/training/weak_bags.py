"""Recordings that are labelled as a whole only, as finetuning hears them: each with all of its windows.

Contract. A micro-batch's recordings are a pure function of (seed, update, micro-batch). Every frame of a recording
counts once, whatever its windows share. Legend: B windows, T frames, R recordings, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from a2v_data.corpus import Corpus
from a2v_data.plan import FOCAL
from numpy.typing import NDArray

from ..recipe.trainings import recordings_of

WEAK_DRAW = 7  # of the generators' seeds: that of this sampler


@dataclass(frozen=True)
class Bags:
    """The windows of some recordings. segments (B,) SEGMENT_DTYPE; recording (B,): which of the R each belongs to;
    counted (B, T): frames that no earlier window of the recording has; presence (R, C): 1 where a class calls, NaN
    where nobody knows."""

    segments: NDArray[np.void]
    recording: NDArray[np.int64]
    counted: NDArray[np.bool_]
    presence: NDArray[np.float32]


class BagSampler:
    """Draws every recording once an epoch, in an order given by (seed, epoch).

    recordings: positions of recordings that are labelled as a whole only; segment_samples, frame_samples: of a window
    and of a frame; frames: that the model gives of a window; segments: how many windows a micro-batch has about, but it
    has at least one recording.
    """

    def __init__(
        self,
        corpus: Corpus,
        recordings: list[int],
        segment_samples: int,
        frame_samples: int,
        frames: int,
        segments: int,
        micro_batches: int,
        seed: int,
    ) -> None:
        self.corpus, self.recordings = corpus, np.asarray(recordings, np.int64)
        self.samples, self.frame, self.seed, self.micro_batches = segment_samples, frame_samples, seed, micro_batches
        self.segment_s = segment_samples / corpus.sample_rate
        windows = len(corpus.segments(self.segment_s, recordings=recordings))
        self.batch = recordings_of(segments, len(recordings), windows)
        self.frames = frames

    def draw(self, update: int, micro: int) -> Bags:
        """The recordings of one micro-batch, `batch` of them."""
        first = (update * self.micro_batches + micro) * self.batch
        epochs, places = np.divmod(np.arange(first, first + self.batch), len(self.recordings))
        chosen = [int(self._order(int(epoch))[place]) for epoch, place in zip(epochs, places, strict=True)]
        parts = [self.corpus.segments(self.segment_s, recordings=[recording]) for recording in chosen]
        counted = [row for part in parts for row in self._counted(part["start"])]
        return Bags(
            np.concatenate(parts),
            np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
            np.array(counted),
            np.array([self._presence(recording) for recording in chosen], np.float32),
        )

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, WEAK_DRAW, epoch]).permutation(self.recordings)

    def _counted(self, starts: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
        """Of each window the frames that begin where the one before it has ended."""
        ends = np.concatenate([starts[:1], starts[:-1] + self.samples])
        begins = starts[:, None] + np.arange(self.frames) * self.frame
        return list(begins >= ends[:, None])

    def _presence(self, recording: int) -> NDArray[np.float32]:
        labels_C = self.corpus.weak_labels(recording)
        assert labels_C is not None
        presence_C = labels_C.astype(np.float32)
        if FOCAL in self.corpus.classes and not any(FOCAL in names for names in self.corpus.weak.values()):
            presence_C[self.corpus.classes.index(FOCAL)] = np.nan  # only events say who called
        return presence_C
