"""The rule of `a2v review --suggest` for clips of a simulated review (`a2v bench review`), as suggested.py has it for a
folder of predictions: uncertain peaks, by what they sound like. The model of a simulation has no thresholds of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..bench.review import Clips
from ..embeddings.units import UNIT_S
from .order import USUAL_THRESHOLD
from .suggest import choose, reach_of, uncertainty
from .suggested import peaks


def suggested(open_: Clips, known: Clips, count: int, rng: np.random.Generator) -> list[int]:
    """Which `count` of the open clips to look at, by position."""
    size = max(1, round(UNIT_S * open_.frame_rate))
    likelihoods = [_units(one, size).max(1) for one in (*open_.likelihoods, *known.likelihoods)]
    sounds = [_units(one, size).mean(1) for one in (*open_.features, *known.features)]
    every_UC = np.concatenate(likelihoods)
    thresholds_C = np.full(every_UC.shape[1], USUAL_THRESHOLD)
    reach_C, mean_D = reach_of(every_UC, thresholds_C), np.concatenate(sounds).mean(0)
    unsure = [uncertainty(one, thresholds_C, reach_C) * peaks(one, size / open_.frame_rate) for one in likelihoods]
    embedding_ND = np.array([of[one.max(1).argmax()] - mean_D for of, one in zip(sounds, unsure, strict=True)])
    first = len(open_.clips)
    unsure_NC = np.array([one.max(0) for one in unsure[:first]])
    seed = int(rng.integers(1 << 31))
    return choose(unsure_NC, embedding_ND[:first], count, seed, embedding_ND[first:]).tolist()


def _units(frames: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(T, X) as units of `size` frames (U, size, X); what is left at the end is left out, but of a shorter clip."""
    count = max(1, len(frames) // size)
    return frames[: count * size].reshape(count, -1, frames.shape[1])
