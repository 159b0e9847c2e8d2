"""What an evaluation hears: likelihoods and loudness of recordings, computed in this process or by Ray's workers.

Both give the same values in the same order. Tasks hear the very batches that one process would, so on processors of
one kind and with as many threads not a bit differs. The packed corpus and the model's folder lie where workers see
them, as for training; this process need not have the GPU, nor the memory, that the model wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_eval.energy import energy_likelihood
from a2v_model import Detector, load_model, threads
from a2v_model.checkpoints import read_description
from a2v_model.config import AnyFrontEnd, ModelConfig
from numpy.typing import NDArray

from ..basics.errors import FAILED, UserError
from ..inference import BATCH, Frames, Stretch, cut, joined, recording_likelihoods, recording_stretches
from ..inference import stretch_likelihoods as likelihoods_in
from ..recipe.plugins import digests
from ..recipe.sections import Recipe

# Seconds of audio of a task: seconds of work, whose likelihoods fit in memory many times. Each GPU task has a new
# process, which takes some seconds to begin.
TASK_S = {"cpu": 160.0, "cuda": 3600.0}
LOUDNESS_TASK_S = 1800.0
Heard = Iterator[tuple[int, Frames]]


class Listener(Protocol):
    """Hears recordings of a corpus, given by their numbers, with the recipe's windows and precision."""

    frame_rate: float

    def likelihoods(self, recordings: Sequence[int], doing: str) -> Heard:
        """(recording, likelihoods (T, C)) of each; doing: what errors call it."""
        ...

    def loudness(self, recordings: Sequence[int]) -> Heard:
        """(recording, `energy_likelihood` (T,)) of each."""
        ...


def listener(recipe: Recipe, folder: str, corpus: Corpus) -> Listener:
    """The model in a folder, in this process or with `ray.num_workers` on as many tasks at once. Raises ValueError
    where there is no such model."""
    return OnWorkers(recipe, folder, corpus) if recipe.ray.num_workers else InProcess(recipe, folder, corpus)


class InProcess:
    """On this machine's GPU, if it has one."""

    def __init__(self, recipe: Recipe, folder: str, corpus: Corpus) -> None:
        self.recipe, self.corpus = recipe, corpus
        self.model = _load(folder).to("cuda" if torch.cuda.is_available() else "cpu")
        self.frame_rate = self.model.frame_rate

    def likelihoods(self, recordings: Sequence[int], doing: str) -> Heard:
        recipe = self.recipe
        assert recipe.finetune is not None
        windows = recipe.data.segment_s, recipe.evaluate.overlap_s
        return recording_likelihoods(self.model, self.corpus, recordings, *windows, precision=recipe.finetune.precision)

    def loudness(self, recordings: Sequence[int]) -> Heard:
        return ((recording, _loudness(self.corpus, recording, self.frame_rate)) for recording in recordings)


@dataclass(frozen=True)
class _Task:
    """What a worker needs; the corpus is opened there. plugins: digests of the recipe's, which the model brings."""

    model: str
    corpus: Path
    stretches: list[Stretch]
    precision: str
    device: str
    threads: int
    plugins: tuple[str, ...]


@dataclass(frozen=True)
class _LoudnessTask:
    corpus: Path
    recordings: list[int]
    frame_rate: float
    threads: int


class OnWorkers:
    """As Ray tasks, with what one of the recipe's workers has: its processors, and a GPU with `ray.use_gpu`."""

    def __init__(self, recipe: Recipe, folder: str, corpus: Corpus) -> None:
        self.recipe, self.corpus = recipe, corpus
        self.model, self.store = str(Path(folder).resolve()), corpus.folder.resolve()
        self.front_end = _front_end(folder)
        self.frame_rate = self.front_end.frame_rate
        self.threads = max(1, int(recipe.ray.cpus_per_worker))

    def likelihoods(self, recordings: Sequence[int], doing: str) -> Heard:
        recipe = self.recipe
        assert recipe.finetune is not None
        device = "cuda" if recipe.ray.use_gpu else "cpu"
        windows = recipe.data.segment_s, recipe.evaluate.overlap_s
        stretches = recording_stretches(self.corpus, recordings, self.front_end, *windows)
        total, step_s = sum(stretch.last for stretch in stretches), windows[0] - windows[1]
        plugins = tuple(digests(recipe, "finetune").values())
        size = task_windows(total, recipe.ray.num_workers, step_s, TASK_S[device])
        tasks = [
            _Task(self.model, self.store, part, recipe.finetune.precision, device, self.threads, plugins)
            for part in cut(stretches, size)
        ]
        results = self._run(_hear, tasks, doing, recipe.ray.use_gpu)
        return joined(
            (stretch, frames)
            for task, heard in zip(tasks, results, strict=True)
            for stretch, frames in zip(task.stretches, heard, strict=True)
        )

    def loudness(self, recordings: Sequence[int]) -> Heard:
        tasks = [
            _LoudnessTask(self.store, part, self.frame_rate, self.threads)
            for part in grouped(self.corpus, recordings, LOUDNESS_TASK_S)
        ]
        results = self._run(_measure, tasks, "measuring loudness", gpu=False)
        for task, heard in zip(tasks, results, strict=True):
            yield from zip(task.recordings, heard, strict=True)

    def _run(
        self, work: Callable[[Any], list[Frames]], tasks: Sequence[Any], doing: str, gpu: bool
    ) -> Iterator[list[Frames]]:
        from ..cluster.ordered import on_workers

        return on_workers(self.recipe.ray, work, tasks, doing, gpu)


def task_windows(total: int, workers: int, step_s: float, seconds: float) -> int:
    """How many of `total` windows, one each step_s, a task has: about `seconds` of audio, but no worker is left without
    any. A multiple of the batch, see `cut`."""
    share = -(-total // workers)
    return BATCH * max(1, min(round(seconds / step_s / BATCH), -(-share // BATCH)))


def _hear(task: _Task) -> list[Frames]:
    """On a worker: the likelihoods of each stretch."""
    torch.set_flush_denormal(True)  # attention to far frames underflows; denormal numbers are slow on CPUs
    if task.device == "cuda" and not torch.cuda.is_available():
        import ray

        raise UserError(
            f"ray.use_gpu: torch finds no GPU on node {ray.util.get_node_ip_address()}, where Ray has one; install a"
            " torch that fits the driver there",
            FAILED,
        )
    model, corpus = _on_device(task.model, task.device, task.plugins), _opened(task.corpus)
    with threads(task.threads):
        return [frames for _, frames in likelihoods_in(model, corpus, task.stretches, BATCH, task.precision)]


def _measure(task: _LoudnessTask) -> list[Frames]:
    corpus = _opened(task.corpus)
    with threads(task.threads):
        return [_loudness(corpus, recording, task.frame_rate) for recording in task.recordings]


@lru_cache(maxsize=1)
def _on_device(folder: str, device: str, plugins: tuple[str, ...]) -> Detector:
    """Once in a worker's process, however many tasks it does."""
    return _load(folder, plugins).to(device)


@lru_cache(maxsize=1)
def _opened(folder: Path) -> Corpus:
    return Corpus.open(folder)


def _load(folder: str, plugins: tuple[str, ...] = ()) -> Detector:
    model = load_model(folder, plugins)
    assert isinstance(model, Detector)
    return model


def _front_end(folder: str) -> AnyFrontEnd:
    """Without the weights."""
    return ModelConfig.model_validate(read_description(folder)["model"]).front_end


def grouped(corpus: Corpus, recordings: Iterable[int], seconds: float) -> Iterator[list[int]]:
    """Recordings in order, so many together that they last `seconds`."""
    group: list[int] = []
    left_s = seconds
    for recording in recordings:
        group.append(recording)
        left_s -= corpus.duration_s(recording)
        if left_s <= 0:
            yield group
            group, left_s = [], seconds
    if group:
        yield group


def waveform(corpus: Corpus, recording: int) -> NDArray[np.float32]:
    """All of a recording (N,)."""
    whole = np.array([(recording, 0)], dtype=SEGMENT_DTYPE)
    waveform_N: NDArray[np.float32] = corpus.waveforms(whole, corpus.recordings[recording].n_samples)[0][0]
    return waveform_N


def _loudness(corpus: Corpus, recording: int, frame_rate: float) -> NDArray[np.float32]:
    rate = corpus.rate(recording)
    loudness_T: NDArray[np.float32] = energy_likelihood(waveform(corpus, recording), rate, frame_rate)
    return loudness_T
