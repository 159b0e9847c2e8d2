"""Audio files: what they hold, whether they are whole, and the samples of one channel, block by block.

Everything that can be wrong with one file raises `AudioError`, one line without the file's name, so that the
caller can report it and go on with its neighbours.

Legend: N samples, C channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from a2v_data.headers import length_problem

AUDIO_SUFFIXES = frozenset(
    {".wav", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc"}
)
BLOCK_VALUES = 1 << 20
EXPECTED = "replace it by a whole recording (WAV, FLAC, OGG, MP3, AIFF, W64 or RF64)"
UNKNOWN_SAMPLES = 1 << 62  # libsndfile's answer for a FLAC that a pipe wrote is the largest number it has
Channel = int | Literal["mix"]


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


def read_info(path: Path, channel: Channel = 0) -> AudioInfo:
    """Read a file's header. Raises `AudioError` for what is not a whole recording with that channel."""
    if path.is_dir():
        raise AudioError("is a folder, not a file; rename it")
    try:
        if path.stat().st_size == 0:
            raise AudioError(f"is empty (0 bytes); {EXPECTED}")
        if problem := length_problem(path):
            raise AudioError(problem if ";" in problem else f"{problem}; {EXPECTED}")
        with soundfile.SoundFile(path) as file:
            info = AudioInfo(file.samplerate, file.frames, file.channels, file.subtype)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"is not readable as audio ({_reason(error)}); {EXPECTED}") from error
    if info.samples <= 0:
        raise AudioError(f"holds no samples; {EXPECTED}")
    if info.samples > UNKNOWN_SAMPLES:
        raise AudioError("does not say how long it is (a pipe wrote it); decode and encode it again")
    if channel != "mix" and not 0 <= channel < info.channels:
        raise AudioError(f"has {info.channels} channel(s), channel {channel} was asked for; count from 0")
    return info


def read_blocks(
    path: Path, info: AudioInfo, channel: Channel = 0, start: int = 0, stop: int | None = None
) -> Iterator[np.ndarray]:
    """Samples `start` to `stop` (None: `info.samples`) of one channel (or the mean of all), float32 (N,), full scale 1.

    A block holds at most `BLOCK_VALUES` samples of all channels, whatever the length of the file. Raises
    `AudioError` where the file is damaged, shorter than `info` says, or holds NaN or infinity.
    """
    longest = max(1, BLOCK_VALUES // info.channels)
    done, stop = start, info.samples if stop is None else stop
    try:
        with soundfile.SoundFile(path) as file:
            if start:
                file.seek(start)
            while done < stop:
                # always_2d, so that one channel and many are indexed alike.
                block_NC = file.read(min(longest, stop - done), dtype="float32", always_2d=True)
                if not len(block_NC):
                    raise AudioError(f"is truncated: {done} of {info.samples} samples are there; {EXPECTED}")
                block_N = block_NC.mean(1) if channel == "mix" else np.ascontiguousarray(block_NC[:, channel])
                if not np.isfinite(block_N).all():
                    first = done + int(np.flatnonzero(~np.isfinite(block_N))[0])
                    raise AudioError(f"holds NaN or infinity, first at {first / info.rate:.3f} s; export it again")
                done += len(block_N)
                yield block_N
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"is damaged ({_reason(error)}); {EXPECTED}") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".")
