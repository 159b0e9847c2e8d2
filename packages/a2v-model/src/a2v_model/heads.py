"""What turns features into logits. Shapes: B segments, T frames, D features, H hidden channels, C classes."""

import math

from torch import Tensor, nn
from torch.nn import functional

from a2v_model.config import FinetuneConfig
from a2v_model.layers import LayerNorm

HIDDEN, KERNEL, DEPTH = 64, 5, 2


class TemporalHead(nn.Module):
    """Features (B, T, D) -> logits (B, T, C) that see four frames to both sides.

    LayerNorm without affine (`project` has one anyway), D -> H, two residual convolutions of 5 frames, H -> C. Frames
    outside `valid_BT` are as if the recording ended there, whatever they hold.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.norm = LayerNorm(dim, elementwise_affine=False)
        self.project = nn.Linear(dim, HIDDEN)
        self.convs = nn.ModuleList(nn.Conv1d(HIDDEN, HIDDEN, KERNEL, padding=KERNEL // 2) for _ in range(DEPTH))
        self.classify = nn.Linear(HIDDEN, classes)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        inside_B1T = 1.0 if valid_BT is None else valid_BT[:, None].to(x_BTD.device)
        h_BHT = functional.gelu(self.project(self.norm(x_BTD))).transpose(1, 2) * inside_B1T
        for conv in self.convs:
            h_BHT = (h_BHT + functional.gelu(conv(h_BHT))) * inside_B1T
        return self.classify(h_BHT.transpose(1, 2))


def new_head(dim: int, classes: int, config: FinetuneConfig) -> nn.Linear | TemporalHead:
    """The head that `config.head` names; each class has the likelihood `config.head_prior` at first."""
    head = TemporalHead(dim, classes) if config.head == "temporal" else nn.Linear(dim, classes)
    last = last_layer(head)
    nn.init.xavier_uniform_(last.weight)
    prior = config.head_prior
    nn.init.constant_(last.bias, math.log(prior / (1 - prior)) if prior else 0.0)
    return head


def last_layer(head: nn.Linear | TemporalHead) -> nn.Linear:
    """The layer that gives the logits."""
    return head.classify if isinstance(head, TemporalHead) else head


def apply_head(head: nn.Module, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
    """Logits (B, T, C) of features (B, T, D); valid_BT (bool): the frames that are no padding, None: all."""
    logits_BTC: Tensor = head(x_BTD, valid_BT) if isinstance(head, TemporalHead) else head(x_BTD)
    return logits_BTC.float()
