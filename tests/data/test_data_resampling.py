"""Resampling in blocks: the same as torchaudio over the whole recording, wherever the blocks begin and end."""

import itertools

import numpy as np
import pytest
import torch
from a2v_data.audio import AudioError
from a2v_data.resampling import resample_blocks, resampled_length
from data_sounds import tone
from torchaudio.transforms import Resample

pytestmark = pytest.mark.slow

RATES = [(44100, 8000), (48000, 16000), (48000, 8000), (22050, 24000), (32000, 16000), (8000, 44100), (250_000, 96_000)]


def whole(audio_N: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    return np.concatenate([np.empty(0, np.float32), *resample_blocks([audio_N], rate, new_rate)])


def torchaudio(audio_N: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """The paper's choice. In float64: its float32 kernel places the phases only to 1e-5."""
    filter_ = Resample(
        rate, new_rate, resampling_method="sinc_interp_kaiser", lowpass_filter_width=64, dtype=torch.float64
    )
    return filter_(torch.from_numpy(audio_N).double()[None])[0].numpy()


@pytest.mark.parametrize(("rate", "new_rate"), RATES)
@pytest.mark.parametrize("seed", range(3))
def test_blocks_of_any_size_give_what_torchaudio_gives_for_the_whole(rate: int, new_rate: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    audio_N = rng.normal(0, 0.25, int(rng.integers(rate, 3 * rate))).astype(np.float32)
    cuts = np.sort(rng.integers(0, len(audio_N) + 1, 20))  # with empty and tiny blocks among them
    found = np.concatenate(list(resample_blocks(np.split(audio_N, cuts), rate, new_rate)))
    expected = torchaudio(audio_N, rate, new_rate)
    assert found.dtype == np.float32 and len(found) == len(expected) == resampled_length(len(audio_N), rate, new_rate)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize(("rate", "new_rate"), RATES)
@pytest.mark.parametrize("samples", [1, 2, 63, 500])
def test_recordings_shorter_than_the_filter(rate: int, new_rate: int, samples: int) -> None:
    audio_N = np.random.default_rng(samples).normal(0, 0.25, samples).astype(np.float32)
    found = np.concatenate(list(resample_blocks(np.split(audio_N, [1]), rate, new_rate)))
    np.testing.assert_allclose(found, torchaudio(audio_N, rate, new_rate), rtol=0, atol=3e-6)


def test_sample_by_sample() -> None:
    audio_N = np.random.default_rng(0).normal(0, 0.25, 3000).astype(np.float32)
    pieces = resample_blocks((audio_N[n : n + 1] for n in range(len(audio_N))), 44100, 8000)
    np.testing.assert_allclose(np.concatenate(list(pieces)), whole(audio_N, 44100, 8000), rtol=0, atol=2e-6)


def test_its_own_rate_changes_nothing() -> None:
    audio_N = np.random.default_rng(0).normal(0, 1, 5000).astype(np.float32)
    assert np.array_equal(np.concatenate(list(resample_blocks(np.split(audio_N, [7, 4000]), 8000, 8000))), audio_N)


@pytest.mark.parametrize(("rate", "new_rate"), [(44101, 8000), (8000, 44101), (47999, 48000)])
def test_rates_without_a_common_divisor(rate: int, new_rate: int) -> None:
    """torchaudio would need gigabytes for these. A tone below both Nyquist frequencies stays that tone."""
    kept = np.concatenate(list(resample_blocks([tone(2900.5, 3, rate).astype(np.float32)], rate, new_rate)))
    expected = tone(2900.5, 3, new_rate)
    middle = slice(new_rate // 10, -new_rate // 10)
    assert len(kept) == len(expected)
    assert np.abs(kept - expected)[middle].max() < 1e-4


def test_what_is_above_the_new_nyquist_frequency_is_gone() -> None:
    gone = whole(tone(4200, 2, 44101).astype(np.float32), 44101, 8000)
    assert np.abs(gone[800:-800]).max() < 1e-4


def test_lengths_are_exact_where_float32_is_not() -> None:
    """torchaudio computes the length in float32: a day would be some samples too long or short."""
    day = 86_400 * 48_000 + 1
    assert resampled_length(day, 48_000, 8_000) == 86_400 * 8_000 + 1
    assert resampled_length(day, 44_100, 8_000) == -(-day * 80 // 441)


def test_pieces_come_as_soon_as_they_can() -> None:
    """Blocks are not gathered: after each of a second, all but the filter's reach has come out."""
    taken = 0

    def blocks():
        nonlocal taken
        for _ in range(10):
            taken += 48_000
            yield np.zeros(48_000, np.float32)

    given = 0
    for piece in itertools.islice(resample_blocks(blocks(), 48_000, 8_000), 9):
        given += len(piece)
        assert taken / 6 - given < 1000


def test_a_pair_of_rates_that_is_too_odd_is_refused() -> None:
    with pytest.raises(AudioError, match=r"999983 Hz to 8000 Hz needs .* choose a rounder sample rate"):
        whole(np.zeros(10, np.float32), 999_983, 8000)
