"""Calls that were not predicted, from random stretches without predictions that were looked at in full; what that says
of recall; and counts of calls that precision corrects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, norm

from .stratified import Share, smoothed


@dataclass(frozen=True)
class Estimate:
    """A number within its interval."""

    estimate: float
    lower: float
    upper: float


def missed_calls(counts: np.ndarray, seconds: np.ndarray, total_s: float, level: float = 0.95) -> Estimate:
    """Calls in all stretches without predictions, `total_s` seconds of them, from the stretches that were looked at:
    counts (n,) of calls and seconds (n,) of each.

    What was seen, and for the rest the rate of what was seen. Interval: exact Poisson (Garwood 1936), with counts
    divided by how much more they vary than Poisson's (calls come in bouts), if they do. ValueError where nothing was
    looked at.
    """
    looked_s = float(seconds.sum())
    if not looked_s > 0:
        raise ValueError("seconds: no stretch was looked at; should be some")
    found = float(counts.sum())
    rate = found / looked_s
    spread = 1.0
    if found and len(counts) > 1:
        expected = rate * seconds
        spread = max(1.0, float(((counts - expected) ** 2 / expected).sum() / (len(counts) - 1)))
    tail = (1 - level) / 2
    effective = found / spread
    lower = chi2.ppf(tail, 2 * effective) / 2 if found else 0.0
    upper = chi2.ppf(1 - tail, 2 * effective + 2) / 2
    rest_s = max(total_s - looked_s, 0.0)
    limits = (found + float(limit) * spread / looked_s * rest_s for limit in (lower, upper))
    return Estimate(found + rate * rest_s, *limits)


def recall(right: Estimate, missed: Estimate) -> Estimate:
    """right / (right + missed). Interval: that of the ratio of two estimates by MOVER (Donner and Zou 2012, Statistical
    Methods in Medical Research 21, 347-359). NaN where there is neither."""
    if right.estimate <= 0:
        return Estimate(0.0 if missed.estimate > 0 else float("nan"), 0.0, 1.0)
    product = right.estimate * missed.estimate

    def limit(of_missed: float, of_right: float, sign: int) -> float:
        inner = of_missed * of_right * (2 * missed.estimate - of_missed) * (2 * right.estimate - of_right)
        below = of_right * (2 * right.estimate - of_right)
        if below <= 0:
            return float("inf") if sign > 0 else 0.0
        return float((product + sign * np.sqrt(max(product**2 - inner, 0.0))) / below)

    low, high = limit(missed.lower, right.upper, -1), limit(missed.upper, right.lower, 1)
    ratio = missed.estimate / right.estimate
    return Estimate(1 / (1 + ratio), 1 / (1 + max(high, ratio)), 1 / (1 + min(max(low, 0.0), ratio)))


@dataclass(frozen=True)
class DayBand:
    """Predictions of one day and band: so many, so many of them judged, in whatever order, so many right; and of the
    whole band what its random sample says: judged, right, and size."""

    size: int
    judged: int
    right: int
    band_judged: int
    band_right: int
    band_size: int


def corrected_count(bands: Sequence[DayBand], pooled: Share | None, level: float = 0.95) -> Estimate | None:
    """How many of a day's predictions are right: those that were judged so, and of the others the share of their band.

    Interval: sampling of the shares, and chance of the single events; never outside what is possible. pooled: the share
    in all bands. None where a band that has open events was not judged.
    """
    known = sum(band.right for band in bands)
    left = [band for band in bands if band.size > band.judged]
    if not left:
        return Estimate(float(known), float(known), float(known))
    if pooled is None or any(not band.band_judged for band in left):
        return None
    count = np.array([band.size - band.judged for band in left], dtype=float)
    judged, right, size = (
        np.array([getattr(band, name) for band in left], dtype=float)
        for name in ("band_judged", "band_right", "band_size")
    )
    smooth = smoothed(right, judged, (pooled.estimate * pooled.judged + 1) / (pooled.judged + 2))
    estimate = known + float((count * right / judged).sum())
    one = smooth * (1 - smooth)
    error = norm.ppf((1 + level) / 2) * float(
        np.sqrt((count**2 * one / judged * (1 - judged / size) + count * one).sum())
    )
    possible = known + float(count.sum())
    return Estimate(estimate, max(float(known), estimate - error), min(possible, estimate + error))
