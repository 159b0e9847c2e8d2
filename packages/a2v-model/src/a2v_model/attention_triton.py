"""Attention that learns, as one Triton kernel each for out, dq and dk, dv: ALiBi by index, keys left out, dropout.

torch's `scaled_dot_product_attention` with a bias that needs a gradient makes whole (B, H, T, T) matrices, 768 MB a
layer in finetuning; here scores live in registers, as in FlashAttention (Dao 2023, arXiv 2307.08691), whose recurrences
these are. Which weights dropout leaves is a function of (seed, row and head, query, key) by Philox, so that the
backward pass knows them without keeping them.

Never used unseen: the first call on a device compares outputs and gradients with a float64 reference (`agrees`), and
where they differ, or Triton does not work there, `attend` goes on with torch's way. A row without any key has
meaningless gradients.

Shapes: B rows, H heads, T frames (queries i, keys j), d width of a head.
"""

import math
import os
import warnings
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from a2v_model.attention_bias import SWITCH, AttentionBias

BLOCK = 64
WIDTHS = (16, 32, 64, 128)
SEED = 5  # of dropout where the kernel is compared
LEFT_OUT: tl.constexpr = tl.constexpr(-1.0e38)


@triton.jit
def _kept(seed, rows_and_heads, i, j, frames, dropout):  # type: ignore[no-untyped-def]
    """Which weights dropout leaves, (i, j)."""
    place = i[:, None] * frames + j[None, :]
    return tl.rand(seed + rows_and_heads * 7919, place) >= dropout


@triton.jit
def _scores(q, k, index_i, index_j, factor, valid_j, inside_j, scale):  # type: ignore[no-untyped-def]
    """q k^T / sqrt(d) - factor |i - j|, keys that are left out far below."""
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    s -= factor * tl.abs(index_i[:, None] - index_j[None, :])
    s += tl.where(valid_j, 0.0, LEFT_OUT)[None, :]
    return tl.where(inside_j[None, :], s, -float("inf"))


@triton.jit
def _keys(  # type: ignore[no-untyped-def]
    k_ptr, v_ptr, index_ptr, valid_ptr, base, b, j, d, frames, index_step, valid_step, WIDTH: tl.constexpr
):  # fmt: skip
    """Of keys j: whether they are frames, k, v (j, d), their index, and whether they are valid."""
    inside_j = j < frames
    here = base + j[:, None] * WIDTH + d[None, :]
    k = tl.load(k_ptr + here, mask=inside_j[:, None], other=0.0)
    v = tl.load(v_ptr + here, mask=inside_j[:, None], other=0.0)
    index_j = tl.load(index_ptr + b * index_step + j, mask=inside_j, other=0.0)
    valid_j = tl.load(valid_ptr + b * valid_step + j, mask=inside_j, other=0) != 0
    return inside_j, k, v, index_j, valid_j


@triton.jit
def _queries(  # type: ignore[no-untyped-def]
    q_ptr, d_out_ptr, lse_ptr, inner_ptr, index_ptr, base, b, bh, i, d, frames, index_step, WIDTH: tl.constexpr
):  # fmt: skip
    """Of queries i, as the backward pass needs them: whether they are frames, q, d_out (i, d), lse, inner, index."""
    inside_i = i < frames
    here = base + i[:, None] * WIDTH + d[None, :]
    q = tl.load(q_ptr + here, mask=inside_i[:, None], other=0.0)
    d_out = tl.load(d_out_ptr + here, mask=inside_i[:, None], other=0.0)
    lse = tl.load(lse_ptr + bh * frames + i, mask=inside_i, other=0.0)
    inner = tl.load(inner_ptr + bh * frames + i, mask=inside_i, other=0.0)
    index_i = tl.load(index_ptr + b * index_step + i, mask=inside_i, other=0.0)
    return inside_i, q, d_out, lse, inner, index_i


@triton.jit(do_not_specialize=["seed"])
def _forward(  # type: ignore[no-untyped-def]
    q_ptr, k_ptr, v_ptr, index_ptr, factor_ptr, valid_ptr, out_ptr, lse_ptr, seed, dropout, scale,
    frames, index_step, valid_step,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    block, bh = tl.program_id(0), tl.program_id(1)
    b, head = bh // HEADS, bh % HEADS
    i, d = block * BLOCK + tl.arange(0, BLOCK), tl.arange(0, WIDTH)
    inside_i = i < frames
    base = bh.to(tl.int64) * frames * WIDTH
    q = tl.load(q_ptr + base + i[:, None] * WIDTH + d[None, :], mask=inside_i[:, None], other=0.0)
    index_i = tl.load(index_ptr + b * index_step + i, mask=inside_i, other=0.0)
    factor = tl.load(factor_ptr + head)
    peak = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    acc = tl.zeros([BLOCK, WIDTH], tl.float32)
    for number in range(0, BLOCKS):
        j = number * BLOCK + tl.arange(0, BLOCK)
        inside_j, k, v, index_j, valid_j = _keys(
            k_ptr, v_ptr, index_ptr, valid_ptr, base, b, j, d, frames, index_step, valid_step, WIDTH
        )  # fmt: skip
        s = _scores(q, k, index_i, index_j, factor, valid_j, inside_j, scale)
        higher = tl.maximum(peak, tl.max(s, 1))
        p = tl.exp(s - higher[:, None])
        shrink = tl.exp(peak - higher)
        total = total * shrink + tl.sum(p, 1)
        if DROPS:
            p = tl.where(_kept(seed, bh, i, j, frames, dropout), p, 0.0)
        acc = acc * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
        peak = higher
    out = acc / (total * (1 - dropout))[:, None]
    tl.store(out_ptr + base + i[:, None] * WIDTH + d[None, :], out.to(out_ptr.dtype.element_ty), mask=inside_i[:, None])
    tl.store(lse_ptr + bh * frames + i, peak + tl.log(total), mask=inside_i)


@triton.jit
def _d_scores(  # type: ignore[no-untyped-def]
    q, k, v, d_out, lse, inner, index_i, index_j, factor, valid_j, inside_i, inside_j, scale, seed, bh, i, j, frames,
    dropout, DROPS: tl.constexpr,
):  # fmt: skip
    """Weights, weights after dropout, and the gradient of the scores, (i, j) in float32."""
    s = _scores(q, k, index_i, index_j, factor, valid_j, inside_j, scale)
    p = tl.where(inside_i[:, None], tl.exp(s - lse[:, None]), 0.0)
    d_p = tl.dot(d_out, tl.trans(v), input_precision="ieee")
    left = p
    if DROPS:
        kept = _kept(seed, bh, i, j, frames, dropout)
        left = tl.where(kept, p, 0.0) / (1 - dropout)
        d_p = tl.where(kept, d_p, 0.0) / (1 - dropout)
    return p, left, p * (d_p - inner[:, None])


@triton.jit(do_not_specialize=["seed"])
def _backward_q(  # type: ignore[no-untyped-def]
    q_ptr, k_ptr, v_ptr, index_ptr, factor_ptr, valid_ptr, d_out_ptr, lse_ptr, inner_ptr, dq_ptr, d_factor_ptr,
    seed, dropout, scale, frames, index_step, valid_step,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    """dq of a block of queries, and its part of the factor's gradient."""
    block, bh = tl.program_id(0), tl.program_id(1)
    b, head = bh // HEADS, bh % HEADS
    i, d = block * BLOCK + tl.arange(0, BLOCK), tl.arange(0, WIDTH)
    base = bh.to(tl.int64) * frames * WIDTH
    place = base + i[:, None] * WIDTH + d[None, :]
    inside_i, q, d_out, lse, inner, index_i = _queries(
        q_ptr, d_out_ptr, lse_ptr, inner_ptr, index_ptr, base, b, bh, i, d, frames, index_step, WIDTH
    )  # fmt: skip
    factor = tl.load(factor_ptr + head)
    dq = tl.zeros([BLOCK, WIDTH], tl.float32)
    weighed = tl.zeros([BLOCK], tl.float32)
    error = tl.zeros([BLOCK], tl.float32)
    mean = tl.zeros([BLOCK], tl.float32)
    for number in range(0, BLOCKS):
        j = number * BLOCK + tl.arange(0, BLOCK)
        inside_j, k, v, index_j, valid_j = _keys(
            k_ptr, v_ptr, index_ptr, valid_ptr, base, b, j, d, frames, index_step, valid_step, WIDTH
        )  # fmt: skip
        p, _, ds = _d_scores(
            q, k, v, d_out, lse, inner, index_i, index_j, factor, valid_j, inside_i, inside_j, scale, seed, bh, i, j,
            frames, dropout, DROPS,
        )  # fmt: skip
        dq += tl.dot(ds.to(k.dtype), k, input_precision="ieee") * scale
        apart = tl.abs(index_i[:, None] - index_j[None, :])
        weighed += tl.sum(ds * apart, 1)
        error += tl.sum(ds, 1)
        mean += tl.sum(p * apart, 1)
    tl.store(dq_ptr + place, dq.to(dq_ptr.dtype.element_ty), mask=inside_i[:, None])
    # a query's ds sum to 0 but for the rounding of `out`, which would weigh with the mean distance: six times as much
    # as all other rounding
    tl.store(d_factor_ptr + bh * tl.num_programs(0) + block, tl.sum(error * mean - weighed, 0))


@triton.jit(do_not_specialize=["seed"])
def _backward_kv(  # type: ignore[no-untyped-def]
    q_ptr, k_ptr, v_ptr, index_ptr, factor_ptr, valid_ptr, d_out_ptr, lse_ptr, inner_ptr, dk_ptr, dv_ptr,
    seed, dropout, scale, frames, index_step, valid_step,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    """dk and dv of a block of keys."""
    block, bh = tl.program_id(0), tl.program_id(1)
    b, head = bh // HEADS, bh % HEADS
    j, d = block * BLOCK + tl.arange(0, BLOCK), tl.arange(0, WIDTH)
    base = bh.to(tl.int64) * frames * WIDTH
    here = base + j[:, None] * WIDTH + d[None, :]
    inside_j, k, v, index_j, valid_j = _keys(
        k_ptr, v_ptr, index_ptr, valid_ptr, base, b, j, d, frames, index_step, valid_step, WIDTH
    )  # fmt: skip
    factor = tl.load(factor_ptr + head)
    dk = tl.zeros([BLOCK, WIDTH], tl.float32)
    dv = tl.zeros([BLOCK, WIDTH], tl.float32)
    for number in range(0, BLOCKS):
        i = number * BLOCK + tl.arange(0, BLOCK)
        inside_i, q, d_out, lse, inner, index_i = _queries(
            q_ptr, d_out_ptr, lse_ptr, inner_ptr, index_ptr, base, b, bh, i, d, frames, index_step, WIDTH
        )  # fmt: skip
        _, left, ds = _d_scores(
            q, k, v, d_out, lse, inner, index_i, index_j, factor, valid_j, inside_i, inside_j, scale, seed, bh, i, j,
            frames, dropout, DROPS,
        )  # fmt: skip
        dv += tl.dot(tl.trans(left.to(d_out.dtype)), d_out, input_precision="ieee")
        dk += tl.dot(tl.trans(ds.to(q.dtype)), q, input_precision="ieee") * scale
    tl.store(dk_ptr + here, dk.to(dk_ptr.dtype.element_ty), mask=inside_j[:, None])
    tl.store(dv_ptr + here, dv.to(dv_ptr.dtype.element_ty), mask=inside_j[:, None])


@triton.jit(do_not_specialize=["seed"])
def _write_kept(  # type: ignore[no-untyped-def]
    out_ptr, seed, dropout, frames, BLOCK: tl.constexpr
):  # fmt: skip
    i, j = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    bh = tl.program_id(2)
    inside = (i < frames)[:, None] & (j < frames)[None, :]
    kept = _kept(seed, bh, i, j, frames, dropout)
    tl.store(out_ptr + (bh * frames + i[:, None]) * frames + j[None, :], kept.to(tl.int8), mask=inside)


def kept(rows: int, heads: int, frames: int, seed: int, dropout: float, device: torch.device) -> Tensor:
    """Which weights dropout leaves, bool (B, H, T, T): for comparisons; training never makes it."""
    out = torch.empty(rows, heads, frames, frames, dtype=torch.int8, device=device)
    blocks = triton.cdiv(frames, BLOCK)
    _write_kept[(blocks, blocks, rows * heads)](out, seed, dropout, frames, BLOCK=BLOCK)
    return out.bool()


class TritonAttention(torch.autograd.Function):
    """q, k, v (B, H, T, d) of one type, factor (H,) float32, index (1 or B, T) float32, valid (1 or B, T) int8."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        factor: Tensor,
        index: Tensor,
        valid: Tensor,
        dropout: float,
        seed: int,
    ) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        rows, heads, frames, width = q.shape
        out, lse = torch.empty_like(q), q.new_empty((rows, heads, frames), dtype=torch.float32)
        sizes = _sizes(q, index, valid)
        grid = (triton.cdiv(frames, BLOCK), rows * heads)
        # the number of blocks is compiled in: training has few lengths
        kinds = {"HEADS": heads, "WIDTH": width, "BLOCK": BLOCK, "BLOCKS": grid[0], "DROPS": dropout > 0}
        scale = 1 / math.sqrt(width)
        _forward[grid](q, k, v, index, factor, valid, out, lse, seed, dropout, scale, *sizes, **kinds)
        ctx.save_for_backward(q, k, v, factor, index, valid, out, lse)
        ctx.given = (seed, dropout, scale, sizes, kinds, grid)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, factor, index, valid, out, lse = ctx.saved_tensors
        seed, dropout, scale, sizes, kinds, grid = ctx.given
        d_out = gradients[0].to(q.dtype).contiguous()
        inner = (d_out.float() * out.float()).sum(-1)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        d_factor = q.new_empty((len(q), q.shape[1], grid[0]), dtype=torch.float32)
        given = (q, k, v, index, factor, valid, d_out, lse, inner)
        _backward_q[grid](*given, dq, d_factor, seed, dropout, scale, *sizes, **kinds)
        _backward_kv[grid](*given, dk, dv, seed, dropout, scale, *sizes, **kinds)
        return dq, dk, dv, d_factor.sum((0, 2)), None, None, None, None


def _sizes(q: Tensor, index: Tensor, valid: Tensor) -> tuple[int, int, int]:
    """Frames, and from one row to the next in index and valid (0 where all share one)."""
    frames = q.shape[2]
    return frames, frames if len(index) > 1 else 0, frames if len(valid) > 1 else 0


def attend_triton(
    q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias, dropout: float = 0.0, seed: int | None = None
) -> Tensor:
    """`attention.attend`, where `serves` says so. The seed of dropout, where it is not given, is drawn from torch's CPU
    generator."""
    assert bias.index is not None and bias.factor is not None
    if seed is None:
        seed = int(torch.randint(2**30, ())) if dropout > 0 else 0
    frames = q.shape[2]
    if bias.valid is None:
        valid = torch.ones(1, frames, dtype=torch.int8, device=q.device)
    else:
        valid = bias.valid.to(torch.int8).contiguous()
    index = bias.index.float().contiguous()
    factor = bias.factor.float()
    result: Tensor = TritonAttention.apply(q, k.to(q.dtype), v.to(q.dtype), factor, index, valid, dropout, seed)
    return result


def serves(device: torch.device, dtype: torch.dtype, width: int, bias: AttentionBias) -> bool:
    """Whether `attend_triton` can stand in: ALiBi, 16-bit numbers, a width that it knows, and it was seen to agree on
    this device."""
    if device.type != "cuda" or bias.index is None or bias.factor is None or width not in WIDTHS:
        return False
    if os.environ.get(SWITCH) == "torch" or dtype not in (torch.bfloat16, torch.float16):
        return False
    return agrees(device, dtype, width)


@lru_cache(maxsize=16)
def agrees(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether outputs and gradients are those of a float64 reference, with padding and dropout, on this device.

    Draws from no generator of torch's. False, with a warning, where the kernel does not even run; no answer where the
    memory does not suffice: the next call asks again."""
    try:
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            errors = [error for dropout in (0.0, 0.25) for error in _errors(device, dtype, width, dropout)]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler or driver may say: torch's way is there
        warnings.warn(f"attention is torch's own, as the project's kernel does not run here: {error}", stacklevel=2)
        return False
    within = 2e-2 if dtype != torch.float32 else 1e-4
    if all(error < within for error in errors):  # NaN is not
        return True
    warnings.warn(f"attention is torch's own, as the project's kernel is {max(errors):.2g} off here", stacklevel=2)
    return False


def _errors(device: torch.device, dtype: torch.dtype, width: int, dropout: float) -> list[float]:
    """Relative errors of out, dq, dk, dv and the factor's gradient in a small case."""
    rows, heads, frames = 2, 2, 2 * BLOCK + 22
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(rows, heads, frames, width, generator=generator).to(dtype) for _ in range(4)]
    index = torch.stack([torch.randperm(3 * frames, generator=generator)[:frames].sort()[0] for _ in range(rows)])
    valid = torch.arange(frames)[None] < torch.tensor([frames, frames - 40])[:, None]
    factor = torch.tensor([0.3, 0.003])
    found = []
    for kind, place in ((dtype, device), (torch.float64, torch.device("cpu"))):
        q, k, v, direction = (one.to(place, kind) for one in given)
        leaves = [one.detach().clone().requires_grad_() for one in (q, k, v)]
        own = factor.to(place, torch.promote_types(kind, torch.float32), copy=True).requires_grad_()
        bias = AttentionBias(index.to(place).to(own.dtype), own, valid.to(place))
        if kind == torch.float64:
            dense = bias.dense(torch.float64)
            assert dense is not None
            weights = (leaves[0] @ leaves[1].mT / math.sqrt(width) + dense).softmax(-1)
            mask = kept(rows, heads, frames, SEED, dropout, device).cpu() / (1 - dropout)
            out = (weights * mask) @ leaves[2]
        else:
            out = attend_triton(leaves[0], leaves[1], leaves[2], bias, dropout, SEED)
        (out * direction).sum().backward()
        gradients = [one.grad for one in (*leaves, own)]
        found.append([one.detach().double().cpu() for one in (out, *gradients) if one is not None])
    return [float((one - other).norm() / other.norm()) for one, other in zip(*found, strict=True)]
