"""How the clips of a round are chosen, by the names of the arms of `a2v bench review`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .review import RANDOM, Clips, Rule

LEAST = 1e-6


def uncertainty(likelihood_TC: NDArray[np.float32]) -> float:
    """Bits, summed over classes, of the frame at which each class is least certain (binary entropy)."""
    p_TC = np.clip(likelihood_TC.astype(np.float64), LEAST, 1 - LEAST)
    entropy_TC = -(p_TC * np.log2(p_TC) + (1 - p_TC) * np.log2(1 - p_TC))
    return float(entropy_TC.max(0).sum())


def uncertain(open_: Clips, known: Clips, count: int, rng: np.random.Generator) -> list[int]:
    """The clips with the highest `uncertainty`."""
    values = np.array([uncertainty(likelihood_TC) for likelihood_TC in open_.likelihoods])
    return np.argsort(-values, kind="stable")[:count].tolist()


RULES: Mapping[str, Rule | None] = {RANDOM: None, "uncertain": uncertain}
