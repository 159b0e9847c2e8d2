"""What share of predictions is right, from a stratified random sample of them (a review in bands of likelihood).

Of band h with N_h events, n_h that were drawn without replacement were judged and x_h of these are right. The estimate
is sum N_h x_h / n_h over sum N_h. Its interval is that of Clopper and Pearson at an effective sample size, after Korn
and Graubard (1998, Survey Methodology 24, 193-201): estimate (1 - estimate) / variance. As bands are judged ten at a
time, a band that happens to be all right would say that its variance is 0; so the variance is that of shares to which
`SMOOTHING` judgements of the overall share are added (as Agresti and Coull add 4 to one share), and the effective size
is no more than what equal shares in all bands, or the variance as it was found, allow.
`tests/eval/test_eval_stratified.py` counts how often such intervals hold the truth.

Events that nobody could judge are in no n_h; they count as if they were like the others of their band.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

SMOOTHING = 6.0
THRESHOLDS = tuple(round(step * 0.01, 2) for step in range(100))


@dataclass(frozen=True)
class Stratum:
    """A band: so many events, so many of a random sample of them judged, so many of these right."""

    size: int
    judged: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.judged <= self.size:
            raise ValueError(f"{self}: should be 0 <= right <= judged <= size")


@dataclass(frozen=True)
class Share:
    """An estimate within its interval; judged: events that it rests on; size: events that it is about; covered: the
    share of these in bands that were judged at all, the others being unknown to it."""

    estimate: float
    lower: float
    upper: float
    judged: int
    size: int
    covered: float


def share_right(strata: Iterable[Stratum], level: float = 0.95) -> Share | None:
    """The share of right events among all of the strata; None where none was judged."""
    every = [one for one in strata if one.size]
    known = [one for one in every if one.judged]
    if not known:
        return None
    size, judged, right = (
        np.array([getattr(one, name) for one in known], dtype=float) for name in ("size", "judged", "right")
    )
    weight = size / size.sum()
    estimate = float((size * right / judged).sum() / size.sum())
    lower, upper = _interval(estimate, weight, 1 - judged / size, judged, right, level)
    total = sum(one.size for one in every)
    return Share(estimate, lower, upper, int(judged.sum()), total, float(size.sum() / total))


def _interval(
    estimate: float, weight: np.ndarray, left: np.ndarray, judged: np.ndarray, right: np.ndarray, level: float
) -> tuple[float, float]:
    """left: share of each band that was not judged."""
    of_weights = float((weight**2 * left / judged).sum())  # 1 / effective size where all bands are alike
    if of_weights < 1e-15:
        return estimate, estimate  # all were judged
    alike = 1 / of_weights
    pooled = (estimate * alike + 1) / (alike + 2)
    smooth = smoothed(right, judged, pooled)
    effective = pooled * (1 - pooled) / float((weight**2 * left * smooth * (1 - smooth) / judged).sum())
    share = right / judged
    found = float((weight**2 * left * share * (1 - share) / np.maximum(judged - 1, 1)).sum())
    allowed = max(alike, estimate * (1 - estimate) / found) if found > 0 else alike
    return clopper_pearson(estimate, min(effective, allowed), level)


def smoothed(right: np.ndarray, judged: np.ndarray, pooled: float) -> np.ndarray:
    """Shares of bands, drawn towards what all bands have."""
    smooth: np.ndarray = (right + SMOOTHING * pooled) / (judged + SMOOTHING)
    return smooth


def clopper_pearson(share: float, size: float, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share of `size` trials, which need not be a whole number."""
    from scipy.stats import beta  # slow to import

    right, tail = share * size, (1 - level) / 2
    lower = 0.0 if right <= 0 else float(beta.ppf(tail, right, size - right + 1))
    upper = 1.0 if right >= size else float(beta.ppf(1 - tail, right + 1, size - right))
    return lower, upper


@dataclass(frozen=True)
class BandSample:
    """A band with its likelihoods: (N,) of all events, (n,) of those that were judged, and which of these are right."""

    likelihood: np.ndarray
    judged: np.ndarray
    right: np.ndarray

    def above(self, threshold: float) -> Stratum:
        """Of the events that reach a threshold: those of a random sample that do are a random sample of them."""
        counts = self.judged >= threshold
        return Stratum(int((self.likelihood >= threshold).sum()), int(counts.sum()), int(self.right[counts].sum()))


@dataclass(frozen=True)
class PrecisionCurve:
    """thresholds, ascending, and the share of right events among those that reach each, None where it is unknown."""

    thresholds: tuple[float, ...]
    shares: tuple[Share | None, ...]


def precision_curve(bands: Sequence[BandSample], thresholds: Sequence[float] = THRESHOLDS) -> PrecisionCurve:
    """At each threshold that some event reaches, from the highest one that all events do."""
    every = np.concatenate([band.likelihood for band in bands]) if bands else np.zeros(0)
    if not len(every):
        return PrecisionCurve((), ())
    below = [threshold for threshold in thresholds if threshold <= every.min()]
    kept = [*below[-1:], *(threshold for threshold in thresholds if every.min() < threshold <= every.max())]
    return PrecisionCurve(
        tuple(kept), tuple(share_right(band.above(threshold) for band in bands) for threshold in kept)
    )
