"""Likelihoods of whole recordings: windows are stitched so that every frame stands in its own place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import EVENT_DTYPE, CorpusWriter
from a2v_experiments import inference
from a2v_experiments.inference import Windows, recording_likelihoods, stitch
from a2v_experiments.recipe.files import Recipe
from a2v_experiments.training.spec import part
from a2v_model import PRESETS, Detector, normalise, padded_lengths
from a2v_model.config import FinetuneConfig
from experiments_world import RATE, SEGMENT_S, STRIDE, make_recipe

WINDOWS = [(10, 0), (10, 3), (10, 4), (10, 9), (7, 1), (1, 0)]


@pytest.mark.parametrize("window, overlap", WINDOWS)
def test_windows_cover_a_recording_and_the_last_ends_with_it(window, overlap):
    for frames in range(1, 60):
        windows = Windows(frames, window, overlap)
        starts = [windows.start(index) for index in range(len(windows))]
        covered = set().union(*(range(start, start + window) for start in starts))
        assert covered == set(range(max(frames, window))) and starts == sorted(set(starts))
        steps = np.diff(starts)
        assert (steps[:-1] == window - overlap).all() and (steps <= window - overlap).all()


@pytest.mark.parametrize("window, overlap", WINDOWS)
def test_stitched_frame_numbers_are_the_frame_numbers(window, overlap):
    for frames in range(1, 60):
        windows = Windows(frames, window, overlap)
        numbers = [
            np.arange(start, start + window, dtype=np.float32)[:, None] * [1, -1]
            for start in map(windows.start, range(len(windows)))
        ]
        out = stitch(windows, 0, numbers)
        assert np.array_equal(out, np.arange(frames)[:, None] * [1, -1])
        for cut in range(1, len(windows)):  # any pieces, joined, are the whole
            parts = stitch(windows, 0, numbers[:cut]), stitch(windows, cut, numbers[cut:])
            assert np.array_equal(np.concatenate(parts), out)


def test_where_two_windows_overlap_each_gives_the_half_nearer_its_centre():
    windows = Windows(26, 10, 4)
    assert [windows.start(index) for index in range(len(windows))] == [0, 6, 12, 16]
    which = [np.full((10, 1), number, np.float32) for number in range(4)]
    assert stitch(windows, 0, which)[:, 0].astype(int).tolist() == [0] * 8 + [1] * 6 + [2] * 5 + [3] * 7


@pytest.mark.parametrize("overlap_s, frames", [(0.025, 2), (0.035, 4), (0.045, 4), (0.3, 30), (9.0, 99)])
def test_half_a_frame_of_overlap_goes_to_the_even_number(recipe: Recipe, overlap_s: float, frames: int) -> None:
    """100 frames a second, windows of 100; all of it cannot be shared."""
    windows = Windows.of(4 * RATE, recipe.model.front_end, SEGMENT_S, overlap_s)
    assert (windows.frames, windows.size, windows.overlap) == (400, 100, frames)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def detector(recipe: Recipe) -> Detector:
    torch.manual_seed(0)
    model = Detector(recipe.model, part(recipe.finetune, FinetuneConfig), ["cc", "sn"])
    with torch.no_grad():
        model.head.weight.mul_(10)  # likelihoods that differ from frame to frame
    return model


LENGTHS = (1, STRIDE - 1, 1500, 2000, 3999, 4000, 4001, 4040, 6000, 9999, 12345, 16000)


def packed(folder: Path, recordings: list[np.ndarray]) -> Corpus:
    writer = CorpusWriter(folder, RATE, ["cc", "sn"])
    for samples in recordings:
        writer.add(f"{len(samples)}.wav", samples, True, RATE, len(samples), 1.0)
    writer.finish(np.empty(0, EVENT_DTYPE))
    return Corpus.open(folder)


@pytest.fixture
def many_lengths(tmp_path: Path) -> Corpus:
    """Recordings shorter than a frame, than a window, of just a window, and longer by every kind of rest."""
    rng = np.random.default_rng(0)
    return packed(tmp_path, [rng.integers(-9000, 9000, samples, np.int16) for samples in LENGTHS])


def likelihoods(
    detector: Detector, corpus: Corpus, recordings: list[int], batch: int
) -> Iterator[tuple[int, np.ndarray]]:
    return recording_likelihoods(detector, corpus, recordings, SEGMENT_S, 0.3, batch=batch, precision="float32")


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_every_frame_of_every_recording_once_in_its_place(monkeypatch, detector, tmp_path, batch):
    """The stand-in model hears a ramp, the number of each sample, and says which frame each of its own is."""
    ramps = packed(tmp_path, [np.arange(samples, dtype=np.int16) for samples in LENGTHS])

    def frame_numbers(model, waveform_BN, lengths_B, precision, streams):
        assert waveform_BN.shape[1] == RATE
        number_BT = np.rint(waveform_BN[:, ::STRIDE] * 32768) / STRIDE
        return np.stack([number_BT, number_BT], axis=-1).astype(np.float32), None

    monkeypatch.setattr(inference, "window_outputs", frame_numbers)
    order = [3, 0, 11, 10, 1, 2, 9, 4, 5, 6, 7, 8]
    done = []
    found = list(recording_likelihoods(detector, ramps, order, SEGMENT_S, 0.3, batch=batch, progress=done.append))
    assert [recording for recording, _ in found] == order
    for recording, out in found:
        frames = -(-ramps.recordings[recording].n_samples // STRIDE)
        assert np.array_equal(out[:, 0], np.arange(frames))
    windows = sum(len(Windows(len(out), 100, 30)) for _, out in found)
    assert sum(done) == windows and max(done) <= batch


@pytest.mark.parametrize("preset, head", [("tiny", "temporal"), ("crnn", "linear"), (None, "linear")])
@pytest.mark.parametrize("lengths", [(1,), (1500,), (2400, 1), (2400, 2399, 4000)])
def test_nothing_is_computed_behind_the_longest_window(recipe, preset, head, lengths):
    """Likelihoods are those of whole windows with `lengths`, whatever they hold behind their ends."""
    torch.manual_seed(0)
    given = PRESETS[preset].model if preset else recipe.model
    finetune = PRESETS[preset].finetune if preset else part(recipe.finetune, FinetuneConfig)
    model = Detector(given, finetune.model_copy(update={"head": head}), ["cc", "sn"]).eval()
    front_end, window = given.front_end, 4000
    wave_BN = np.random.default_rng(0).normal(0, 0.1, (len(lengths), window)).astype(np.float32)
    heard = []
    model.backbone.front_end.register_forward_pre_hook(lambda module, inputs: heard.append(inputs[0].shape[1]))
    found_BTC, _ = inference.window_outputs(model, wave_BN, np.array(lengths), "float32")
    assert max(heard) == max(front_end.shortest, -(-max(lengths) // front_end.stride) * front_end.stride)
    lengths_B = torch.tensor(lengths)
    with torch.inference_mode():
        logits_BTC = model(
            normalise(torch.from_numpy(wave_BN), lengths_B), lengths=padded_lengths(lengths_B, window, front_end)
        )
    for row, length in enumerate(lengths):
        frames = -(-length // front_end.stride)
        expected_TC = torch.sigmoid(logits_BTC[row, :frames]).numpy()
        np.testing.assert_allclose(found_BTC[row, :frames], expected_TC, atol=2e-6)


def test_the_batch_size_changes_nothing(detector, many_lengths):
    order = list(range(12))
    alone = dict(likelihoods(detector, many_lengths, order, 1))
    assert all(((out >= 0) & (out <= 1)).all() and out.shape[1] == 2 for out in alone.values())
    assert alone[10].std(0).min() > 1e-3  # else the comparison below would say nothing
    for batch in (2, 5, 64):
        for recording, out in likelihoods(detector, many_lengths, order, batch):
            np.testing.assert_allclose(out, alone[recording], atol=2e-5)


def test_padding_of_a_short_recording_has_no_influence(detector, many_lengths):
    """A recording of half a window gives what the model says of it alone, without any padding."""
    samples = 2000
    wave = many_lengths.audio[: many_lengths.recordings[3].offset + samples][-samples:].astype(np.float32) / 32768
    detector.eval()
    with torch.inference_mode():
        expected = torch.sigmoid(detector(normalise(torch.from_numpy(wave)[None])))[0].numpy()
    ((_, out),) = likelihoods(detector, many_lengths, [3], 4)
    assert out.shape == (samples // STRIDE, 2)
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_a_recording_of_one_window_is_the_model_itself(detector, many_lengths):
    recording = many_lengths.recordings[5]
    wave = many_lengths.audio[recording.offset : recording.offset + RATE].astype(np.float32) / 32768
    detector.eval()
    with torch.inference_mode():
        expected = torch.sigmoid(detector(normalise(torch.from_numpy(wave)[None])))[0].numpy()
    ((_, out),) = likelihoods(detector, many_lengths, [5], 4)
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_dropout_and_masks_are_off_even_after_training(detector, many_lengths):
    first = dict(likelihoods(detector, many_lengths, [8], 4))[8]
    detector.train()
    second = dict(likelihoods(detector, many_lengths, [8], 4))[8]
    assert np.array_equal(first, second)


def test_the_last_frame_that_a_recording_only_begins_is_heard(detector, many_lengths):
    """A recording of 100 frames and one sample: what it says is what it says with zeros up to the frame's end."""
    recording = many_lengths.recordings[6]
    assert recording.n_samples == 100 * STRIDE + 1
    wave = many_lengths.audio[recording.offset : recording.offset + recording.n_samples].astype(np.float32) / 32768
    last = torch.from_numpy(wave[STRIDE:])[None]  # the last window: it starts a frame later
    padded = torch.nn.functional.pad(normalise(last), (0, STRIDE - 1))
    detector.eval()
    with torch.inference_mode():
        expected = torch.sigmoid(detector(padded))[0].numpy()
    ((_, out),) = likelihoods(detector, many_lengths, [6], 4)
    assert len(out) == 101
    np.testing.assert_allclose(out[90:], expected[89:], atol=2e-5)
