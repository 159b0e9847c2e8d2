"""Attention in blocks that stay in the cache, on the keys that ALiBi leaves a weight, forward and backward.

Shapes: B rows, T frames (queries and keys), H heads, d width of a head, R queries and K keys of one piece.

Scores are s_ij = q_i k_j / sqrt(d) - f |i - j| with the factor f of a head. A query's largest score is at least its own
s_ii, where the distance is 0; every score is at most |q_i| max_j |k_j| / sqrt(d) - f |i - j|. So a key farther than
(|q_i| max_j |k_j| / sqrt(d) - s_ii + 30) / f has a weight below e^-30 of the largest, which is far below float32's
resolution of their sum: it is left out, exactly as if its weight had been rounded to 0. What is subtracted from all
keys changes no softmax, so the keys' mean is taken off first and the bound gets smaller.

Three things make a piece cheap. Where the bound is small (`TAME`) no score can overflow and none need be compared with
the largest; powers of 2 are three times as fast as torch's exp; and keys are held in reversed order, so that the
distance of query i and key r is a function of i + r: a view of one short vector where frames are consecutive.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from a2v_model.layers import keep_mask, keep_rate

LOG2_E = 1 / math.log(2)
NEGLIGIBLE = 30 * LOG2_E  # a weight of 2 to the minus this, of the largest, is 0 (scores here are in powers of 2)
TAME = 20 * LOG2_E  # a bound on scores up to which their powers need no common factor taken off
FLOOR = -64 * LOG2_E  # tame scores are cut here: smaller weights' products are denormal numbers, 50 times as slow
HEIGHT = 256  # queries of a piece
PIECE_SCORES = 1 << 18  # scores of a piece of several heads: 1 MB
PIECE_COST = 1 << 13  # what a piece costs by itself, in scores
MOST_KEPT = 1 << 27  # values of a bias, or of distances, that are built as a whole: 512 MB
HIDDEN = torch.finfo(torch.bfloat16).min / 2  # the score of a key that is padding: finite, so no row has NaN


class Distances:
    """|i - j| of frames i, `index` (1 or B, T) in time order, to the same frames in reversed order."""

    def __init__(self, index: Tensor) -> None:
        frames = index.shape[1]
        self.index, self._reversed = index, index.flip(1)
        self._line: Tensor | None = None  # where frames are consecutive: of i + r
        self._whole: Tensor | None = None
        if len(index) == 1 and bool((index.diff() == 1).all()):  # kept frames may be filled up with the last one
            self._line = (torch.arange(2 * frames - 1, device=index.device) - (frames - 1)).abs().to(index.dtype)
        elif len(index) * frames**2 <= MOST_KEPT:
            self._whole = self._of(slice(None), slice(None), slice(None))

    def _of(self, row: int | slice, queries: slice, keys: slice) -> Tensor:
        return (self.index[row, ..., queries, None] - self._reversed[row, ..., None, keys]).abs()

    def of(self, row: int, queries: slice, keys: slice) -> Tensor:
        """(R, K), not to be written to."""
        if self._line is not None:
            size = (queries.stop - queries.start, keys.stop - keys.start)
            return self._line.as_strided(size, (1, 1), queries.start + keys.start)
        row = row if len(self.index) > 1 else 0
        return self._of(row, queries, keys) if self._whole is None else self._whole[row, queries, keys]


class Piece(NamedTuple):
    """Some heads and queries of one row, and the keys (in reversed order) that they are compared with."""

    row: int
    heads: slice
    queries: slice
    keys: slice
    tame: bool
    cut: bool  # whether tame scores can be below `FLOOR`

    @property
    def shape(self) -> tuple[int, int, int]:
        """(heads, queries, keys)"""
        heads, queries, keys = (part.stop - part.start for part in (self.heads, self.queries, self.keys))
        return heads, queries, keys

    @property
    def size(self) -> int:
        """How many scores."""
        return math.prod(self.shape)

    def of_queries(self, x_BHTd: Tensor) -> Tensor:
        """Its part (heads, R, d) of something contiguous; one view, for slices of three dimensions cost three."""
        return self._part(x_BHTd, self.queries)

    def of_keys(self, x_BHTd: Tensor) -> Tensor:
        """Its part (heads, K, d) of something contiguous."""
        return self._part(x_BHTd, self.keys)

    def _part(self, x_BHTd: Tensor, frames: slice) -> Tensor:
        _, heads, count, width = x_BHTd.shape
        size = (self.heads.stop - self.heads.start, frames.stop - frames.start, width)
        start = ((self.row * heads + self.heads.start) * count + frames.start) * width
        return x_BHTd.as_strided(size, (count * width, width, 1), start)


@dataclass
class Scores:
    """Scores of queries and keys that are ready for it, q (B, H, T, d) scaled and k centred and reversed, piece by
    piece; `slopes` (H,) and `distances` or neither, `padding` (B, T) or none of reversed keys."""

    q: Tensor
    k: Tensor
    slopes: Tensor | None
    distances: Distances | None
    padding: Tensor | None
    pieces: list[Piece] = field(default_factory=list)

    def scratch(self) -> Tensor:
        """Room for the scores of any piece: to use it again keeps it in the cache."""
        return self.q.new_empty(max(piece.size for piece in self.pieces))

    def weights(self, piece: Piece, scratch: Tensor, peaks: Tensor, known: bool) -> Tensor:
        """The weights (heads, R, K) of a piece in `scratch`, not yet divided by their sum. Where they had to be
        compared with the largest it is written to `peaks`, or read where it is `known`."""
        size = piece.shape
        out = scratch[: math.prod(size)].view(size)
        q, k = piece.of_queries(self.q), piece.of_keys(self.k).transpose(1, 2)
        if self.distances is None or self.slopes is None:
            torch.bmm(q, k, out=out)
        else:
            torch.mul(
                self.distances.of(piece.row, piece.queries, piece.keys), self.slopes[piece.heads, None, None], out=out
            )
            out.baddbmm_(q, k)
        if piece.tame:
            return (out.clamp_(min=FLOOR) if piece.cut else out).exp2_()
        if self.padding is not None:
            out.add_(self.padding[piece.row, piece.keys])
        peak = piece.of_queries(peaks)
        if not known:
            torch.amax(out, -1, keepdim=True, out=peak)
        return out.sub_(peak).clamp_(min=-NEGLIGIBLE).exp2_().sub_(2**-NEGLIGIBLE).clamp_(min=0)


def prepared(q: Tensor, k: Tensor, factor: Tensor | None, distances: Distances | None, valid: Tensor | None) -> Scores:
    """What to compare with what. q, k (B, H, T, d) in float32 or more, factor (H,) and distances or neither, valid
    (B, T): frames that are no padding, or None."""
    rows, heads, frames, width = q.shape
    # rows of a head beside each other: products are a quarter faster. Few large tensors: new ones cost page faults
    q = torch.mul(q, LOG2_E / math.sqrt(width), out=torch.empty(q.shape, dtype=q.dtype, device=q.device))
    k = torch.sub(k, k.mean(2, keepdim=True), out=torch.empty_like(q))
    bound = torch.linalg.vector_norm(q, dim=-1) * torch.linalg.vector_norm(k, dim=-1).amax(-1, keepdim=True)
    height = -(-frames // -(-frames // HEIGHT))
    padded = torch.zeros(rows, dtype=torch.bool) if valid is None else ~valid.all(1).cpu()
    highest = bound.amax(-1)
    tame = (highest <= TAME).cpu() & ~padded[:, None]
    ends = [(a, min(a + height, frames)) for a in range(0, frames, height)]
    scores = Scores(q, k.flip(2), None, None, None)
    if padded.any():
        assert valid is not None
        scores.padding = torch.zeros_like(valid, dtype=q.dtype).masked_fill_(~valid.flip(1), HIDDEN)
    if distances is None or factor is None:
        whole = torch.tensor([0, frames]).expand(rows, heads, len(ends), 2)
        scores.pieces = list(_pieces(whole, tame, torch.zeros(whole.shape[:3], dtype=torch.bool), ends, frames))
        return scores
    index, factor = distances.index, factor.detach().to(q.dtype)
    scores.slopes, scores.distances = -LOG2_E * factor, distances
    need = bound - (q * k).sum(-1) + NEGLIGIBLE
    if valid is not None:
        need = need.masked_fill(~valid[:, None], math.inf)  # its own key is none of those it is compared with
    need = functional.max_pool1d(need, height, ceil_mode=True)
    reach = 1.001 * need / (LOG2_E * factor[:, None])  # a rounding more than needed; without a slope it is infinite
    reach = reach.nan_to_num(nan=math.inf)  # of a training that diverged: the result is NaN, too
    first, last = index[:, [a for a, _ in ends]], index[:, [b - 1 for _, b in ends]]
    sorted_index = index.expand(rows, -1).contiguous()
    low = torch.searchsorted(sorted_index, (first[:, None] - reach).flatten(1))
    high = torch.searchsorted(sorted_index, (last[:, None] + reach).flatten(1), right=True)
    span = torch.minimum(reach, (index[:, -1] - index[:, 0])[:, None, None]) + (last - first)[:, None]
    cut = highest[:, :, None] - scores.slopes[:, None] * span > -FLOOR
    ranges = torch.stack([low, high], -1).unflatten(1, (heads, -1)).cpu()
    scores.pieces = list(_pieces(ranges, tame, cut.cpu(), ends, frames))
    return scores


def _pieces(ranges: Tensor, tame: Tensor, cut: Tensor, ends: list[tuple[int, int]], frames: int) -> Iterator[Piece]:
    """ranges (B, H, blocks, 2): first and last + 1 of the keys. Neighbouring heads go together where the keys that some
    of them would not need cost less than another piece."""
    for row, (of_row, tame_row, cut_row) in enumerate(zip(ranges.tolist(), tame.tolist(), cut.tolist(), strict=True)):
        for block, (start, stop) in enumerate(ends):
            head, height = 0, stop - start
            while head < len(of_row):
                low, high = of_row[head][block]
                end = head + 1
                while end < len(of_row) and tame_row[end] == tame_row[head]:
                    own_low, own_high = of_row[end][block]
                    both = (end + 1 - head) * height * (max(high, own_high) - min(low, own_low))
                    apart = height * ((end - head) * (high - low) + own_high - own_low)
                    if both > min(PIECE_SCORES, apart + PIECE_COST):
                        break
                    low, high, end = min(low, own_low), max(high, own_high), end + 1
                keys = slice(frames - high, frames - low)
                alike = all(of_head[block] == [low, high] for of_head in of_row[head:end])
                cutting = not alike or any(of_head[block] for of_head in cut_row[head:end])
                yield Piece(row, slice(head, end), slice(start, stop), keys, tame_row[head], cutting)
                head = end


def local_attention(
    q: Tensor, k: Tensor, v: Tensor, factor: Tensor | None, distances: Distances | None, valid: Tensor | None
) -> Tensor:
    """softmax(scores) v, (B, H, T, d), without a gradient; scores in the type of q and k, the second product in v's: it
    must hold e^20, which float16 does not."""
    scores = prepared(q, k, factor, distances, valid)
    v = v.contiguous().flip(2)
    out, (peaks,) = torch.empty_like(v), _columns(scores.q, 1)
    scratch = scores.scratch()
    for piece in scores.pieces:
        weights = scores.weights(piece, scratch, peaks, known=False)
        total = weights.sum(-1, keepdim=True)
        product = torch.bmm(weights.to(v.dtype), piece.of_keys(v))
        torch.div(product, total, out=piece.of_queries(out))
    return out


def _columns(q: Tensor, count: int) -> list[Tensor]:
    """Numbers of every query: (B, H, T, 1) each, 0 where nothing is written."""
    return [q.new_zeros(*q.shape[:3], 1) for _ in range(count)]


class BlockwiseAttention(torch.autograd.Function):
    """Piece by piece, forward and backward. Scores are never kept, only each query's largest (where it was needed) and
    its sum of weights, (B, H, T, 1) both, and which weights dropout left."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        factor: Tensor | None,
        distances: Distances | None,
        valid: Tensor | None,
        dropout: float,
    ) -> Tensor:
        scores, v = prepared(q, k, factor, distances, valid), v.contiguous().flip(2)
        out, (peaks, totals) = torch.empty_like(v), _columns(q, 2)
        masks: list[Tensor] = []
        scratch = scores.scratch()
        for piece in scores.pieces:
            weights = scores.weights(piece, scratch, peaks, known=False)
            total = torch.sum(weights, -1, keepdim=True, out=piece.of_queries(totals))
            if dropout > 0:
                masks.append(keep_mask(piece.shape, dropout))
                weights.mul_(masks[-1].to(weights.dtype))
            torch.div(torch.bmm(weights, piece.of_keys(v)), total * keep_rate(dropout), out=piece.of_queries(out))
        ctx.save_for_backward(scores.q, scores.k, v, out, peaks, totals, scores.slopes, scores.padding, *masks)
        ctx.distances, ctx.pieces, ctx.dropout = scores.distances, scores.pieces, dropout
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradients[0].device.type, enabled=False):
            return BlockwiseAttention._gradients(ctx, gradients[0])

    @staticmethod
    def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, peaks, totals, slopes, padding, *masks = ctx.saved_tensors
        scores = Scores(q, k, slopes, ctx.distances, padding, ctx.pieces)
        d_out = torch.div(gradient, totals, out=torch.empty_like(q))  # in the order of the others
        inner = (d_out * out).sum(-1, keepdim=True).neg_()
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        d_factor = q.new_zeros(q.shape[1]) if slopes is not None and ctx.needs_input_grad[3] else None
        scratch, second = scores.scratch(), scores.scratch()
        for i, piece in enumerate(scores.pieces):
            weights = scores.weights(piece, scratch, peaks, known=True)
            d_weights = second[: weights.numel()].view(piece.shape)
            of_out, values = piece.of_queries(d_out), piece.of_keys(v).transpose(1, 2)
            if masks:
                kept = masks[i].to(weights.dtype).div_(keep_rate(ctx.dropout))
                torch.bmm(of_out, values, out=d_weights)
                torch.addcmul(piece.of_queries(inner), d_weights, kept, out=d_weights)
                kept.mul_(weights)
                piece.of_keys(dv).baddbmm_(kept.transpose(1, 2), of_out)
            else:
                torch.baddbmm(piece.of_queries(inner), of_out, values, out=d_weights)
                piece.of_keys(dv).baddbmm_(weights.transpose(1, 2), of_out)
            d_scores = weights.mul_(d_weights)
            torch.bmm(d_scores, piece.of_keys(k), out=piece.of_queries(dq))
            piece.of_keys(dk).baddbmm_(d_scores.transpose(1, 2), piece.of_queries(q))
            if d_factor is not None and ctx.distances is not None:
                distance = ctx.distances.of(piece.row, piece.queries, piece.keys)
                d_factor[piece.heads] -= d_scores.flatten(1) @ distance.flatten()
        dq.mul_(1 / math.sqrt(q.shape[-1]))  # q was scaled, and scores are in powers of 2
        return dq, dk.flip(2).mul_(math.log(2)), dv.flip(2), d_factor, None, None, None
