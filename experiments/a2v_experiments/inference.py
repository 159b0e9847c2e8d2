"""Frame likelihoods of whole recordings: overlapping windows, stitched on the recording's own frame grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_model import Detector, normalise
from numpy.typing import NDArray

from .loop import autocast
from .segments import padded_lengths


def window_starts(frames: int, window: int, overlap: int) -> list[int]:
    """First frames of the windows that cover a recording of `frames` frames; the last one ends where it ends."""
    if frames <= window:
        return [0]
    starts = list(range(0, frames - window, window - overlap))
    return [*starts, frames - window]


def stitch(starts: list[int], windows: list[NDArray[np.float32]], frames: int) -> NDArray[np.float32]:
    """One (frames, C) array from windows (F, C): where two overlap, each gives the half that is nearer its centre."""
    out = np.empty((frames, windows[0].shape[1]), dtype=np.float32)
    size = len(windows[0])
    for index, (start, window) in enumerate(zip(starts, windows, strict=True)):
        first = 0 if index == 0 else (starts[index - 1] + size + start) // 2
        last = frames if index == len(starts) - 1 else (start + size + starts[index + 1]) // 2
        out[first:last] = window[first - start : last - start]
    return out


def recording_likelihoods(
    model: Detector,
    corpus: Corpus,
    recordings: Iterable[int],
    segment_s: float,
    overlap_s: float,
    batch: int = 16,
    precision: str = "auto",
    progress: Callable[[int], Any] = lambda done: None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (recording index, likelihoods (T, C) in [0, 1]), T = ceil(samples / samples per frame).

    segment_s, overlap_s: seconds of a window and of what neighbouring windows share. progress is called with the
    number of windows done.
    """
    front_end = model.model_config.front_end
    stride, samples = front_end.stride, round(segment_s * front_end.sample_rate)
    window = samples // stride
    overlap = min(round(overlap_s * front_end.frame_rate), window - 1)
    device = next(model.parameters()).device
    model.eval()

    def windows() -> Iterator[tuple[int, int, int]]:
        for recording in recordings:
            frames = -(-corpus.recordings[recording].n_samples // stride)
            starts = window_starts(frames, window, overlap)
            yield from ((recording, start, frames) for start in starts)

    pending: list[tuple[int, NDArray[np.float32]]] = []
    current: tuple[int, int] | None = None
    for group in _batches(windows(), batch):
        segments = np.array([(recording, start * stride) for recording, start, _ in group], dtype=SEGMENT_DTYPE)
        for (recording, start, frames), likelihood in zip(
            group, _likelihoods(model, corpus, segments, samples, device, precision), strict=True
        ):
            if current and current[0] != recording:
                yield current[0], stitch([s for s, _ in pending], [p for _, p in pending], current[1])
                pending = []
            current = (recording, frames)
            pending.append((start, likelihood))
        progress(len(group))
    if current:
        yield current[0], stitch([s for s, _ in pending], [p for _, p in pending], current[1])


def _batches(items: Iterator[tuple[int, int, int]], size: int) -> Iterator[list[tuple[int, int, int]]]:
    while batch := list(islice(items, size)):
        yield batch


def _likelihoods(
    model: Detector, corpus: Corpus, segments: NDArray[np.void], samples: int, device: torch.device, precision: str
) -> NDArray[np.float32]:
    waveform, lengths = corpus.waveforms(segments, samples)
    lengths_B = torch.from_numpy(np.asarray(lengths, dtype=np.int64)).to(device)
    waveform_BN = normalise(torch.from_numpy(waveform).to(device), lengths_B)
    front_end = model.model_config.front_end
    with torch.inference_mode(), autocast(precision, device):
        logits_BTC = model(waveform_BN, lengths=padded_lengths(lengths_B, samples, front_end))
    logits_BTC = logits_BTC[:, : samples // front_end.stride]  # a front end may give one frame more
    likelihood: NDArray[np.float32] = torch.sigmoid(logits_BTC.float()).cpu().numpy()
    return likelihood
