"""Attention with ALiBi (spec 3): the bias, and two ways to compute the same attention.

Shapes: B rows, T frames (queries and keys), H heads, d width of a head, R queries of one block.

`scaled_dot_product_attention` is the reference and what runs on accelerators and without a gradient. On a CPU it
falls back to whole (B, H, T, T) matrices as soon as there is dropout or the ALiBi scales are learned, and a step
at 800 frames takes several times as long; `BlockwiseAttention` computes the same in blocks that stay in the cache.
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
SMALL = 1 << 14  # scores per row and head below which blocks are not worth their overhead


@dataclass
class AttentionBias:
    """Additive bias factor_H * -|i - j|, and keys beyond an item's end left out; built once, shared by layers.

    `distance` is (1, T, T), or (B, T, T) where every row has kept other frames; `valid_BT` marks real frames.
    """

    distance: Tensor | None
    factor_H: Tensor | None
    valid_BT: Tensor | None = None
    _dense: Tensor | None = field(default=None, init=False, repr=False)

    def padding(self) -> Tensor | None:
        """(B, T) float32: 0 for real keys, else so low that a row without any real key still has no NaN."""
        if self.valid_BT is None:
            return None
        zeros = torch.zeros(self.valid_BT.shape, device=self.valid_BT.device)
        return zeros.masked_fill(~self.valid_BT, torch.finfo(torch.bfloat16).min / 2)

    def dense(self) -> Tensor | None:
        """The whole bias in float32, (1 or B, H, T, T), differentiable; None where there is nothing to add."""
        if self._dense is None:
            if self.distance is not None and self.factor_H is not None:
                self._dense = -self.factor_H[None, :, None, None] * self.distance[:, None]
            padding = self.padding()
            if padding is not None:
                padding = padding[:, None, None]
                self._dense = padding if self._dense is None else self._dense + padding
        return self._dense

    @property
    def learned(self) -> bool:
        return self.factor_H is not None and self.factor_H.requires_grad


def attend(q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias, dropout: float = 0.0) -> Tensor:
    """softmax(q k / sqrt(d) + bias) v with dropout on the weights; q, k, v and result are (B, H, T, d)."""
    blockwise = (
        q.device.type == "cpu"
        and torch.is_grad_enabled()
        and (dropout > 0 or bias.learned)
        and q.shape[2] * k.shape[2] >= SMALL
        and (bias.distance is None or len(bias.distance) == 1)
    )
    if blockwise:
        return blockwise_attention(q, k, v, bias, dropout)
    dense = bias.dense()
    mask = None if dense is None else dense.to(q.dtype)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


@torch.compiler.disable
def blockwise_attention(q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias, dropout: float = 0.0) -> Tensor:
    """`attend` in blocks of queries, with the gradient of `bias.factor_H`; needs one distance for all rows."""
    with torch.autocast(q.device.type, enabled=False):
        result = BlockwiseAttention.apply(
            q.float() / math.sqrt(q.shape[-1]),
            k.float(),
            v.float(),
            bias.factor_H,
            None if bias.distance is None else bias.distance[0],
            bias.padding(),
            dropout,
        )
    return result.to(q.dtype)


class BlockwiseAttention(torch.autograd.Function):
    """One block of queries of one row at a time, forward and backward; scores are never kept, only their
    logarithmic sums (H, T) and which weights dropout left."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        factor_H: Tensor | None,
        distance: Tensor | None,
        padding: Tensor | None,
        dropout: float,
    ) -> Tensor:
        v = v.contiguous()
        blocks = _Blocks(q.contiguous(), k.contiguous(), factor_H, distance, padding)
        out, log_sums = torch.empty_like(v), torch.empty(q.shape[:3])
        masks: list[Tensor] = []
        for b, rows in blocks.positions():
            scores = blocks.scores(b, rows)
            peak = scores.amax(-1, keepdim=True)
            weights = scores.sub_(peak).exp_()
            total = weights.sum(-1, keepdim=True)
            log_sums[b, :, rows] = (total.log() + peak)[..., 0]
            if dropout > 0:
                masks.append(keep_mask(weights.shape, dropout))
                weights.mul_(masks[-1].float())
            out[b, :, rows] = torch.bmm(weights, v[b]).div_(total * keep_rate(dropout))
        ctx.save_for_backward(v, out, log_sums, *masks)
        ctx.blocks, ctx.dropout = blocks, dropout
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        v, out, log_sums, *masks = ctx.saved_tensors
        blocks: _Blocks = ctx.blocks
        d_out = gradients[0].contiguous()
        inner = (d_out * out).sum(-1, keepdim=True)
        dq, dk, dv = torch.empty_like(blocks.q), torch.zeros_like(blocks.k), torch.zeros_like(v)
        d_factor = torch.zeros(blocks.q.shape[1])
        for i, (b, rows) in enumerate(blocks.positions()):
            weights = blocks.scores(b, rows).sub_(log_sums[b, :, rows, None]).exp_()
            d_weights = torch.bmm(d_out[b, :, rows], v[b].transpose(1, 2))
            if masks:
                kept = masks[i].float().div_(keep_rate(ctx.dropout))
                dv[b].baddbmm_((weights * kept).transpose(1, 2), d_out[b, :, rows])
                d_weights.mul_(kept)
            else:
                dv[b].baddbmm_(weights.transpose(1, 2), d_out[b, :, rows])
            d_scores = weights.mul_(d_weights.sub_(inner[b, :, rows]))
            dq[b, :, rows] = torch.bmm(d_scores, blocks.k[b])
            dk[b].baddbmm_(d_scores.transpose(1, 2), blocks.q[b, :, rows])
            if blocks.distance is not None:
                d_factor -= torch.mv(d_scores.flatten(1), blocks.distance[rows].flatten())
        return dq, dk, dv, d_factor if blocks.distance is not None else None, None, None, None


class _Blocks:
    """The scores of blocks of queries: q k + bias (q already scaled)."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        factor_H: Tensor | None,
        distance: Tensor | None,
        padding: Tensor | None,
    ) -> None:
        self.q, self.k, self.distance, self.padding = q, k, distance, padding
        self.bias_HTT = None
        if factor_H is not None and distance is not None:
            self.bias_HTT = -factor_H.detach()[:, None, None] * distance
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
        scores = torch.bmm(q, k) if self.bias_HTT is None else torch.baddbmm(self.bias_HTT[:, rows], q, k)
        return scores if self.padding is None else scores.add_(self.padding[b])
