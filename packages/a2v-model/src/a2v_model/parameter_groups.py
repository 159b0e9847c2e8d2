"""Which parameters decay."""

from typing import Any

from torch import nn

SINC_EDGES = ("low_hz", "band_hz", "low_khz", "band_khz")  # of the waveform front end, and of an ear


def weight_decay_groups(model: nn.Module, weight_decay: float, decay_sinc: bool = False) -> list[dict[str, Any]]:
    """Optimiser groups of all parameters but a teacher's: matrices and kernels decay, vectors do not.

    Vectors are norms, biases, the Sinc filters' edges, PSwish and ALiBi scales: everything with one axis. With
    `decay_sinc` the edges decay as well: the original stores them with two axes, so its bands narrow and move down
    (by about a sixth over the published pretraining; spec 5).
    Frozen parameters are included, so that the groups stay the same when they thaw.
    """
    named = [(n, p) for n, p in model.named_parameters() if "teacher" not in n.split(".")]

    def decays(name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1 or (decay_sinc and name.rsplit(".", 1)[-1] in SINC_EDGES)

    decaying = [parameter for name, parameter in named if decays(name, parameter)]
    rest = [parameter for name, parameter in named if not decays(name, parameter)]
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
