"""Training checkpoints: everything a stopped run needs to go on as if it had not been stopped.

Contract. A checkpoint is a folder with `model.safetensors` (all weights and buffers, the teacher's too),
`optimizer.safetensors` (`NAME.STATE`, one tensor each) and `loop.json` (updates done, whether training is finished,
metrics not confirmed by the tracking store, the scores of validation and probe). Where training keeps them there are
`average.safetensors` (the average of the weights) and `best.safetensors` (those with the best validation), each a
whole model. There is no random state in it: every draw comes from a generator
seeded by (seed, update, micro-batch). It is written aside and renamed (`write`), so it is complete or invisible;
under Ray Train, which moves it to storage itself, the same holds for what Ray calls a reported checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ..basics.errors import disk_full, is_disk_full

LOOP_FILE, MODEL, OPTIMIZER = "loop.json", "model.safetensors", "optimizer.safetensors"
AVERAGE, BEST = "average.safetensors", "best.safetensors"


def write(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    more: Mapping[str, Mapping[str, torch.Tensor]] = MappingProxyType({}),
) -> None:
    """Write a checkpoint beside its place and rename it there. `state` must be JSON data.

    more: file name -> further weights; one without any is not written. Raises UserError where the disk is full; then
    nothing of it remains.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    tensors = {
        f"{names[parameter]}.{key}": torch.as_tensor(value).detach().contiguous().cpu()
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }
    files = {MODEL: _at_hand(model.state_dict()), OPTIMIZER: tensors}
    files |= {name: _at_hand(weights) for name, weights in more.items() if weights}
    try:
        aside.mkdir(parents=True)
        for name, content in files.items():
            save_file(content, aside / name)
        (aside / LOOP_FILE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    except Exception as error:
        shutil.rmtree(aside, ignore_errors=True)  # its room is needed for the rest
        if is_disk_full(error):
            needed = sum(tensor.nbytes for content in files.values() for tensor in content.values())
            raise disk_full(folder, needed) from error
        raise
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)


def _at_hand(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.detach().contiguous().cpu() for key, value in weights.items()}


def read(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint's tensors into model and optimiser; returns the loop's state."""
    model.load_state_dict(load_file(folder / MODEL))
    tensors = load_file(folder / OPTIMIZER)
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
    """The loop's state: `updates` done, `finished`, `pending_metrics`, and with validation what that has found."""
    state: dict[str, Any] = json.loads((folder / LOOP_FILE).read_text(encoding="utf-8"))
    return state


def read_weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Further weights of a checkpoint (AVERAGE, BEST); none where it has no such file."""
    return load_file(folder / name) if (folder / name).is_file() else {}


def is_finished(state: Mapping[str, Any], updates: int) -> bool:
    """Whether a training of so many updates is over: it has made them, or stopped early for good."""
    return bool(state.get("finished")) or state["updates"] >= updates


def final_weights(folder: Path) -> Path:
    """The file that is the model when training ends here: the best by validation, else the average, else the last."""
    return next(folder / name for name in (BEST, AVERAGE, MODEL) if (folder / name).is_file())


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most updates in a folder of them (`update-00000200`, ...)."""
    found = sorted(path for path in folder.glob("update-*") if (path / LOOP_FILE).is_file())
    return found[-1] if found else None


def name(updates: int) -> str:
    return f"update-{updates:08d}"
