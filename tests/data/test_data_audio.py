"""Reading in blocks: every format, any channel, bounded memory, and no gain that is not written down."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data import audio
from a2v_data.audio import AudioError, read_blocks, read_info
from a2v_data.conversion import SourceRecording, convert
from data_sounds import tone

FORMS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"),
    ("W64", "PCM_24"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("AIFF", "PCM_16"), ("OGG", "VORBIS"),
    ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


def read(path: Path, channel: audio.Channel = 0) -> np.ndarray:
    return np.concatenate(list(read_blocks(path, read_info(path, channel), channel)))


@pytest.mark.parametrize(("form", "subtype"), FORMS)
def test_formats_in_blocks_are_what_they_are_at_once(tmp_path, monkeypatch, form: str, subtype: str) -> None:
    rng = np.random.default_rng(0)
    sound = np.stack([tone(500, 2, 48000), tone(900, 2, 48000)], 1) + rng.normal(0, 0.01, (96_000, 2))
    path = tmp_path / "a.audio"
    soundfile.write(path, sound, 48000, subtype=subtype, format=form)
    expected, _ = soundfile.read(path, dtype="float32")
    monkeypatch.setattr(audio, "BLOCK_VALUES", 9001)  # no multiple of a compressed frame
    for channel in (0, 1):
        assert np.array_equal(read(path, channel), expected[:, channel])
    assert np.array_equal(read(path, "mix"), expected.mean(1))


def test_blocks_are_bounded_whatever_the_length_and_the_channels(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(audio, "BLOCK_VALUES", 3000)
    for channels in (1, 2, 7):
        soundfile.write(tmp_path / "a.wav", np.zeros((20_000, channels)), 8000)
        lengths = [len(block) for block in read_blocks(tmp_path / "a.wav", read_info(tmp_path / "a.wav"))]
        assert sum(lengths) == 20_000 and max(lengths) * channels <= 3000


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 2)), 8000)
    with pytest.raises(AudioError, match=r"has 2 channel\(s\), channel 2 was asked for"):
        read_info(tmp_path / "a.wav", 2)
    assert read_info(tmp_path / "a.wav", "mix").channels == 2


def converted(path: Path, new_rate: int) -> tuple[np.ndarray, float, list[float], int]:
    """Samples, gain, seconds told, and how often the recording was written."""
    info = read_info(path)
    written: list[list[np.ndarray]] = []
    told: list[float] = []
    recording = SourceRecording(path.name, ((path, info),), 0, info.rate, info.samples)
    found = convert(recording, new_rate, lambda blocks: written.append(list(blocks)), told.append)
    return np.concatenate(written[-1]), found.gain, told, len(written)


@pytest.mark.parametrize(
    ("subtype", "peak", "gain", "passes"),
    [
        ("PCM_16", 0.5, 1, 1),
        ("PCM_16", 1e-3, 1, 1),  # 16 bit has no more to give
        ("PCM_24", 0.07, 1, 1),
        ("PCM_24", 0.06, 16, 2),  # the largest power of two that keeps it below full scale
        ("FLOAT", 1e-4, 2**13, 2),
        ("FLOAT", 4.0, 32767 / 32768 / 4, 2),
        ("FLOAT", 1.0, 1, 1),
    ],
)
def test_gain(tmp_path, monkeypatch, subtype: str, peak: float, gain: float, passes: int) -> None:
    """A recording is read a second time only where its gain is not 1, and its seconds count once."""
    monkeypatch.setattr(audio, "BLOCK_VALUES", 1000)
    sound = tone(1000, 1, 8000, peak)  # 8 samples a period: its peak is on a sample
    soundfile.write(tmp_path / "a.wav", sound, 8000, subtype=subtype)
    samples, found, told, written = converted(tmp_path / "a.wav", 8000)
    assert found == pytest.approx(gain, rel=1e-6) and written == passes
    assert np.abs(samples / 32768 - np.clip(gain * sound, -1, 32767 / 32768)).max() <= 1 / 32768
    assert sum(told) == pytest.approx(1)


def test_the_overshoot_of_resampling_is_not_clipped(tmp_path: Path) -> None:
    """A square wave at full scale overshoots when it is band-limited; scaled, its shape stays."""
    square = np.sign(tone(100, 1, 48000)) * 0.999
    soundfile.write(tmp_path / "a.wav", square, 48000, subtype="PCM_16")
    samples, gain, _, _ = converted(tmp_path / "a.wav", 8000)
    assert 0.8 < gain < 0.95  # Gibbs: 9 % on each side
    assert np.count_nonzero(np.abs(samples.astype(int)) >= 32766) < 0.01 * len(samples)


def test_seconds_of_a_bad_recording_count_too(tmp_path: Path) -> None:
    sound = tone(440, 4, 8000)
    sound[4000] = np.nan
    soundfile.write(tmp_path / "a.wav", sound, 8000, subtype="FLOAT")
    info = read_info(tmp_path / "a.wav")
    told: list[float] = []
    recording = SourceRecording("a.wav", ((tmp_path / "a.wav", info),), 0, 8000, 32_000)
    with pytest.raises(AudioError, match=r"first at 0\.500 s"):
        convert(recording, 8000, lambda blocks: [None for _ in blocks] and None, told.append)
    assert sum(told) == pytest.approx(4)
