"""Gradient checkpointing: parts of a model that are computed again in the backward pass, to save memory."""

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
