"""Frame likelihoods of whole recordings: overlapping windows, stitched on the recording's own frame grid.

`Windows` says where the windows of a recording lie and which frames each of them gives; that depends on the
recording's length and nothing else, so any run of windows (a batch, a piece on another machine) gives exactly its own
frames. The packed corpus and streamed recordings share it, and `window_outputs`.

B windows, N samples, T frames, D embedding, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import numpy as np
import torch
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_model import Detector, autocast, normalise, padded_lengths
from a2v_model.config import AnyFrontEnd, EarConfig, ModelConfig
from numpy.typing import NDArray

Frames = NDArray[np.float32]
Streams = Mapping[str, NDArray[np.float32]]
Outputs = Callable[[Detector, NDArray[np.float32], NDArray[np.int64], Streams], Frames]
BATCH = 16  # windows that are read at once, and that a GPU hears at once
CPU_FRAMES = 2000  # that a CPU hears at once: fewer spend their time between operations, more leave the caches


@dataclass(frozen=True)
class Windows:
    """The windows that cover a recording of `frames` frames: of `size` frames, neighbours share `overlap` of them.

    The last one ends where the recording ends, and so shares more.
    """

    frames: int
    size: int
    overlap: int

    @classmethod
    def of(cls, samples: int, front_end: AnyFrontEnd, segment_s: float, overlap_s: float) -> Windows:
        """Those of a recording of so many samples; a begun frame counts. segment_s, overlap_s: seconds."""
        size = round(segment_s * front_end.sample_rate) // front_end.stride
        overlap = min(round(overlap_s * front_end.frame_rate), size - 1)
        return cls(-(-samples // front_end.stride), size, overlap)

    def __len__(self) -> int:
        step = self.size - self.overlap
        return 1 if self.frames <= self.size else -(-(self.frames - self.size) // step) + 1

    def start(self, index: int) -> int:
        """First frame of a window."""
        step = self.size - self.overlap
        return max(0, min(index * step, self.frames - self.size))

    def heard(self) -> Iterator[int]:
        """Of each window the frames that the recording has, which are those that the model computes."""
        return (min(self.size, self.frames - self.start(index)) for index in range(len(self)))

    def own(self, index: int) -> tuple[int, int]:
        """The frames [first, last) that a window gives: where two overlap, each gives the half nearer its centre."""
        start = self.start(index)
        first = 0 if index == 0 else (self.start(index - 1) + self.size + start) // 2
        if index == len(self) - 1:
            return first, self.frames
        return first, (start + self.size + self.start(index + 1)) // 2


def at_once(windows: Windows, device: str, most: int = BATCH) -> int:
    """How many of these windows the model hears at once: on a CPU long ones alone, short ones together."""
    return most if device == "cuda" else max(1, min(most, round(CPU_FRAMES / windows.size)))


def stitch(windows: Windows, index: int, outputs: Iterable[Frames]) -> Frames:
    """One (frames, C) array from the outputs (T, C) of consecutive windows, the first of them number `index`."""
    return np.concatenate([own_frames(windows, index + place, output) for place, output in enumerate(outputs)])


def own_frames(windows: Windows, index: int, output_TC: Frames) -> Frames:
    """Of a window's output those frames that it gives."""
    first, last = windows.own(index)
    start = windows.start(index)
    return output_TC[first - start : last - start]


def window_outputs(
    model: Detector,
    waveform_BN: NDArray[np.float32],
    lengths_B: NDArray[np.int64],
    precision: str,
    with_features: bool = False,
    streams: Streams | None = None,
) -> tuple[Frames, Frames | None]:
    """Likelihoods (B, T, C) of windows as they were read, and with_features the features behind them (B, T, D); each
    window is normalised here. lengths_B: samples of each that belong to the recording; T: the frames of the longest of
    them. precision: as in recipes. streams: what was recorded beside them (B, M, C), by name. With head `boxes` (B, T,
    4 C) in place of likelihoods, see `Detector.outputs`."""
    with _window_features(model, waveform_BN, lengths_B, precision, streams) as (features_BTD, lengths, frames):
        logits_BTC = model.classify(features_BTD, lengths)
    likelihood_BTC: Frames = model.outputs(logits_BTC[:, :frames].float()).cpu().numpy()
    return likelihood_BTC, features_BTD[:, :frames].float().cpu().numpy() if with_features else None


@contextmanager
def _window_features(
    model: Detector,
    waveform_BN: NDArray[np.float32],
    lengths_B: NDArray[np.int64],
    precision: str,
    streams: Streams | None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None, int]]:
    """Features of windows (B, T, D), the lengths that they were made with, and how many frames are the window's; the
    block runs with the same precision."""
    front_end = model.model_config.front_end
    device = next(model.parameters()).device
    lengths = torch.from_numpy(np.asarray(lengths_B, dtype=np.int64))
    samples, valid = _heard(lengths, waveform_BN.shape[1], front_end)
    x_BN = normalise(torch.from_numpy(waveform_BN[:, :samples]).to(device), lengths)
    beside = {name: torch.from_numpy(values).to(device) for name, values in (streams or {}).items()}
    with torch.inference_mode(), autocast(precision, device):
        # a front end may give one frame more
        yield model.features(x_BN, lengths=valid, streams=beside), valid, samples // front_end.stride


def _heard(lengths: torch.Tensor, samples: int, front_end: AnyFrontEnd) -> tuple[int, torch.Tensor | None]:
    """How many samples of windows the model hears, and their lengths for it (None: none is padded). Padding changes
    nothing (`padded_lengths`), so what lies behind the longest of them is not computed."""
    valid = padded_lengths(lengths, samples, front_end)
    if valid is None:
        return samples, None
    longest = int(valid.max())
    return longest, None if bool((valid == longest).all()) else valid


def window_features(
    model: Detector,
    waveform_BN: NDArray[np.float32],
    lengths_B: NDArray[np.int64],
    precision: str,
    streams: Streams | None = None,
) -> Frames:
    """What the head sees (B, T, D) of windows, as in `window_outputs`."""
    with _window_features(model, waveform_BN, lengths_B, precision, streams) as (features_BTD, _, frames):
        return features_BTD[:, :frames].float().cpu().numpy()


def _likelihoods(precision: str) -> Outputs:
    def outputs(
        heard_by: Detector, waveform_BN: NDArray[np.float32], lengths_B: NDArray[np.int64], streams: Streams
    ) -> Frames:
        return window_outputs(heard_by, waveform_BN, lengths_B, precision, streams=streams)[0]

    return outputs


def recording_likelihoods(
    model: Detector,
    corpus: Corpus,
    recordings: Iterable[int],
    segment_s: float,
    overlap_s: float,
    batch: int = BATCH,
    precision: str = "auto",
    progress: Callable[[int], Any] = lambda done: None,
) -> Iterator[tuple[int, Frames]]:
    """Yield (recording index, likelihoods (T, C) in [0, 1]), T = ceil(samples / samples per frame).

    segment_s, overlap_s: seconds of a window and of what neighbouring windows share. progress is called with the
    number of windows done.
    """
    outputs = _likelihoods(precision)
    return _recording_outputs(model, corpus, recordings, segment_s, overlap_s, batch, progress, outputs)


def recording_features(
    model: Detector,
    corpus: Corpus,
    recordings: Iterable[int],
    segment_s: float,
    overlap_s: float,
    batch: int = 4,
    precision: str = "auto",
    progress: Callable[[int], Any] = lambda done: None,
) -> Iterator[tuple[int, Frames]]:
    """Yield (recording index, what the head sees (T, D)), else as `recording_likelihoods`."""

    def outputs(
        heard_by: Detector, waveform_BN: NDArray[np.float32], lengths_B: NDArray[np.int64], streams: Streams
    ) -> Frames:
        return window_features(heard_by, waveform_BN, lengths_B, precision, streams)

    return _recording_outputs(model, corpus, recordings, segment_s, overlap_s, batch, progress, outputs)


def recording_features_and_likelihoods(
    model: Detector,
    corpus: Corpus,
    recordings: Iterable[int],
    segment_s: float,
    overlap_s: float,
    batch: int = 16,
    precision: str = "auto",
    progress: Callable[[int], Any] = lambda done: None,
) -> Iterator[tuple[int, Frames, Frames]]:
    """Yield (recording index, what the head sees (T, D), likelihoods (T, C)) from one pass over the recordings, else
    as `recording_likelihoods`."""

    def outputs(
        heard_by: Detector, waveform_BN: NDArray[np.float32], lengths_B: NDArray[np.int64], streams: Streams
    ) -> Frames:
        likelihood_BTC, features_BTD = window_outputs(heard_by, waveform_BN, lengths_B, precision, True, streams)
        assert features_BTD is not None
        return np.concatenate([features_BTD, likelihood_BTC], axis=-1)

    for recording, both in _recording_outputs(
        model, corpus, recordings, segment_s, overlap_s, batch, progress, outputs
    ):  # fmt: skip
        yield recording, both[:, : -model.columns], both[:, -model.columns :]


@dataclass(frozen=True)
class Stretch:
    """Windows `first` to `last` - 1 of a recording of a packed corpus."""

    recording: int
    windows: Windows
    first: int
    last: int

    @property
    def is_end(self) -> bool:
        """Whether the recording ends here."""
        return self.last == len(self.windows)


def front_end_for(corpus: Corpus, recording: int, front_end: AnyFrontEnd) -> AnyFrontEnd:
    """What hears a recording of a packed corpus as it is. Raises ValueError where nothing does."""
    rate = corpus.rate(recording)
    if isinstance(front_end, EarConfig) and front_end.hears(rate):
        return front_end.at(rate)
    if rate == front_end.sample_rate:
        return front_end
    lowest = f" (front_end.minimum_hz: {front_end.minimum_hz:g})" if isinstance(front_end, EarConfig) else ""
    raise ValueError(
        f"{corpus.recordings[recording].name}: is stored at {rate} Hz, which this model does not hear{lowest};"
        " leave such recordings out, or data.keep_rates"
    )


def heard_streams(
    model: ModelConfig, corpus: Corpus, segments: NDArray[np.void], seconds: float
) -> dict[str, NDArray[np.float32]]:
    """What was recorded beside segments of so many seconds of a corpus and the model hears (B, M, C), by name."""
    if not model.streams or not corpus.streams:
        return {}
    found = corpus.stream_windows(segments, seconds)
    return {name: values for name, values in found.items() if name in model.streams}


def recording_stretches(
    corpus: Corpus, recordings: Iterable[int], front_end: AnyFrontEnd, segment_s: float, overlap_s: float
) -> list[Stretch]:
    """All windows of recordings, a stretch for each of them."""
    every = []
    for recording in recordings:
        own = front_end_for(corpus, recording, front_end)
        windows = Windows.of(corpus.recordings[recording].n_samples, own, segment_s, overlap_s)
        every.append(Stretch(recording, windows, 0, len(windows)))
    return every


def cut(stretches: Iterable[Stretch], size: int) -> Iterator[list[Stretch]]:
    """The same windows in the same order, `size` of them at a time. Where `size` is a multiple of the batch, each part
    has its batches, with the same windows side by side, so that not a bit differs from all of it at once."""
    part: list[Stretch] = []
    room = size
    for stretch in stretches:
        first = stretch.first
        while first < stretch.last:
            last = min(first + room, stretch.last)
            part.append(Stretch(stretch.recording, stretch.windows, first, last))
            room -= last - first
            first = last
            if room == 0:
                yield part
                part, room = [], size
    if part:
        yield part


def joined(pieces: Iterable[tuple[Stretch, Frames]]) -> Iterator[tuple[int, Frames]]:
    """(recording, frames of all of it) from what consecutive stretches gave."""
    pending: list[Frames] = []
    for stretch, frames in pieces:
        pending.append(frames)
        if stretch.is_end:
            yield stretch.recording, np.concatenate(pending)
            pending = []


def stretch_likelihoods(
    model: Detector, corpus: Corpus, stretches: Iterable[Stretch], batch: int, precision: str
) -> Iterator[tuple[Stretch, Frames]]:
    """(stretch, likelihoods (T, C) of the frames that its windows give)."""
    return _stretch_outputs(model, corpus, stretches, batch, lambda done: None, _likelihoods(precision))


def _recording_outputs(
    model: Detector,
    corpus: Corpus,
    recordings: Iterable[int],
    segment_s: float,
    overlap_s: float,
    batch: int,
    progress: Callable[[int], Any],
    outputs: Outputs,
) -> Iterator[tuple[int, Frames]]:
    every = recording_stretches(corpus, recordings, model.model_config.front_end, segment_s, overlap_s)
    return joined(_stretch_outputs(model, corpus, every, batch, progress, outputs))


def _stretch_outputs(
    model: Detector,
    corpus: Corpus,
    stretches: Iterable[Stretch],
    batch: int,
    progress: Callable[[int], Any],
    outputs: Outputs,
) -> Iterator[tuple[Stretch, Frames]]:
    device = next(model.parameters()).device.type
    model.eval()
    places = ((stretch, index) for stretch in stretches for index in range(stretch.first, stretch.last))
    pending: list[Frames] = []
    for group in _batches(places, batch):
        for (stretch, index), output in _heard_together(model, corpus, group, batch, device, outputs):
            pending.append(output)
            if index == stretch.last - 1:
                yield stretch, stitch(stretch.windows, stretch.first, pending)
                pending = []
        progress(len(group))


def _heard_together(
    model: Detector, corpus: Corpus, group: list[tuple[Stretch, int]], batch: int, device: str, outputs: Outputs
) -> Iterator[tuple[tuple[Stretch, int], Frames]]:
    """Windows and what they give, those of one sample rate together."""
    for rate, same in groupby(group, key=lambda one: corpus.rate(one[0].recording)):
        of_rate, heard_by = list(same), model.for_rate(rate)
        stride = heard_by.model_config.front_end.stride
        starts = [(stretch.recording, stretch.windows.start(index) * stride) for stretch, index in of_rate]
        samples = of_rate[0][0].windows.size * stride
        segments = np.array(starts, dtype=SEGMENT_DTYPE)
        waveform_BN, lengths_B = corpus.waveforms(segments, samples)
        streams = heard_streams(model.model_config, corpus, segments, samples / rate)
        most = at_once(of_rate[0][0].windows, device, batch)
        parts = (slice(first, first + most) for first in range(0, len(of_rate), most))
        heard = (
            output
            for part in parts
            for output in outputs(
                heard_by, waveform_BN[part], lengths_B[part], {name: values[part] for name, values in streams.items()}
            )
        )
        yield from zip(of_rate, heard, strict=True)


def _batches(items: Iterator[tuple[Stretch, int]], size: int) -> Iterator[list[tuple[Stretch, int]]]:
    while batch := list(islice(items, size)):
        yield batch
