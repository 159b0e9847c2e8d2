"""Calls that were not predicted, from random stretches without predictions that were looked at in full; and what that
says of recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
    divided by how much more they vary than Poisson's (calls come in bouts), if they do: that ratio plus two of its
    standard errors, sqrt(2 / (n - 1)) of it, as few stretches say little of it (docs/log.md). ValueError where nothing
    was looked at.
    """
    from scipy.stats import chi2  # slow to import

    looked_s = float(seconds.sum())
    if not looked_s > 0:
        raise ValueError("seconds: no stretch was looked at; should be some")
    found = float(counts.sum())
    rate = found / looked_s
    spread = 1.0
    if found and len(counts) > 1:
        expected = rate * seconds
        ratio = float(((counts - expected) ** 2 / expected).sum() / (len(counts) - 1))
        spread = ratio * (1 + 2 * float(np.sqrt(2 / (len(counts) - 1)))) if ratio > 1 else 1.0
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
