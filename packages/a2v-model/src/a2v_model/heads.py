"""What turns features into logits. Shapes: B segments, T frames, D features, H hidden channels, C classes."""

import math

from torch import Tensor, nn
from torch.nn import functional

from a2v_model.boxes import init_boxes
from a2v_model.config import FinetuneConfig
from a2v_model.layers import LayerNorm
from a2v_model.registry import OwnHead

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


class PluginHead(nn.Module):
    """A plugin's head under the names that all heads have: `classify` is its last layer, as `own.classify`."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own

    @property
    def classify(self) -> nn.Linear:
        """The layer that gives the logits."""
        layer: nn.Linear = self.own.classify  # type: ignore[assignment]  # checked when it was made
        return layer

    def forward(self, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Features (B, T, D) -> logits (B, T, C)."""
        logits_BTC: Tensor = self.own(x_BTD, valid_BT)
        return logits_BTC


Head = nn.Linear | TemporalHead | PluginHead


def new_head(dim: int, classes: int, config: FinetuneConfig) -> Head:
    """The head that `config.head` names; each class has the likelihood `config.head_prior` at first."""
    head: Head
    if isinstance(config.head, OwnHead):
        head = _own_head(dim, classes, config.head)
    else:
        temporal = config.head in ("temporal", "boxes")
        head = (TemporalHead if temporal else nn.Linear)(dim, classes * config.columns)
    last = last_layer(head)
    nn.init.xavier_uniform_(last.weight)
    prior = config.head_prior
    if config.head == "boxes":
        init_boxes(last, prior)
        return head
    nn.init.constant_(last.bias, math.log(prior / (1 - prior)) if prior else 0.0)
    return head


def _own_head(dim: int, classes: int, config: OwnHead) -> PluginHead:
    part = config.part
    own = part.make(dim, classes, config.config)
    last = getattr(own, "classify", None)
    if not isinstance(own, nn.Module) or not isinstance(last, nn.Linear) or last.bias is None:
        raise ValueError(
            f"head {part.name} of plugin {part.plugin}: must be an nn.Module whose last layer, which gives the logits,"
            " is self.classify, an nn.Linear with bias"
        )
    if last.out_features != classes:
        raise ValueError(
            f"head {part.name} of plugin {part.plugin}: self.classify gives {last.out_features} logits; must be one for"
            f" each of the {classes} classes"
        )
    return PluginHead(own)


def last_layer(head: Head) -> nn.Linear:
    """The layer that gives the logits."""
    return head if isinstance(head, nn.Linear) else head.classify


def last_prefix(head: Head) -> str:
    """What the names of its tensors begin with, in the head's state."""
    if isinstance(head, nn.Linear):
        return ""
    return "own.classify." if isinstance(head, PluginHead) else "classify."


def apply_head(head: nn.Module, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
    """Logits (B, T, C) of features (B, T, D); valid_BT (bool): the frames that are no padding, None: all."""
    seeing = isinstance(head, TemporalHead | PluginHead)
    logits_BTC: Tensor = head(x_BTD, valid_BT) if seeing else head(x_BTD)
    return logits_BTC.float()
