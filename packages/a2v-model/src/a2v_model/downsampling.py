"""A transformer at a lower frame rate than the front end's: strided down before it, up again behind it, with a skip.

Attention costs the square of its frames and all else in a block their number, while edges of events need the front
end's rate: what the transformer does not see of them reaches the head through the skip (as in U-Nets: Ronneberger et
al. 2015, arXiv 1505.04597).

Shapes: B segments, T frames of the front end, r of them one of the encoder, S = ceil(T / r) of these, D embedding.
"""

from torch import Tensor, nn
from torch.nn import functional


def _unit_blocks(weight: Tensor, value: float) -> None:
    """Make a weight of square blocks side by side: `value` on the diagonal of each, 0 elsewhere."""
    weight.zero_()
    rows, columns = weight.shape
    for block in weight.split(min(rows, columns), dim=int(columns > rows)):
        block.fill_diagonal_(value)


class Downsampling(nn.Module):
    """A convolution of r frames with stride r, at first their mean: features (B, T, D) -> the encoder's (B, S, D)."""

    def __init__(self, dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.project = nn.Linear(factor * dim, dim)
        _unit_blocks(self.project.weight.detach(), 1 / factor)
        nn.init.zeros_(self.project.bias)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The encoder's frames, and which of them hold any valid frame. What lies beyond an end counts as 0, whether
        it is padding or there are no more frames, so that an item gives the same alone as among longer ones."""
        if valid_BT is not None:
            x_BTD = x_BTD * valid_BT[:, :, None]
            valid_BT = valid_BT[:, :: self.factor]
        x_BTD = functional.pad(x_BTD, (0, 0, 0, -x_BTD.shape[1] % self.factor))
        return self.project(x_BTD.unflatten(1, (-1, self.factor)).flatten(2)), valid_BT


class Upsampling(nn.Module):
    """A transposed convolution of r frames with stride r, at first each frame r times, and a skip from the features, at
    first 0: what the encoder gives (B, S, D) -> frames of the front end (B, T, D)."""

    def __init__(self, dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.expand = nn.Linear(dim, factor * dim)
        self.skip = nn.Linear(dim, dim)
        _unit_blocks(self.expand.weight.detach(), 1.0)
        for zero in (self.expand.bias, self.skip.weight, self.skip.bias):
            nn.init.zeros_(zero)

    def forward(self, x_BSD: Tensor, features_BTD: Tensor) -> Tensor:
        """features_BTD: those that the encoder's frames were made of."""
        expanded_BTD = self.expand(x_BSD).unflatten(2, (self.factor, -1)).flatten(1, 2)
        return expanded_BTD[:, : features_BTD.shape[1]] + self.skip(features_BTD)
