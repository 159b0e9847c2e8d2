"""Counts of calls on days, or in other parts of the predictions, corrected by what a review found to be right.

What was judged is known. Of the others of a day the share that is right is that of their band of likelihood in the
random sample, moved by what the sample says of that day: in rain, or at another place, fewer predictions of the same
likelihood are right. The logit of the share has an effect of the day whose variance is estimated from the random
sample by moments, plus one standard error since few judged events say little of it; each day's effect is drawn towards
none by as little as the sample knows of that day (empirical best prediction for small areas: Rao and Molina 2015, Small
Area Estimation, chapter 7). `tests/eval/test_eval_day_counts.py` counts how often such intervals hold the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import expit, logit

from .missed import Estimate
from .stratified import Stratum, smoothed


@dataclass(frozen=True)
class DayBand:
    """Predictions of one day and band: so many, so many of them judged in whatever order, so many right; and of those
    of the random sample of the band that were judged, so many on this day, and so many of these right."""

    size: int
    judged: int
    right: int
    sampled: int
    sampled_right: int


def corrected_counts(
    bands: Sequence[Stratum], days: Sequence[Sequence[DayBand]], level: float = 0.95
) -> list[Estimate | None]:
    """How many predictions of each day are right.

    bands: H, each with its random sample. days: of each day its part of each band, H too. None for a day with open
    events in a band that was not judged. Interval: of sampling, of days that differ, and of the single events; never
    outside what is possible. Raises ValueError where a day has another number of bands.
    """
    if odd := [len(day) for day in days if len(day) != len(bands)]:
        raise ValueError(f"days: one has {odd[0]} bands; should have {len(bands)}")
    known = np.array([band.judged > 0 for band in bands], dtype=bool)
    counts_DH5 = np.array(
        [[(b.size, b.judged, b.right, b.sampled, b.sampled_right) for b in day] for day in days], dtype=float
    ).reshape(len(days), len(bands), 5)
    right_D = counts_DH5[..., 2].sum(1)
    open_DH = counts_DH5[..., 0] - counts_DH5[..., 1]
    unknown_D = open_DH[:, ~known].sum(1) > 0
    if not known.any():
        return [
            None if unknown else Estimate(right, right, right)
            for unknown, right in zip(unknown_D.tolist(), right_D.tolist(), strict=True)
        ]
    open_DH, sampled_DH, found_DH = open_DH[:, known], counts_DH5[:, known, 3], counts_DH5[:, known, 4]
    size, judged, right = (
        np.array([getattr(band, name) for band in bands], dtype=float)[known] for name in ("size", "judged", "right")
    )
    share_H = right / judged
    pooled = ((size * share_H).sum() / size.sum() * judged.sum() + 1) / (judged.sum() + 2)
    smooth_H = smoothed(right, judged, pooled)
    spread_H = smooth_H * (1 - smooth_H)
    variance, heard_D, effect_D = _days((found_DH - sampled_DH * share_H).sum(1), (sampled_DH * spread_H).sum(1))
    moved_DH = expit(logit(smooth_H) + effect_D[:, None])
    of_day_DH = np.maximum(moved_DH * (1 - moved_DH), spread_H)
    estimate_D = right_D + (open_DH * np.clip(share_H + moved_DH - smooth_H, 0, 1)).sum(1)
    error_D = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(
        (open_DH**2 * spread_H / judged * (1 - judged / size)).sum(1)
        + (open_DH * moved_DH * (1 - moved_DH)).sum(1)
        + (open_DH * of_day_DH).sum(1) ** 2 * variance / (1 + variance * heard_D)
    )
    lower_D = np.maximum(right_D, estimate_D - error_D)
    upper_D = np.minimum(right_D + open_DH.sum(1), estimate_D + error_D)
    return [
        None if unknown else Estimate(float(estimate), float(lower), float(upper))
        for unknown, estimate, lower, upper in zip(unknown_D, estimate_D, lower_D, upper_D, strict=True)
    ]


def _days(excess_D: np.ndarray, heard_D: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Variance of the effects of days on the logit of shares, what the sample says of each day, and its effect.

    excess_D: right ones in the sample beyond what bands expect; heard_D: the variance of that where days are alike.
    """
    squares = float((heard_D**2).sum())
    if len(heard_D) < 2 or squares == 0:
        return 0.0, heard_D, np.zeros_like(heard_D)
    variance = max(0.0, float((excess_D**2 - heard_D).sum()) / squares)
    variance += float(np.sqrt(2 * ((heard_D + variance * heard_D**2) ** 2).sum())) / squares
    return variance, heard_D, excess_D / (heard_D + 1 / variance)
