"""What an accelerometer on the collar would have recorded beside the synthetic corpus: it knows eating and digging, and
nothing of calls.

All values are made up, in the likeness of a 50 Hz collar: gravity, which the animal's posture turns, its small
movements, chewing while it eats and scratching while it digs. Legend: M values.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

COLUMNS, RATE = ("x", "y", "z"), 50
CHEWING_HZ, SCRATCHING_HZ = (4.0, 6.0), (8.0, 14.0)
Stretch = tuple[float, float]  # start and end, seconds


def acceleration(
    seconds: float, eating: Sequence[Stretch], digging: Sequence[Stretch], rng: Generator
) -> NDArray[np.float64]:
    """Acceleration (M, 3) in g at `RATE` Hz."""
    length = round(seconds * RATE)
    time_M = (np.arange(length) + 0.5) / RATE
    posture = rng.normal((0.1, -0.2, 0.95), 0.1)
    values = posture / np.linalg.norm(posture) + 0.02 * rng.standard_normal((length, 3))
    values += 0.06 * np.cumsum(rng.standard_normal((length, 3)), axis=0) / np.sqrt(length)  # it turns slowly
    for onset_s, offset_s in _moving(seconds, rng):
        values[_inside(time_M, onset_s, offset_s)] += 0.08 * rng.standard_normal(3)
    for stretches, (low, high), axes, level in (
        (eating, CHEWING_HZ, (0.5, 0.2, 1.0), 0.12),
        (digging, SCRATCHING_HZ, (1.0, 0.7, 0.4), 0.35),
    ):
        for onset_s, offset_s in stretches:
            inside_M = _inside(time_M, onset_s, offset_s)
            phase_M = 2 * np.pi * rng.uniform(low, high) * (time_M[inside_M] - onset_s) + rng.uniform(0, 2 * np.pi)
            strength = level * np.exp(rng.normal(0, 0.3))
            values[inside_M] += strength * np.sin(phase_M)[:, None] * np.array(axes)
            values[inside_M] += 0.3 * strength * rng.standard_normal((int(inside_M.sum()), 3))
    return values


def _moving(seconds: float, rng: Generator) -> list[Stretch]:
    """Changes of posture, a few a minute."""
    starts = rng.uniform(0, seconds, rng.poisson(seconds / 8))
    return [(start, start + rng.uniform(0.3, 4)) for start in starts.tolist()]


def _inside(time_M: NDArray[np.float64], onset_s: float, offset_s: float) -> NDArray[np.bool_]:
    return (time_M >= onset_s) & (time_M < offset_s)
