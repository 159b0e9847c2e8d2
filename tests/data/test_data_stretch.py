"""A stretch of a recording equals that part of the whole one resampled; the mean spectrum, by closed forms."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from a2v_data.audio import AudioError
from a2v_data.stretch import mean_spectrum, read_stretch
from torchaudio.transforms import Resample


def write(path: Path, rate: int, seconds: float = 6.0, channels: int = 2) -> np.ndarray:
    """White noise, another one in each channel; returns what the file holds, (N, channels)."""
    noise = np.random.default_rng(0).normal(0, 0.1, (round(rate * seconds), channels))
    soundfile.write(path, noise, rate, subtype="FLOAT" if path.suffix == ".wav" else "PCM_16")
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def resampled(audio_N: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """torchaudio's resampling of the whole recording, its kernel in float64."""
    resample = Resample(rate, new_rate, "sinc_interp_kaiser", lowpass_filter_width=64, dtype=torch.float64)
    return resample(torch.from_numpy(audio_N.astype(np.float64))).numpy()


@pytest.mark.parametrize("rate, new_rate", [(32000, 8000), (44100, 8000), (8000, 24000), (8000, 8000), (22050, 16000)])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_equals_the_whole_recording_resampled(tmp_path, rate, new_rate, suffix):
    path = tmp_path / f"noise{suffix}"
    whole = write(path, rate)
    for channel in (0, 1):
        expected = resampled(whole[:, channel], rate, new_rate)
        for start_s, end_s in ((0.0, 6.0), (0.0, 0.5), (2.0, 4.5), (1.2345, 1.5), (5.9, 6.0), (3.3333, 6.0)):
            first, stop = round(start_s * new_rate), round(end_s * new_rate)
            found = read_stretch(path, start_s, end_s, new_rate, channel)
            assert found.dtype == np.float32 and len(found) == stop - first
            np.testing.assert_allclose(found, expected[first:stop], atol=5e-6)


def test_only_the_stretch_is_read(tmp_path, monkeypatch):
    path = tmp_path / "noise.wav"
    write(path, 32000, seconds=30)
    read: list[int] = []
    real = soundfile.SoundFile.read

    def watched(self, frames=-1, **named):
        read.append(frames)
        return real(self, frames, **named)

    monkeypatch.setattr(soundfile.SoundFile, "read", watched)
    read_stretch(path, 20, 21, 8000)
    assert len(read) == 1 and 32000 <= read[0] < 34000


@pytest.mark.parametrize(
    "start_s, end_s, channel, needle",
    [
        (3, 3, 0, "0 <= start < end"),
        (3, 2, 0, "0 <= start < end"),
        (-1, 2, 0, "0 <= start < end"),
        (3, 6.1, 0, r"end 6\.1 s: the recording is 6\.000 s long"),
        (3, 4, 2, r"has 2 channel\(s\), channel 2"),
        (3, 3.00001, 0, "holds no sample at 8000 Hz"),
        (float("nan"), 2, 0, "0 <= start < end"),
    ],
)
def test_what_is_not_there(tmp_path, start_s, end_s, channel, needle):
    write(tmp_path / "noise.wav", 32000)
    with pytest.raises(AudioError, match=needle) as error:
        read_stretch(tmp_path / "noise.wav", start_s, end_s, 8000, channel)
    assert "\n" not in str(error.value)


def test_bad_recordings(tmp_path):
    whole = write(tmp_path / "noise.wav", 8000)
    whole[24000] = np.nan
    soundfile.write(tmp_path / "nan.wav", whole, 8000, subtype="FLOAT")
    assert np.isfinite(read_stretch(tmp_path / "nan.wav", 0, 2, 8000)).all()  # elsewhere it is good
    with pytest.raises(AudioError, match="holds NaN or infinity, first at 3"):
        read_stretch(tmp_path / "nan.wav", 2, 4, 8000)
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(AudioError, match="not readable as audio"):
        read_stretch(tmp_path / "text.wav", 0, 1, 8000)


def test_spectrum_of_a_tone_and_of_white_noise():
    time_s = np.arange(80000) / 8000
    tone = np.float32(7 + 0.01 * np.sin(2 * np.pi * 1000 * time_s))
    frequency_hz, power = mean_spectrum([tone], 8000)
    assert frequency_hz[0] == 0 and frequency_hz[-1] == 4000 and abs(frequency_hz[np.argmax(power)] - 1000) < 16
    assert power.sum() * frequency_hz[1] == pytest.approx(1, rel=0.01)  # its variance, which is made 1
    noise = np.random.default_rng(0).normal(0, 30, 800_000)
    _, flat = mean_spectrum([noise], 8000)
    np.testing.assert_allclose(flat[2:-2], 1 / 4000, rtol=0.15)  # unit power over 4 kHz


def test_quiet_recordings_count_as_loud_ones_and_by_their_length():
    rng = np.random.default_rng(1)
    time_s = np.arange(40000) / 8000
    low, high = (np.sin(2 * np.pi * f * time_s) + 0.01 * rng.normal(size=40000) for f in (500, 3000))
    frequency_hz, power = mean_spectrum([100 * low, high, high, np.zeros(40000), np.ones(100)], 8000)
    below, above = (power[(frequency_hz < 2000) == part].sum() for part in (True, False))
    assert above / below == pytest.approx(2, rel=0.02)
    one, twice = mean_spectrum([low, high[:20000]], 8000)[1], mean_spectrum([low, low, high], 8000)[1]
    np.testing.assert_allclose(one[1:-1], twice[1:-1], rtol=0.5)
    with pytest.raises(ValueError, match="no sound to take a spectrum of"):
        mean_spectrum([np.zeros(40000)], 8000)
