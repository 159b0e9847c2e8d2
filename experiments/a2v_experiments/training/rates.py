"""Recordings of several sample rates in one training: a micro-batch has one rate, and the rates take turns.

Each rate has a task of its own, with its recordings (sampling, augmentation, labels); all share the weights of one
model, which hears each rate as it is (`Inference.for_rate`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from a2v_data.corpus import Corpus

from .batches import RateBatch

if TYPE_CHECKING:
    from .tasks import TrainingSpec

TURNS = 64  # micro-batches in which every rate has its share


class Turns:
    """Which rate a micro-batch has: of every `TURNS` or a few more each rate has as many as its share of the seconds,
    at least one, in an order that is drawn once."""

    def __init__(self, seconds: list[float], seed: int) -> None:
        counts = np.maximum(1, np.round(TURNS * np.array(seconds) / sum(seconds))).astype(int)
        self.counts: list[int] = counts.tolist()
        self.order = np.random.default_rng([seed, 10]).permutation(np.repeat(np.arange(len(counts)), counts))

    def of(self, number: int) -> tuple[int, int]:
        """The rate of micro-batch `number` of a training, and how many of that rate came before it."""
        turn, place = divmod(number, len(self.order))
        rate = int(self.order[place])
        return rate, turn * self.counts[rate] + int((self.order[:place] == rate).sum())


class TaskOfRates:
    """A task (`loop.Task`) that gives each micro-batch to the task of its rate. Validation and probe are the first's:
    they hear recordings of all rates.

    kind: PretrainTask or FinetuneTask; names: rate -> the recordings of the training that have it.
    """

    def __init__(
        self, kind: Any, spec: TrainingSpec, device: torch.device, names: dict[int, list[str]], corpus: Corpus
    ) -> None:
        self.spec, self.corpus, self.segment_s = spec, corpus, spec.segment_s
        self.model = kind.new_model(spec)
        self.rates = list(names)
        self.tasks: list[Any] = []
        for rate, own in names.items():
            front_end = spec.model.front_end.at(rate)  # type: ignore[union-attr]  # an ear: recipes see to that
            changes: dict[str, Any] = {
                "model": spec.model.model_copy(update={"front_end": front_end}), "recordings": own,
            }  # fmt: skip
            if self.tasks:
                changes |= {"validation": [], "probe": None}
            self.tasks.append(kind(spec.model_copy(update=changes), device, self.model.for_rate(rate)))
        first = self.tasks[0]
        self.validation, self.probe = first.validation, first.probe
        self.sum_names, self.weight_average = first.sum_names, first.weight_average
        self.turns = Turns([corpus.seconds(corpus.indices(own)) for own in names.values()], spec.loop.seed)

    def _task(self, rate: int) -> Any:
        """That of a rate, with the model as it is now: another device, training or not."""
        task = self.tasks[rate]
        task.model = self.model.for_rate(self.rates[rate])
        return task

    def score(self, model: Any) -> Any:
        """On the validation recordings."""
        return self.tasks[0].score(model)

    def begin_update(self, update: int) -> None:
        self._task(0).begin_update(update)

    def end_update(self, update: int, metrics: dict[str, float]) -> dict[str, float]:
        after: dict[str, float] = self._task(0).end_update(update, metrics)
        return after

    def prepare(self, update: int, micro: int, generator: torch.Generator) -> RateBatch:
        every = self.spec.loop.micro_batches
        rate, number = self.turns.of(update * every + micro)
        return RateBatch(rate, self.tasks[rate].prepare(*divmod(number, every), generator))

    def step(self, update: int, micro: int, generator: torch.Generator, batch: RateBatch | None = None) -> Any:
        given = batch or self.prepare(update, micro, generator)
        return self._task(given.rate).step(update, micro, generator, given.batch)
