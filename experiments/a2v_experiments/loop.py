"""The training loop: plain PyTorch on one screen. Ray wraps it (workers.py); tasks.py says what a step computes."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from a2v_model import compile_model, set_gradient_checkpointing, weight_decay_groups
from torch import Tensor, nn

from . import checkpoints
from .group import Group
from .recipe_sections import LoopConfig, OptimizerConfig


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
) -> None:
    """Train from `resume` (a checkpoint's folder, or None for the start) to `config.updates`.

    log(update, metrics) is called on rank 0 every `log_every` updates; save(update, write) on every rank every
    `checkpoint_every` updates and at the end, where write(folder) writes the checkpoint.
    """
    model = task.model.to(group.device)
    set_gradient_checkpointing(model, config.gradient_checkpointing)
    if config.compile:
        compile_model(model)
    settings = config.optimizer
    optimizer = torch.optim.AdamW(
        weight_decay_groups(model, settings.weight_decay), lr=0.0, betas=settings.betas, eps=settings.eps
    )
    done = checkpoints.read(resume, model, optimizer)["updates"] if resume else 0
    model.train()
    since, clock = done, time.perf_counter()
    for update in range(done, config.updates):
        task.begin_update(update)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        totals: dict[str, Tensor] = {}
        for micro in group.own(config.micro_batches):
            generator = seeded(config.seed, update, micro)
            with autocast(config.precision, group.device):
                step = task.step(update, micro, generator)
            step.loss_sum.backward()
            values = {"loss": step.loss_sum.detach(), "frames": step.frames, **step.sums}
            totals = {key: totals.get(key, torch.zeros(())) + value.double().cpu() for key, value in values.items()}
        keys, sums = _across(group, totals, task)
        means = dict(zip(keys, sums.tolist(), strict=True))
        frames = max(means.pop("frames"), 1.0)
        group.sum_gradients(trained, frames)
        norm = nn.utils.clip_grad_norm_(trained, settings.gradient_clip)
        if not torch.isfinite(norm):  # the same on every worker; one such step would make every weight NaN
            raise TrainingStopped(f"update {update + 1}: the gradient is {float(norm)}; lower optimizer.learning_rate")
        rate = learning_rate(update, config.updates, settings)
        for parameters in optimizer.param_groups:
            parameters["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        metrics = {key: value / frames for key, value in means.items()}
        metrics = task.end_update(update, {**metrics, "gradient_norm": float(norm), "learning_rate": rate})
        updates = update + 1
        if group.rank == 0 and (updates % config.log_every == 0 or updates == config.updates):
            seconds = time.perf_counter() - clock
            audio = (updates - since) * config.segments * config.micro_batches * task.segment_s
            speed = audio / max(seconds, 1e-9)
            log(updates, {**metrics, "update": float(updates), "audio_seconds_per_second": speed})
            since, clock = updates, time.perf_counter()
        if updates % config.checkpoint_every == 0 or updates == config.updates:

            def write(folder: Path, updates: int = updates) -> None:
                checkpoints.write(folder, model, optimizer, {"updates": updates, "pending_metrics": pending()})

            save(updates, write)


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


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where asked for or, with 'auto', where the hardware has it; weights and losses stay float32."""
    if in_bfloat16(precision, device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch computes with so many threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a recipe's `precision` means bfloat16 on this device."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # oneDNN computes in bfloat16 only on processors with these instructions; elsewhere it would be slower
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _across(group: Group, totals: dict[str, Tensor], task: Task) -> tuple[list[str], Tensor]:
    """Sums over the workers; one without a micro-batch in this update contributes zeros."""
    keys = sorted({"loss", "frames", *task.sum_names})
    sums = torch.stack([torch.as_tensor(totals.get(key, 0.0), dtype=torch.float64).reshape(()) for key in keys])
    return keys, group.sum(sums.to(group.device)).cpu()
