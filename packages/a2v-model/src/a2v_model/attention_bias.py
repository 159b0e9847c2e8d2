"""The bias of attention with ALiBi (spec 3). Shapes: B rows, T frames (queries and keys), H heads."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from a2v_model.blockwise import HEIGHT, HIDDEN, Distances

SWITCH = "A2V_ATTENTION"  # in the environment; torch: never this project's GPU kernel
USUAL_REACH = 40.0  # over a head's factor: frames that it sees on either side, with e^-30 and scores of 5


@dataclass
class AttentionBias:
    """Additive bias -factor * |i - j|, and keys beyond an item's end left out; built once, shared by layers.

    `index` holds the frame numbers in time order, (1, T), or (B, T) where every row has kept other frames; `factor`
    (H,) is slope times scale, not negative; `valid` (B, T) marks real frames. Each is None where there is nothing to
    add.
    """

    index: Tensor | None
    factor: Tensor | None
    valid: Tensor | None = None
    _dense: Tensor | None = field(default=None, init=False, repr=False)
    _distances: Distances | None = field(default=None, init=False, repr=False)
    _share: float | None = field(default=None, init=False, repr=False)

    @property
    def size(self) -> int:
        """Values of the whole bias."""
        if self.index is None or self.factor is None:
            return 0
        return len(self.factor) * self.index.shape[0] * self.index.shape[1] ** 2

    @property
    def share(self) -> float:
        """About which share of all scores has a weight, in a model whose scores are as usual; 1 where ALiBi is not."""
        if self._share is None:
            self._share = 1.0
            if self.index is not None and self.factor is not None:
                span = float((self.index[:, -1] - self.index[:, 0]).max()) + 1
                block = HEIGHT * span / self.index.shape[1]
                seen = (2 * USUAL_REACH / self.factor.detach() + block).clamp(max=span)
                self._share = float((seen / span).mean())
        return self._share

    def distance(self) -> Tensor:
        """|i - j| of all frames: (1 or B, T, T)."""
        assert self.index is not None
        return (self.index[:, :, None] - self.index[:, None, :]).abs()

    def distances(self, dtype: torch.dtype) -> Distances | None:
        """The same for blocks, built once; None without ALiBi."""
        if self._distances is None and self.index is not None:
            self._distances = Distances(self.index.to(dtype))
        return self._distances

    def padding(self) -> Tensor | None:
        """(B, T) float32: 0 for real keys, else hugely negative (finite: a row without keys has no NaN)."""
        if self.valid is None:
            return None
        zeros = torch.zeros(self.valid.shape, device=self.valid.device)
        return zeros.masked_fill(~self.valid, HIDDEN)

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor | None:
        """The whole bias, (1 or B, H, T, T), differentiable; None if there is nothing to add. Computed in float32 and
        kept in the type that was asked for last, that of the queries: to convert it in every layer costs as much as
        attention itself."""
        if self._dense is None or self._dense.dtype != dtype:
            dense = None
            if self.index is not None and self.factor is not None:
                dense = -self.factor[None, :, None, None] * self.distance()[:, None]
            padding = self.padding()
            if padding is not None:
                padding = padding[:, None, None]
                dense = padding if dense is None else dense + padding
            self._dense = None if dense is None else dense.to(dtype)
        return self._dense
