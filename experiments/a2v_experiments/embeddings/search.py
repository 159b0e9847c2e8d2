"""Search by example: the runs of units that sound most like a query. Exact, in blocks of memory-mapped files.

Similarity is the cosine between the mean embedding of the query and that of a run of as many units, both less the mean
of the whole corpus: embeddings share a large part that says nothing (without this 64 % instead of 70 % of the first ten
hits were right, docs/log.md). On one core 100 hours of 96 numbers a unit take 5 s, of 768 numbers up to a minute: an
index would pay off beyond.

U units, D embedding, R runs of k units: run r is of units r to r + k - 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 19  # numbers at once: what a processor's cache holds
Vector = NDArray[np.float64]
Scores = NDArray[np.float32]
Span = tuple[str, float, float]


@dataclass(frozen=True)
class Found:
    """A stretch of a recording. similarity: cosine, -1 to 1."""

    file: str
    start_s: float
    stop_s: float
    similarity: float

    @property
    def likelihood(self) -> float:
        """The similarity on the scale of likelihoods, 0 to 1."""
        return min(1.0, max(0.0, (1 + self.similarity) / 2))


class Corpus:
    """What can be searched: embeddings (U, D) by name of recording, of units of unit_s seconds."""

    def __init__(self, embeddings: Mapping[str, NDArray[np.floating]], unit_s: float) -> None:
        self.embeddings, self.unit_s = embeddings, unit_s
        self.mean_D = corpus_mean(embeddings.values())

    def query(self, embedding_UD: NDArray[np.floating], start_s: float, stop_s: float) -> Vector:
        """Mean embedding (D,) from start_s to stop_s of a recording's units, each counting by what lies inside. Raises
        ValueError where nothing does."""
        edges = np.arange(len(embedding_UD) + 1) * self.unit_s
        inside_U = np.minimum(edges[1:], stop_s) - np.maximum(edges[:-1], start_s)
        kept = np.flatnonzero(inside_U > 1e-9)
        if not len(kept):
            raise ValueError(f"{start_s:g} to {stop_s:g} s: lies outside of the recording, which ends at {edges[-1]:g}")
        rows_KD = np.asarray(embedding_UD[kept[0] : kept[-1] + 1], np.float64)
        mean_D: Vector = np.average(rows_KD, axis=0, weights=inside_U[kept])
        return mean_D

    def search(self, query_D: Vector, length_s: float, top: int, without: Sequence[Span] = ()) -> list[Found]:
        """The `top` most similar stretches of about length_s, apart from each other, the most similar first; none
        overlaps one of `without`. The same query gives the same list."""
        units = max(1, round(length_s / self.unit_s))
        centred_D = (query_D - self.mean_D).astype(np.float32)
        found = []
        for name, embedding_UD in self.embeddings.items():
            if not len(embedding_UD):
                continue
            run = min(units, len(embedding_UD))
            scores_R = similarities(centred_D, embedding_UD, run, self.mean_D)
            for file, start_s, stop_s in without:
                if file == name:
                    scores_R[_touched(start_s, stop_s, run, len(scores_R), self.unit_s)] = -np.inf
            found += [
                Found(name, start * self.unit_s, (start + run) * self.unit_s, score)
                for start, score in best_runs(scores_R, run, top)
            ]
        return sorted(found, key=lambda one: (-one.similarity, one.file, one.start_s))[:top]


def corpus_mean(embeddings: Iterable[NDArray[np.floating]]) -> Vector:
    """Mean (D,) of all units of all recordings; zero, (1,), of none."""
    total: Vector | None = None
    count = 0
    for embedding_UD in embeddings:
        step = max(1, BLOCK // embedding_UD.shape[1])
        for first in range(0, len(embedding_UD), step):
            block_UD = np.asarray(embedding_UD[first : first + step], np.float32)
            total = block_UD.sum(0, dtype=np.float64) + (0 if total is None else total)
            count += len(block_UD)
    return np.zeros(1) if total is None else total / count


def similarities(query_D: Scores, embedding_UD: NDArray[np.floating], run: int, mean_D: Vector) -> Scores:
    """Cosine (R,), R = U - run + 1, of a centred query with the mean of each run of units less mean_D; 0 where either
    is zero. `run` is at most U."""
    length = float(np.linalg.norm(query_D))
    direction_D = query_D / np.float32(length if length > 0 else 1.0)
    centre_D = mean_D.astype(np.float32)
    scores_R = np.zeros(len(embedding_UD) - run + 1, np.float32)
    step = max(4 * run, BLOCK // len(centre_D))
    for first in range(0, len(scores_R), step):
        stop = min(first + step, len(scores_R))
        block_UD = np.asarray(embedding_UD[first : stop + run - 1], np.float32) - centre_D
        sums_RD = block_UD if run == 1 else _sums(block_UD, run)
        norm_R = np.sqrt(np.einsum("rd,rd->r", sums_RD, sums_RD))
        scores_R[first:stop] = np.where(norm_R > 0, (sums_RD @ direction_D) / np.maximum(norm_R, 1e-30), 0.0)
    return scores_R


def _sums(block_UD: Scores, run: int) -> Scores:
    """Sum of each run, (R, D), from sums of 1, 2, 4, ... units: no difference of large numbers, and few passes."""
    runs, doubled, width, done = len(block_UD) - run + 1, block_UD, 1, 0
    sums_RD: Scores | None = None
    while True:
        if run & width:
            part_RD = doubled[done : done + runs]
            sums_RD = part_RD if sums_RD is None else sums_RD + part_RD
            done += width
        if done == run:
            assert sums_RD is not None
            return sums_RD
        doubled = doubled[:-width] + doubled[width:]
        width *= 2


def best_runs(scores_R: Scores, run: int, count: int) -> list[tuple[int, float]]:
    """First unit and score of the best runs, taken greedily; those of -inf never are. Between two of them lie at least
    half as many units as one has: else a call would be found again beside itself."""
    apart = run + -(-run // 2)
    # each one taken rules out at most 2 apart - 1 starts, itself among them: the best of so many are enough
    enough = min(len(scores_R), count * (2 * apart - 1))
    best = np.argpartition(-scores_R, enough - 1)[:enough] if enough < len(scores_R) else np.arange(len(scores_R))
    best = best[np.lexsort((best, -scores_R[best]))]
    free_R = scores_R > -np.inf
    taken: list[tuple[int, float]] = []
    for start in best.tolist():
        if len(taken) == count:
            break
        if free_R[start]:
            taken.append((start, float(scores_R[start])))
            free_R[max(0, start - apart + 1) : start + apart] = False
    return taken


def _touched(start_s: float, stop_s: float, run: int, runs: int, unit_s: float) -> slice:
    """The runs that share time with a span."""
    first = int(np.floor(start_s / unit_s + 1e-6)) - run + 1
    last = int(np.ceil(stop_s / unit_s - 1e-6))
    return slice(max(0, first), max(0, min(runs, last)))
