"""An exponential moving average of a model's weights: less noise than the last update's, for a finetuning's price.

Contract. Parameters and float buffers are averaged, in float32 on the model's device; whole-number buffers are taken
as they are. `weights` and `load` are the model's state_dict, so that the average is a model file like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def decay_at(updates: int, decay: float) -> float:
    """What the average keeps of itself after so many updates (1, 2, ...): short at first, so that it forgets the
    weights it began with, and `decay` in the end."""
    return min(decay, (1 + updates) / (20 + updates))


class Average:
    """The average of a model's weights, which begins with those that the model has now."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self._live: dict[str, Tensor] = {
            key: value for key, value in model.state_dict(keep_vars=True).items() if value.is_floating_point()
        }
        self._mean = {key: value.detach().float().clone() for key, value in self._live.items()}

    @torch.no_grad()
    def follow(self, updates: int) -> None:
        """Take in the weights after update number `updates` (1, 2, ...)."""
        now = [value.detach().float() for value in self._live.values()]
        torch._foreach_lerp_(list(self._mean.values()), now, 1 - decay_at(updates, self.decay))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights while the block runs; its own come back to the bit."""
        own = {key: value.data for key, value in self._live.items()}
        for key, value in self._live.items():
            value.data = self._mean[key].to(value.dtype)
        try:
            yield
        finally:
            for key, value in self._live.items():
                value.data = own[key]

    def weights(self) -> dict[str, Tensor]:
        """The model's state_dict with the averaged weights."""
        return {key: self._mean.get(key, value) for key, value in self.model.state_dict().items()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on with what `weights` gave."""
        for key, mean in self._mean.items():
            mean.copy_(weights[key])
