"""Runs the training loop without Ray and without a tracking store, and keeps what it logged and saved."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from a2v_experiments.training import checkpoints
from a2v_experiments.training import group as workers_group
from a2v_experiments.training.group import Group
from a2v_experiments.training.loop import train
from a2v_experiments.training.spec import TrainingSpec
from a2v_experiments.training.tasks import build_task
from safetensors.torch import load_file
from torch import Tensor, distributed

TIMED = "audio_seconds_per_second"  # the one metric that is not a function of the recipe


class StoppedError(Exception):
    """Stands for a process that is killed."""


@dataclass
class Training:
    """One run of the loop: its metrics by step, without the one that measures time, and its checkpoints' folder."""

    metrics: dict[int, dict[str, float]]
    folder: Path

    def weights(self, updates: int) -> dict[str, Tensor]:
        return load_file(self.folder / checkpoints.name(updates) / "model.safetensors")

    def moments(self, updates: int) -> dict[str, Tensor]:
        return load_file(self.folder / checkpoints.name(updates) / "optimizer.safetensors")


def run_loop(
    spec: TrainingSpec,
    folder: Path,
    resume: Path | None = None,
    stop_after: int | None = None,
    group: Group | None = None,
) -> Training:
    """Train to the end, or until the process 'dies' right after it logged update `stop_after`."""
    group = group or Group()
    logged: dict[int, dict[str, float]] = {}

    def log(step: int, metrics: dict[str, float]) -> None:
        assert step not in logged and all(isinstance(value, float) for value in metrics.values())
        logged[step] = {key: value for key, value in metrics.items() if key != TIMED}
        if step == stop_after:
            raise StoppedError

    def save(updates: int, write: Any) -> None:
        if group.rank == 0:
            write(folder / checkpoints.name(updates))

    with contextlib.suppress(StoppedError):
        train(build_task(spec, group.device), spec.loop, group, resume, log, save, list)
    return Training(logged, folder)


def gloo_worker(rank: int, size: int, specs: list[str], folder: str) -> None:
    """One of `size` processes that train each spec together; rank 0 leaves its metrics and checkpoints in `folder`."""
    torch.set_num_threads(1)
    workers_group.BUCKET = 500  # so that gradients travel in several pieces
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    for number, text in enumerate(specs):
        place = Path(folder) / str(number)
        training = run_loop(TrainingSpec.model_validate_json(text), place, group=Group(rank, size))
        if rank == 0:
            (place / "metrics.json").write_text(json.dumps(training.metrics), encoding="utf-8")
    distributed.barrier()
    os._exit(0)  # past the interpreter's end, where gloo's threads sometimes abort the process
