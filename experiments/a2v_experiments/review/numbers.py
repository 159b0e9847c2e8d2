"""What a review says in numbers: precision, probability, misses and counts of each class.

Only decisions that are a random sample count here (`order.bands`, `order.sampled_windows`); of counts, those that are
known in whatever order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from a2v_data.recording_times import start_time
from a2v_eval.calibration import Calibration, calibrate
from a2v_eval.missed import DayBand, Estimate, corrected_count, missed_calls, recall
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

    classes = tuple(_of_class(label, of_label[label], state, missed(label)) for label in labels)
    days = tuple(count for label in labels for count in _days(label, of_label[label], state))
    return Numbers(classes, days, seen)


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


def _of_class(label: str, found: Sequence[Band], state: State, missed: Estimate | None) -> ClassNumbers:
    samples = [_sample(band) for band in found]
    strata = [_stratum(sample) for sample in samples]
    share = share_right(strata)
    likelihood = np.concatenate([np.zeros(0), *(sample.judged for sample in samples)])
    right = np.concatenate([np.zeros(0, bool), *(sample.right for sample in samples)])
    weight = np.concatenate(
        [np.zeros(0), *(np.full(one.judged, one.size / max(one.judged, 1)) for one in strata)]
    )  # fmt: skip
    decided = [state.of(event.id) for band in found for event in band.events]
    verdicts = Counter(one.verdict for one in decided if one is not None)
    predicted = sum(one.size for one in strata)
    found_right = _right(share, predicted)
    return ClassNumbers(
        label, predicted, sum(verdicts.values()), dict(verdicts), len(right), share, precision_curve(samples),
        calibrate(likelihood, right, weight), np.concatenate([np.zeros(0), *(sample.likelihood for sample in samples)]),
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


def day_of(event: Event) -> str:
    """The day on which an event begins, by the name of its recording."""
    start = start_time(event.file)
    return UNDATED if start is None else (start + timedelta(seconds=event.onset_s)).date().isoformat()


def _days(label: str, found: Sequence[Band], state: State) -> list[DayCount]:
    by_day: dict[str, list[DayBand]] = defaultdict(list)
    strata = []
    for band in found:
        of_band = _stratum(_sample(band))
        strata.append(of_band)
        groups: dict[str, list[Event]] = defaultdict(list)
        for event in band.events:
            groups[day_of(event)].append(event)
        for day, events in groups.items():
            verdicts = [decision.verdict for event in events if (decision := state.of(event.id)) is not None]
            judged = [verdict for verdict in verdicts if verdict != "unsure"]
            by_day[day].append(
                DayBand(len(events), len(judged), judged.count("right"), of_band.judged, of_band.right, of_band.size)
            )
    pooled = share_right(strata)
    return [
        DayCount(
            label, day, sum(one.size for one in parts), sum(one.judged for one in parts), corrected_count(parts, pooled)
        )
        for day, parts in sorted(by_day.items())
    ]
