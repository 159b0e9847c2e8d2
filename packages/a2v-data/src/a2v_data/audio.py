"""Audio files: what they hold, whether they are whole, and the samples of one channel, block by block.

Everything that can be wrong with one file raises `AudioError`, one line without the file's name, so that the
caller can report it and go on with its neighbours: `as_reason` makes one of whatever a reader meets.

Legend: N samples, C channels.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from a2v_data.documents import reason
from a2v_data.flac_frames import another_stream, flac_length
from a2v_data.headers import LengthFound, header_length
from a2v_data.mp3_frames import after_id3, frame_head, mp3_length
from a2v_data.ogg_pages import ogg_length
from a2v_data.spliced import Spliced

AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".bwf", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aiff", ".aif",
     ".aifc", ".au", ".snd", ".caf", ".voc", ".sph"}
)  # fmt: skip
# Sound by name that libsndfile does not read: ffmpeg does, but for .wac, which only its maker's programs do.
UNREAD_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".m4r", ".mp4", ".m4v", ".mov", ".aac", ".adts", ".wma", ".asf", ".wac", ".amr", ".awb", ".3gp",
     ".3gpp", ".3g2", ".webm", ".weba", ".mka", ".mkv", ".avi", ".ac3", ".eac3", ".dts", ".ape", ".wv", ".tta", ".tak",
     ".alac", ".mpc", ".spx", ".qcp", ".gsm", ".ra", ".dsf", ".dff", ".shn", ".pcm"}
)  # fmt: skip
SAMPLE_BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
} | dict.fromkeys(("ULAW", "ALAW"), 1)
UNSEEN_FORMATS = ("VOC", "NIST", "SVX", "IRCAM", "PAF", "PVF", "AVR")  # libsndfile's names
MP3_SUFFIXES = (".mp3", ".mp2")
BLOCK_VALUES = 1 << 20
LOWEST_RATE, HIGHEST_RATE = 100, 10_000_000  # Hz: a header with another rate is wrong, and would cost hours or memory
LOUDEST = 1e12  # full scale is 1, or that of 32 bits; the squares of larger numbers pass what float32 can hold
SAMPLES_PER_BYTE = 1 << 13  # no format holds more: a FLAC of silence, 65535 samples in 11 bytes
CONVERT = "convert it: ffmpeg -i IN OUT.wav"
EXPECTED = "replace it by a whole recording (WAV, FLAC, OGG, MP3, AIFF, AU, CAF, W64 or RF64)"
RESCUE = f"{EXPECTED}, or keep what can be read of it: ffmpeg -i IN OUT.wav"
UNKNOWN_SAMPLES = 1 << 62  # libsndfile's answer for a FLAC that a pipe wrote is the largest number it has
GONE = "is gone: it was there before; bring it back, or run the command again without it"
Channel = int | Literal["mix"]


class AudioError(ValueError):
    """One recording cannot be used; the message says why and what would be right."""


@contextmanager
def as_reason(path: Path, fault: str, way_out: str) -> Iterator[None]:
    """Whatever goes wrong in the block, which reads one recording, raises `AudioError`.

    Also what no reader was written for: the bytes are anybody's, and one bad file must not end the work on thousands.
    """
    try:
        yield
    except AudioError:
        raise
    except UnicodeEncodeError as error:
        raise AudioError("has a name that is not UTF-8; rename it") from error
    except Exception as error:
        _refuse_gone(path, error)
        raise AudioError(f"{fault} ({reason(error)}); {way_out}") from error


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """A file's header: rate in Hz, samples per channel, channels, libsndfile's name of the format. notice: what is odd
    about the file though all of it is read, a line without its name; '' where nothing is."""

    rate: int
    samples: int
    channels: int
    subtype: str
    notice: str = ""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate


def read_info(path: Path, channel: Channel = 0) -> AudioInfo:
    """Read a file's header. Raises `AudioError` for what is not a whole recording with that channel."""
    with as_reason(path, "is not readable as audio", _other_program(path)):
        if path.is_dir():
            raise AudioError("is a folder, not a file; rename it")
        if (size := path.stat().st_size) == 0:
            raise AudioError(f"is empty (0 bytes); {EXPECTED}")
        if problem := unread_reason(path):
            raise AudioError(problem)
        found = length_found(path)
        if found.problem:
            raise AudioError(found.problem if ";" in found.problem else f"{found.problem}; {EXPECTED}")
        with open_audio(path) as file:
            samples = file.frames if found.parts else min(file.frames, found.samples or file.frames)
            info = AudioInfo(file.samplerate, samples, file.channels, file.subtype, found.notice or "")
            spare = _spare_bytes(path, file)
    if not LOWEST_RATE <= info.rate <= HIGHEST_RATE:
        raise AudioError(
            f"has a sample rate of {info.rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz are read: correct its header, or "
            "resample it"
        )
    if info.samples <= 0:
        raise AudioError(f"holds no samples; {EXPECTED}")
    if info.samples > UNKNOWN_SAMPLES:
        raise AudioError(f"does not say how long it is (a pipe wrote it); decode and encode it again, or {CONVERT}")
    if info.samples > size * SAMPLES_PER_BYTE:
        raise AudioError(f"promises {info.samples} samples, more than its {size} bytes can hold; {RESCUE}")
    if found.samples is not None and found.samples != info.samples:
        raise AudioError(f"holds {found.samples} samples, of which {info.samples} would be read; {CONVERT}")
    if spare:
        raise AudioError(f"promises {info.samples} samples, {spare} bytes more follow; {CONVERT}")
    if channel != "mix" and not 0 <= channel < info.channels:
        raise AudioError(f"has {info.channels} channel(s), channel {channel} was asked for; count from 0")
    return info


def unread_reason(path: Path) -> str | None:
    """Why a file that is sound by its name is not read, and the way out; None for all others, and where its content is
    of another format than its name says."""
    suffix = path.suffix.lower()
    if suffix not in UNREAD_SUFFIXES or _magic(path)[1] is not None:
        return None
    return f"is not read ({suffix.removeprefix('.')}); {_other_program(path)}"


def _other_program(path: Path) -> str:
    """How a file that libsndfile does not read becomes one that it does."""
    suffix = path.suffix.lower()
    if suffix == ".wac":
        return "convert it to WAV with Wildlife Acoustics' Kaleidoscope, or wac2wav"
    if suffix == ".pcm":
        return (
            "it says nothing of its rate and channels; convert it: sox -t raw -r RATE -e signed -b 16 -c 1 IN OUT.wav"
        )
    if suffix in UNREAD_SUFFIXES:
        return f"convert it: ffmpeg -i {shlex.quote(path.name)} {shlex.quote(path.stem + '.wav')}"
    return f"{EXPECTED}, or {CONVERT}"


def length_found(path: Path) -> LengthFound:
    """How long a file is, whatever its header says. Raises `OSError`."""
    state = path.stat()
    return _length_found(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=512)  # each MP3 is walked once, though its header and its blocks are read one after the other
def _length_found(path: Path, size: int, changed_ns: int) -> LengthFound:
    start, form = _magic(path)
    if form == "flac":
        return flac_length(path, start)
    if form == "ogg":
        return ogg_length(path)
    if form == "mpeg" or (form is None and path.suffix.lower() in MP3_SUFFIXES):
        return mp3_length(path, lambda: _estimated(path))
    return header_length(path)


def _magic(path: Path) -> tuple[int, str | None]:
    """Where a file begins behind tags, and what it is by its first bytes; None for what libsndfile must find out."""
    with path.open("rb") as file:
        head, start = file.read(12), 0
        if head[:3] == b"ID3":
            start = after_id3(head)
            file.seek(start)
            head = file.read(12)
    if head[:4] in (b"fLaC", b"OggS"):
        return start, {b"fLaC": "flac", b"OggS": "ogg"}[head[:4]]
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"riff", b"FORM", b".snd", b"caff"):
        return start, "chunks"
    return start, "mpeg" if frame_head(head[:4]) else None


def _estimated(path: Path) -> int | None:
    try:
        with soundfile.SoundFile(path) as file:
            return int(file.frames)
    except soundfile.LibsndfileError:
        return None


@contextmanager
def open_audio(path: Path) -> Iterator[soundfile.SoundFile]:
    """A file open to be read, from its first to its last sample, whatever its header says. Raises
    `soundfile.LibsndfileError` or `OSError`."""
    parts = length_found(path).parts
    if not parts:
        with soundfile.SoundFile(path) as file:
            yield file
        return
    with Spliced(path, parts) as spliced, soundfile.SoundFile(spliced) as file:
        yield file


def _spare_bytes(path: Path, file: soundfile.SoundFile) -> int:
    """Bytes that plain samples leave over in a container whose header is not looked at (VOC, SPHERE); 0 for others,
    and for what a header and some text may take."""
    width = SAMPLE_BYTES.get(file.subtype, 0) * file.channels
    if not width or file.format not in UNSEEN_FORMATS:
        return 0
    spare = path.stat().st_size - file.frames * width
    return spare if spare > max(1 << 16, file.samplerate * width // 10) else 0


def read_blocks(
    path: Path, info: AudioInfo, channel: Channel = 0, start: int = 0, stop: int | None = None
) -> Iterator[np.ndarray]:
    """Samples `start` to `stop` (None: `info.samples`) of one channel (or the mean of all), float32 (N,), full scale 1.

    A block holds at most `BLOCK_VALUES` samples of all channels, whatever the length of the file. Raises
    `AudioError` where the file is damaged, shorter than `info` says, longer than it promises (which shows at its end),
    or holds NaN, infinity or numbers beyond `LOUDEST`.
    """
    longest = max(1, BLOCK_VALUES // info.channels)
    done, stop = start, info.samples if stop is None else stop
    with as_reason(path, "is damaged", RESCUE), open_audio(path) as file:
        promised = min(file.frames, length_found(path).samples or file.frames)
        if start:
            file.seek(start)
        while done < stop:
            # always_2d, so that one channel and many are indexed alike.
            block_NC = file.read(min(longest, stop - done), dtype="float32", always_2d=True)
            if not len(block_NC):
                raise AudioError(f"is truncated: {done} of {info.samples} samples are there; {RESCUE}")
            block_N = block_NC.mean(1) if channel == "mix" else np.ascontiguousarray(block_NC[:, channel])
            if not (block_N.max() <= LOUDEST and block_N.min() >= -LOUDEST):
                raise AudioError(_no_sound(block_N, done, info.rate))
            done += len(block_N)
            # Before the last block is given away: who has all samples asks for no more.
            if done >= promised and (more := _unheard(path, file)):
                raise AudioError(more)
            yield block_N


def _no_sound(block_N: np.ndarray, before: int, rate: int) -> str:
    """What is said of samples that are no numbers, or too large for what is computed of them."""
    first = int(np.flatnonzero(~(np.abs(block_N) <= LOUDEST))[0])
    what = f"a sample of {block_N[first]:.3g}" if np.isfinite(block_N[first]) else "NaN or infinity"
    return f"holds {what}, first at {(before + first) / rate:.3f} s; export it again"


def _unheard(path: Path, file: soundfile.SoundFile) -> str | None:
    """What is left at the end of a file of which all promised samples were read; None if nothing."""
    if len(file.read(1, always_2d=True)):
        return f"goes on after the {file.frames} samples that it promises; {CONVERT}"
    return another_stream(path) if file.format == "FLAC" else None


def _refuse_gone(path: Path, error: Exception) -> None:
    """`AudioError` where a file that was found, or whose header was read, is there no more."""
    if path.is_symlink() and not path.exists():
        raise AudioError("is a link to a file that is not there; bring that back or remove the link") from error
    if not path.exists():
        raise AudioError(GONE) from error
