"""Losses of finetuning. Any shape; targets may be soft (mixed labels)."""

from torch import Tensor
from torch.nn import functional


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
