"""Which segments an update sees depends on (seed, update, micro-batch) alone, and every epoch sees each one once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import EVENT_DTYPE, CorpusWriter
from a2v_experiments.training.segments import SegmentSampler
from a2v_model import padded_lengths
from experiments_world import RATE, STRIDE, make_recipe

SAMPLES = RATE  # segments of 1 s


def sampler(
    corpus: Corpus, seed: int = 0, random_offset: bool = False, batch: int = 5, micro: int = 3
) -> SegmentSampler:
    recordings = list(range(len(corpus.recordings)))
    return SegmentSampler(corpus, recordings, SAMPLES, STRIDE, batch, micro, seed, random_offset)


def pairs(segments: np.ndarray) -> list[tuple[int, int]]:
    return [(int(recording), int(start)) for recording, start in segments]


@pytest.mark.parametrize("random_offset", [False, True])
def test_a_draw_is_a_pure_function_of_seed_update_and_micro_batch(corpus, random_offset):
    first, again = sampler(corpus, 3, random_offset), sampler(corpus, 3, random_offset)
    order = [(u, m) for u in range(20) for m in range(3)]
    forwards = {key: pairs(first.draw(*key)) for key in order}
    backwards = {key: pairs(again.draw(*key)) for key in reversed(order)}
    assert forwards == backwards
    assert [pairs(first.draw(*key)) for key in order] == list(forwards.values())  # and leaves no trace
    other = [pairs(sampler(corpus, 4, random_offset).draw(*key)) for key in order]
    assert other != list(forwards.values())


@pytest.mark.parametrize("seed, batch, micro", [(0, 5, 3), (1, 7, 2), (2, 2, 1), (3, 64, 2)])
def test_every_epoch_sees_each_segment_once(corpus, seed, batch, micro):
    drawn = sampler(corpus, seed, batch=batch, micro=micro)
    whole = pairs(corpus.segments(1.0))
    size = len(whole)
    assert size == sum(-(-r.n_samples // SAMPLES) for r in corpus.recordings)  # no sample is left out
    stream = [
        pair for u in range(4 * size // (batch * micro) + 1) for m in range(micro) for pair in pairs(drawn.draw(u, m))
    ]
    epochs = [stream[size * e : size * (e + 1)] for e in range(4)]
    for epoch in epochs:
        assert Counter(epoch) == Counter(whole)
    assert len({tuple(epoch) for epoch in epochs}) == 4  # each in another order


def test_micro_batches_of_an_update_are_disjoint_within_an_epoch(corpus):
    drawn = sampler(corpus)
    update = [pair for micro in range(3) for pair in pairs(drawn.draw(0, micro))]
    assert len(set(update)) == 15


@pytest.mark.parametrize("seed", range(4))
def test_random_offsets_stay_inside_their_recording_and_near_their_segment(corpus, seed):
    plain, shifted = sampler(corpus, seed), sampler(corpus, seed, random_offset=True)
    shifts = []
    for update in range(60):
        for micro in range(3):
            a, b = plain.draw(update, micro), shifted.draw(update, micro)
            assert (a["recording"] == b["recording"]).all()
            lengths = shifted.lengths[b["recording"]]
            assert (b["start"] >= 0).all() and (b["start"] + SAMPLES <= lengths).all()
            shifts.append(b["start"] - a["start"])
    shift = np.concatenate(shifts)
    assert np.abs(shift).max() <= SAMPLES // 2 + STRIDE
    assert (shift > 0).mean() > 0.2 and (shift < 0).mean() > 0.2  # both ways, more than now and then


def test_a_recording_shorter_than_a_segment_starts_at_its_start(tmp_path):
    writer = CorpusWriter(tmp_path, RATE, ["cc"])
    for name, samples in (("short", 1500), ("long", 3 * SAMPLES + 11)):
        writer.add(name, np.ones(samples, np.int16), True, RATE, samples, 1.0)
    writer.finish(np.empty(0, EVENT_DTYPE))
    drawn = sampler(Corpus.open(tmp_path), random_offset=True)
    for update in range(20):
        segments = drawn.draw(update, 0)
        assert (segments["start"][segments["recording"] == 0] == 0).all()
        assert (segments["start"][segments["recording"] == 1] <= 2 * SAMPLES + 11).all()


def test_only_the_recordings_asked_for_are_drawn(corpus):
    drawn = SegmentSampler(corpus, [2, 5], SAMPLES, STRIDE, 4, 1, 0, True)
    seen = {recording for update in range(10) for recording, _ in pairs(drawn.draw(update, 0))}
    assert seen == {2, 5}


def test_a_begun_frame_counts_as_a_whole_one(tmp_path):
    front_end = make_recipe(tmp_path).model.front_end
    lengths = torch.tensor([1, STRIDE - 1, STRIDE, STRIDE + 1, SAMPLES - 1, SAMPLES])
    padded = padded_lengths(lengths, SAMPLES, front_end)
    assert padded.tolist() == [STRIDE, STRIDE, STRIDE, 2 * STRIDE, SAMPLES, SAMPLES]
    assert [front_end.frames(int(length)) for length in padded] == [1, 1, 1, 2, 100, 100]
    assert padded_lengths(torch.tensor([SAMPLES, SAMPLES]), SAMPLES, front_end) is None
