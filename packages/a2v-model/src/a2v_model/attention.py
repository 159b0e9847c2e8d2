"""Attention with ALiBi (spec 3): ways to compute the same.

Shapes: B rows, T frames (queries and keys), H heads, d width of a head.

`scaled_dot_product_attention` is the reference, and what runs on accelerators (but to learn on a GPU, where
`in_a_kernel` says so) and, without a gradient, on CPUs where ALiBi reaches far. Everything else is done in blocks
(`a2v_model.blockwise`): to learn on a CPU, because dropout or learned scales make the reference build whole
(B, H, T, T) matrices; without a gradient where most keys of some heads are too far away to have a weight; and where the
whole bias would be too large.
"""

import torch
from torch import Tensor
from torch.nn import functional

from a2v_model.attention_bias import AttentionBias
from a2v_model.blockwise import MOST_KEPT, BlockwiseAttention, local_attention

WORTH_BLOCKS = 0.9  # share of all scores up to which blocks are faster than torch's flash kernel without a gradient


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
    if torch.is_grad_enabled() or dropout > 0:
        return q.device.type == "cpu"
    return bias.size > MOST_KEPT or (q.device.type == "cpu" and bias.share <= WORTH_BLOCKS)


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
    distances = bias.distances(dtype)
    with torch.autocast(q.device.type, enabled=False):
        if not torch.is_grad_enabled() and dropout == 0:
            values = v.to(dtype) if v.dtype == torch.float16 else v
            return local_attention(q.to(dtype), k.to(dtype), values, bias.factor, distances, bias.valid).to(v.dtype)
        result = BlockwiseAttention.apply(
            q.to(dtype), k.to(dtype), v.to(dtype), bias.factor, distances, bias.valid, dropout
        )
    return result.to(q.dtype)
