"""Attention with ALiBi (spec 3): the bias, and two ways to compute the same attention.

Shapes: B rows, T frames (queries and keys), H heads, d width of a head, R queries of one block.

`scaled_dot_product_attention` is the reference, and what runs on accelerators (but to learn on a GPU, where
`in_a_kernel` says so) and without a gradient. To learn
with it on a CPU is slow for two reasons: dropout or learned scales make it build whole (B, H, T, T) matrices;
and ALiBi's far frames, whose weights underflow, cost 50 times as much as others in exp, and much in the products
(denormal numbers). `BlockwiseAttention` computes the same in blocks that stay in the cache and rounds weights
below e^-30 of a query's largest to 0, which is far below float32's resolution of their sum.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from a2v_model.layers import keep_mask, keep_rate

BLOCK_SCORES = 1 << 18  # scores of one block: 1 MB, half of a usual second-level cache
MOST_KEPT = 1 << 27  # values of a bias that is built as a whole: 512 MB, 10 s of the largest model take half of it
LEAST_LOG_WEIGHT = -30.0
LEAST_WEIGHT = math.exp(LEAST_LOG_WEIGHT)


@dataclass
class AttentionBias:
    """Additive bias -factor * |i - j|, and keys beyond an item's end left out; built once, shared by layers.

    `index` holds the frame numbers, (1, T), or (B, T) where every row has kept other frames; `factor` (H,) is
    slope times scale; `valid` (B, T) marks real frames. Each is None where there is nothing to add.
    """

    index: Tensor | None
    factor: Tensor | None
    valid: Tensor | None = None
    _dense: Tensor | None = field(default=None, init=False, repr=False)
    _values: Tensor | None = field(default=None, init=False, repr=False)

    @property
    def size(self) -> int:
        """Values of the whole bias."""
        if self.index is None or self.factor is None:
            return 0
        return len(self.factor) * self.index.shape[0] * self.index.shape[1] ** 2

    def distance(self, row: int | slice = slice(None), queries: slice = slice(None)) -> Tensor:
        """|i - j| of some rows' queries to all frames: (..., R, T)."""
        assert self.index is not None
        if isinstance(row, int) and len(self.index) == 1:
            row = 0
        index = self.index[row]
        return (index[..., queries, None] - index[..., None, :]).abs()

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

    def of_queries(self, row: int, queries: slice) -> Tensor | None:
        """-factor * distance of some queries of one row, (H, R, T), without a gradient and without padding.

        Kept for the next layer while the whole is small enough.
        """
        if self.index is None or self.factor is None:
            return None
        slope = -self.factor.detach()[:, None, None]
        if self.size > MOST_KEPT:
            return slope * self.distance(row, queries)
        if self._values is None:
            self._values = slope * self.distance()[:, None]
        return self._values[row if len(self._values) > 1 else 0, :, queries]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias, dropout: float = 0.0) -> Tensor:
    """softmax(q k / sqrt(d) + bias) v with dropout on the weights; q, k, v and result are (B, H, T, d)."""
    if in_blocks(q, bias, dropout):
        return blockwise_attention(q, k, v, bias, dropout)
    if in_a_kernel(q.device, q.dtype, q.shape[-1], bias, dropout):
        from a2v_model.attention_triton import attend_triton

        return attend_triton(q, k, v, bias, dropout)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.dense(q.dtype), dropout_p=dropout)


def in_blocks(q: Tensor, bias: AttentionBias, dropout: float = 0.0) -> bool:
    """Whether `attend` works in blocks; else it needs the whole bias."""
    if torch.compiler.is_compiling():
        return False
    learning = torch.is_grad_enabled() or dropout > 0  # without either, torch's flash kernel is faster
    return (q.device.type == "cpu" and learning) or (not learning and bias.size > MOST_KEPT)


def in_a_kernel(
    device: torch.device, dtype: torch.dtype, width: int, bias: AttentionBias, dropout: float = 0.0
) -> bool:
    """Whether `attend` learns with the project's own GPU kernel, which needs no whole bias (attention_triton.py)."""
    if device.type != "cuda" or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    if bias.factor is None or not (bias.factor.requires_grad or dropout > 0):
        return False  # torch's kernel takes a bias that needs no gradient
    try:
        from a2v_model.attention_triton import serves
    except ImportError:  # torch without Triton
        return False
    return serves(device, dtype, width, bias)


def blockwise_attention(q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias, dropout: float = 0.0) -> Tensor:
    """`attend` in blocks of queries, with the gradient of `bias.factor`."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast(q.device.type, enabled=False):
        scaled = q.to(dtype) / math.sqrt(q.shape[-1])
        result = BlockwiseAttention.apply(scaled, k.to(dtype), v.to(dtype), bias.factor, bias, dropout)
    return result.to(q.dtype)


class BlockwiseAttention(torch.autograd.Function):
    """One block of queries of one row at a time, forward and backward.

    Scores are never kept, only each query's largest and its sum of weights, (B, H, T, 1) both, and which
    weights dropout left.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, factor: Tensor | None, bias: AttentionBias, dropout: float
    ) -> Tensor:
        blocks = _Blocks(q.contiguous(), k.contiguous(), v.contiguous(), bias)
        out = torch.empty_like(blocks.v)
        peaks, totals = (q.new_empty(*q.shape[:3], 1) for _ in range(2))
        masks: list[Tensor] = []
        for b, rows in blocks.positions():
            scores = blocks.scores(b, rows)
            peak = scores.amax(-1, keepdim=True)
            weights = _weights(scores, peak)
            total = weights.sum(-1, keepdim=True)
            peaks[b, :, rows], totals[b, :, rows] = peak, total
            if dropout > 0:
                masks.append(keep_mask(weights.shape, dropout))
                weights.mul_(masks[-1].to(weights.dtype))
            out[b, :, rows] = torch.bmm(weights, blocks.v[b]).div_(total * keep_rate(dropout))
        ctx.save_for_backward(blocks.q, blocks.k, blocks.v, out, peaks, totals, *masks)
        ctx.bias, ctx.dropout = bias, dropout
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, peaks, totals, *masks = ctx.saved_tensors
        bias: AttentionBias = ctx.bias
        blocks = _Blocks(q, k, v, bias)
        d_out = gradients[0] / totals
        inner = (d_out * out).sum(-1, keepdim=True)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        d_factor = q.new_zeros(q.shape[1]) if bias.size else None
        for i, (b, rows) in enumerate(blocks.positions()):
            weights = _weights(blocks.scores(b, rows), peaks[b, :, rows])
            d_weights = torch.bmm(d_out[b, :, rows], v[b].transpose(1, 2))
            left = weights
            if masks:
                kept = masks[i].to(weights.dtype).div_(keep_rate(ctx.dropout))
                left = weights * kept
                d_weights.mul_(kept)
            dv[b].baddbmm_(left.transpose(1, 2), d_out[b, :, rows])
            d_scores = weights.mul_(d_weights.sub_(inner[b, :, rows]))
            dq[b, :, rows] = torch.bmm(d_scores, k[b])
            dk[b].baddbmm_(d_scores.transpose(1, 2), q[b, :, rows])
            if d_factor is not None:
                distance = bias.distance(b, rows).flatten().to(q.dtype)
                d_factor.addmv_(d_scores.flatten(1), distance, alpha=-1)
        return dq, dk, dv, d_factor, None, None


def _weights(scores: Tensor, peak: Tensor) -> Tensor:
    """exp(scores - peak) in place, exactly 0 from e^-30 down."""
    return scores.sub_(peak).clamp_(min=LEAST_LOG_WEIGHT).exp_().sub_(LEAST_WEIGHT).clamp_(min=0)


class _Blocks:
    """Scores q k + bias (q already scaled) of blocks of queries."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias) -> None:
        self.q, self.k, self.v, self.bias, self.padding = q, k, v, bias, bias.padding()
        self.height = max(1, BLOCK_SCORES // (q.shape[1] * k.shape[2]))

    def positions(self) -> Iterator[tuple[int, slice]]:
        """(row, queries) of every block."""
        rows, _, queries, _ = self.q.shape
        for b in range(rows):
            for start in range(0, queries, self.height):
                yield b, slice(start, min(start + self.height, queries))

    def scores(self, b: int, rows: slice) -> Tensor:
        """Scores (H, R, T) of row b, a new tensor."""
        q, k = self.q[b, :, rows], self.k[b].transpose(1, 2)
        values = self.bias.of_queries(b, rows)
        scores = torch.bmm(q, k) if values is None else torch.baddbmm(values.to(q.dtype), q, k)
        return scores if self.padding is None else scores.add_(self.padding[b])
