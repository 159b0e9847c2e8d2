"""The energy baseline, against levels that are known."""

import numpy as np
import pytest
from a2v_eval import LABEL, evaluate
from a2v_eval.energy import energy_likelihood

RATE = 8000


def noise_with_bursts(seed, *bursts, seconds=10):
    """White noise of power 1 with bursts (onset_s, offset_s, gain in dB)."""
    waveform = np.random.default_rng(seed).normal(size=seconds * RATE)
    for onset_s, offset_s, gain_db in bursts:
        waveform[int(onset_s * RATE) : int(offset_s * RATE)] *= 10 ** (gain_db / 20)
    return waveform


@pytest.mark.parametrize("seed", range(4))
def test_level_above_the_median_sets_the_likelihood(seed):
    waveform = noise_with_bursts(seed, (2, 3, 6), (5, 6, 12), (8, 9, 30))
    likelihood_T = energy_likelihood(waveform, RATE, 200, window_s=0.2)
    assert likelihood_T.shape == (2000,) and likelihood_T.dtype == np.float32
    slope_db = 6 / np.log(1 / 0.15 - 1)
    for at, gain_db in ((1.0, 0), (2.5, 6), (5.5, 12), (8.5, 30)):
        wanted = 1 / (1 + np.exp((12 - gain_db) / slope_db))
        around = likelihood_T[int((at - 0.3) * 200) : int((at + 0.3) * 200)]
        assert around.mean() == pytest.approx(wanted, abs=0.04)


@pytest.mark.parametrize("seed", range(4))
def test_loud_bursts_become_events_at_their_times(seed):
    waveform = noise_with_bursts(seed, (2.0, 2.5, 25), (7.0, 7.2, 25))
    likelihood_T = energy_likelihood(waveform, RATE, 200)
    labels = np.array([(0, 2.0, 2.5), (0, 7.0, 7.2)], LABEL)
    metrics = evaluate([(likelihood_T[:, None], labels)], ["burst"], 200).metrics()
    assert metrics["strict/AP/burst"] == 1 and metrics["strict/F1/burst"] == 1


@pytest.mark.parametrize("gain", [1e-3, 1.0, 32768.0])
def test_gain_and_offset_change_nothing(gain):
    waveform = noise_with_bursts(0, (2, 3, 15))
    wanted = energy_likelihood(waveform, RATE, 200)
    np.testing.assert_allclose(energy_likelihood(waveform * gain + 7 * gain, RATE, 200), wanted, atol=1e-4)


def test_a_click_is_found_at_its_frame():
    waveform = np.random.default_rng(0).normal(size=RATE)
    waveform[4020:4030] = 100  # frame 100 of 200 per second covers samples 4000 to 4039
    likelihood_T = energy_likelihood(waveform, RATE, 200, window_s=0.005)
    assert np.argmax(likelihood_T) == 100


def test_frames_asked_for_beyond_the_end_are_silent_and_silence_is_no_event():
    waveform = noise_with_bursts(0, seconds=1)
    likelihood_T = energy_likelihood(waveform, RATE, 200, n_frames=260)
    assert len(likelihood_T) == 260 and likelihood_T[210:].max() < 0.01
    assert energy_likelihood(np.zeros(RATE), RATE, 200).max() < 0.01
    assert len(energy_likelihood(np.zeros(0), RATE, 200)) == 0


def test_refusals():
    with pytest.raises(ValueError, match="waveform: shape"):
        energy_likelihood(np.zeros((2, 5)), RATE, 200)
    with pytest.raises(ValueError, match="waveform:"):
        energy_likelihood(np.array([np.nan]), RATE, 200)
    with pytest.raises(ValueError, match="frame_rate: 9000"):
        energy_likelihood(np.zeros(5), RATE, 9000)
    with pytest.raises(ValueError, match="onset_db"):
        energy_likelihood(np.zeros(5), RATE, 200, onset_db=12)


@pytest.mark.parametrize("samples", [0, 1, 39])
def test_a_recording_shorter_than_a_frame_has_no_likelihood(samples):
    assert energy_likelihood(np.full(samples, 0.1), RATE, 200).shape == (0,)
