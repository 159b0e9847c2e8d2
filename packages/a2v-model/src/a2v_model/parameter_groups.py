"""Which parameters decay."""

from typing import Any

from torch import nn


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Optimiser groups of all parameters but a teacher's: matrices and kernels decay, vectors do not.

    Vectors are norms, biases, the Sinc filters' edges, PSwish and ALiBi scales: everything with one axis.
    Frozen parameters are included, so that the groups stay the same when they thaw.
    """
    named = [(n, p) for n, p in model.named_parameters() if "teacher" not in n.split(".")]
    decaying = [parameter for _, parameter in named if parameter.ndim > 1]
    rest = [parameter for _, parameter in named if parameter.ndim <= 1]
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
