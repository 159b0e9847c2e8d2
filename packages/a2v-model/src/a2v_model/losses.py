"""Losses of finetuning, and the pooling of frames into what is said of a whole recording.

Shapes: B segments, T frames, C classes, R recordings. Targets may be soft (mixed labels).
"""

import torch
from torch import Tensor
from torch.nn import functional

from a2v_model.registry import OwnLoss


def focal_loss(logits: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Elementwise focal loss (Lin et al. 2017, eq. 5): alpha_t (1 - p_t)^gamma * cross entropy, in float32.

    Soft targets y enter as p_t = p y + (1 - p)(1 - y) and alpha_t = alpha y + (1 - alpha)(1 - y).
    """
    logits, targets = logits.float(), targets.float()
    likelihood = logits.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missed = 1 - (likelihood * targets + (1 - likelihood) * (1 - targets))
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * missed**gamma * cross_entropy


def own_loss(own: OwnLoss, logits: Tensor, targets: Tensor) -> Tensor:
    """Elementwise loss of a plugin, in float32; ValueError where it is not of the logits' shape."""
    part = own.part
    loss = part.make(logits.float(), targets.float(), own.config)
    if not isinstance(loss, Tensor) or loss.shape != logits.shape:
        got = f"a tensor {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise ValueError(
            f"loss {part.name} of plugin {part.plugin}: gives {got}; must be the loss of each element, a tensor"
            f" {tuple(logits.shape)} as the logits (not their mean or sum)"
        )
    return loss.float()


LEAST = 1e-6


def linear_softmax(likelihood_BTC: Tensor, counted_BT: Tensor, recording_B: Tensor, recordings: int) -> Tensor:
    """Likelihood (R, C) that a class sounds somewhere in a recording, from those of its frames: sum p^2 / sum p over
    the counted frames of all its segments, so that each frame weighs as much as it is likely (Wang, Li & Metze 2019, 'A
    comparison of five multiple instance learning pooling functions for sound event detection with weak labeling',
    ICASSP, arXiv 1810.09050).

    likelihood_BTC: in [0, 1]; counted_BT: bool, which frames are the recording's, each once; recording_B: int64, to
    which of `recordings` recordings a segment belongs. In float32. A recording without any counted frame has 0.
    """
    p_BTC = likelihood_BTC.float() * counted_BT[:, :, None]
    sums = [
        torch.zeros(recordings, p_BTC.shape[2], device=p_BTC.device).index_add(0, recording_B, part_BTC.sum(1))
        for part_BTC in (p_BTC.square(), p_BTC)
    ]
    return sums[0] / sums[1].clamp_min(LEAST)


def logit_of(likelihood: Tensor) -> Tensor:
    """The logit, of 0 and 1 too: it is that of a likelihood drawn a millionth of the way to a half, so that gradients
    never vanish."""
    inside = LEAST + (1 - 2 * LEAST) * likelihood
    return inside.log() - torch.log1p(-inside)
