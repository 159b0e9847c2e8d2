"""Grouped 'same' convolutions of stride 1 of which few inputs are not 0, or few outputs are wanted: pretraining shows
the student few frames, so the first positional convolution has the former and the last one the latter.

Both look at the windows of K frames around those few and cost as much less. Each is the other's gradient.
Measured on one core (Zen 4), 142 of 2000 frames, 16 groups, 19 taps, forward and backward, float32 (bfloat16) against
all frames with the products of `grouped_convolutions`: width 1024, 2 rows, 450 -> 65 ms (228 -> 51); width 256, 8 rows,
179 -> 42 (81 -> 43). With a third of the frames it does not pay.

Shapes: B rows, T frames, U of them in `index_BU`, C channels in, F filters, G groups, K taps, c = C / G, f = F / G.
"""

from typing import Any

import torch
from torch import Tensor

FEW = 8  # at most one frame of so many


def few(index_BU: Tensor, frames: int) -> bool:
    """Whether these frames are so few that it pays."""
    on_cpu = index_BU.device.type == "cpu" and not torch.compiler.is_compiling()
    return on_cpu and index_BU.shape[1] * FEW <= frames


def take(x_BTC: Tensor, index_BU: Tensor) -> Tensor:
    """The frames (B, U, C) of every row; each at most once."""
    if x_BTC.device.type != "cpu" or torch.compiler.is_compiling():
        return x_BTC.gather(1, index_BU[:, :, None].expand(-1, -1, x_BTC.shape[2]))
    taken: Tensor = _Take.apply(x_BTC, index_BU)
    return taken


class _Take(torch.autograd.Function):
    """Whole rows are copied, forward and backward; to gather single values takes several times as long."""

    @staticmethod
    def forward(ctx: Any, x_BTC: Tensor, index_BU: Tensor) -> Tensor:
        ctx.save_for_backward(index_BU)
        ctx.frames = x_BTC.shape[1]
        flat = _flat(index_BU, ctx.frames)
        return x_BTC.flatten(0, 1).index_select(0, flat).view(*index_BU.shape, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index_BU,), d_BUC = ctx.saved_tensors, gradients[0]
        d_BTC = d_BUC.new_zeros(len(d_BUC), ctx.frames, d_BUC.shape[2])
        d_BTC.flatten(0, 1)[_flat(index_BU, ctx.frames)] = d_BUC.flatten(0, 1)
        return d_BTC, None


def put(x_BUC: Tensor, index_BU: Tensor, frames: int) -> Tensor:
    """(B, T, C): the frames of every row at their places, 0 elsewhere; each place at most once."""
    out_BTC = x_BUC.new_zeros(len(x_BUC), frames, x_BUC.shape[2])
    return out_BTC.scatter(1, index_BU[:, :, None].expand_as(x_BUC), x_BUC)


def _flat(index_BU: Tensor, frames: int) -> Tensor:
    return (index_BU + frames * torch.arange(len(index_BU))[:, None]).flatten()


def convolution_at(
    x_BTC: Tensor, index_BU: Tensor, weight: Tensor, bias: Tensor, left: int, groups: int, dtype: torch.dtype
) -> Tensor:
    """The outputs (B, U, F) of some frames; weight (F, c, K), computed in `dtype`."""
    with torch.autocast("cpu", enabled=False):
        y_BUF: Tensor = _At.apply(x_BTC.to(dtype), index_BU, _by_group(weight.to(dtype), groups), left)
        return y_BUF + bias.to(dtype)


def convolution_from(
    x_BUC: Tensor,
    index_BU: Tensor,
    frames: int,
    weight: Tensor,
    bias: Tensor,
    left: int,
    groups: int,
    dtype: torch.dtype,
) -> Tensor:
    """All outputs (B, T, F) where the input is 0 but for some frames."""
    with torch.autocast("cpu", enabled=False):
        right = weight.shape[2] - 1 - left
        back = _by_group(weight.to(dtype), groups).flip(1).transpose(2, 3)
        y_BTF: Tensor = _From.apply(x_BUC.to(dtype), index_BU, frames, back, right)
        return y_BTF + bias.to(dtype)


def _by_group(weight: Tensor, groups: int) -> Tensor:
    """(F, c, K) -> (G, K, c, f)."""
    return weight.unflatten(0, (groups, -1)).permute(0, 3, 2, 1)


class _At(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTC: Tensor, index_BU: Tensor, weight: Tensor, left: int) -> Tensor:
        ctx.save_for_backward(x_BTC, index_BU, weight)
        ctx.left = left
        return _gathered(x_BTC, index_BU, weight, left)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_BTC, index_BU, weight = ctx.saved_tensors
        d_x = d_weight = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                d_x = _scattered(gradients[0], index_BU, x_BTC.shape[1], weight, ctx.left)
            if ctx.needs_input_grad[2]:
                d_weight = _weight_gradient(x_BTC, gradients[0], index_BU, weight, ctx.left)
        return d_x, None, d_weight, None


class _From(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BUC: Tensor, index_BU: Tensor, frames: int, back: Tensor, right: int) -> Tensor:
        ctx.save_for_backward(x_BUC, index_BU, back)
        ctx.right = right
        return _scattered(x_BUC, index_BU, frames, back, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_BUC, index_BU, back = ctx.saved_tensors
        d_x = d_back = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                d_x = _gathered(gradients[0], index_BU, back, ctx.right)
            if ctx.needs_input_grad[3]:
                d_back = _weight_gradient(gradients[0], x_BUC, index_BU, back, ctx.right)
        return d_x, None, None, d_back, None


class _Windows:
    """Of one row of (T, C) at a time: the K frames around some of them, group by group."""

    def __init__(self, x_BTC: Tensor, weight: Tensor, left: int) -> None:
        groups, self.taps, channels, _ = weight.shape
        self.left, self.frames = left, x_BTC.shape[1]
        self.padded = x_BTC.new_zeros(groups, self.frames + self.taps - 1, channels)

    def of(self, x_TC: Tensor, index_U: Tensor) -> Tensor:
        """(G, U, K c)."""
        groups, _, channels = self.padded.shape
        self.padded[:, self.left : self.left + self.frames] = x_TC.view(-1, groups, channels).transpose(0, 1)
        shape, strides = (groups, self.frames, self.taps * channels), (self.padded.stride(0), channels, 1)
        return self.padded.as_strided(shape, strides)[:, index_U]


def _gathered(x_BTC: Tensor, index_BU: Tensor, weight: Tensor, left: int) -> Tensor:
    """(B, U, F): windows times weight (G, K, c, f)."""
    groups, _, _, filters = weight.shape
    matrix, windows = weight.reshape(groups, -1, filters), _Windows(x_BTC, weight, left)
    out = x_BTC.new_empty(*index_BU.shape, groups * filters)
    for row, index_U in enumerate(index_BU):
        product = torch.bmm(windows.of(x_BTC[row], index_U), matrix)
        out[row].view(-1, groups, filters).copy_(product.transpose(0, 1))
    return out


def _scattered(y_BUF: Tensor, index_BU: Tensor, frames: int, weight: Tensor, left: int) -> Tensor:
    """(B, T, C): every frame's product with weight (G, K, c, f) is added to the window around it; sums are taken in
    float32 at least."""
    groups, taps, channels, filters = weight.shape
    matrix = weight.permute(0, 3, 1, 2).reshape(groups, filters, -1)
    exact = torch.promote_types(y_BUF.dtype, torch.float32)
    out = y_BUF.new_empty(len(y_BUF), frames, groups * channels)
    padded = y_BUF.new_empty(frames + taps - 1, groups * channels, dtype=exact)
    for row, index_U in enumerate(index_BU):
        product = torch.bmm(y_BUF[row].view(-1, groups, filters).transpose(0, 1), matrix).to(exact)
        by_tap = product.view(groups, -1, taps, channels).permute(2, 1, 0, 3)
        padded.zero_()
        for tap in range(taps):  # the frames are different ones, so no two of a tap meet
            padded[index_U + tap] += by_tap[tap].flatten(1)
        out[row] = padded[left : left + frames]
    return out


def _weight_gradient(x_BTC: Tensor, y_BUF: Tensor, index_BU: Tensor, weight: Tensor, left: int) -> Tensor:
    """(G, K, c, f) from the windows of x and what stands at the frames themselves."""
    groups, _, _, filters = weight.shape
    windows = _Windows(x_BTC, weight, left)
    total = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32)).contiguous()
    for row, index_U in enumerate(index_BU):
        y_GUf = y_BUF[row].view(-1, groups, filters).transpose(0, 1)
        total += torch.bmm(windows.of(x_BTC[row], index_U).transpose(1, 2), y_GUf).view(total.shape)
    return total.to(weight.dtype)
