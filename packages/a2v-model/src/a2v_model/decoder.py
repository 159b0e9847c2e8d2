"""The decoder of pretraining (spec 5). Shapes: B rows, T frames, U kept, M masked frames, D embedding."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from a2v_model.config import DecoderConfig
from a2v_model.layers import Dropout, NormedConv
from a2v_model.recomputation import Recomputing
from a2v_model.sparse_convolutions import take


class Decoder(Recomputing):
    """Predicts the target of every frame from the kept frames: grouped convolutions, then a projection."""

    def __init__(self, dim: int, config: DecoderConfig) -> None:
        super().__init__()
        widths = [dim] + [config.dim] * config.depth
        self.convs = nn.ModuleList(
            NormedConv(before, after, config.kernel, groups=config.groups) for before, after in pairwise(widths)
        )
        self.dropout = Dropout(config.dropout)
        self.out = nn.Linear(config.dim, dim)

    def forward(
        self, x_BUD: Tensor, kept_BU: Tensor, masked_BM: Tensor, fill_BMD: Tensor, only_masked: bool = False
    ) -> Tensor:
        """Predictions (B, T, D), or with `only_masked` of the masked frames, (B, M, D). `fill_BMD` stands at the masked
        frames; indices are in time order."""
        x_BUD = self.dropout(x_BUD)
        order_BT = torch.cat([kept_BU, masked_BM], dim=1).argsort(dim=1)
        x_BTD = take(torch.cat([x_BUD, fill_BMD.to(x_BUD.dtype)], dim=1), order_BT)
        for i, conv in enumerate(self.convs):
            assert isinstance(conv, NormedConv)
            if only_masked and i == len(self.convs) - 1:
                y_BTD = self.part(conv.at, x_BTD, masked_BM)
                x_BTD = take(x_BTD, masked_BM)
            else:
                y_BTD = self.part(conv, x_BTD)
            x_BTD = x_BTD + y_BTD if x_BTD.shape == y_BTD.shape else y_BTD
        return self.out(x_BTD)
