"""Grouped 'same' convolutions of stride 1 on a CPU, where oneDNN is slow: as matrix products, forward and backward.

A stretch of L outputs of a group needs L + K - 1 frames of its channels; laid out group by group both are runs of
memory, and the filters shifted by 0 .. L - 1 frames are one banded (Toeplitz) matrix. Cut into pieces of L frames the
stretches are rows of a plain matrix view of the input, so nothing is unfolded; it costs (L - 1) / K more
multiplications.

Measured on one core (Zen 4), 8 rows of 1000 frames, width 256 in 16 groups, 19 taps: weight gradient 71 -> 21 ms
(bfloat16 38 -> 12), width 128 and 15 taps 20 -> 7; 2 rows of 2000 frames, width 1024: 547 -> 140 (351 -> 76). Forward
pass and gradient of the input are as fast with oneDNN, but not on processors without AVX-512: width 1024 406 -> 151
and 422 -> 151 ms.

Shapes: B rows, T frames, C channels in, F filters, G groups, K taps, c = C / G, f = F / G, L outputs of a stretch.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from a2v_model.cpu_kernels import channels_last_convolution

LONG_KERNEL = 9  # taps from which oneDNN's weight gradient is slower than products, with AVX-512 too
WIDE_GROUP = 32  # channels of a group from which its forward pass is slower, without AVX-512


@cache
def wide_vectors() -> bool:
    """Whether the processor has AVX-512, for which oneDNN has fast grouped convolutions."""
    return bool(torch.cpu._is_avx512_supported())


def has_products(x_BTC: Tensor, weight: Tensor) -> bool:
    """Whether products are faster than oneDNN in any of the passes that are to come."""
    if x_BTC.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    learns = torch.is_grad_enabled() and weight.requires_grad
    return (learns and _by_products(weight)) or (not wide_vectors() and weight.shape[1] >= WIDE_GROUP)


def _by_products(weight: Tensor) -> bool:
    return weight.shape[2] >= LONG_KERNEL or not wide_vectors()


def grouped_convolution(
    x_BTC: Tensor, weight: Tensor, bias: Tensor | None, left: int, groups: int, dtype: torch.dtype
) -> Tensor:
    """conv1d of (B, T, C), padded by `left` and K - 1 - left frames, with weight (F, c, K), computed in `dtype`:
    (B, T, F)."""
    bias = None if bias is None else bias.to(dtype)
    with torch.autocast("cpu", enabled=False):
        result: Tensor = _GroupedConvolution.apply(x_BTC.to(dtype), weight.to(dtype), bias, left, groups)
    return result


class _GroupedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTC: Tensor, weight: Tensor, bias: Tensor | None, left: int, groups: int) -> Tensor:
        ctx.save_for_backward(x_BTC, weight)
        ctx.left, ctx.groups = left, groups
        if wide_vectors() or weight.shape[1] < WIDE_GROUP:
            right = weight.shape[2] - 1 - left
            return channels_last_convolution(x_BTC, weight, bias, 1, left, right, groups=groups)
        y_BTF = correlate(x_BTC, weight, left, groups)
        return y_BTF if bias is None else y_BTF.add_(bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_BTC, weight = ctx.saved_tensors
        (d_BTF,) = gradients
        d_x = d_weight = d_bias = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                d_x = _input_gradient(d_BTF, weight, ctx.left, ctx.groups)
            if ctx.needs_input_grad[1]:
                d_weight = weight_gradient(x_BTC, d_BTF, weight.shape[2], ctx.left, ctx.groups)
            if ctx.needs_input_grad[2]:
                d_bias = d_BTF.sum((0, 1))
        return d_x, d_weight, d_bias, None, None


def _input_gradient(d_BTF: Tensor, weight: Tensor, left: int, groups: int) -> Tensor:
    filters, channels, taps = weight.shape
    if not wide_vectors():  # a correlation with the filters turned round
        back = weight.view(groups, -1, channels, taps).transpose(1, 2).flip(3).reshape(-1, filters // groups, taps)
        return correlate(d_BTF, back, taps - 1 - left, groups)
    rows, frames, _ = d_BTF.shape
    right = taps - 1 - left
    padding = left if left == right else 0
    shape = (rows, channels * groups, 1, frames if padding else frames + taps - 1)
    image = d_BTF.new_empty(1).expand(shape)  # only its shape is looked at
    d_image, _, _ = torch.ops.aten.convolution_backward(
        d_BTF.transpose(1, 2)[:, :, None], image, weight[:, :, None], None, [1, 1], [0, padding], [1, 1], False,
        [0, 0], groups, [True, False, False],
    )  # fmt: skip
    d_padded: Tensor = d_image[:, :, 0].transpose(1, 2)
    return d_padded if padding else d_padded[:, left : left + frames]


def _stretch(channels: int) -> int:
    """L: products about 128 wide, where what is gained by width and lost to the band's zeros are in balance."""
    return max(2, min(6, 128 // channels))


def correlate(x_BTC: Tensor, weight: Tensor, left: int, groups: int) -> Tensor:
    """(B, T, F): the convolution as products of all groups at once, row by row."""
    (rows, frames, _), (filters, channels, taps) = x_BTC.shape, weight.shape
    length = _stretch(channels)
    stretches = _Stretches(x_BTC, groups, taps, left, length)
    matrix = _banded(weight, groups, length)
    out = x_BTC.new_empty(rows, frames, filters)
    product = x_BTC.new_empty(groups, stretches.count, length * filters // groups)
    for row in range(rows):
        for columns, piece in stretches.pieces(row):
            product.baddbmm_(piece, matrix[:, columns], beta=0 if columns.start == 0 else 1)
        by_group = product.view(groups, -1, filters // groups)[:, :frames]
        out[row].view(frames, groups, -1).copy_(by_group.transpose(0, 1))
    return out


def weight_gradient(x_BTC: Tensor, d_BTF: Tensor, taps: int, left: int, groups: int) -> Tensor:
    """(F, c, K) from inputs and gradients of the outputs; sums over rows are taken in float32 at least."""
    rows, frames, filters = d_BTF.shape
    channels, own = x_BTC.shape[2] // groups, filters // groups
    length = _stretch(channels)
    stretches = _Stretches(x_BTC, groups, taps, left, length)
    outputs = d_BTF.new_zeros(groups, stretches.count * length, own)
    exact = torch.promote_types(x_BTC.dtype, torch.float32)
    total = x_BTC.new_zeros(groups, length * own, (length + taps - 1) * channels, dtype=exact)
    for row in range(rows):
        outputs[:, :frames].copy_(d_BTF[row].view(frames, groups, own).transpose(0, 1))
        turned = outputs.view(groups, stretches.count, length * own).transpose(1, 2)
        for columns, piece in stretches.pieces(row):
            if exact == x_BTC.dtype:
                total[:, :, columns].baddbmm_(turned, piece)
            else:
                total[:, :, columns] += torch.bmm(turned, piece)
    bands = total.view(groups, length, own, length + taps - 1, channels)
    gradient = sum(bands[:, shift, :, shift : shift + taps] for shift in range(length))
    assert isinstance(gradient, Tensor)
    return gradient.transpose(2, 3).reshape(filters, channels, taps).to(x_BTC.dtype)


def _banded(weight: Tensor, groups: int, length: int) -> Tensor:
    """(G, (L + K - 1) c, L f): the filters shifted by 0 .. L - 1 frames."""
    filters, channels, taps = weight.shape
    turned = weight.view(groups, -1, channels, taps).permute(0, 3, 2, 1)
    matrix = weight.new_zeros(groups, length + taps - 1, channels, length, filters // groups)
    for shift in range(length):
        matrix[:, shift : shift + taps, :, shift] = turned
    return matrix.view(groups, (length + taps - 1) * channels, -1)


class _Stretches:
    """The rows of (B, T, C), group by group and padded: `count` overlapping stretches of L + K - 1 frames."""

    def __init__(self, x_BTC: Tensor, groups: int, taps: int, left: int, length: int) -> None:
        self.x_BTC, self.left, self.length, self.span = x_BTC, left, length, length + taps - 1
        frames, self.channels = x_BTC.shape[1], x_BTC.shape[2] // groups
        self.count = -(-frames // length)
        last = -(-self.span // length) * length  # whole pieces of the last stretch
        self.padded = x_BTC.new_zeros(groups, (self.count - 1) * length + last, self.channels)

    def pieces(self, row: int) -> Iterator[tuple[slice, Tensor]]:
        """(which columns of a stretch, that part of all stretches (G, count, w c)) of every piece of w <= L frames."""
        groups, _, channels = self.padded.shape
        own = self.x_BTC[row].unflatten(1, (groups, channels)).transpose(0, 1)
        self.padded[:, self.left : self.left + own.shape[1]] = own
        for first in range(0, self.span, self.length):
            width = min(self.length, self.span - first) * channels
            strides = (self.padded.stride(0), self.length * channels, 1)
            piece = self.padded.as_strided((groups, self.count, width), strides, first * channels)
            yield slice(first * channels, first * channels + width), piece
