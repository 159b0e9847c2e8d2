"""Several corpora or sample rates in one training: a micro-batch is of one corpus and one rate, and they take turns.

Each rate of each corpus has a task of its own, with its recordings (sampling, augmentation, labels); all share the
weights of one model, which hears each rate as it is (`Inference.for_rate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .batches import TurnBatch

if TYPE_CHECKING:
    from .spec import TrainingSpec

TURNS = 64  # micro-batches in which every rate of a corpus has its share
TURNS_OF_CORPORA = 1024  # where there are several: shares of small ones are kept too


@dataclass(frozen=True)
class Same:
    """Recordings of one packed store (its folder) and one rate (Hz). share: how much of what is heard is theirs, in any
    unit that all have."""

    corpus: str
    rate: int
    recordings: list[str]
    share: float


class Turns:
    """Whose turn a micro-batch is: of every `turns` or a few more each part has as many as its share, at least one, in
    an order that is drawn once."""

    def __init__(self, shares: Sequence[float], seed: int, turns: int = TURNS) -> None:
        counts = np.maximum(1, np.round(turns * np.array(shares) / sum(shares))).astype(int)
        self.counts: list[int] = counts.tolist()
        self.order = np.random.default_rng([seed, 10]).permutation(np.repeat(np.arange(len(counts)), counts))

    def of(self, number: int) -> tuple[int, int]:
        """The part of micro-batch `number` of a training, and how many of that part came before it."""
        turn, place = divmod(number, len(self.order))
        part = int(self.order[place])
        return part, turn * self.counts[part] + int((self.order[:place] == part).sum())


class TaskOfTurns:
    """A task (`loop.Task`) that gives each micro-batch to the task of the corpus and rate whose turn it is. Validation
    and probe are the first's: they hear recordings of all rates.

    kind: PretrainTask or FinetuneTask.
    """

    def __init__(self, kind: Any, spec: TrainingSpec, device: torch.device, parts: Sequence[Same]) -> None:
        self.spec, self.segment_s = spec, spec.segment_s
        self.model = kind.new_model(spec)
        self.rates = [part.rate for part in parts]
        self.tasks: list[Any] = []
        for part in parts:
            front_end = spec.model.front_end
            if part.rate != front_end.sample_rate:
                front_end = front_end.at(part.rate)  # type: ignore[union-attr]  # an ear: recipes see to that
            changes: dict[str, Any] = {
                "model": spec.model.model_copy(update={"front_end": front_end}), "corpora": (),
                "corpus": part.corpus, "recordings": part.recordings,
            }  # fmt: skip
            if self.tasks:
                changes |= {"validation": [], "probe": None}
            self.tasks.append(kind(spec.model_copy(update=changes), device, self.model.for_rate(part.rate)))
        first = self.tasks[0]
        self.validation, self.probe = first.validation, first.probe
        self.sum_names, self.weight_average = first.sum_names, first.weight_average
        turns = TURNS_OF_CORPORA if spec.corpora else TURNS
        self.turns = Turns([part.share for part in parts], spec.loop.seed, turns)

    def _task(self, turn: int) -> Any:
        """One of the tasks, with the model as it is now: another device, training or not."""
        task = self.tasks[turn]
        task.model = self.model.for_rate(self.rates[turn])
        return task

    def score(self, model: Any) -> Any:
        """On the validation recordings."""
        return self.tasks[0].score(model)

    def begin_update(self, update: int) -> None:
        self._task(0).begin_update(update)

    def end_update(self, update: int, metrics: dict[str, float]) -> dict[str, float]:
        after: dict[str, float] = self._task(0).end_update(update, metrics)
        return after

    def prepare(self, update: int, micro: int, generator: torch.Generator) -> TurnBatch:
        every = self.spec.loop.micro_batches
        turn, number = self.turns.of(update * every + micro)
        return TurnBatch(turn, self.tasks[turn].prepare(*divmod(number, every), generator))

    def step(self, update: int, micro: int, generator: torch.Generator, batch: TurnBatch | None = None) -> Any:
        given = batch or self.prepare(update, micro, generator)
        return self._task(given.turn).step(update, micro, generator, given.batch)
