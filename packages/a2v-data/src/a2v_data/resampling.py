"""Another sample rate for a recording of any length, block by block.

Band-limited sinc with a Kaiser window, low-pass filter width 64 (spec 1): the filter of torchaudio's `Resample`
(`sinc_interp_kaiser`, rolloff 0.99), which the tests compare with. torchaudio wants the whole recording at once and,
for a pair of rates without a large common divisor, a filter bank that does not fit into memory; this one takes blocks
and any pair.

How: output n lies at n * old / new on the input's time axis (old / new: the ratio in lowest terms) and is the sum of
the inputs within `width` of it, weighted by the filter. The weights repeat with every `new` outputs, while the input
moves on by `old`. Outputs are computed in groups of neighbours that share one stretch of input: one row of a matrix
product for every repetition. Blocks are joined so that a stretch is whole and starts on the repetition's grid, so the
result does not depend on how the recording was cut.
"""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from threadpoolctl import ThreadpoolController

from a2v_data.audio import AudioError

LOWPASS_FILTER_WIDTH = 64
ROLLOFF = 0.99
KAISER_BETA = 14.769656459379492
GROUP_VALUES = 4_000_000  # weights of one group
MAX_VALUES = 60_000_000  # weights of all groups: 240 MB


def resampled_length(samples: int, rate: int, new_rate: int) -> int:
    """Samples after resampling: none is lost at the end."""
    return -(-samples * new_rate // rate)


def resample_blocks(blocks: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """Resample a recording that comes in blocks of any sizes, float32 (N,); beyond its ends it is 0.

    Together the results are `resampled_length` long and, to float32 rounding, what the whole recording at once gives.
    Raises `AudioError` for a pair of rates whose filter bank would not fit (for example 384 001 Hz to 8 000 Hz).
    """
    if rate == new_rate:
        yield from blocks
        return
    bank = _filter_bank(rate, new_rate)
    buffer_N = np.zeros(bank.width, np.float32)  # starts `width` before the next repetition
    taken = given = 0
    for block_N in blocks:
        taken += len(block_N)
        buffer_N = np.concatenate([buffer_N, block_N])
        repetitions = max(0, len(buffer_N) - 2 * bank.width) // bank.inputs
        if repetitions:
            result_N = bank.apply(buffer_N, repetitions)
            given += len(result_N)
            buffer_N = buffer_N[repetitions * bank.inputs :]
            yield result_N
    rest = resampled_length(taken, rate, new_rate) - given
    repetitions = -(-rest // bank.outputs)
    if repetitions:
        needed = repetitions * bank.inputs + 2 * bank.width
        padded_N = np.pad(buffer_N, (0, max(0, needed - len(buffer_N))))
        yield bank.apply(padded_N, repetitions)[:rest]


class _FilterBank:
    """Weights for `outputs` new samples from `inputs` old ones and `width` more on both sides."""

    def __init__(self, rate: int, new_rate: int) -> None:
        divisor = math.gcd(rate, new_rate)
        old, new = rate // divisor, new_rate // divisor
        lower = min(old, new) * ROLLOFF
        self.width = math.ceil(LOWPASS_FILTER_WIDTH * old / lower)
        # As many neighbours share a stretch as make it twice as long as one output needs: half of the products are
        # with zeros, and a matrix product is still several times faster than filtering output by output.
        size = max(1, min(round(2 * self.width * new / old), GROUP_VALUES // (4 * self.width)))
        repeat = max(1, size // new)
        self.inputs, self.outputs = repeat * old, repeat * new
        values = self.outputs * (2 * self.width + size * old // new)
        if values > MAX_VALUES:
            raise AudioError(f"{rate} Hz to {new_rate} Hz needs {values} filter weights; choose a rounder sample rate")
        self.groups = [
            self._group(first, min(size, self.outputs - first), old, new, lower)
            for first in range(0, self.outputs, size)
        ]

    def _group(self, first: int, count: int, old: int, new: int, lower: float) -> tuple[int, int, np.ndarray]:
        """Where the stretch of outputs first ... first + count - 1 starts in the buffer, and its weights."""
        start = first * old // new
        end = (first + count - 1) * old // new + 2 * self.width + 1
        input_I = np.arange(start - self.width, end - self.width)
        output_O = np.arange(first, first + count)
        time_IO = (input_I[:, None] * new - output_O * old) / (old * new) * lower
        inside = np.abs(time_IO) < LOWPASS_FILTER_WIDTH
        time = time_IO[inside]
        window = np.i0(KAISER_BETA * np.sqrt(1 - (time / LOWPASS_FILTER_WIDTH) ** 2)) / np.i0(KAISER_BETA)
        weight_IO = np.zeros(time_IO.shape, np.float32)
        weight_IO[inside] = np.sinc(time) * window * (lower / old)
        return start, first, weight_IO

    def apply(self, buffer_N: np.ndarray, repetitions: int) -> np.ndarray:
        result_RO = np.empty((repetitions, self.outputs), np.float32)
        with _blas().limit(limits=1, user_api="blas"):  # more threads sum in another order: other last bits
            for start, first, weight_IO in self.groups:
                taps, count = weight_IO.shape
                needed_N = buffer_N[start : start + (repetitions - 1) * self.inputs + taps]
                stretch_RI = np.lib.stride_tricks.sliding_window_view(needed_N, taps)[:: self.inputs]
                np.matmul(stretch_RI, weight_IO, out=result_RO[:, first : first + count])
        return result_RO.ravel()


_blas = lru_cache(maxsize=1)(ThreadpoolController)
_filter_bank = lru_cache(maxsize=2)(_FilterBank)
