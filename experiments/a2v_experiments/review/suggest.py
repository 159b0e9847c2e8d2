"""Which clips are looked at next: those from which most is learned.

`pick(uncertainty_NC, embedding_ND, count, seed, known_MD=None) -> NDArray[np.int64]` is the rule, on arrays alone:
uncertain clips first, far from each other and from what is known.

1. Of each class the POOL times its share most uncertain clips are kept, as Cluster-Margin does (Citovsky et al. 2021,
   "Batch Active Learning at Scale", arXiv 2107.14263): without this the many clips that are sure, each hardly likely,
   would together be drawn more often than the few uncertain ones, since calls are rare.
2. Out of these, clips are drawn one by one with a chance proportional to their uncertainty times the squared distance
   to the nearest one drawn or known: the seeding of weighted k-means++ (Arthur and Vassilvitskii 2007), which BADGE
   (Ash et al. 2020, arXiv 1906.03671) uses for the same purpose. It asks for diversity but, other than the farthest
   point of k-center (Sener and Savarese 2018; for animal sounds Zhang and Virtanen 2025, arXiv 2505.20956), it is not
   drawn to every odd click and bump.
3. Classes take turns, so that a rare class or one that the model is less unsure of has as many clips as the others.

`choose`, of the same arguments, is what is shown: such clips and random ones in turn. A model that heard few calls is
unsure of the wrong things, and alone it can ask about them for rounds while whole classes stay unheard (docs/log.md).

`uncertainty(likelihood_NC, thresholds_C)` is the uncertainty of clips: the binary entropy, in bits, of the likelihood
on a scale of its class where the threshold lies at one half. Losses such as the focal one give small likelihoods, close
to each other, so that entropies as they are would hardly differ.

N clips, C classes, D embedding, M known clips.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

POOL = 4  # times as many uncertain clips as are drawn: with 10, suggested clips held hardly more calls than others
REACH = 4.0  # logits from the threshold to the surest clips, on the common scale
SMALLEST = 1e-6
BLOCK = 4096  # known clips whose distances are worked out at once

Matrix = NDArray[np.float32]


def uncertainty(
    likelihood_NC: ArrayLike, thresholds_C: ArrayLike, reach_C: NDArray[np.float64] | None = None
) -> Matrix:
    """Uncertainty (N, C) in [0, 1] of these likelihoods: 1 at the class's threshold.

    The logit is moved so that the threshold lies at 0, and stretched so that what lies `reach_C` away from it
    (`reach_of` these likelihoods by default) lies REACH away.
    """
    logit_NC = _logit(likelihood_NC) - _logit(thresholds_C)
    if not len(logit_NC):
        return logit_NC.astype(np.float32)
    stretch_C = REACH / (reach_of(likelihood_NC, thresholds_C) if reach_C is None else reach_C)
    chance_NC = np.clip(1 / (1 + np.exp(-logit_NC * stretch_C)), SMALLEST, 1 - SMALLEST)
    entropy_NC = -chance_NC * np.log2(chance_NC) - (1 - chance_NC) * np.log2(1 - chance_NC)
    return entropy_NC.astype(np.float32)


def reach_of(likelihood_NC: ArrayLike, thresholds_C: ArrayLike) -> NDArray[np.float64]:
    """How far (C,), in logits, the surer one of each class's 5 % and 95 % points lies from its threshold."""
    logit_NC = _logit(likelihood_NC) - _logit(thresholds_C)
    reach_C: NDArray[np.float64] = np.abs(np.quantile(logit_NC, [0.05, 0.95], axis=0)).max(0)
    return np.maximum(reach_C, SMALLEST)


def _logit(likelihood: ArrayLike) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(likelihood, np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(clipped / (1 - clipped))


def pick(
    uncertainty_NC: ArrayLike,
    embedding_ND: ArrayLike,
    count: int,
    seed: int,
    known_MD: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Numbers of `count` clips (all, where there are fewer), in the order in which they are drawn.

    uncertainty_NC: at least 0, larger where more is learned; (N,) where there are no classes. embedding_ND: what clips
    sound like; only the direction counts (distances are those of unit vectors: d^2 = 2 - 2 cos). known_MD: embeddings
    of clips that were looked at. The same arguments give the same clips. Memory: only rows of embedding_ND that are in
    the pool are read, so it may be memory-mapped.

    Raises ValueError where the arrays do not fit each other, or an uncertainty is negative or no number.
    """
    unsure_NC = np.asarray(uncertainty_NC, np.float32)
    unsure_NC = unsure_NC[:, None] if unsure_NC.ndim == 1 else unsure_NC
    embeddings = embedding_ND if isinstance(embedding_ND, np.ndarray) else np.asarray(embedding_ND, np.float32)
    if unsure_NC.ndim != 2 or embeddings.ndim != 2 or len(unsure_NC) != len(embeddings):
        raise ValueError(f"uncertainties {unsure_NC.shape} and embeddings {embeddings.shape} are not of the same clips")
    if not (np.isfinite(unsure_NC).all() and (unsure_NC >= 0).all()):
        raise ValueError("uncertainties must be numbers of at least 0")
    count = min(count, len(unsure_NC))
    if count <= 0:
        return np.zeros(0, np.int64)
    rng = np.random.default_rng(seed)
    pool_K, pooled_KC = _pool(unsure_NC, count, rng)
    unit_KD = _unit(embeddings[pool_K])
    weight_KC = np.where(pooled_KC, unsure_NC[pool_K].astype(np.float64), 0.0)
    apart_K = np.ones(len(pool_K)) if known_MD is None else _apart(unit_KD, known_MD)
    return pool_K[_draw(weight_KC, unit_KD, apart_K, count, rng)]


def choose(
    uncertainty_NC: ArrayLike,
    embedding_ND: ArrayLike,
    count: int,
    seed: int,
    known_MD: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """As `pick`, of which every second clip is one that chance drew from all."""
    clips = len(np.asarray(uncertainty_NC))
    count = max(0, min(count, clips))
    asked = pick(uncertainty_NC, embedding_ND, count - count // 2, seed, known_MD)
    by_chance = np.random.default_rng([seed, 1]).permutation(clips)
    others = by_chance[~np.isin(by_chance, asked)][: count // 2]
    chosen = np.empty(count, np.int64)
    chosen[::2], chosen[1::2] = asked, others
    return chosen


def _draw(
    weight_KC: NDArray[np.float64], unit_KD: Matrix, apart_K: NDArray[np.float64], count: int, rng: np.random.Generator
) -> list[int]:
    """Rows of the pool. apart_K: squared distance to what is known; ones where nothing is."""
    classes = rng.permutation(weight_KC.shape[1])
    fresh, left_K, drawn = bool((apart_K == 1).all()), np.ones(len(unit_KD), bool), []
    for turn in range(count):
        uncertain_K = weight_KC[:, classes[turn % len(classes)]] * left_K
        total_K = np.cumsum(uncertain_K * apart_K)
        if total_K[-1] > 0:
            row = int(np.searchsorted(total_K, rng.random() * total_K[-1], side="right"))
        else:  # nothing new is left for this class: the most uncertain one of what is left, for whatever class
            row = int(np.argmax(np.where(left_K, weight_KC.max(1), -1.0)))
        drawn.append(row)
        left_K[row] = False
        distance_K = np.maximum(0.0, 2.0 - 2.0 * (unit_KD @ unit_KD[row]).astype(np.float64))
        apart_K = distance_K if fresh else np.minimum(apart_K, distance_K)
        apart_K[apart_K < SMALLEST] = 0.0  # the same sound, but for rounding
        fresh = False
    return drawn


def _pool(unsure_NC: Matrix, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The clips that may be drawn (K,), at least `count`, ascending; and of which classes' pools they are (K, C). Of
    equally uncertain ones chance decides, not their order: that is by recording."""
    n_clips, n_classes = unsure_NC.shape
    shuffled_N = rng.permutation(n_clips)
    order_NC = np.stack([shuffled_N[np.argsort(-column_N[shuffled_N], kind="stable")] for column_N in unsure_NC.T], 1)
    size = POOL * math.ceil(count / n_classes)
    while len(np.unique(order_NC[:size])) < count:  # classes are unsure of the same clips
        size *= 2
    pooled_NC = np.zeros((n_clips, n_classes), bool)
    np.put_along_axis(pooled_NC, order_NC[:size], True, axis=0)
    pool_K = np.flatnonzero(pooled_NC.any(1))
    return pool_K, pooled_NC[pool_K]


def _unit(rows: ArrayLike) -> Matrix:
    """Rows as unit vectors; zeros stay zeros."""
    rows_KD = np.asarray(rows, np.float32)
    return rows_KD / np.maximum(np.linalg.norm(rows_KD, axis=1, keepdims=True), 1e-12)


def _apart(unit_KD: Matrix, known_MD: ArrayLike) -> NDArray[np.float64]:
    """Squared distance of each row to the nearest known one; ones where none is known."""
    known = np.asarray(known_MD, np.float32)
    if not len(known):
        return np.ones(len(unit_KD))
    nearest_K = np.full(len(unit_KD), -1.0, np.float32)
    for first in range(0, len(known), BLOCK):
        nearest_K = np.maximum(nearest_K, (unit_KD @ _unit(known[first : first + BLOCK]).T).max(1))
    return np.maximum(0.0, 2.0 - 2.0 * nearest_K.astype(np.float64))
