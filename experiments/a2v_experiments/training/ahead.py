"""Micro-batches made ahead of time: the next one is read and augmented while the device computes.

Contract. What is made is a pure function of (update, micro-batch), so that results are the same to the bit with and
without; it is made on the CPU and travels from there without the host waiting. An error while making it is raised where
the micro-batch is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")
Value = TypeVar("Value")
Place = tuple[int, int]  # update, micro-batch


class Ahead(Generic[Made]):
    """Calls make(update, micro), for what is asked and, in a thread, for what will be asked next.

    following(update, micro): what comes after, or None. Without `wanted` nothing is made ahead. The thread ends with
    this object.
    """

    def __init__(
        self, make: Callable[[int, int], Made], following: Callable[[int, int], Place | None], wanted: bool
    ) -> None:
        self._make, self._following = make, following
        self._thread = ThreadPoolExecutor(1, "a2v-ahead") if wanted else None
        self._next: tuple[Place, Future[Made]] | None = None

    def __call__(self, update: int, micro: int) -> Made:
        ready, self._next = self._next, None
        due = ready is not None and ready[0] == (update, micro)  # not: the first, or out of turn
        made = ready[1].result() if ready is not None and due else self._make(update, micro)
        if self._thread is not None and (place := self._following(update, micro)) is not None:
            self._next = place, self._thread.submit(self._make, *place)
        return made


def each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A value with its tensors changed, and those in its fields or values if it is a dataclass or a dictionary; all
    else stays as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: each_tensor(one, change) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: each_tensor(getattr(value, one.name), change) for one in fields(value)})
    return value


def pinned(value: Any) -> Any:
    """A value whose tensors lie in memory that a GPU can copy from by itself; as it is where there is none of it."""
    try:
        return each_tensor(value, Tensor.pin_memory)
    except RuntimeError:  # the system's limit of locked memory; copies then wait, but are the same
        return value


def on_device(value: Value, device: torch.device) -> Value:
    """A value with its tensors on the device, at once if they are `pinned`."""
    moved: Value = each_tensor(value, lambda tensor: tensor.to(device, non_blocking=True))
    return moved
