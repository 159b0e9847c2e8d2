"""How fast segments are read: random ones from a packed store against the same ones as WAV files."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import wave
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from a2v_data.corpus import Corpus
from a2v_data.storage import require_free_space
from numpy.typing import NDArray

BATCH = 16
WARM_UP_S = 0.3
Read = Callable[[NDArray[np.int64]], Any]


@dataclass(frozen=True)
class ReadingSpeed:
    """Audio seconds read per second of wall time: of each process, by source ('store', 'wav')."""

    segments: int
    segment_s: float
    per_process: dict[str, list[float]]

    def total(self, source: str) -> float:
        """Of all processes together."""
        return sum(self.per_process[source])


def reading_speed(store: Path, segment_s: float, segments: int, processes: int, seconds: float) -> ReadingSpeed:
    """Read random segments for `seconds` in each of `processes` at once, first from the store, then from WAV files.

    segments: how many different ones, drawn from the whole store; so few that they stay in memory, and all of them are
    read once before (warm). The WAV files are made for the purpose, in a folder that is removed.
    """
    corpus = Corpus.open(store)
    if len(rates := np.unique(corpus.rates)) > 1:
        raise ValueError(
            f"{store}: its recordings have several sample rates ({', '.join(map(str, rates))} Hz); pack it at one"
        )
    every = corpus.segments(segment_s)
    chosen = np.random.default_rng(0).permutation(len(every))[:segments]
    with tempfile.TemporaryDirectory(prefix="a2v-bench-") as folder:
        require_free_space(Path(folder), 2 * len(chosen) * corpus.segment_samples(segment_s) + 10_000_000)
        _write_wavs(corpus, every[chosen], segment_s, Path(folder))
        opens = {
            "store": partial(_open_store, store, segment_s, chosen),
            "wav": partial(_open_wavs, Path(folder), len(chosen)),
        }
        found = {name: _measure(open_, processes, seconds, segment_s) for name, open_ in opens.items()}
    return ReadingSpeed(len(chosen), segment_s, found)


def _write_wavs(corpus: Corpus, segments: NDArray[np.void], segment_s: float, folder: Path) -> None:
    samples = corpus.segment_samples(segment_s)
    for number in range(len(segments)):
        waveform_BN, _ = corpus.waveforms(segments[number : number + 1], samples)
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, corpus.sample_rate, samples, "NONE", ""))
            file.writeframes((waveform_BN[0] * 32768).astype("<i2").tobytes())


def _open_store(store: Path, segment_s: float, chosen: NDArray[np.int64]) -> tuple[Read, int]:
    corpus = Corpus.open(store)
    segments, samples = corpus.segments(segment_s)[chosen], corpus.segment_samples(segment_s)
    return lambda batch: corpus.waveforms(segments[batch], samples), len(chosen)


def _open_wavs(folder: Path, count: int) -> tuple[Read, int]:
    import soundfile

    def read(batch: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack([soundfile.read(folder / f"{number}.wav", dtype="float32")[0] for number in batch])

    return read, count


def _measure(open_: Callable[[], tuple[Read, int]], processes: int, seconds: float, segment_s: float) -> list[float]:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _begin, (together,)) as pool:
        futures = [pool.submit(_count, open_, seconds, seed) for seed in range(processes)]
        return [future.result() * segment_s for future in futures]


_together: Any = None


def _begin(together: Any) -> None:
    global _together
    _together = together


def _count(open_: Callable[[], tuple[Read, int]], seconds: float, seed: int) -> float:
    """Segments per second of this process, while all of them read."""
    read, count = open_()
    for first in range(0, count, BATCH):
        read(np.arange(first, min(first + BATCH, count)))
    rng = np.random.default_rng(seed)
    _together.wait()
    _for_seconds(read, count, rng, WARM_UP_S)
    return _for_seconds(read, count, rng, seconds)


def _for_seconds(read: Read, count: int, rng: np.random.Generator, seconds: float) -> float:
    start, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        read(rng.integers(0, count, BATCH))
        done += BATCH
    return done / passed
