"""Small layers used everywhere. Shapes: B rows, T frames, C channels (channels last)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class LayerNorm(nn.LayerNorm):
    """LayerNorm computed and returned in float32, whatever autocast does around it."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x.float(), self.normalized_shape, self.weight, self.bias, self.eps)


_LEVELS = 1 << 16


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
    """A Conv1d on (B, T, C) -> (B, T', C'), zero-padded by (left, right) frames.

    The tensor is handed over as an image of height 1 in channels-last memory, so nothing is transposed and
    the LayerNorm over channels that follows everywhere in this model reads contiguous memory.
    """

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
        self.pad: Sequence[int] = ((kernel - 1) // 2, kernel // 2)
        if stride > 1:  # spec 2: 'same' where the stride is 1, else ceil(stride / 2) on both sides
            self.pad = (-(-stride // 2), -(-stride // 2))

    def forward(self, x_BTC: Tensor) -> Tensor:
        left, right = self.pad
        if left != right:
            x_BTC, left = functional.pad(x_BTC, (0, 0, left, right)), 0
        image = x_BTC.transpose(1, 2)[:, :, None]
        weight = self.weight[:, :, None]
        if self.groups == 1:
            weight = weight.contiguous(memory_format=torch.channels_last)
        out = functional.conv2d(image, weight, self.bias, (1, self.stride[0]), (0, left), groups=self.groups)
        return out[:, :, 0].transpose(1, 2)
