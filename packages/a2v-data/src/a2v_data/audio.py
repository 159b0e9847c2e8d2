"""Audio files: what they hold, whether they are whole, and their samples at another rate.

Everything that can be wrong with one file raises `AudioError`, one line without the file's name, so that the
caller can report it and go on with its neighbours.
"""

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

if TYPE_CHECKING:
    from torch import Tensor

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"})
LOWPASS_FILTER_WIDTH = 64
MAX_KERNEL_VALUES = 50_000_000
FULL_SCALE = 32768
QUIET_PEAK = 1 / 16
COARSE_SUBTYPES = frozenset({"PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW"})
EXPECTED = "replace it by a whole recording (WAV, FLAC, OGG, MP3 or AIFF)"


class AudioError(ValueError):
    """One recording cannot be used; the message says why and what would be right."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """A file's header: rate in Hz, samples per channel, channels, libsndfile's name of the format."""

    rate: int
    samples: int
    channels: int
    subtype: str

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate


def read_info(path: Path, channel: int = 0) -> AudioInfo:
    """Read a file's header. Raises `AudioError` for what is not a whole recording with that channel."""
    if path.is_dir():
        raise AudioError("is a folder, not a file; rename it")
    try:
        if path.stat().st_size == 0:
            raise AudioError(f"is empty (0 bytes); {EXPECTED}")
        _check_whole(path)
        with soundfile.SoundFile(path) as file:
            info = AudioInfo(file.samplerate, file.frames, file.channels, file.subtype)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"is not readable as audio ({_reason(error)}); {EXPECTED}") from error
    if info.samples <= 0:
        raise AudioError(f"holds no samples; {EXPECTED}")
    if not 0 <= channel < info.channels:
        raise AudioError(f"has {info.channels} channel(s), channel {channel} was asked for; count from 0")
    return info


def read_channel(path: Path, info: AudioInfo, channel: int = 0) -> np.ndarray:
    """One channel of a whole recording, float32 (N,), full scale 1. Raises `AudioError`."""
    try:
        # always_2d, so that one channel and many are indexed alike.
        audio_NC, _ = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"is damaged ({_reason(error)}); {EXPECTED}") from error
    if len(audio_NC) < info.samples:
        raise AudioError(f"is truncated: {len(audio_NC)} of {info.samples} samples are there; {EXPECTED}")
    audio_N = np.ascontiguousarray(audio_NC[:, channel])
    if not np.isfinite(audio_N).all():
        first = int(np.flatnonzero(~np.isfinite(audio_N))[0])
        raise AudioError(f"holds NaN or infinity, first at {first / info.rate:.3f} s; export it again")
    return audio_N


def resample(audio_N: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Band-limited resampling of a whole recording, float32 (N,) -> (ceil(N new_rate / rate),).

    Windowed sinc with a Kaiser window, low-pass filter width 64 (the paper's choice), by torchaudio. Raises
    `AudioError` for a pair of rates whose filter bank would not fit (for example 44 101 Hz to 8 000 Hz).
    """
    if rate == new_rate:
        return audio_N
    import torch

    kernel = kernel_values(rate, new_rate)
    if kernel > MAX_KERNEL_VALUES:
        raise AudioError(
            f"{rate} Hz to {new_rate} Hz needs {kernel:.0f} filter taps; choose a rounder sample_rate"
        )
    with torch.inference_mode():
        resampled: Tensor = _resampler(rate, new_rate)(torch.from_numpy(audio_N)[None])[0]
    return resampled.numpy()


def kernel_values(rate: int, new_rate: int) -> int:
    """Size of torchaudio's polyphase filter bank for a pair of rates."""
    divisor = math.gcd(rate, new_rate)
    old, new = rate // divisor, new_rate // divisor
    return new * (2 * math.ceil(LOWPASS_FILTER_WIDTH * old / (min(old, new) * 0.99)) + old)


@lru_cache(maxsize=8)
def _resampler(rate: int, new_rate: int):  # type: ignore[no-untyped-def]  # torchaudio has no types
    from torchaudio.transforms import Resample

    return Resample(
        rate, new_rate, resampling_method="sinc_interp_kaiser", lowpass_filter_width=LOWPASS_FILTER_WIDTH
    )


def to_int16(audio_N: np.ndarray, subtype: str) -> tuple[np.ndarray, float]:
    """Samples as int16 and the gain that was applied to them first.

    The gain is 1 except where int16 would lose signal: a peak above full scale is scaled down to it, and a
    quiet recording in a finer format than 16 bit is scaled up by a power of two. Segments are normalised
    before the model, so a gain changes nothing but the rounding.
    """
    peak = float(np.abs(audio_N).max())
    gain = 1.0
    if peak > 1:
        gain = (FULL_SCALE - 1) / FULL_SCALE / peak
    elif 0 < peak < QUIET_PEAK and subtype not in COARSE_SUBTYPES:
        gain = 2.0 ** math.floor(-math.log2(peak) - 1e-9)
    scaled = np.rint(audio_N * np.float32(gain * FULL_SCALE))
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16), gain


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".")


def _check_whole(path: Path) -> None:
    """`AudioError` where a WAV or AIFF file is shorter than its header says; libsndfile does not mind."""
    size = path.stat().st_size
    with path.open("rb") as file:
        form = file.read(12)
        if form[:4] == b"RIFF" and form[8:] == b"WAVE":
            promised = _chunk_end(file, b"data", "<")
        elif form[:4] == b"FORM" and form[8:11] == b"AIF":
            promised = _chunk_end(file, b"SSND", ">")
        else:
            return
    if promised is not None and promised > size:
        raise AudioError(f"is truncated: {size} of {promised} bytes are there; {EXPECTED}")


def _chunk_end(file: BinaryIO, wanted: bytes, order: str) -> int | None:
    """Where the chunk `wanted` ends; None where it is absent or its length was left open by a stream."""
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", head)
        if name == wanted:
            return None if length in (0, 0xFFFFFFFF) else file.tell() + length
        file.seek(length + length % 2, 1)
    return None
