"""Waveform augmentation for finetuning: events pasted into segments, backgrounds added, levels changed.

Pure functions of waveforms, frame targets, a `TrainingPart` (the only recordings that anything is taken from), a
configuration and a Generator. Where a label comes from elsewhere, so does what was recorded beside its sound (streams),
for as long as it lasts. Legend: B segments, N samples, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from a2v_data.corpus import mark_events
from a2v_data.sampling import Probability, SamplingConfig, draw_segments
from a2v_data.streams.config import HeardStream
from a2v_data.streams.grid import window
from a2v_data.training_part import LEAST_GAP_S, Floats, TrainingPart

AROUND_S = 0.25  # on either side of a pasted event: the background that its level is set against
SILENT_S = (LEAST_GAP_S, 0.4)  # length of an event-free snippet
MOST_GAIN = 30.0  # amplitude; what needs more is mostly noise
LABELLED_ABOVE_DB = -8.0  # an added background that is quieter keeps its labels to itself


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"is {list(pair)}; must be [lowest, highest]")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_rising)]
Lengths = Annotated[tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]], AfterValidator(_rising)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PasteConfig(_Config):
    """Other training events in a segment.

    With `probability`, 1 to `most` snippets are pasted: an event with context_s seconds on either side, less where a
    neighbouring event begins, faded in and out over fade_s seconds. snr_db: level of the event over what is within
    0.25 s of where it lands, dB. silent_share: of the snippets that hold no event, so that an edge is no cue.
    """

    probability: Probability = 0.7
    most: Annotated[int, Field(ge=1)] = 3
    snr_db: Range = (-4.0, 15.0)
    silent_share: Probability = 0.25
    context_s: Lengths = (0.01, 0.06)
    fade_s: Annotated[float, Field(ge=0)] = 0.008


class BackgroundConfig(_Config):
    """Another training stretch, added to a segment with `probability` at a gain within gain_db; its labels are added
    where the gain is above -8 dB."""

    probability: Probability = 0.3
    gain_db: Range = (-12.0, 0.0)


class AugmentConfig(_Config):
    """What is done to a segment, in this order; each is off unless given.

    gain_db: the whole segment is multiplied with a gain within +-gain_db, after it was normalised (before, it would
    change nothing).
    """

    background: BackgroundConfig | None = None
    paste: PasteConfig | None = None
    gain_db: Annotated[float, Field(ge=0, le=60)] = 0.0


@dataclass(frozen=True)
class Place:
    """Where a snippet is taken from: recording of the part, and samples. [start, end) is the event (or the cut of it),
    [first, last) the snippet with its context. silent: it holds no event."""

    recording: int
    first: int
    start: int
    end: int
    last: int
    silent: bool


@dataclass(frozen=True)
class Taken:
    """What a segment has from elsewhere: `length` samples from `start` of a recording of the part on, at `at` of the
    segment."""

    recording: int
    start: int
    length: int
    at: int


class Augmenter:
    """Augments micro-batches with what the training recordings hold, and nothing else.

    part: the recordings to train on; frame_samples: samples of a frame; class_power: as in `SamplingConfig`, for
    pasted events; streams: those that are heard.
    """

    def __init__(
        self,
        part: TrainingPart,
        frame_samples: int,
        config: AugmentConfig,
        class_power: float = 0.5,
        streams: Mapping[str, HeardStream] | None = None,
    ) -> None:
        self.part, self.frame, self.config, self.class_power = part, frame_samples, config, class_power
        self.streams = streams or {}

    def __call__(
        self,
        waveform_BN: Floats,
        lengths_B: NDArray[np.int64],
        targets_BTC: Floats,
        rng: Generator,
        streams: Mapping[str, Floats] | None = None,
    ) -> tuple[Floats, Floats]:
        """Waveforms, not yet normalised, and targets with backgrounds and pasted events; the given ones stay as they
        are. lengths_B: samples of each segment that are recording; what follows is padding and stays 0. streams: of
        these segments (B, M, C) by name, which are changed in place."""
        waveform_BN, targets_BTC = waveform_BN.copy(), targets_BTC.copy()
        for row, length in enumerate(lengths_B):
            segment_N, target_TC = waveform_BN[row, :length], targets_BTC[row, : -(-int(length) // self.frame)]
            taken: list[Taken] = []
            if self.config.background:
                taken += add_background(segment_N, target_TC, self.part, self.frame, self.config.background, rng)
            if self.config.paste:
                taken += paste(segment_N, target_TC, self.part, self.frame, self.config.paste, self.class_power, rng)
            if streams:
                own = {name: values[row] for name, values in streams.items()}
                for one in taken:
                    self._take_streams(own, one)
        return waveform_BN, targets_BTC

    def _take_streams(self, streams: Mapping[str, Floats], taken: Taken) -> None:
        """Replace what the segment's streams (M, C) have for as long as something lasts that came from elsewhere."""
        rate, grids = self.part.sample_rate, self.part.streams(taken.recording)
        for name, values_MC in streams.items():
            own = self.streams[name].rate
            first = max(0, round(taken.at / rate * own))
            last = min(len(values_MC), max(first + 1, round((taken.at + taken.length) / rate * own)))
            if first < last:
                start_s = (taken.start - taken.at) / rate + first / own
                lacking = np.full((last - first, values_MC.shape[1]), np.nan, np.float32)
                values_MC[first:last] = window(grids[name], own, start_s, last - first) if name in grids else lacking

    def gains(self, segments: int, rng: Generator) -> Floats:
        """Factors (B,) for normalised waveforms, within +-gain_db."""
        return (10 ** (rng.uniform(-self.config.gain_db, self.config.gain_db, segments) / 20)).astype(np.float32)


def add_background(
    waveform_N: Floats, target_TC: Floats, part: TrainingPart, frame: int, config: BackgroundConfig, rng: Generator
) -> list[Taken]:
    """Add another stretch of the part, and its labels where it is loud enough, in place; returns those events."""
    if rng.random() >= config.probability:
        return []
    segment = draw_segments(part, len(waveform_N), frame, 1, SamplingConfig(event_share=0), rng)
    gain_db = rng.uniform(*config.gain_db)
    added_N, added_TC = part.read(segment[0], len(waveform_N), part.sample_rate / frame, len(target_TC))
    waveform_N[: len(added_N)] += added_N * np.float32(10 ** (gain_db / 20))
    if gain_db <= LABELLED_ABOVE_DB:
        return []
    np.maximum(target_TC, added_TC, out=target_TC)
    recording, begin, end = part.place(segment[0], len(added_N))
    heard = part.events.within(recording, begin, end)
    starts = np.maximum(part.events.start[heard], begin).tolist()
    stops = np.minimum(part.events.end[heard], end).tolist()
    return [Taken(recording, start, stop - start, start - begin) for start, stop in zip(starts, stops, strict=True)]


def paste(
    waveform_N: Floats,
    target_TC: Floats,
    part: TrainingPart,
    frame: int,
    config: PasteConfig,
    class_power: float,
    rng: Generator,
) -> list[Taken]:
    """Paste some snippets into the samples and targets of one segment, in place, each anywhere in it; returns them.

    A snippet that cannot be heard at the wanted level (digital silence, or a gain above 30 that leaves it below the
    least of snr_db) is left out, with its label.
    """
    taken: list[Taken] = []
    if rng.random() >= config.probability:
        return taken
    for _ in range(int(rng.integers(1, config.most + 1))):
        place = draw_place(part, len(waveform_N), config, class_power, rng)
        if place is None:
            continue
        at = int(rng.integers(0, len(waveform_N) - (place.end - place.start) + 1))
        snr_db = float(rng.uniform(*config.snr_db))
        snippet_N = faded(part.samples(place.recording, place.first, place.last), config.fade_s * part.sample_rate)
        gain = _gain(waveform_N, snippet_N, place, at, round(AROUND_S * part.sample_rate), snr_db, config.snr_db[0])
        if gain is None:
            continue
        first = at - (place.start - place.first)
        cut_N = snippet_N[max(-first, 0) : len(waveform_N) - first]
        waveform_N[max(first, 0) : max(first, 0) + len(cut_N)] += np.float32(gain) * cut_N
        taken.append(Taken(place.recording, place.start, place.end - place.start, at))
        if not place.silent:
            mark_pasted(target_TC, part, place, at, frame)
    return taken


def draw_place(
    part: TrainingPart, longest: int, config: PasteConfig, class_power: float, rng: Generator
) -> Place | None:
    """What to paste into a segment of `longest` samples; None where the part has no such event or silence."""
    around = [int(rng.uniform(*config.context_s) * part.sample_rate) for _ in range(2)]
    if rng.random() < config.silent_share:
        return _silent_place(part, longest, around, rng)
    events = part.events
    if not len(events):
        return None
    event = events.draw(class_power, rng)
    start, end = int(events.start[event]), int(events.end[event])
    before, after = min(around[0], int(events.before[event])), min(around[1], int(events.after[event]))
    if end - start > longest:
        cut = start + int(rng.integers(0, end - start - longest + 1))
        before, after, start, end = 0, 0, cut, cut + longest
    return Place(int(events.recording[event]), start - before, start, end, end + after, silent=False)


def _silent_place(part: TrainingPart, longest: int, around: list[int], rng: Generator) -> Place | None:
    """A gap by its length, and within it a place with as much context as fits."""
    gaps = part.gaps
    length = min(round(rng.uniform(*SILENT_S) * part.sample_rate), longest)
    if not len(gaps):
        return None
    gap = gaps.draw(rng)
    low, high = int(gaps.start[gap]), int(gaps.end[gap])
    length = min(length, high - low)
    start = low + int(rng.integers(0, high - low - length + 1))
    end = start + length
    first, last = max(start - around[0], low), min(end + around[1], high)
    return Place(int(gaps.recording[gap]), first, start, end, last, silent=True)


def faded(snippet_N: Floats, fade: float) -> Floats:
    """Without its mean, and with raised-cosine ends of `fade` samples (at most half the snippet each)."""
    snippet_N = snippet_N - snippet_N.mean()
    size = min(round(fade), len(snippet_N) // 2)
    if size:
        ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(size) + 0.5) / size)).astype(np.float32)
        snippet_N[:size] *= ramp
        snippet_N[-size:] *= ramp[::-1]
    return snippet_N


def mark_pasted(target_TC: Floats, part: TrainingPart, place: Place, at: int, frame: int) -> None:
    """Set the frames of all events that sound in the pasted [start, end), whose first sample lands at `at`."""
    events, rate = part.events, part.sample_rate
    heard = events.within(place.recording, place.start, place.end)
    # An uncut edge keeps its time to less than a sample, a cut one is that of the cut.
    onset_s = np.where(events.start[heard] < place.start, place.start / rate, events.onset_s[heard])
    offset_s = np.where(events.end[heard] > place.end, place.end / rate, events.offset_s[heard])
    shift_s = (at - place.start) / rate
    mark_events(target_TC, onset_s + shift_s, offset_s + shift_s, events.number[heard], rate / frame)


def _gain(
    waveform_N: Floats, snippet_N: Floats, place: Place, at: int, around: int, snr_db: float, least_db: float
) -> float | None:
    """Amplitude that brings the event to `snr_db` over the background; None where it stays below `least_db`."""
    length, before = place.end - place.start, place.start - place.first
    background = _level(waveform_N[max(at - around, 0) : at + length + around])
    event = _level(snippet_N[before : before + length])
    if event == 0 or background == 0:
        return None
    gain = min(10 ** (snr_db / 20) * background / event, MOST_GAIN)
    return gain if 20 * np.log10(gain * event / background) >= least_db - 1e-6 else None


def _level(waveform_N: Floats) -> float:
    """Root mean square without the mean: a recorder's offset is no sound."""
    return float(waveform_N.std(dtype=np.float64))
