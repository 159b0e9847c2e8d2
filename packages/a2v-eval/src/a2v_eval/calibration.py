"""From likelihoods to the probability of being right: logistic regression on what was judged.

The likelihood of a detector is no probability. Following Wood and Kahl (2024, Journal of Ornithology 165, 777-782, on
BirdNET scores), judged events are regressed on the logit of their likelihood: P(right) = 1 / (1 + exp(-(a + b logit))).
With few events, or where likelihood parts right from wrong altogether, maximum likelihood runs off to infinity; so the
penalty of Firth (1993, Biometrika 80, 27-38) is in it, which takes nothing from many.

Events have no weights, though bands of likelihood were sampled at different rates: they were drawn by their likelihood
alone, which is what is regressed on, so the curve is right without. With weights of 1 to 500 its interval was two to
three times as wide where it was right, and held the truth in 41 of 100 reviews where it was that of the information
matrix (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CLIP = 1e-6
FEWEST = 10
ROUNDS = 200


@dataclass(frozen=True)
class Calibration:
    """intercept and slope on the logit of the likelihood, their covariance (2, 2), and the number of judged events."""

    intercept: float
    slope: float
    covariance: np.ndarray
    judged: int

    def probability(self, likelihood: np.ndarray) -> np.ndarray:
        """Of being right, of the shape of `likelihood`."""
        return _expit(self.intercept + self.slope * logit(likelihood))

    def interval(self, likelihood: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limit of that probability (normal on the logit scale)."""
        x = np.stack([np.ones_like(likelihood, dtype=float), logit(likelihood)], -1)
        middle = x @ np.array([self.intercept, self.slope])
        error = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(np.einsum("...i,ij,...j->...", x, self.covariance, x))
        return _expit(middle - error), _expit(middle + error)

    def likelihood(self, probability: float) -> float | None:
        """The likelihood with that probability; None where probability does not rise with likelihood."""
        if self.slope <= 0:
            return None
        wanted = (float(np.log(probability / (1 - probability))) - self.intercept) / self.slope
        return float(_expit(np.array(wanted)))


def calibrate(likelihood: np.ndarray, right: np.ndarray) -> Calibration | str:
    """Fit it. likelihood (n,) in [0, 1], right (n,) bool; events are drawn by nothing but their likelihood.

    A string says why there is none: fewer than FEWEST events, or likelihoods that do not differ. Raises ValueError for
    shapes that differ.
    """
    if likelihood.shape != right.shape:
        raise ValueError(f"likelihood {likelihood.shape}, right {right.shape}: should have one shape, (n,)")
    count = len(right)
    if count < FEWEST:
        return f"{count} judged; {FEWEST} are needed"
    z = logit(likelihood)
    if np.ptp(z) < 1e-9:
        return "all judged events have the same likelihood"
    x = np.stack([np.ones(count), z - z.mean()], 1)
    coefficients = np.zeros(2)
    information = np.eye(2)
    for _ in range(ROUNDS):
        p = _expit(x @ coefficients)
        variance = p * (1 - p)
        information = x.T @ (variance[:, None] * x) + 1e-12 * np.eye(2)
        leverage = np.einsum("ni,ij,nj->n", x, np.linalg.inv(information), x) * variance
        step = np.linalg.solve(information, x.T @ (right - p + leverage * (0.5 - p)))
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        coefficients = coefficients + step
        if np.abs(step).max() < 1e-10:
            break
    back = np.array([[1.0, -z.mean()], [0.0, 1.0]])  # to a logit that is not centred
    intercept, slope = back @ coefficients
    return Calibration(float(intercept), float(slope), back @ np.linalg.inv(information) @ back.T, count)


def logit(likelihood: np.ndarray) -> np.ndarray:
    """Of likelihoods, CLIP away from 0 and 1."""
    kept = np.clip(np.asarray(likelihood, dtype=float), CLIP, 1 - CLIP)
    return np.asarray(np.log(kept / (1 - kept)))


def _expit(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
