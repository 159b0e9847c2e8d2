"""Head `boxes`: onsets, offsets and durations, so that calls of one class may overlap; after Voxaboxen (Mahon et al.
2025, arXiv 2503.02389), and the heat maps of CenterNet (Zhou et al. 2019, 'Objects as points', arXiv 1904.07850).

A frame's logits are 4 C: of an onset and of an offset of each class (C each), then log(duration / 0.1 s) of the calls
that start and that end there. Targets have the same places: 1 in the frame of an onset or offset, less around it, NaN
where it is not known; and the logarithm of the duration, NaN where no call starts or ends.

Shapes: B segments, T frames, C classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

UNIT_S = 0.1  # the duration that a logit of 0 is
SHORTEST, LONGEST = 0.01, 600.0  # of UNIT_S: 1 ms and a minute, so that no output is 0 or infinite
PRIOR = 0.1  # likelihood of an onset at first, where `head_prior` says none (as CenterNet)
AROUND = 4  # the power by which a target near an onset spares what is said there (CenterNet's beta)


def init_boxes(last: nn.Linear, prior: float | None) -> None:
    """Biases of the last layer: onsets and offsets have the likelihood `prior` (None: 0.1), durations 0.1 s."""
    likely = PRIOR if prior is None else prior
    nn.init.zeros_(last.bias)
    nn.init.constant_(last.bias[: last.out_features // 2], math.log(likely / (1 - likely)))


def box_maps(logits: Tensor) -> Tensor:
    """Likelihoods of onsets and offsets, and durations in seconds, (..., 4 C), float32, of logits (..., 4 C)."""
    heat, duration = logits.float().chunk(2, dim=-1)
    bounded = duration.clamp(math.log(SHORTEST), math.log(LONGEST))
    return torch.cat([heat.sigmoid(), UNIT_S * bounded.exp()], dim=-1)


def duration_logits(seconds: Tensor) -> Tensor:
    """The target of a duration: what `box_maps` makes these seconds of."""
    return (seconds / UNIT_S).log()


def box_loss(logits_BTM: Tensor, targets_BTM: Tensor, valid_BT: Tensor | None, gamma: float) -> tuple[Tensor, Tensor]:
    """As `Detector.loss`: the penalty-reduced focal loss of onsets and offsets (CenterNet, equation 1), and the
    absolute error of the logarithm of the duration where a call starts or ends, all summed; and the number of frames.

    With p the likelihood and y the target: -(1 - p)^gamma log p where y is 1, else -(1 - y)^4 p^gamma log(1 - p).
    """
    heat, duration = logits_BTM.float().chunk(2, dim=-1)
    target_heat, target_duration = targets_BTM.float().chunk(2, dim=-1)
    known = ~target_heat.isnan()
    counted_BT = known.any(-1) if valid_BT is None else known.any(-1) & valid_BT
    y = torch.where(known, target_heat, 0.0)
    p = heat.sigmoid()
    found = -((1 - p) ** gamma) * functional.logsigmoid(heat)
    quiet = -((1 - y) ** AROUND) * p**gamma * functional.logsigmoid(-heat)
    detection = torch.where(known, torch.where(y == 1, found, quiet), 0.0)
    timed = ~target_duration.isnan()
    error = torch.where(timed, (duration - torch.where(timed, target_duration, 0.0)).abs(), 0.0)
    total = torch.where(counted_BT[:, :, None], detection + error, 0.0).sum()
    return total, counted_BT.sum()
