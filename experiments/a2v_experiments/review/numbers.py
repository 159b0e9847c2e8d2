"""What a review says in numbers: precision, probability, misses and counts of each class.

Only decisions that are a random sample count here (`order.bands`, `order.sampled_windows`); of counts, those that are
known in whatever order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import numpy as np
from a2v_data.recording_times import start_time
from a2v_eval.calibration import Calibration, calibrate
from a2v_eval.day_counts import DayBand, corrected_counts
from a2v_eval.missed import Estimate, missed_calls, recall
from a2v_eval.stratified import BandSample, PrecisionCurve, Share, Stratum, precision_curve, share_right

from .calls import Calls, Event
from .journal import Decision, State
from .order import WINDOW_S, Band, bands, sampled_windows, windows

UNDATED = ""


@dataclass(frozen=True)
class DayCount:
    """Predictions of a class on a day (ISO; UNDATED where names of recordings say none), those that were judged, and
    how many are right; None where a band of them was not judged at all."""

    label: str
    day: str
    predicted: int
    judged: int
    right: Estimate | None


@dataclass(frozen=True)
class ClassNumbers:
    """Of a class: predictions, those that were decided in any order, by verdict (`right`, `wrong`, `other`, `unsure`),
    how many of them are of the random sample and were judged; precision of all predictions and over thresholds;
    calibration, or why there is none; likelihoods of all predictions, and of
    those that were judged, with which are right; misses and recall, None without windows."""

    label: str
    predicted: int
    decided: int
    verdicts: dict[str, int]
    sampled: int
    precision: Share | None
    curve: PrecisionCurve
    calibration: Calibration | str
    predictions: np.ndarray
    likelihood: np.ndarray
    right: np.ndarray
    missed: Estimate | None
    recall: Estimate | None


@dataclass(frozen=True)
class WindowsSeen:
    """Stretches without predictions: how many and how long, those that were looked at, seconds of gaps that are too
    short to be any, and random stretches that were looked at and are none of these."""

    count: int
    total_s: float
    looked: int
    looked_s: float
    lost_s: float
    others: int = 0


@dataclass(frozen=True)
class Numbers:
    """Of all classes that have predictions or drawn calls."""

    classes: tuple[ClassNumbers, ...]
    days: tuple[DayCount, ...]
    windows: WindowsSeen


def numbers(calls: Calls, state: State, window_s: float = WINDOW_S) -> Numbers:
    """Everything that follows from the decisions."""
    stretches, lost_s = windows(calls, window_s)
    looked = sampled_windows(stretches, state)
    total_s = sum(one.stop_s - one.start_s for one in stretches)
    drawn = [one for one in state.standing("drawn") if one.verdict in ("right", "other")]
    of_label: dict[str, list[Band]] = defaultdict(list)
    for band in bands(calls.events, state):
        of_label[band.label].append(band)
    labels = sorted(of_label.keys() | {one.label for one in drawn})
    looked_s, ids = sum(one.stop_s - one.start_s for one in looked), {one.id for one in stretches}
    others = [one for one in state.standing("stretch") if one.order == "windows" and one.item not in ids]
    seen = WindowsSeen(len(stretches), total_s, len(looked), looked_s, lost_s, len(others))
    lengths = np.array([one.stop_s - one.start_s for one in looked])

    def missed(label: str) -> Estimate | None:
        if not looked:
            return None
        counts = [sum(_within(call, one.file, one.start_s, one.stop_s) for call in drawn if call.label == label)
                  for one in looked]  # fmt: skip
        return missed_calls(np.array(counts, dtype=float), lengths, total_s)

    classes: list[ClassNumbers] = []
    days: list[DayCount] = []
    for label in labels:
        samples = [_sample(band) for band in of_label[label]]
        strata = [_stratum(sample) for sample in samples]
        classes.append(_of_class(label, of_label[label], samples, strata, state, missed(label)))
        days += _days(label, of_label[label], strata, state)
    return Numbers(tuple(classes), tuple(days), seen)


def _within(call: Decision, file: str, start_s: float, stop_s: float) -> bool:
    """Whether the middle of a drawn call lies there."""
    return call.file == file and start_s <= (call.onset_s + call.offset_s) / 2 < stop_s


def _sample(band: Band) -> BandSample:
    judged = [
        (event.likelihood or 0.0, decision.verdict == "right")
        for event, decision in zip(band.events, band.sampled, strict=False)
        if decision.verdict != "unsure"
    ]
    return BandSample(
        np.array([event.likelihood or 0.0 for event in band.events]),
        np.array([likelihood for likelihood, _ in judged]),
        np.array([right for _, right in judged], dtype=bool),
    )


def _of_class(
    label: str,
    found: Sequence[Band],
    samples: Sequence[BandSample],
    strata: Sequence[Stratum],
    state: State,
    missed: Estimate | None,
) -> ClassNumbers:
    share = share_right(strata)
    likelihood = np.concatenate([np.zeros(0), *(sample.judged for sample in samples)])
    right = np.concatenate([np.zeros(0, bool), *(sample.right for sample in samples)])
    decided = [state.of(event.id) for band in found for event in band.events]
    verdicts = Counter(one.verdict for one in decided if one is not None)
    predicted = sum(one.size for one in strata)
    found_right = _right(share, predicted)
    return ClassNumbers(
        label, predicted, sum(verdicts.values()), dict(verdicts), len(right), share, precision_curve(samples),
        calibrate(likelihood, right), np.concatenate([np.zeros(0), *(sample.likelihood for sample in samples)]),
        likelihood, right, missed,
        recall(found_right, missed) if missed is not None and found_right is not None else None,
    )  # fmt: skip


def _right(share: Share | None, predicted: int) -> Estimate | None:
    """How many predictions are right; None where a part of them is unknown."""
    if not predicted:
        return Estimate(0.0, 0.0, 0.0)
    if share is None or share.covered < 1:
        return None
    return Estimate(share.estimate * predicted, share.lower * predicted, share.upper * predicted)


def _stratum(sample: BandSample) -> Stratum:
    return Stratum(len(sample.likelihood), len(sample.judged), int(sample.right.sum()))


_start = lru_cache(maxsize=4096)(start_time)  # a recording has many events


def day_of(event: Event) -> str:
    """The day on which an event begins, by the name of its recording."""
    start = _start(event.file)
    return UNDATED if start is None else (start + timedelta(seconds=event.onset_s)).date().isoformat()


def _days(label: str, found: Sequence[Band], strata: Sequence[Stratum], state: State) -> list[DayCount]:
    by_band = [_parts(band, state) for band in found]
    days = sorted({day for parts in by_band for day in parts})
    cells = [[parts.get(day, DayBand(0, 0, 0, 0, 0)) for parts in by_band] for day in days]
    counts = corrected_counts(strata, cells)
    return [
        DayCount(label, day, sum(one.size for one in row), sum(one.judged for one in row), right)
        for day, row, right in zip(days, cells, counts, strict=True)
    ]


def _parts(band: Band, state: State) -> dict[str, DayBand]:
    """Of a band, what is on each day: predictions; those judged, right; those of its random sample judged, right."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for place, event in enumerate(band.events):
        decision = state.of(event.id)
        judged = decision is not None and decision.verdict != "unsure"
        right = decision is not None and decision.verdict == "right"
        sampled = place < len(band.sampled)
        row = (1, judged, right, judged and sampled, right and sampled)
        day = day_of(event)
        counts[day] = [sum(pair) for pair in zip(counts[day], row, strict=True)]
    return {day: DayBand(*row) for day, row in counts.items()}
