"""Dilated convolutions in place of the transformer: the supervised baseline that stands beside animal2vec.

Shapes: B segments, T frames, D channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from a2v_model.config import ConvolutionConfig
from a2v_model.layers import BatchNorm, Dropout


class DilatedConvolutions(nn.Module):
    """Residual layers (B, T, D) -> (B, T, D), each twice as far-sighted as the one before; the interface is that of
    `Encoder` as far as finetuning uses it."""

    def __init__(self, config: ConvolutionConfig) -> None:
        super().__init__()
        self.config = config
        self.convs = nn.ModuleList(
            nn.Conv1d(config.dim, config.dim, 3, padding=2**layer, dilation=2**layer) for layer in range(config.depth)
        )
        self.norms = nn.ModuleList(BatchNorm(config.dim) for _ in range(config.depth + 1))
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x_BTD: Tensor,
        kept_BU: Tensor | None = None,
        valid_BT: Tensor | None = None,
        results: int = 0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        assert kept_BU is None, "frames are dropped in pretraining only, which has a transformer"
        x_BDT = _inside(functional.relu(self.norms[0](x_BTD.transpose(1, 2))), valid_BT)
        for conv, norm in zip(self.convs, self.norms[1:], strict=False):
            x_BDT = _inside(x_BDT + self.dropout(functional.relu(norm(conv(x_BDT)))), valid_BT)
        out_BTD = x_BDT.transpose(1, 2)
        return out_BTD, [out_BTD]


def _inside(x_BDT: Tensor, valid_BT: Tensor | None) -> Tensor:
    return x_BDT if valid_BT is None else x_BDT * valid_BT[:, None]
