"""Which segments an update sees: a pure function of (seed, update), the same for any number of workers."""

from __future__ import annotations

import numpy as np
from a2v_data.corpus import Corpus
from a2v_data.sampling import ActiveConfig, SamplingConfig, draw_active, draw_segments
from a2v_data.training_part import TrainingPart
from numpy.typing import NDArray


class SegmentSampler:
    """Draws every segment once an epoch, in an order given by (seed, epoch).

    corpus: packed store; recordings: their indices; segment_samples: samples of a segment; frame_samples: shifts are
    multiples of it, so that frames of the front end fall on the same grid (but at a recording's end, which its last
    segment ends with); random_offset: shift each segment by up to half its length within its recording; labelled_only:
    only segments in which something was annotated.
    """

    def __init__(
        self,
        corpus: Corpus,
        recordings: list[int],
        segment_samples: int,
        frame_samples: int,
        batch: int,
        micro_batches: int,
        seed: int,
        random_offset: bool,
        labelled_only: bool = False,
    ) -> None:
        self.corpus = corpus
        self.samples = segment_samples
        self.frame = frame_samples
        self.segments = corpus.segments(
            segment_samples / corpus.sample_rate, recordings=recordings, labelled_only=labelled_only
        )
        self.batch, self.micro_batches, self.seed, self.random_offset = batch, micro_batches, seed, random_offset
        self.lengths = np.array([recording.n_samples for recording in corpus.recordings])

    def draw(self, update: int, micro: int) -> NDArray[np.void]:
        """The segments of one micro-batch: structured array (recording, start in samples) of length batch."""
        first = (update * self.micro_batches + micro) * self.batch
        positions = np.arange(first, first + self.batch)
        epochs, places = np.divmod(positions, len(self.segments))
        chosen = np.empty(self.batch, dtype=np.int64)
        for epoch in np.unique(epochs):
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.segments))
            chosen[epochs == epoch] = order[places[epochs == epoch]]
        segments = self.segments[chosen].copy()
        if self.random_offset:
            rng = np.random.default_rng([self.seed, 1, update, micro])
            shift = rng.integers(-self.samples // 2, self.samples // 2 + 1, self.batch) // self.frame * self.frame
            room = np.maximum(self.lengths[segments["recording"]] - self.samples, 0)
            segments["start"] = np.clip(segments["start"] + shift, 0, room)
        return segments


class DrawnSampler:
    """Draws every segment anew, as `sampling` says, from a generator of (seed, update, micro-batch).

    part: the recordings to draw from; segment_samples, frame_samples: as in `SegmentSampler`.
    """

    def __init__(
        self,
        part: TrainingPart,
        segment_samples: int,
        frame_samples: int,
        batch: int,
        seed: int,
        sampling: SamplingConfig | ActiveConfig,
    ) -> None:
        self.part, self.samples, self.frame = part, segment_samples, frame_samples
        self.batch, self.seed, self.sampling = batch, seed, sampling

    def draw(self, update: int, micro: int) -> NDArray[np.void]:
        """The segments of one micro-batch: structured array (recording, start in samples) of length batch."""
        rng = np.random.default_rng([self.seed, 2, update, micro])
        if isinstance(self.sampling, SamplingConfig):
            return draw_segments(self.part, self.samples, self.frame, self.batch, self.sampling, rng)
        return draw_active(self.part, self.samples, self.frame, self.batch, self.sampling, rng)
