"""Which stretches of the recordings a training hears: more of those with calls, and of rare ones.

Pure functions of a `TrainingPart`, a configuration and a Generator. Most of a field recording is background; with
uniform draws the detector meets a rare class a few times only. Legend: N samples, W frames in time, F frequency bins.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from a2v_data.corpus import SEGMENT_DTYPE
from a2v_data.training_part import Stretches, TrainingPart

Probability = Annotated[float, Field(ge=0, le=1)]
CANDIDATES = 4  # stretches of which the liveliest is taken
OCTAVES = 4  # below half the sample rate, in which liveliness is measured
WINDOW = 512  # samples of one short-time spectrum


class SamplingConfig(BaseModel):
    """Finetuning: event_share of the segments are drawn so that they contain an event, the others uniformly.

    class_power: a class is drawn by its number of training events ** class_power (1: as frequent as it is, 0: each
    class alike).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    event_share: Probability = 0.5
    class_power: Annotated[float, Field(ge=0)] = 0.5


class ActiveConfig(BaseModel):
    """Pretraining, which knows no labels: active_share of the segments are the liveliest of four drawn uniformly."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    active_share: Probability = 0.5


def draw_segments(
    part: TrainingPart, samples: int, frame: int, count: int, config: SamplingConfig, rng: Generator
) -> NDArray[np.void]:
    """`count` segments of `samples` samples, SEGMENT_DTYPE, each drawn independently.

    With probability event_share a segment contains an event, at a place of the segment that is uniform as far as the
    recording's ends allow; a segment shorter than its event lies on it. Otherwise, and where no event exists, it is
    any stretch, recordings being as likely as they are long; where only parts of them are annotated, one that holds
    some of these, of which each second is as likely. Segments start on multiples of `frame` samples, or end
    with the recording; a recording shorter than a segment starts at 0.
    """
    segments = np.empty(count, SEGMENT_DTYPE)
    for row in range(count):
        if rng.random() < config.event_share and len(part.events):
            event = part.events.draw(config.class_power, rng)
            recording = int(part.events.recording[event])
            low, high = sorted((int(part.events.end[event]) - samples, int(part.events.start[event])))
            start = _draw_start(low, high, int(part.lengths[recording]) - samples, frame, rng)
            segments[row] = part.position(recording), start
        elif part.known is not None:
            segments[row] = _draw_known(part, part.known, samples, frame, rng)
        else:
            segments[row] = _draw_anywhere(part, samples, frame, rng)
    return segments


def draw_active(
    part: TrainingPart, samples: int, frame: int, count: int, config: ActiveConfig, rng: Generator
) -> NDArray[np.void]:
    """`count` segments as `draw_segments` draws them without events; with probability active_share the one of four
    with the largest `activity`."""
    segments = np.empty(count, SEGMENT_DTYPE)
    for row in range(count):
        if rng.random() >= config.active_share:
            segments[row] = _draw_anywhere(part, samples, frame, rng)
            continue
        best = -1.0
        for _ in range(CANDIDATES):
            recording, start = _draw_place(part, samples, frame, rng)
            end = min(start + samples, int(part.lengths[recording]))
            score = activity(part.samples(recording, start, end))
            if score > best:
                best, segments[row] = score, (part.position(recording), start)
    return segments


def activity(waveform_N: NDArray[np.float32]) -> float:
    """How far a stretch rises above its own background, dB: the largest over octave bands of maximum minus median
    over time of the short-time energy.

    Stationary noise of any level has a few dB. Frames of digital silence do not count: they are gaps of the recorder,
    and against them any noise would look like a call. 0 where fewer than two frames are left.
    """
    size = min(WINDOW, len(waveform_N) // 4)
    if size < 2 ** (OCTAVES + 1):
        return 0.0
    frame_WN = waveform_N[: len(waveform_N) // size * size].reshape(-1, size)
    frame_WN = frame_WN[frame_WN.any(1)]
    if len(frame_WN) < 2:
        return 0.0
    spectrum_WF = np.fft.rfft(frame_WN * np.hanning(size).astype(np.float32))
    power_WF = spectrum_WF.real**2 + spectrum_WF.imag**2
    edges = [power_WF.shape[1] >> octave for octave in range(OCTAVES + 1)]
    spreads = []
    for high, low in pairwise(edges):
        level_W = 10 * np.log10(power_WF[:, low:high].sum(1) + 1e-12)
        spreads.append(level_W.max() - np.median(level_W))
    return float(max(spreads))


def _draw_anywhere(part: TrainingPart, samples: int, frame: int, rng: Generator) -> tuple[int, int]:
    recording, start = _draw_place(part, samples, frame, rng)
    return part.position(recording), start


def _draw_known(part: TrainingPart, known: Stretches, samples: int, frame: int, rng: Generator) -> tuple[int, int]:
    stretch = known.draw(rng)
    recording = int(known.recording[stretch])
    place = int(rng.integers(known.start[stretch], known.end[stretch]))
    room = int(part.lengths[recording]) - samples
    return part.position(recording), _draw_start(place - samples + 1, place, room, frame, rng)


def _draw_place(part: TrainingPart, samples: int, frame: int, rng: Generator) -> tuple[int, int]:
    """Recording, as a position in the part, and start."""
    recording = part.draw_recording(rng)
    room = int(part.lengths[recording]) - samples
    return recording, _draw_start(0, max(room, 0), room, frame, rng)


def _draw_start(low: int, high: int, room: int, frame: int, rng: Generator) -> int:
    """A multiple of `frame` within low..high and 0..room, or room itself, which is the last start there is.

    Where no multiple lies there (an event about as long as the segment): the one below.
    """
    room = max(room, 0)
    low, high = (min(max(place, 0), room) for place in (low, high))
    first, last = -(-low // frame), -(-high // frame) if high == room else high // frame
    if first > last:
        first = last
    return min(int(rng.integers(first, last + 1)) * frame, room)
