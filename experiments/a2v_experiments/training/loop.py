"""The training loop: plain PyTorch on one screen. Ray wraps it (workers.py); tasks.py says what a step computes."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from a2v_model import autocast, compile_model, set_gradient_checkpointing, settle_batch_norms, weight_decay_groups
from torch import Tensor, nn

from ..recipe.trainings import LoopConfig, OptimizerConfig
from . import checkpoints
from .average import Average
from .group import Group

if TYPE_CHECKING:
    from .probe import Probe
    from .validation import Validation


class TrainingStopped(Exception):  # noqa: N818 - it says what happened
    """Training cannot usefully go on, on any worker (the representation collapsed); trying again would not help."""


@dataclass
class Step:
    """What one micro-batch gives. loss_sum: summed loss with graph; frames: how many frames it is the sum over.

    sums: further values, each already multiplied by `frames`, so that their average over micro-batches is exact.
    """

    loss_sum: Tensor
    frames: Tensor
    sums: dict[str, Tensor]


class Task(Protocol):
    """A model and what one micro-batch does with it."""

    model: nn.Module
    segment_s: float
    sum_names: tuple[str, ...]  # the keys of Step.sums
    weight_average: float  # decay of the average of the weights; 0 for none
    validation: Validation | None
    probe: Probe | None

    def begin_update(self, update: int) -> None: ...
    def step(self, update: int, micro: int, generator: torch.Generator) -> Step: ...
    def end_update(self, update: int, metrics: dict[str, float]) -> dict[str, float]: ...


def train(
    task: Task,
    config: LoopConfig,
    group: Group,
    resume: Path | None,
    log: Callable[[int, dict[str, float]], None],
    save: Callable[[int, Callable[[Path], None]], None],
    pending: Callable[[], list[dict[str, Any]]],
    asked_to_stop: Callable[[], bool] = lambda: False,
    end: int | None = None,
) -> None:
    """Train from `resume` (a checkpoint's folder, or None for the start) to `config.updates`, or to the update `end` of
    these, or until validation has no patience left.

    log(update, metrics) is called on rank 0 every `log_every` updates and where there was a validation or a probe,
    which may be before the first update (0); save(update, write) on every rank every `checkpoint_every` updates, at the
    end, and where asked_to_stop() ends the training after an update; write(folder) writes the checkpoint.
    """
    step = TrainingStep(task, config, group)
    model, optimizer, average = step.model, step.optimizer, step.average
    validation, probe = task.validation, task.probe
    begun = probe.begin(checkpoints.read_state(resume) if resume else {}, model, group) if probe else {}
    state = checkpoints.read(resume, model, optimizer) if resume else {"updates": 0}
    if group.rank == 0 and begun and not resume:
        log(0, {"update": 0.0, **begun})
    if resume and average:
        average.load(checkpoints.read_weights(resume, checkpoints.AVERAGE))
    if resume and validation:
        validation.load(state, checkpoints.read_weights(resume, checkpoints.BEST))
    since, clock = state["updates"], time.perf_counter()
    end = end or config.updates
    left = 0 if checkpoints.is_finished(state, end) else end - state["updates"]
    for updates in range(state["updates"] + 1, state["updates"] + left + 1):
        metrics = {**step(updates - 1), "update": float(updates)}
        last, seconds = updates == end, time.perf_counter() - clock
        scores = {}
        if validation:
            scores = validation.look(updates, last, model, average.applied() if average else nullcontext(), group)
        scores |= probe.look(updates, last, model, group) if probe else {}
        finished = last or (validation is not None and validation.stops)
        if group.rank == 0 and (updates % config.log_every == 0 or finished or scores):
            audio = (updates - since) * config.segments * config.micro_batches * task.segment_s
            log(updates, {**metrics, "audio_seconds_per_second": audio / max(seconds, 1e-9), **scores})
            since, clock = updates, time.perf_counter()
        stopping = asked_to_stop()
        if updates % config.checkpoint_every == 0 or finished or stopping:

            def write(folder: Path, updates: int = updates, finished: bool = finished) -> None:
                state = {"updates": updates, "finished": finished, "pending_metrics": pending()}
                more = {checkpoints.AVERAGE: average.weights()} if average else {}
                if probe:
                    state |= probe.state()
                if validation:
                    state, more = state | validation.state(), more | {checkpoints.BEST: validation.best}
                checkpoints.write(folder, model, optimizer, state, more)

            save(updates, write)
        if finished or stopping:
            return


class TrainingStep:
    """A task's model with its optimiser; calling it makes an update (0, 1, ...) and returns the update's metrics.

    `micro_batch` is what an update does for each micro-batch (reading, forward, backward), `finish` what it does once
    (workers' sums, clipping, AdamW, the teacher, the average of the weights). `bench train` and `plan` measure both.
    """

    def __init__(self, task: Task, config: LoopConfig, group: Group) -> None:
        self.task, self.config, self.group = task, config, group
        self.model = task.model.to(group.device).train()
        set_gradient_checkpointing(self.model, config.gradient_checkpointing)
        if config.compile:
            compile_model(self.model)
        settings = config.optimizer
        groups = weight_decay_groups(self.model, settings.weight_decay, settings.decay_sinc)
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.eps)
        self.average = Average(self.model, task.weight_average) if task.weight_average else None
        self._totals: dict[str, Tensor] = {}

    def __call__(self, update: int) -> dict[str, float]:
        self.task.begin_update(update)
        for micro in self.group.own(self.config.micro_batches):
            self.micro_batch(update, micro)
        return self.finish(update)

    def micro_batch(self, update: int, micro: int) -> None:
        """Add a micro-batch's gradient to that of the update."""
        generator = seeded(self.config.seed, update, micro)
        with autocast(self.config.precision, self.group.device):
            step = self.task.step(update, micro, generator)
        step.loss_sum.backward()
        values = {"loss": step.loss_sum.detach(), "frames": step.frames, **step.sums}
        totals = self._totals
        self._totals = {key: totals.get(key, torch.zeros(())) + value.double().cpu() for key, value in values.items()}

    def finish(self, update: int) -> dict[str, float]:
        """Change the weights by the gradient of all micro-batches."""
        config, group = self.config, self.group
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        keys, sums = _across(group, self._totals, self.task)
        self._totals = {}
        means = dict(zip(keys, sums.tolist(), strict=True))
        frames = max(means.pop("frames"), 1.0)
        group.sum_gradients(trained, frames)
        norm = nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        if not torch.isfinite(norm):  # the same on every worker; one such step would make every weight NaN
            raise TrainingStopped(f"update {update + 1}: the gradient is {float(norm)}; lower optimizer.learning_rate")
        if config.optimizer.gradient_clip is not None:
            nn.utils.clip_grads_with_norm_(trained, config.optimizer.gradient_clip, norm)
        rate = learning_rate(update, config.updates, config.optimizer)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        settle_batch_norms(self.model, group.sum)
        metrics = {key: value / frames for key, value in means.items()}
        metrics = self.task.end_update(update, {**metrics, "gradient_norm": float(norm), "learning_rate": rate})
        if self.average:
            self.average.follow(update + 1)
        return metrics


def seeded(seed: int, update: int, micro: int) -> torch.Generator:
    """The generator of one micro-batch; also seeds torch's global one, which dropout draws from.

    Because every draw depends on (seed, update, micro-batch) only, a resumed run repeats exactly, and the number of
    workers changes nothing but the order of summation.
    """
    digest = hashlib.sha256(f"{seed}/{update}/{micro}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[8:15], "big"))
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def learning_rate(update: int, updates: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then a cosine from `learning_rate` that reaches `final_learning_rate` after the last (spec 5)."""
    if update < config.warmup_updates:
        share = (update + 1) / config.warmup_updates
        return config.warmup_from + share * (config.learning_rate - config.warmup_from)
    share = (update - config.warmup_updates) / max(updates - config.warmup_updates, 1)
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + 0.5 * span * (1 + math.cos(math.pi * share))


def _across(group: Group, totals: dict[str, Tensor], task: Task) -> tuple[list[str], Tensor]:
    """Sums over the workers; one without a micro-batch in this update contributes zeros."""
    keys = sorted({"loss", "frames", *task.sum_names})
    sums = torch.stack([torch.as_tensor(totals.get(key, 0.0), dtype=torch.float64).reshape(()) for key in keys])
    return keys, group.sum(sums.to(group.device)).cpu()
