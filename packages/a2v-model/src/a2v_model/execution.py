"""How a model runs, without changing what it computes: gradient checkpointing and compilation."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputing(nn.Module):
    """A module whose parts can be computed again in the backward pass instead of keeping what they made."""

    gradient_checkpointing = False

    def part(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """function(*inputs); with gradient checkpointing only its inputs and outputs are kept. Dropout masks are
        the same both times."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)


def set_gradient_checkpointing(model: nn.Module, enabled: bool) -> None:
    """Keep little for the backward pass of front end, transformer and decoder: less memory, about a third more
    time. Loss and gradients stay the same."""
    for module in model.modules():
        if isinstance(module, Recomputing):
            module.gradient_checkpointing = enabled


def compile_model(model: nn.Module, backend: str = "inductor") -> None:
    """Let torch.compile make kernels for the parts that take the time, at their next call.

    `backend` as in torch.compile. Names of parameters stay; results agree to rounding. Each block is compiled by
    itself, so that one compilation serves all.
    """
    from a2v_model.encoder import Block, Encoder
    from a2v_model.front_end import ConvLayer, SincLayer
    from a2v_model.layers import NormedConv

    for module in model.modules():
        if isinstance(module, Encoder):
            module.compiled = True
        if isinstance(module, Block | ConvLayer | NormedConv | SincLayer):
            module.compile(backend=backend)
