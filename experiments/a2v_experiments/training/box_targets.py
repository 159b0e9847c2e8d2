"""Targets of head `boxes` from events that may overlap; what they mean is in `a2v_model.boxes`.

Shapes: B segments, T frames, C classes.
"""

from __future__ import annotations

import numpy as np
from a2v_data.corpus import Corpus
from a2v_model.boxes import UNIT_S
from numpy.typing import NDArray

SOFTENED = 0.1  # of a call: standard deviation of the target around its onset and offset, which nobody marks exactly
NARROWEST, WIDEST = 1.0, 5.0  # of it, frames


def box_targets(
    corpus: Corpus, segments: NDArray[np.void], frame_rate: float, frame_targets_BTC: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Targets (B, T, 4 C), float32, of segments of a corpus: of onsets and offsets 1 in their frames, with a Gaussian
    around them, NaN where `frame_targets_BTC` (`Corpus.targets`) are not known; of durations the logarithm of
    seconds / 0.1 where a call starts, or ends, that lies within the segment as a whole, else NaN.

    Of calls of a class that start (or end) in the same frame the longest gives the duration.
    """
    batch, frames, classes = frame_targets_BTC.shape
    targets = np.zeros((batch, frames, 4, classes), np.float32)
    targets[:, :, 2:] = np.nan
    for row, segment in enumerate(segments):
        recording = segment["recording"]
        start_s = segment["start"] / corpus.rate(recording)
        events = corpus.labels(recording)
        inside = (events["offset_s"] > start_s) & (events["onset_s"] < start_s + frames / frame_rate)
        for event in events[inside]:
            place = (event["onset_s"] - start_s) * frame_rate, (event["offset_s"] - start_s) * frame_rate
            mark_box(targets[row, :, :, event["class"]], *place, frame_rate)
    unknown = np.isnan(frame_targets_BTC)[:, :, None] & (targets[:, :, :2] < 1)
    targets[:, :, :2][np.broadcast_to(unknown, targets[:, :, :2].shape)] = np.nan
    return targets.reshape(batch, frames, 4 * classes)


def mark_box(targets_T4: NDArray[np.float32], onset: float, offset: float, frame_rate: float) -> None:
    """Add a call to the targets of its class; onset and offset in frames, rounded as labels are."""
    frames = len(targets_T4)
    start = int(np.floor(onset + 0.5))
    last = max(int(np.floor(offset + 0.5)), start + 1) - 1
    spread = np.clip(SOFTENED * (last + 1 - start), NARROWEST, WIDEST)
    log_duration = np.log((last + 1 - start) / frame_rate / UNIT_S)
    for kind, frame in enumerate((start, last)):
        soft_T = np.exp(-0.5 * ((np.arange(frames) - frame) / spread) ** 2).astype(np.float32)
        if not 0 <= frame < frames:  # its end lies outside, and nothing within is one
            continue
        targets_T4[:, kind] = np.maximum(targets_T4[:, kind], soft_T)
        if start >= 0 and last < frames:
            targets_T4[frame, 2 + kind] = np.fmax(targets_T4[frame, 2 + kind], log_duration)
