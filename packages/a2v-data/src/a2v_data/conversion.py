"""A recording of any length as int16 at another rate, in one pass where possible and never clipped.

Legend: N samples.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from a2v_data.audio import AudioError, AudioInfo, Channel, read_blocks
from a2v_data.resampling import resample_blocks
from a2v_data.scheduling import Advance

Progress = Callable[[int, int], None]
FULL_SCALE = 32768
QUIET_PEAK = 1 / 16
COARSE_SUBTYPES = frozenset({"PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW"})


@dataclass(frozen=True, slots=True)
class SourceRecording:
    """One recording to convert: a file, or the segments of a prepared folder, which are its parts in order.

    parts: their paths and headers, of which `samples` says how many count (a padded end does not). name: relative to
    the source's audio folder. source_rate (Hz), source_samples, gain: of the file that the parts were made from, or
    of the part itself and 1.
    """

    name: str
    parts: tuple[tuple[Path, AudioInfo], ...]
    channel: Channel
    source_rate: int
    source_samples: int
    gain: float = 1.0

    @property
    def rate(self) -> int:
        """Hz, of every part."""
        return self.parts[0][1].rate

    @property
    def samples(self) -> int:
        """Samples of all parts."""
        return sum(info.samples for _, info in self.parts)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate

    def blocks(self) -> Iterator[np.ndarray]:
        """Its samples, float32 (N,). Raises `AudioError`, naming the part where there are several."""
        for path, info in self.parts:
            try:
                yield from read_blocks(path, info, self.channel)
            except AudioError as error:
                raise AudioError(f"{path.name}: {error}" if len(self.parts) > 1 else str(error)) from error


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion found: the gain that was applied, and the file's own peak (full scale 1)."""

    gain: float
    peak: float


def convert(
    recording: SourceRecording,
    sample_rate: int,
    write: Callable[[Iterator[np.ndarray]], None],
    advance: Advance,
) -> Converted:
    """Hand the recording to `write` in int16 blocks (N,) at `sample_rate`; a second time where a gain is needed.

    The gain is 1 except where int16 would lose signal: a peak above full scale is scaled down to it, and a quiet
    recording in a finer format than 16 bit is scaled up by a power of two. Segments are normalised before the model,
    so a gain changes nothing but the rounding. `write` must start anew when it is called again. `advance` is told the
    seconds of the recording, all of them once. Raises `AudioError`.
    """
    seen = _Peaks()
    left_s = recording.duration_s

    def count(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        nonlocal left_s
        for block_N in blocks:
            seen.source = max(seen.source, _peak(block_N))
            left_s -= len(block_N) / recording.rate
            advance(len(block_N) / recording.rate)
            yield block_N

    try:
        blocks = resample_blocks(count(recording.blocks()), recording.rate, sample_rate)
        write(_int16(seen.measured(blocks), 1.0))
        gain = chosen_gain(seen.result, recording.parts[0][1].subtype)
        if gain != 1:
            again = resample_blocks(recording.blocks(), recording.rate, sample_rate)
            write(_int16(_stoppable(again, advance), gain))
    finally:
        advance(max(left_s, 0.0))
    return Converted(gain, seen.source)


def chosen_gain(peak: float, subtype: str) -> float:
    """What to multiply a recording with that has this peak after resampling, and came in this format."""
    if peak > 1:
        return (FULL_SCALE - 1) / FULL_SCALE / peak
    if 0 < peak < QUIET_PEAK and subtype not in COARSE_SUBTYPES:
        return float(2.0 ** math.floor(-math.log2(peak) - 1e-9))
    return 1.0


class _Peaks:
    """The largest magnitude of the file's samples and of the resampled ones."""

    source = 0.0
    result = 0.0

    def measured(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block_N in blocks:
            self.result = max(self.result, _peak(block_N))
            yield block_N


def _peak(block_N: np.ndarray) -> float:
    return float(max(block_N.max(), -block_N.min())) if len(block_N) else 0.0


def _int16(blocks: Iterable[np.ndarray], gain: float) -> Iterator[np.ndarray]:
    for block_N in blocks:
        scaled_N = np.rint(block_N * np.float32(gain * FULL_SCALE))
        yield np.clip(scaled_N, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def _stoppable(blocks: Iterable[np.ndarray], advance: Advance) -> Iterator[np.ndarray]:
    for block_N in blocks:
        advance(0.0)
        yield block_N


def peak_notice(name: str, peak: float) -> str:
    """What a user reads about a recording that was scaled down."""
    return f"{name}: peak {peak:.3g} is above full scale (1); scaled down to it"


def counting_seconds(recordings: Sequence[SourceRecording], progress: Progress | None) -> Advance:
    """Turn seconds that `convert` is done with into calls of progress(done, total), whole seconds of all recordings."""
    total_s = sum(recording.duration_s for recording in recordings)
    done_s = 0.0

    def advance(seconds: float) -> None:
        nonlocal done_s
        done_s += seconds
        if progress:
            progress(min(round(done_s), math.ceil(total_s)), math.ceil(total_s))

    return advance
