"""The baseline that needs no learning: how loud is it, compared with how loud it usually is?"""

from __future__ import annotations

import numpy as np

QUIETEST_DB = -120.0


def energy_likelihood(
    waveform: np.ndarray,
    sample_rate: float,
    frame_rate: float,
    n_frames: int | None = None,
    window_s: float = 0.025,
    onset_db: float = 6.0,
    even_db: float = 12.0,
    onset_likelihood: float = 0.15,
) -> np.ndarray:
    """A likelihood (T,) float32 in (0, 1) from short-term energy, to be used for every class alike.

    The power in `window_s` around each frame's centre, in dB above the recording's median power, goes through
    a logistic function that gives `onset_likelihood` at `onset_db` and one half at `even_db`. So with the
    events' usual threshold of 0.15 an event is what lies 6 dB above the background, and louder events rank
    higher. The median stands for the background while calls fill less than half of the recording. Monotone in
    power, so AP depends on the mapping only through what counts as an event: choose `onset_db` on training
    recordings.

    waveform  (samples,) at `sample_rate` Hz, any scale; its mean is removed. n_frames defaults to the whole
              frames that the waveform holds; frames beyond its end are silent.
    Raises ValueError for a waveform that is not one-dimensional or not finite, or rates and levels out of
    order.
    """
    waveform = np.asarray(waveform, dtype=np.float64)
    if waveform.ndim != 1 or not np.isfinite(waveform).all():
        raise ValueError(f"waveform: shape {waveform.shape} should be (samples,), all of them finite")
    if not 0 < frame_rate <= sample_rate:
        raise ValueError(f"frame_rate: {frame_rate} should be above 0 and at most {sample_rate} Hz")
    if not onset_db < even_db or not 0 < onset_likelihood < 0.5:
        raise ValueError(f"onset_db: {onset_db} should be below even_db {even_db}, its likelihood within (0, 0.5)")
    n_frames = int(len(waveform) * frame_rate / sample_rate) if n_frames is None else n_frames
    if len(waveform) == 0 or n_frames == 0:  # shorter than a frame
        return np.zeros(n_frames, np.float32)
    level_T = _level_db(waveform - waveform.mean(), sample_rate / frame_rate, n_frames, window_s * sample_rate)
    slope_db = (even_db - onset_db) / np.log(1 / onset_likelihood - 1)
    # the level is bounded below, hence no overflow
    return (1 / (1 + np.exp((even_db - level_T) / slope_db))).astype(np.float32)


def _level_db(waveform: np.ndarray, hop: float, n_frames: int, width: float) -> np.ndarray:
    """Mean power around each frame's centre in dB above its median over the frames; hop and width in
    samples."""
    sums = np.concatenate([[0.0], np.cumsum(waveform**2)])
    centre = (np.arange(n_frames) + 0.5) * hop
    half = max(width, hop) / 2
    first = np.clip(np.rint(centre - half), 0, len(waveform)).astype(np.int64)
    last = np.clip(np.rint(centre + half), 0, len(waveform)).astype(np.int64)
    power = (sums[last] - sums[first]) / np.maximum(last - first, 1)
    background = np.median(power[last > first]) if (last > first).any() else 0.0
    if background <= 0:
        background = power.max()  # more than half of it is digital silence
    if background <= 0:
        return np.full(n_frames, QUIETEST_DB)
    return np.clip(10 * np.log10(np.maximum(power / background, 1e-12)), QUIETEST_DB, -QUIETEST_DB)
