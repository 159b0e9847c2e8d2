"""How a model runs, without changing what it computes: precision, threads, compilation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from a2v_model.encoder import Block, Encoder
from a2v_model.front_end import ConvLayer, SincLayer
from a2v_model.layers import NormedConv

SMALL_MODEL = 5_000_000  # trained parameters


def compile_model(model: nn.Module, backend: str = "inductor") -> None:
    """Let torch.compile make kernels for the parts that take the time, at their next call.

    `backend` as in torch.compile. Names of parameters stay; results agree to rounding. Each block is compiled by
    itself, so that one compilation serves all.
    """
    for module in model.modules():
        if isinstance(module, Encoder):
            module.compiled = True
        if isinstance(module, Block | ConvLayer | NormedConv | SincLayer):
            module.compile(backend=backend)


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


def own_threads(model: nn.Module, device: torch.device) -> int:
    """Threads for a training in this process: one where the model is small and on the CPU, else what torch takes.

    Small operations spend more time on waiting for one another's threads than on computing: on two busy cores, two
    threads were up to nine times slower than one.
    """
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return 1 if device.type == "cpu" and trained < SMALL_MODEL else torch.get_num_threads()


def in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a recipe's `precision` means bfloat16 on this device."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # oneDNN computes in bfloat16 only on processors with these instructions; elsewhere it would be slower
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
