"""Small layers used everywhere. Shapes: B rows, T frames, C channels (channels last)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from a2v_model.cpu_kernels import channels_last_convolution, strided_convolution
from a2v_model.grouped_convolutions import grouped_convolution, has_products
from a2v_model.sparse_convolutions import convolution_at, convolution_from, few, put, take


class LayerNorm(nn.LayerNorm):
    """LayerNorm that returns `norm_dtype`, whatever autocast would do; its sums are float32 in any case."""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """functional.layer_norm in `norm_dtype`."""
    kind = norm_dtype(x)
    if kind == torch.float32:
        return functional.layer_norm(x.float(), shape, weight, bias, eps)
    weight, bias = (None if one is None else one.to(kind) for one in (weight, bias))
    with torch.autocast(x.device.type, enabled=False):
        return functional.layer_norm(x.to(kind), shape, weight, bias, eps)


def norm_dtype(x: Tensor) -> torch.dtype:
    """Float32 on a CPU; where an accelerator computes in bfloat16, that: what follows is a product in it, and what a
    residual adds to is half as large in memory. Targets of the golden model are then off by 1.8 % instead of 1.1 %."""
    kind = x.device.type
    halved = kind != "cpu" and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if halved else torch.float32


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The type in which a matrix product of x is computed here: autocast's, else that of x."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


_LEVELS = 1 << 16
EPSILON = 1e-5  # added to variances in batch normalisation
LARGE_ITEM = 1 << 18  # values of an item from which a convolution's own backward pass pays


def keep_rate(dropout: float) -> float:
    """Share of entries that `keep_mask` keeps: 1 - dropout to 16 bits."""
    return 1 - round(dropout * _LEVELS) / _LEVELS


def keep_mask(shape: Sequence[int], dropout: float) -> Tensor:
    """int8 of 0 and 1 on the CPU, 1 with probability `keep_rate(dropout)`, from torch's CPU generator.

    Four entries share one 64-bit draw: about five times as fast as torch's Bernoulli numbers.
    """
    size = math.prod(shape)
    draws = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
    levels = draws.view(torch.int16)[:size]
    return levels.ge_(round(dropout * _LEVELS) - _LEVELS // 2).to(torch.int8).view(*shape)


class Dropout(nn.Dropout):
    """nn.Dropout with a faster mask on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0 or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        return x * (keep_mask(x.shape, self.p).to(x.dtype) / keep_rate(self.p))


class ChannelsLastConv(nn.Conv1d):
    """A Conv1d on (B, T, C) -> (B, T', C'): 'same' where the stride is 1 (for even kernels one frame more on the
    right), else padded by ceil(stride / 2) frames on both sides (spec 2)."""

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(channels, filters, kernel, stride, groups=groups, bias=bias)
        self.pad = ((kernel - 1) // 2, kernel // 2)
        if stride > 1:
            self.pad = (-(-stride // 2), -(-stride // 2))

    def forward(self, x_BTC: Tensor) -> Tensor:
        large = x_BTC.shape[1] * x_BTC.shape[2] >= LARGE_ITEM
        if large and self._learns_on_cpu(x_BTC) and self.groups == 1 and self.bias is None:
            return strided_convolution(x_BTC, self.weight, self.stride[0], *self.pad)
        same = self.stride[0] == 1 and sum(self.pad) == self.kernel_size[0] - 1
        if self.groups > 1 and same and has_products(x_BTC, self.weight):
            dtype = autocast_dtype(x_BTC)
            return grouped_convolution(x_BTC, self.weight, self.bias, self.pad[0], self.groups, dtype)
        return channels_last_convolution(x_BTC, self.weight, self.bias, self.stride[0], *self.pad, groups=self.groups)

    def _learns_on_cpu(self, x_BTC: Tensor) -> bool:
        on_cpu = x_BTC.device.type == "cpu" and not torch.compiler.is_compiling()
        return on_cpu and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


class NormedConv(ChannelsLastConv):
    """Of positional encoder and decoder: a convolution, LayerNorm over channels without affine, GELU.

    'same' padding; for even kernels one frame more on the LEFT, other than in the front end (spec 3).
    """

    def __init__(self, channels: int, filters: int, kernel: int, groups: int = 1) -> None:
        super().__init__(channels, filters, kernel, groups=groups)
        self.pad = (kernel // 2, (kernel - 1) // 2)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self._activated(super().forward(x_BTC))

    def at(self, x_BTC: Tensor, index_BU: Tensor) -> Tensor:
        """The results (B, U, F) of some frames only."""
        if self.bias is None or not few(index_BU, x_BTC.shape[1]):
            return self._activated(take(super().forward(x_BTC), index_BU))
        fixed = (self.weight, self.bias, self.pad[0], self.groups, autocast_dtype(x_BTC))
        return self._activated(convolution_at(x_BTC, index_BU, *fixed))

    def of_few(self, x_BUC: Tensor, index_BU: Tensor, frames: int) -> Tensor:
        """The results (B, T, F) where all frames but some are 0."""
        if self.bias is None or not few(index_BU, frames):
            return self(put(x_BUC, index_BU, frames))
        fixed = (self.weight, self.bias, self.pad[0], self.groups, autocast_dtype(x_BUC))
        return self._activated(convolution_from(x_BUC, index_BU, frames, *fixed))

    def _activated(self, y_BTF: Tensor) -> Tensor:
        return functional.gelu(layer_norm(y_BTF, y_BTF.shape[-1:]))


class BatchNorm(nn.Module):
    """Batch normalisation of (B, C, ...) whose running averages are made once an update, from all its micro-batches.

    In train mode a micro-batch is normalised with its own statistics (where the weight learns; what is frozen uses the
    running ones). They are added up in `pending` (2 C + 1: means, variances, how many) until `settle` takes their mean
    over micro-batches and workers into the running averages: so the number of workers changes nothing.
    """

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean: Tensor
        self.var: Tensor
        self.pending: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))
        self.register_buffer("pending", torch.zeros(2 * channels + 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        if not self.of_batch():
            return functional.batch_norm(x, self.mean, self.var, self.weight, self.bias, eps=EPSILON)
        mean, var = torch.zeros_like(self.mean), torch.ones_like(self.var)
        out = functional.batch_norm(x, mean, var, self.weight, self.bias, training=True, momentum=1.0, eps=EPSILON)
        self.pending += torch.cat([mean, var, mean.new_ones(1)])  # with momentum 1 they are the batch's own
        return out

    def of_batch(self) -> bool:
        """Whether the batch's own statistics are used, not the running averages."""
        return self.training and self.weight.requires_grad

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What normalisation with the running averages does: x * scale + shift, (C,) both, float32."""
        scale = self.weight * (self.var + EPSILON).rsqrt()
        return scale, self.bias - self.mean * scale


def settle_batch_norms(model: nn.Module, across: Callable[[Tensor], Tensor]) -> None:
    """After an update: its statistics go into the running averages. across: sum of a tensor over all workers."""
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    if not norms:
        return
    totals = across(torch.cat([norm.pending for norm in norms])).split([len(norm.pending) for norm in norms])
    for norm, total in zip(norms, totals, strict=True):
        mean, var = (total[:-1] / total[-1]).chunk(2)
        for running, new in ((norm.mean, mean), (norm.var, var)):  # where none was counted, new is NaN; nobody waits
            running.copy_(torch.where(total[-1] > 0, running.lerp(new, norm.momentum), running))
        norm.pending.zero_()
