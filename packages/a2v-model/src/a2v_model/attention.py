"""Attention with ALiBi (spec 3): the bias, and two ways to compute the same attention.

Shapes: B rows, T frames (queries and keys), H heads, d width of a head.

`scaled_dot_product_attention` is the reference, and what runs on accelerators and, without a gradient, on CPUs where
ALiBi reaches far. Everything else is done in blocks (`a2v_model.blockwise`): to learn on a CPU, because dropout or
learned scales make the reference build whole (B, H, T, T) matrices; without a gradient where most keys of some heads
are too far away to have a weight; and where the whole bias would be too large.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from a2v_model.blockwise import HEIGHT, BlockwiseAttention, Distances, local_attention

MOST_KEPT = 1 << 27  # values of a bias that is built as a whole: 512 MB, 10 s of the largest model take half of it
USUAL_REACH = 40.0  # over a head's factor: frames that it sees on either side, with e^-30 and scores of 5
WORTH_BLOCKS = 0.9  # share of all scores up to which blocks are faster than torch's flash kernel without a gradient


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
        return zeros.masked_fill(~self.valid, torch.finfo(torch.bfloat16).min / 2)

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


def attend(q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias, dropout: float = 0.0) -> Tensor:
    """softmax(q k / sqrt(d) + bias) v with dropout on the weights; q, k, v and result are (B, H, T, d)."""
    if in_blocks(q, bias, dropout):
        return blockwise_attention(q, k, v, bias, dropout)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.dense(q.dtype), dropout_p=dropout)


def in_blocks(q: Tensor, bias: AttentionBias, dropout: float = 0.0) -> bool:
    """Whether `attend` works in blocks; else it needs the whole bias."""
    if torch.compiler.is_compiling():
        return False
    if torch.is_grad_enabled() or dropout > 0:
        return q.device.type == "cpu"
    return bias.size > MOST_KEPT or (q.device.type == "cpu" and bias.share <= WORTH_BLOCKS)


def blockwise_attention(q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias, dropout: float = 0.0) -> Tensor:
    """`attend` in blocks of queries, with the gradient of `bias.factor`."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    distances = bias.distances(dtype)
    with torch.autocast(q.device.type, enabled=False):
        if not torch.is_grad_enabled() and dropout == 0:
            return local_attention(q.to(dtype), k.to(dtype), v, bias.factor, distances, bias.valid)
        result = BlockwiseAttention.apply(
            q.to(dtype), k.to(dtype), v.to(dtype), bias.factor, distances, bias.valid, dropout
        )
    return result.to(q.dtype)
