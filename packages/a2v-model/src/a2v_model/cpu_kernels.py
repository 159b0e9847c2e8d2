"""Convolutions with channels last; the two most expensive ones of a front end on a CPU as matrix products.

Shapes: B segments, N samples or frames, T output frames, F filters, K taps, C channels; channels last.

All compute exactly what `conv1d` (and LayerNorm, PSwish) compute; tests hold them to it. Measured on one core,
8 x 4 s at 8 kHz, 32 filters, forward and backward: Sinc layer 265 -> 130 ms, next convolution 80 -> 50 ms; with
64 filters 800 -> 275 ms and 360 -> 170 ms.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BLOCK_SAMPLES = 8  # outputs of one row of the Sinc product: costs 7 / K more multiplications, saves the unfold
CHUNK_VALUES = 1 << 17  # values worked on at a time: 0.5 MB, so that all steps of a chunk stay in the cache


def filter_matrix(filters_FK: Tensor, block: int = BLOCK_SAMPLES) -> Tensor:
    """(block + K - 1, block * F): the filters shifted by 0 .. block - 1 samples, so that one product of a stretch
    of signal gives `block` consecutive outputs of all filters, channels last."""
    filters, taps = filters_FK.shape
    span = block + taps - 1
    shifted = functional.pad(filters_FK, (0, block)).repeat(1, block)[:, : block * span]
    return shifted.view(filters, block, span).permute(2, 1, 0).reshape(span, block * filters)


def _stretches(padded_N: Tensor, start: int, blocks: int, span: int) -> Tensor:
    """(blocks, span): overlapping stretches of the signal, one per block of outputs."""
    return padded_N.as_strided((blocks, span), (BLOCK_SAMPLES, 1), padded_N.storage_offset() + start)


def _extend(padded_BN: Tensor, span: int) -> tuple[Tensor, int, int]:
    """The signal with zeros up to a whole number of blocks, the outputs wanted and the number of blocks."""
    outputs = padded_BN.shape[1] - (span - BLOCK_SAMPLES)
    blocks = -(-outputs // BLOCK_SAMPLES)
    missing = (blocks - 1) * BLOCK_SAMPLES + span - padded_BN.shape[1]
    return functional.pad(padded_BN, (0, missing)).contiguous(), outputs, blocks


def sinc_convolution(padded_BN: Tensor, filters_FK: Tensor) -> Tensor:
    """Correlate (B, N + K - 1) with F filters: (B, N, F), differentiable in both."""
    matrix = filter_matrix(filters_FK)
    signal, outputs, _ = _extend(padded_BN, len(matrix))
    stretches = signal.unfold(1, len(matrix), BLOCK_SAMPLES)
    product = stretches.reshape(-1, len(matrix)) @ matrix
    return product.view(len(padded_BN), -1, len(filters_FK))[:, :outputs]


def sinc_norm_pswish(
    padded_BN: Tensor,
    filters_FK: Tensor,
    weight: Tensor,
    bias: Tensor,
    alpha: Tensor,
    beta: Tensor,
    eps: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """PSwish(LayerNorm(sinc_convolution(...))) as one operation, (B, N, F); no gradient for the signal.

    Computed in float32; `dtype` is that of the result, so that a next layer in bfloat16 need not convert it.
    """
    return _SincLayer.apply(padded_BN, filter_matrix(filters_FK), weight, bias, alpha, beta, eps, dtype)


class _SincLayer(torch.autograd.Function):
    """Works through the signal in chunks; keeps nothing but the signal and computes again in the backward pass,
    which is cheaper than to write and read (B, N, F) values five times."""

    @staticmethod
    def forward(
        ctx: Any,
        padded_BN: Tensor,
        matrix: Tensor,
        weight: Tensor,
        bias: Tensor,
        alpha: Tensor,
        beta: Tensor,
        eps: float,
        dtype: torch.dtype,
    ) -> Tensor:
        signal, outputs, blocks = _extend(padded_BN, len(matrix))
        ctx.save_for_backward(signal, matrix, weight, bias, alpha, beta)
        ctx.eps, ctx.blocks = eps, blocks
        out = signal.new_empty(len(signal), outputs, len(alpha), dtype=dtype)
        for b, start, count in _chunks(len(signal), blocks, len(alpha)):
            stretches = _stretches(signal[b], start * BLOCK_SAMPLES, count, len(matrix))
            x, _, _ = torch.native_layer_norm(
                (stretches @ matrix).view(-1, len(alpha)), weight.shape, weight, bias, eps
            )
            target = out[b, start * BLOCK_SAMPLES : (start + count) * BLOCK_SAMPLES]
            x = x[: len(target)]
            target.copy_((x * beta).sigmoid_().mul_(x).mul_(alpha))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        signal, matrix, weight, bias, alpha, beta = ctx.saved_tensors
        d_matrix = torch.zeros_like(matrix)
        d_weight, d_bias, d_alpha, d_beta = (torch.zeros_like(alpha) for _ in range(4))
        for b, start, count in _chunks(len(signal), ctx.blocks, len(alpha)):
            stretches = _stretches(signal[b], start * BLOCK_SAMPLES, count, len(matrix))
            y = (stretches @ matrix).view(-1, len(alpha))
            x, mean, deviation = torch.native_layer_norm(y, weight.shape, weight, bias, ctx.eps)
            d_out = gradients[0][b, start * BLOCK_SAMPLES : (start + count) * BLOCK_SAMPLES].float()
            if len(d_out) < len(x):  # outputs of the last block that nobody asked for
                d_out = functional.pad(d_out, (0, 0, 0, len(x) - len(d_out)))
            d_x = _pswish_backward(x, d_out, alpha, beta, d_alpha, d_beta)
            d_y, d_w, d_b = torch.ops.aten.native_layer_norm_backward(
                d_x, y, weight.shape, mean, deviation, weight, bias, [True, True, True]
            )
            d_weight += d_w
            d_bias += d_b
            d_matrix.addmm_(stretches.T, d_y.view(count, -1))
        return None, d_matrix, d_weight, d_bias, d_alpha, d_beta, None, None


def _pswish_backward(x: Tensor, d_out: Tensor, alpha: Tensor, beta: Tensor, d_alpha: Tensor, d_beta: Tensor) -> Tensor:
    """Gradient of x * alpha * s, s = sigmoid(beta * x), for x; adds those for alpha and beta in place."""
    s = (x * beta).sigmoid_()
    slope = (d_out * x).mul_(s)
    d_alpha += slope.sum(0)
    slope.mul_(1 - s)  # d_out * x * s * (1 - s)
    d_beta += alpha * (slope * x).sum(0)
    return slope.mul_(beta).addcmul_(d_out, s).mul_(alpha)


def _chunks(rows: int, blocks: int, filters: int) -> Iterator[tuple[int, int, int]]:
    """(row, first block, number of blocks) of every chunk."""
    step = max(1, CHUNK_VALUES // (BLOCK_SAMPLES * filters))
    for b in range(rows):
        for start in range(0, blocks, step):
            yield b, start, min(step, blocks - start)


def channels_last_convolution(
    x_BNC: Tensor, weight: Tensor, bias: Tensor | None, stride: int, left: int, right: int, groups: int = 1
) -> Tensor:
    """conv1d of (B, N, C) padded by (left, right) frames: (B, T, F), contiguous.

    The tensor is handed over as an image of height 1 in channels-last memory, so nothing is transposed and the
    LayerNorm over channels that follows everywhere in this model reads contiguous memory.
    """
    if left != right:
        x_BNC, left = functional.pad(x_BNC, (0, 0, left, right)), 0
    image, weight = x_BNC.transpose(1, 2)[:, :, None], weight[:, :, None]
    if groups == 1:
        weight = weight.contiguous(memory_format=torch.channels_last)
    out = functional.conv2d(image, weight, bias, (1, stride), (0, left), groups=groups)
    return out[:, :, 0].transpose(1, 2)


def strided_convolution(x_BNC: Tensor, weight: Tensor, stride: int, left: int, right: int) -> Tensor:
    """conv1d of (B, N, C) padded by (left, right) frames with weight (F, C, K), without bias: (B, T, F)."""
    return _StridedConvolution.apply(x_BNC, weight, stride, left, right)


class _StridedConvolution(torch.autograd.Function):
    """A window of K frames is a run of memory; cut into pieces of `stride` frames it is a row of a plain matrix
    view of the input, so the gradients are sums of ceil(K / stride) products without any unfolding. (The forward
    pass is as fast with oneDNN's convolution; its backward pass took twice as long as this.)"""

    @staticmethod
    def forward(ctx: Any, x_BNC: Tensor, weight: Tensor, stride: int, left: int, right: int) -> Tensor:
        ctx.save_for_backward(x_BNC, weight)
        ctx.stride, ctx.left = stride, left
        return channels_last_convolution(x_BNC, weight, None, stride, left, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_BNC, weight = ctx.saved_tensors
        filters, channels, taps = weight.shape
        frames = gradients[0].shape[1]
        matrix = weight.permute(2, 1, 0).reshape(taps * channels, filters)
        transposed, d_matrix = matrix.T.contiguous(), torch.zeros_like(matrix)
        padded = _padded(x_BNC, weight, ctx.stride, ctx.left, frames)
        d_padded = torch.zeros_like(padded)
        d_x = torch.empty_like(x_BNC) if ctx.needs_input_grad[0] else None
        for b, x_NC in enumerate(x_BNC):
            _fill(padded, x_NC, ctx.left)
            d_out = gradients[0][b]
            pieces = _pieces(padded, weight, ctx.stride, frames)
            d_pieces = _pieces(d_padded, weight, ctx.stride, frames)
            for (rows, columns), (d_rows, _) in zip(pieces, d_pieces, strict=True):
                d_matrix[columns].addmm_(rows.T, d_out)
                if d_x is not None:
                    d_rows.addmm_(d_out, transposed[:, columns])
            if d_x is not None:
                d_x[b] = d_padded[ctx.left : ctx.left + x_BNC.shape[1]]
                d_padded.zero_()
        return d_x, d_matrix.view(taps, channels, filters).permute(2, 1, 0), None, None, None


def _padded(x_BNC: Tensor, weight: Tensor, stride: int, left: int, frames: int) -> Tensor:
    """Zeros for one padded item, long enough for the last piece and for the whole item."""
    pieces = -(-weight.shape[2] // stride)
    length = max((frames + pieces - 1) * stride, left + x_BNC.shape[1])
    return x_BNC.new_zeros(length, x_BNC.shape[2])


def _fill(padded: Tensor, x_NC: Tensor, left: int) -> None:
    padded[left : left + len(x_NC)] = x_NC


def _pieces(padded: Tensor, weight: Tensor, stride: int, frames: int) -> Iterator[tuple[Tensor, slice]]:
    """(rows (T, w * C), columns of the matrix) of every piece of w <= stride frames of the windows."""
    channels, taps = padded.shape[1], weight.shape[2]
    for first in range(0, taps, stride):
        width = min(stride, taps - first)
        rows = padded.as_strided((frames, width * channels), (stride * channels, 1), first * channels)
        yield rows, slice(first * channels, (first + width) * channels)
