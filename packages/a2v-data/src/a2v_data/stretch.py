"""A stretch of a recording at another rate, without reading the rest of it; and the mean spectrum of stretches.

N samples, Q frequencies.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from a2v_data.audio import AudioError, Channel, read_blocks, read_info
from a2v_data.resampling import LOWPASS_FILTER_WIDTH, ROLLOFF, resample_blocks

Read = Callable[[int, int], Iterable[np.ndarray]]
SPECTRUM_WINDOW_S = 0.064


def read_stretch(path: Path, start_s: float, end_s: float, sample_rate: int, channel: Channel = 0) -> np.ndarray:
    """One channel from `start_s` to `end_s` seconds at `sample_rate` Hz, float32 (N,), full scale 1.

    What resampling the whole recording would give there. The first sample is number round(start_s * sample_rate) of
    the resampled recording. Raises `AudioError`, without the file's name, where the recording cannot be used or does
    not reach that far.
    """
    info = read_info(path, channel)
    if not 0 <= start_s < end_s:
        raise AudioError(f"start {start_s:g} s, end {end_s:g} s: should be 0 <= start < end")
    if end_s > info.duration_s + 0.5 / sample_rate:
        raise AudioError(f"end {end_s:g} s: the recording is {info.duration_s:.3f} s long")
    first, stop = round(start_s * sample_rate), round(end_s * sample_rate)
    if stop <= first:
        raise AudioError(f"{start_s:g} to {end_s:g} s: holds no sample at {sample_rate} Hz; it must be longer")
    read = partial(read_blocks, path, info, channel)
    return np.concatenate(list(stretch_blocks(read, info.samples, info.rate, first, stop, sample_rate)))


def stretch_blocks(
    read: Read, samples: int, rate: int, first: int, stop: int, sample_rate: int
) -> Iterator[np.ndarray]:
    """Samples `first` to `stop` of a recording resampled to `sample_rate` Hz, in blocks, float32 (N,).

    read: gives its samples from one number to another in blocks, of `samples` at `rate` Hz. Only what is needed is
    read: enough on both sides for the filter, beginning on the filter's grid, so that the result is, to float32
    rounding, that of resampling the whole recording. Raises what `read` raises, and `AudioError` for a pair of rates
    as `resample_blocks`.
    """
    divisor = math.gcd(rate, sample_rate)
    old, new = rate // divisor, sample_rate // divisor
    margin = math.ceil(LOWPASS_FILTER_WIDTH * old / (min(old, new) * ROLLOFF)) + 1
    repetition = max(0, first // new - math.ceil(margin / old))  # `new` outputs belong to every `old` inputs
    end = min(math.ceil(stop * old / new) + margin, samples)
    position = repetition * new
    for block_N in resample_blocks(read(repetition * old, end), rate, sample_rate):
        wanted_N = block_N[max(0, first - position) : max(0, stop - position)]
        position += len(block_N)
        if len(wanted_N):
            yield wanted_N


def mean_spectrum(waveforms: Iterable[np.ndarray], sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (Q,) in Hz and mean power density (Q,) per Hz of stretches (N,), each first brought to zero mean and
    unit variance, as a model hears its segments; so quiet recordings count as much as loud ones.

    Welch's method: Hann windows of 64 ms, half overlapping. Stretches count by their length; silent ones and those
    shorter than a window are left out. ValueError where none is left.
    """
    from scipy.signal import welch

    window = round(SPECTRUM_WINDOW_S * sample_rate)
    total_Q, weight = np.zeros(window // 2 + 1), 0
    for waveform_N in waveforms:
        deviation = float(np.std(waveform_N, dtype=np.float64)) if len(waveform_N) >= window else 0.0
        if deviation > 0:
            normal_N = (waveform_N.astype(np.float64) - waveform_N.mean(dtype=np.float64)) / deviation
            total_Q += len(waveform_N) * welch(normal_N, sample_rate, nperseg=window)[1]
            weight += len(waveform_N)
    if not weight:
        raise ValueError(f"no sound to take a spectrum of: all is silent or shorter than {SPECTRUM_WINDOW_S} s")
    return np.fft.rfftfreq(window, 1 / sample_rate), total_Q / weight
