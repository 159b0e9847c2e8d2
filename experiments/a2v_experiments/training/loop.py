"""The training loop: plain PyTorch on one screen. Ray wraps it (workers.py); tasks.py says what a step computes.

The host gives an accelerator its work and waits for it once an update, in `TrainingStep.finish`, for the sums to log.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from a2v_model import autocast, compile_model, set_gradient_checkpointing, settle_batch_norms, weight_decay_groups
from torch import Tensor, nn

from ..recipe.trainings import LoopConfig, OptimizerConfig
from . import checkpoints
from .ahead import Ahead, pinned
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
    Each is a tensor on the device, or a number where the host knows it.
    """

    loss_sum: Tensor
    frames: Tensor | float
    sums: dict[str, Tensor | float]


@dataclass(frozen=True)
class Ready:
    """A micro-batch that a task can take a step with, on the CPU, and the generator of the chance that is left."""

    generator: torch.Generator
    batch: Any


class Task(Protocol):
    """A model and what one micro-batch does with it."""

    model: nn.Module
    segment_s: float
    sum_names: tuple[str, ...]  # the keys of Step.sums
    weight_average: float  # decay of the average of the weights; 0 for none
    validation: Validation | None
    probe: Probe | None

    def begin_update(self, update: int) -> None: ...
    def prepare(self, update: int, micro: int, generator: torch.Generator) -> Any: ...
    def step(self, update: int, micro: int, generator: torch.Generator, batch: Any = None) -> Step: ...
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

    ahead: make the next micro-batch in a thread while one is computed; None: where an accelerator computes.
    """

    def __init__(self, task: Task, config: LoopConfig, group: Group, ahead: bool | None = None) -> None:
        self.task, self.config, self.group = task, config, group
        self.model = task.model.to(group.device).train()
        set_gradient_checkpointing(self.model, config.gradient_checkpointing)
        if config.compile:
            compile_model(self.model)
        settings = config.optimizer
        groups = weight_decay_groups(self.model, settings.weight_decay, settings.decay_sinc)
        fused = True if group.device.type == "cuda" else None  # a kernel for all weights instead of some for each
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.eps, fused=fused)
        self.average = Average(self.model, task.weight_average) if task.weight_average else None
        self._totals: dict[str, Tensor | float] = {}
        accelerated = group.device.type != "cpu"
        made = partial(_make, task, config, group.device), partial(_following, config, group)
        self._ready = Ahead(*made, accelerated if ahead is None else ahead)  # knows nothing of this: it would keep it

    def __call__(self, update: int) -> dict[str, float]:
        self.task.begin_update(update)
        for micro in self.group.own(self.config.micro_batches):
            self.micro_batch(update, micro)
        return self.finish(update)

    def micro_batch(self, update: int, micro: int) -> None:
        """Add a micro-batch's gradient to that of the update."""
        seed_dropout(self.config.seed, update, micro)
        ready = self._ready(update, micro)
        with autocast(self.config.precision, self.group.device):
            step = self.task.step(update, micro, ready.generator, ready.batch)
        step.loss_sum.backward()
        values = {"loss": step.loss_sum.detach(), "frames": step.frames, **step.sums}
        for key, value in values.items():
            self._totals[key] = self._totals.get(key, 0.0) + (value.double() if isinstance(value, Tensor) else value)

    def finish(self, update: int) -> dict[str, float]:
        """Change the weights by the gradient of all micro-batches."""
        config, group = self.config, self.group
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        keys, sums = _across(group, self._totals, self.task)
        self._totals = {}
        group.sum_gradients(trained, sums[keys.index("frames")].clamp(min=1.0).float())
        norm = nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        *values, gradient_norm = on_host(torch.cat([sums, norm.double()[None]]))  # the host waits here, and only here
        means = dict(zip(keys, values, strict=True))
        frames = max(means.pop("frames"), 1.0)
        if not math.isfinite(gradient_norm):  # the same on every worker; one such step would make every weight NaN
            what = f"the gradient is {gradient_norm}; lower optimizer.learning_rate"
            raise TrainingStopped(f"update {update + 1}: {what}")
        if config.optimizer.gradient_clip is not None:
            nn.utils.clip_grads_with_norm_(trained, config.optimizer.gradient_clip, norm)
        rate = learning_rate(update, config.updates, config.optimizer)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        settle_batch_norms(self.model, group.sum)
        metrics = {key: value / frames for key, value in means.items()}
        metrics = self.task.end_update(update, {**metrics, "gradient_norm": gradient_norm, "learning_rate": rate})
        if self.average:
            self.average.follow(update + 1)
        return metrics


def _make(task: Task, config: LoopConfig, device: torch.device, update: int, micro: int) -> Ready:
    """What a micro-batch is computed from."""
    generator = generator_of(config.seed, update, micro)
    batch = task.prepare(update, micro, generator)
    return Ready(generator, pinned(batch) if device.type == "cuda" else batch)


def _following(config: LoopConfig, group: Group, update: int, micro: int) -> tuple[int, int] | None:
    """The micro-batch of this worker after that one."""
    own = group.own(config.micro_batches)
    if micro + own.step < own.stop:
        return update, micro + own.step
    return (update + 1, own.start) if update + 1 < config.updates else None


def generator_of(seed: int, update: int, micro: int) -> torch.Generator:
    """What a micro-batch's reading, mixing, masks and layerdrop draw from, on the CPU.

    Because every draw depends on (seed, update, micro-batch) only, here and in `seed_dropout`, a resumed run repeats
    exactly, and the number of workers changes nothing but the order of summation.
    """
    return torch.Generator().manual_seed(int.from_bytes(_digest(seed, update, micro)[:7], "big"))


def seed_dropout(seed: int, update: int, micro: int) -> None:
    """Seed torch's global generators, which dropout draws from.

    `torch.manual_seed` does the same, and formats the stack three times on a machine without a GPU: a fifth of an
    update of a small model.
    """
    number = int.from_bytes(_digest(seed, update, micro)[8:15], "big")
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


def _digest(seed: int, update: int, micro: int) -> bytes:
    return hashlib.sha256(f"{seed}/{update}/{micro}".encode()).digest()


def on_host(values: Tensor) -> list[float]:
    """The numbers in a tensor (N,); waits until its device has them."""
    found: list[float] = values.tolist()
    return found


def learning_rate(update: int, updates: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then a cosine from `learning_rate` that reaches `final_learning_rate` after the last (spec 5)."""
    if update < config.warmup_updates:
        share = (update + 1) / config.warmup_updates
        return config.warmup_from + share * (config.learning_rate - config.warmup_from)
    share = (update - config.warmup_updates) / max(updates - config.warmup_updates, 1)
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + 0.5 * span * (1 + math.cos(math.pi * share))


def _across(group: Group, totals: dict[str, Tensor | float], task: Task) -> tuple[list[str], Tensor]:
    """Sums over the workers (N,) on the device; one without a micro-batch in this update contributes zeros."""
    keys = sorted({"loss", "frames", *task.sum_names})
    given = [totals.get(key, 0.0) for key in keys]
    device, kind = group.device, torch.float64  # filling a tensor waits for nobody, other than a copy of a number
    sums = [
        value.to(device, kind) if isinstance(value, Tensor) else torch.full((), value, dtype=kind, device=device)
        for value in given
    ]
    return keys, group.sum(torch.stack(sums))
