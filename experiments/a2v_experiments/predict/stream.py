"""Likelihoods of a recording of any length, window by window, in constant memory.

A recording that the model does not hear at its own rate is resampled as a whole: what is read for a piece of it reaches
as far beyond the piece as the filter does. Its windows are worked on in pieces at fixed places, each by one process, so
that neither the number of workers nor an interruption changes a bit of the result.

N samples, T frames, C classes, D embedding.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from a2v_data.audio import AudioInfo
from a2v_data.resampling import resampled_length
from a2v_data.streams.folder import windows_of as streams_in
from a2v_data.stretch import Read, stretch_blocks
from a2v_model import Detector
from numpy.typing import NDArray

from ..inference import Frames, Windows, own_frames, window_outputs
from .settings import PredictSettings

PIECE_S = {"cpu": 80.0, "cuda": 640.0}  # about; short enough that little is lost when a call is stopped
BLOCK_SAMPLES = 1 << 20
Batch = tuple[int, NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Sound:
    """Where samples come from: `read(start, stop)` gives float32 blocks (N,) of `samples` at `rate` Hz. streams: what
    was recorded beside it, by name, on grids (M, C) of the rates at which the model hears them."""

    samples: int
    rate: int
    read: Read
    streams: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of_waveform(cls, waveform_N: NDArray[np.float32], rate: int) -> Sound:
        """Samples that are in memory."""

        def read(start: int, stop: int) -> Iterator[np.ndarray]:
            for first in range(start, stop, BLOCK_SAMPLES):
                yield waveform_N[first : min(first + BLOCK_SAMPLES, stop)]

        return cls(len(waveform_N), rate, read)

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return self.samples / self.rate


@dataclass
class Spent:
    """Seconds of work, and how many of them in the model."""

    all_s: float = 0.0
    model_s: float = 0.0


def windows_of(sound: Sound | AudioInfo, model: Detector, settings: PredictSettings) -> Windows:
    """The windows of a recording at the rate at which the model hears it."""
    front_end = model.for_rate(sound.rate).model_config.front_end
    samples = resampled_length(sound.samples, sound.rate, front_end.sample_rate)
    return Windows.of(samples, front_end, settings.segment_s, settings.overlap_s)


def piece_bounds(windows: Windows, size: int) -> list[tuple[int, int]]:
    """The pieces [first, last) of a recording, of `size` windows but for the last one."""
    return [piece_at(windows, size, number) for number in range(piece_count(windows, size))]


def piece_count(windows: Windows, size: int) -> int:
    """How many pieces a recording has."""
    return -(-len(windows) // size)


def piece_at(windows: Windows, size: int, number: int) -> tuple[int, int]:
    """One of `piece_bounds`, of which a long recording has thousands."""
    return number * size, min((number + 1) * size, len(windows))


def piece_size(settings: PredictSettings, device: str) -> int:
    """Windows of a piece."""
    return max(1, round(PIECE_S.get(device, PIECE_S["cpu"]) / (settings.segment_s - settings.overlap_s)))


def piece_frames(windows: Windows, first: int, last: int) -> int:
    """How many frames the windows first ... last - 1 give."""
    return windows.own(last - 1)[1] - windows.own(first)[0]


def piece_outputs(
    model: Detector,
    sound: Sound,
    windows: Windows,
    piece: tuple[int, int],
    settings: PredictSettings,
    batch: int,
    with_features: bool = False,
    spent: Spent | None = None,
) -> Iterator[tuple[Frames, Frames | None]]:
    """Likelihoods (T, C), and with_features the features (T, D), of a piece's windows in order, those frames that each
    gives. Raises `AudioError` where the sound cannot be read."""
    spent, model = spent or Spent(), model.for_rate(sound.rate)
    for index, waveform_BN, lengths_B in _batches(model, sound, windows, piece, batch):
        begun = time.perf_counter()
        streams = _streams(model, sound, windows, range(index, index + len(waveform_BN)))
        likelihood_BTC, features_BTD = window_outputs(
            model, waveform_BN, lengths_B, settings.precision, with_features, streams
        )
        spent.model_s += time.perf_counter() - begun
        for row, likelihood_TC in enumerate(likelihood_BTC):
            features_TD = None if features_BTD is None else own_frames(windows, index + row, features_BTD[row])
            yield own_frames(windows, index + row, likelihood_TC), features_TD


def _streams(model: Detector, sound: Sound, windows: Windows, numbers: range) -> dict[str, NDArray[np.float32]]:
    """What was recorded beside windows (B, M, C), by name."""
    wanted = {name: one for name, one in model.model_config.streams.items() if name in sound.streams}
    if not wanted:
        return {}
    starts_s = [windows.start(number) / model.frame_rate for number in numbers]
    return streams_in(wanted, [sound.streams] * len(numbers), starts_s, windows.size / model.frame_rate)


def _batches(model: Detector, sound: Sound, windows: Windows, piece: tuple[int, int], batch: int) -> Iterator[Batch]:
    """(number of the first window, waveforms (B, N), samples of each that are the recording's)."""
    front_end = model.model_config.front_end
    stride, rate = front_end.stride, front_end.sample_rate
    samples, total = windows.size * stride, resampled_length(sound.samples, sound.rate, rate)
    starts = [windows.start(index) * stride for index in range(*piece)]
    stop = min(starts[-1] + samples, total)
    stretch = _Stretch(stretch_blocks(sound.read, sound.samples, sound.rate, starts[0], stop, rate), starts[0])
    place = 0
    while place < len(starts):
        # A window that reaches beyond the end is done alone: the model takes another way for what is filled up.
        whole = sum(start + samples <= total for start in starts[place : place + batch])
        group = starts[place : place + max(1, whole)]
        waveform_BN = np.zeros((len(group), samples), np.float32)
        lengths_B = np.array([min(samples, total - start) for start in group], np.int64)
        for row, (start, length) in enumerate(zip(group, lengths_B.tolist(), strict=True)):
            waveform_BN[row, :length] = stretch.take(start, start + length)
        yield piece[0] + place, waveform_BN, lengths_B
        place += len(group)


class _Stretch:
    """Samples by number out of consecutive blocks; what lies before the last ones taken is let go."""

    def __init__(self, blocks: Iterable[np.ndarray], first: int) -> None:
        self.blocks, self.first, self.held = iter(blocks), first, [np.zeros(0, np.float32)]
        self.length = 0

    def take(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop`; starts never decrease."""
        while self.first + self.length < stop:
            block_N = next(self.blocks)
            self.held.append(block_N)
            self.length += len(block_N)
        joined_N = np.concatenate(self.held)[start - self.first :]
        self.first, self.held, self.length = start, [joined_N], len(joined_N)
        return joined_N[: stop - start]
