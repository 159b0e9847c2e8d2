"""What is seen and heard of a part of a recording: its spectrogram (PNG) and its sound (WAV), from the original file at
its own rate.

Legend: N samples, K columns of the picture, R its rows from the highest frequency down, T windows, F frequencies.
"""

from __future__ import annotations

import io
import itertools
import math
import struct
import threading
import wave
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from a2v_data.audio import AudioError, AudioInfo, Channel, read_blocks, read_info

from .calls import Recorded

AROUND_S = 1.0  # seconds shown before and after an event
LONGEST_S = 30.0  # more is shown in pieces
COLUMNS, ROWS = 1200, 320
WINDOW_S, LEAST_WINDOW, WIDEST = 0.008, 64, 1024  # samples; above 96 kHz calls are short as well
SPECTRUM = 2048  # samples of the padded window, so that each row of the picture has a frequency of its own
BLOCK_WINDOWS = 2048
DARKEST, BRIGHTEST, LEAST_DB = 25.0, 99.9, 30.0  # percentiles of the level, and what lies at least between them
PEAK = 0.89  # of full scale: 1 dB below it
ULTRASOUND_HZ, SLOWER = 96_000, 10.0
KEPT_BYTES = 384 << 20
Span = tuple[str, float, float]  # recording, start and stop in seconds


@dataclass(frozen=True)
class Clip:
    """png: the spectrogram, 0 Hz at its bottom and half the rate at its top; wav: the sound, 16 bit, `gain_db` louder
    than the recording."""

    png: bytes
    wav: bytes
    gain_db: float


def around(onset_s: float, offset_s: float, duration_s: float) -> tuple[float, float]:
    """What is shown of an event: AROUND_S before and after it, within the recording."""
    start_s = max(0.0, min(onset_s, duration_s) - AROUND_S)
    return start_s, max(min(duration_s, offset_s + AROUND_S), start_s)


def pieces(start_s: float, stop_s: float) -> list[tuple[float, float]]:
    """Equal pieces of at most LONGEST_S."""
    count = max(1, math.ceil((stop_s - start_s) / LONGEST_S - 1e-9))
    edges = [start_s + (stop_s - start_s) * place / count for place in range(count)] + [stop_s]
    return list(itertools.pairwise(edges))


def usual_slowness(rate: int) -> float:
    """How many times slower a recording is played where nobody says: what has ultrasound so that it is heard."""
    return SLOWER if rate > ULTRASOUND_HZ else 1.0


def spectrogram(audio_N: np.ndarray, rate: int) -> np.ndarray:
    """Level of each pixel, uint8 (R, K): 0 is the DARKEST percentile of the clip in dB, 255 the BRIGHTEST.

    Hann windows of about WINDOW_S that overlap by half or more; a column shows the loudest of its windows, and a row
    the loudest of its frequencies.
    """
    count = len(audio_N)
    width = min(2 ** round(math.log2(max(WINDOW_S * rate, LEAST_WINDOW))), WIDEST, 2 ** int(math.log2(max(count, 2))))
    columns = min(COLUMNS, count)
    hop = max(1, min(width // 2, count // (2 * columns)))
    padded_N = np.pad(audio_N, width // 2, mode="reflect") if count > width // 2 else np.pad(audio_N, width // 2)
    window_N = np.hanning(width + 1)[:-1].astype(np.float32)
    frames_TN = np.lib.stride_tricks.sliding_window_view(padded_N, width)[:-1:hop]
    column_T = np.minimum(np.arange(len(frames_TN)) * hop * columns // count, columns - 1)
    power_KF = np.zeros((columns, SPECTRUM // 2 + 1), np.float32)
    for first in range(0, len(frames_TN), BLOCK_WINDOWS):
        part_TN = frames_TN[first : first + BLOCK_WINDOWS] * window_N
        power_TF = np.abs(np.fft.rfft(part_TN, SPECTRUM, axis=1)).astype(np.float32) ** 2
        column = column_T[first : first + BLOCK_WINDOWS]
        edges = np.flatnonzero(np.diff(column, prepend=-1))
        power_KF[column[edges]] = np.maximum(power_KF[column[edges]], np.maximum.reduceat(power_TF, edges, axis=0))
    lows = np.arange(ROWS) * (SPECTRUM // 2) // ROWS
    level_RK = 10 * np.log10(np.maximum.reduceat(power_KF, lows, axis=1).T[::-1] + 1e-12)
    low, high = np.percentile(level_RK, [DARKEST, BRIGHTEST])
    scaled_RK = (level_RK - low) / max(high - low, LEAST_DB)
    return np.clip(np.rint(scaled_RK * 255), 0, 255).astype(np.uint8)


def png(level_RK: np.ndarray) -> bytes:
    """A picture of uint8 levels (R, K) in the colours of `_palette`."""
    rows, columns = level_RK.shape
    lines = np.zeros((rows, columns + 1), np.uint8)  # each line begins with its filter: 0, none
    lines[:, 1:] = level_RK
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", _palette()), (b"IDAT", zlib.compress(lines.tobytes(), 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@lru_cache(maxsize=1)
def _palette() -> bytes:
    """256 colours of `magma`: brighter is louder, also in grey and for the colour-blind."""
    from matplotlib import colormaps

    colours: np.ndarray = colormaps["magma"](np.arange(256), bytes=True)
    return colours[:, :3].tobytes()


def wav(audio_N: np.ndarray, rate: int, slow: float) -> tuple[bytes, float]:
    """A WAV file of one channel, 16 bit, and its gain in dB: the loudest sample is PEAK, and the header's rate is
    `rate / slow`, so that it is played slower without any change of its samples."""
    peak = float(np.abs(audio_N).max(initial=0.0))
    gain = PEAK / peak if peak > 0 else 1.0
    samples = np.rint(audio_N.astype(np.float64) * gain * 32767).astype("<i2").tobytes()
    told = max(1, round(rate / slow))
    whole = io.BytesIO()
    with wave.open(whole, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(told)
        file.writeframes(samples)
    return whole.getvalue(), 20 * math.log10(gain)


class Clips:
    """Makes clips, keeps the last ones, and makes those ahead that will be asked for next. For many threads."""

    def __init__(
        self, recordings: dict[str, Recorded], channel: Channel, slow: float | None = None, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._recordings, self._channel, self._slow = recordings, channel, slow
        self._kept: OrderedDict[Span, Future[Clip]] = OrderedDict()
        self._lock, self._left = threading.Lock(), kept_bytes
        self._ahead = ThreadPoolExecutor(1, "clips")
        self.made = 0

    def slow(self, name: str) -> float:
        """How many times slower a recording is played."""
        return self._slow or usual_slowness(self._recordings[name].rate)

    def get(self, span: Span) -> Clip:
        """A part of a recording, made where it is not there yet. Raises AudioError where it cannot be read."""
        with self._lock:
            found = self._kept.get(span)
            if found is None:
                mine: Future[Clip] = Future()
                self._kept[span] = mine
            else:
                self._kept.move_to_end(span)
        if found is not None:
            return found.result()
        try:
            clip = self._make(span)
        except BaseException as error:
            with self._lock:
                self._kept.pop(span, None)
            mine.set_exception(error)
            raise
        mine.set_result(clip)
        with self._lock:
            self.made += 1
            self._left -= len(clip.png) + len(clip.wav)
            while self._left < 0 and len(self._kept) > 1:
                oldest = next((key for key, one in self._kept.items() if one.done() and key != span), None)
                if oldest is None:
                    break
                gone = self._kept.pop(oldest).result()
                self._left += len(gone.png) + len(gone.wav)
        return clip

    def prepare(self, spans: Iterable[Span]) -> None:
        """Make clips in the background; what cannot be read shows when it is asked for."""
        for span in spans:
            with self._lock:
                known = span in self._kept
            if not known:
                self._ahead.submit(self._quietly, span)

    def close(self) -> None:
        """Make nothing ahead any more."""
        self._ahead.shutdown(wait=False, cancel_futures=True)

    def _quietly(self, span: Span) -> None:
        try:
            self.get(span)
        except (AudioError, OSError):
            return

    def _make(self, span: Span) -> Clip:
        name, start_s, stop_s = span
        audio_N, rate = read(self._recordings[name].path, self._channel, start_s, stop_s)
        sound, gain_db = wav(audio_N, rate, self.slow(name))
        return Clip(png(spectrogram(audio_N, rate)), sound, gain_db)


def read(path: Path, channel: Channel, start_s: float, stop_s: float) -> tuple[np.ndarray, int]:
    """Samples float32 (N,) of a part of a recording, at least 2, and its rate in Hz. Raises AudioError."""
    try:
        state = path.stat()
    except OSError as error:
        raise AudioError(f"is not there any more ({error.strerror})") from None
    info = _info(path, channel, state.st_size, state.st_mtime_ns)
    first = min(max(round(start_s * info.rate), 0), max(info.samples - 2, 0))
    end = min(max(round(stop_s * info.rate), first + 2), info.samples)
    return np.concatenate(list(read_blocks(path, info, channel, first, end))), info.rate


@lru_cache(maxsize=1024)
def _info(path: Path, channel: Channel, size: int, changed_ns: int) -> AudioInfo:
    return read_info(path, channel)
