"""Training checkpoints: everything a stopped run needs to go on as if it had not been stopped.

Contract. A checkpoint is a folder with `model.safetensors` (all weights and buffers, the teacher's too),
`optimizer.safetensors` (`NAME.STATE`, one tensor each) and `loop.json` (updates done, optimiser settings,
metrics that the tracking store has not confirmed). There is no random state in it: every draw comes from a generator
seeded by (seed, update, micro-batch). It is written aside and renamed (`write`), so it is complete or invisible;
under Ray Train, which moves it to storage itself, the same holds for what Ray calls a reported checkpoint.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from .errors import disk_full, is_disk_full

LOOP_FILE = "loop.json"


def write(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Write a checkpoint beside its place and rename it there. `state` must be JSON data.

    Raises UserError where the disk is full; then nothing of it remains.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    weights = {key: value.detach().contiguous().cpu() for key, value in model.state_dict().items()}
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    tensors = {
        f"{names[parameter]}.{key}": torch.as_tensor(value).detach().contiguous().cpu()
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }
    try:
        aside.mkdir(parents=True)
        save_file(weights, aside / "model.safetensors")
        save_file(tensors, aside / "optimizer.safetensors")
        (aside / LOOP_FILE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    except Exception as error:
        shutil.rmtree(aside, ignore_errors=True)  # its room is needed for the rest
        if is_disk_full(error):
            raise disk_full(folder, sum(tensor.nbytes for tensor in [*weights.values(), *tensors.values()])) from error
        raise
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)


def read(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint's tensors into model and optimiser; returns the loop's state."""
    model.load_state_dict(load_file(folder / "model.safetensors"))
    tensors = load_file(folder / "optimizer.safetensors")
    states: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition(".")
        states.setdefault(name, {})[entry] = value
    parameters = dict(model.named_parameters())
    for name, values in states.items():
        parameter = parameters[name]
        optimizer.state[parameter] = {
            entry: value if entry == "step" else value.to(parameter.device) for entry, value in values.items()
        }
    return read_state(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """The loop's state: `updates` done and `pending_metrics`."""
    state: dict[str, Any] = json.loads((folder / LOOP_FILE).read_text(encoding="utf-8"))
    return state


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most updates in a folder of them (`update-00000200`, ...)."""
    found = sorted(path for path in folder.glob("update-*") if (path / LOOP_FILE).is_file())
    return found[-1] if found else None


def name(updates: int) -> str:
    return f"update-{updates:08d}"
