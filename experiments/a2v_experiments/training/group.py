"""The workers of one training run, seen from inside the loop: one process, or N of a torch process group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

CPU = torch.device("cpu")
BUCKET = 16_000_000  # elements that travel in one all-reduce, 64 MB


@dataclass(frozen=True)
class Group:
    """rank of size workers, each on its device. size 1 needs no process group."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    def own(self, micro_batches: int) -> range:
        """The micro-batches of an update that this worker computes."""
        return range(self.rank, micro_batches, self.size)

    def gather(self, name: str) -> list[str]:
        """What each worker gives, by rank."""
        names = [name] * self.size
        if self.size > 1:
            dist.all_gather_object(names, name)
        return names

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the workers, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Sequence[Tensor], divide_by: Tensor) -> None:
        """Sum gradients over the workers and divide them by a number (a tensor without axes, on their device, so that
        nobody waits for it), as if one worker had computed the whole batch.

        A parameter without gradient (a dropped layer, frozen in this batch) counts as zero, on every worker alike.
        """
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size > 1:
            for bucket in _buckets(gradients):
                flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
                dist.all_reduce(flat)
                parts = flat.split([gradient.numel() for gradient in bucket])
                torch._foreach_copy_([g.view(-1) for g in bucket], list(parts))
        torch._foreach_div_(gradients, divide_by)


def _buckets(tensors: list[Tensor]) -> list[list[Tensor]]:
    buckets: list[list[Tensor]] = [[]]
    size = 0
    for tensor in tensors:
        if buckets[-1] and size + tensor.numel() > BUCKET:
            buckets.append([])
            size = 0
        buckets[-1].append(tensor)
        size += tensor.numel()
    return buckets
