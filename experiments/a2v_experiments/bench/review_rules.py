"""How the clips of a round are chosen: the arms of `a2v bench review`, but for the one of `a2v review --suggest`.

`calls`: the clips that promise most labels where labels are few. Every class has a value of k / (k + HALF) once k calls
of it are known, and clips are taken one by one, each that which adds most to the sum (greedy, which for such a sum is
never far from the best choice: Nemhauser et al. 1978; for what to label next: Wei, Iyer and Bilmes 2015). The calls
that a clip promises are the peaks of each class's likelihood, weighted with it.

N clips, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from .review import RANDOM, Clips, Rule

LEAST = 1e-6
HALF = 1.5  # calls that are worth half of what any number of them is
HEIGHT, PROMINENCE = 0.3, 0.24  # of a peak that may be a call
APART_S, SMOOTH_S = 0.05, 0.03

Values = NDArray[np.float64]


def uncertainty(likelihood_TC: NDArray[np.float32]) -> float:
    """Bits, summed over classes, of the frame at which each class is least certain (binary entropy)."""
    p_TC = np.clip(likelihood_TC.astype(np.float64), LEAST, 1 - LEAST)
    entropy_TC = -(p_TC * np.log2(p_TC) + (1 - p_TC) * np.log2(1 - p_TC))
    return float(entropy_TC.max(0).sum())


def uncertain(open_: Clips, known: Clips, count: int, rng: np.random.Generator) -> list[int]:
    """The clips with the highest `uncertainty`."""
    values = np.array([uncertainty(likelihood_TC) for likelihood_TC in open_.likelihoods])
    return [int(at) for at in np.argsort(-values, kind="stable")[:count]]


def calls(open_: Clips, known: Clips, count: int, rng: np.random.Generator) -> list[int]:
    """The clips that promise most calls of classes with few labels, see above."""
    promised_NC = np.array([peaks(one, open_.frame_rate) for one in open_.likelihoods])
    return most_valuable(promised_NC, known.calls.sum(0), count)


def most_valuable(promised_NC: Values, known_C: NDArray[np.integer] | Values, count: int) -> list[int]:
    """Greedily, the clips with which the value of all classes grows most, where so many calls are known."""
    have_C, chosen = np.asarray(known_C, np.float64), list[int]()
    for _ in range(min(count, len(promised_NC))):
        gain_N = (_value(have_C + promised_NC) - _value(have_C)).sum(1)
        gain_N[chosen] = -1.0
        best = int(gain_N.argmax())
        chosen.append(best)
        have_C = have_C + promised_NC[best]
    return chosen


def peaks(likelihood_TC: NDArray[np.float32], frame_rate: float) -> Values:
    """(C,) the likelihoods of each class's peaks, summed; of several classes' peaks in one place the highest counts."""
    width, apart = max(1, int(SMOOTH_S * frame_rate)), max(1, int(APART_S * frame_rate))
    found = []
    for number, p_T in enumerate(likelihood_TC.T):
        smooth_T = np.convolve(p_T, np.ones(width) / width, "same")[: len(p_T)]
        at, _ = find_peaks(np.pad(smooth_T, 1), height=HEIGHT, prominence=PROMINENCE, distance=apart)
        found += [(float(smooth_T[place - 1]), place, number) for place in at.tolist()]
    promised_C, taken = np.zeros(likelihood_TC.shape[1]), list[int]()
    for p, place, number in sorted(found, reverse=True):
        if all(abs(place - other) > apart for other in taken):
            taken.append(place)
            promised_C[number] += p
    return promised_C


def _value(calls_NC: Values) -> Values:
    return calls_NC / (calls_NC + HALF)


RULES: Mapping[str, Rule | None] = {RANDOM: None, "uncertain": uncertain, "calls": calls}
