"""A front end of the paper's shape that starts as a filterbank: the energies of its Sinc bands, smoothed in time.

Every channel that is heard has two: j carries +v and F + j carries -v, and GELU(v) - GELU(-v) = v, so a convolution
that subtracts the two passes a signed value on through GELU exactly. Only where training starts from changes, no shape
and no operation: any of this is learned away where it does not help.

Shapes: B segments, N samples, F Sinc filters, K taps, C channels.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from a2v_model.sinc import PSwish, SincFilters

NOISE = 0.2  # of the usual start, on every weight: what is the same everywhere learns the same everywhere
RECTIFYING = 2.0  # PSwish's beta: x * alpha * sigmoid(2 x) is near 0 below -2 and near alpha * x above 2
CALIBRATION_S = 1.0
SEED = 0


@torch.no_grad()
def start_as_filterbank(
    filters: SincFilters, norm: nn.LayerNorm, activation: nn.Module, convolutions: Iterable[nn.Conv1d]
) -> None:
    """Set the Sinc layer's gains and PSwish, and the weights of the convolutions after it, in place.

    Each convolution needs at least 2 F channels, which `FrontEndConfig` checks. To `NOISE` times its weights is added,
    in the first 2 F channels, a mean of the same band over time, weighted by a Hann window.
    """
    if filters.low_hz.is_meta:  # a model without weights
        return
    norm.weight.copy_(unit_gains(filters, norm.eps))
    if isinstance(activation, PSwish):
        activation.beta.fill_(RECTIFYING)
    bands, signed = len(filters.low_hz), False
    for conv in convolutions:
        conv.weight.mul_(NOISE).add_(smoothing(tuple(conv.weight.shape), bands, signed).to(conv.weight))
        signed = True


def smoothing(shape: tuple[int, ...], bands: int, signed: bool) -> Tensor:
    """Weights (C, C before, K) that average each band in time, as +v and -v; signed: what comes in has both, too.

    A row has the length that the usual start (Kaiming) gives it, sqrt(2), so that `NOISE` is relative to it.
    """
    weight = torch.zeros(shape, device="cpu")
    number, window_K = torch.arange(bands, device="cpu"), hann(shape[2])
    weight[number, number] = window_K
    if signed:
        weight[number, bands + number] = -window_K
    weight[bands + number] = -weight[number]
    return weight * (2**0.5 / weight[0].norm())


def unit_gains(filters: SincFilters, eps: float) -> Tensor:
    """What to multiply each band (F,) by, after normalisation over bands, for a standard deviation of 1 in noise."""
    wave_BN = noises(round(CALIBRATION_S * filters.sample_rate)).to(filters.low_hz.device)
    bands_BNF = functional.layer_norm(filters(wave_BN), (len(filters.low_hz),), eps=eps)
    return 1 / bands_BNF.flatten(0, 1).std(0)


def noises(samples: int) -> Tensor:
    """White and pink noise (2, samples) with unit variance, always the same."""
    white = torch.randn(samples, generator=torch.Generator().manual_seed(SEED), device="cpu")
    spectrum = torch.fft.rfft(white)
    weight = torch.arange(len(spectrum), device="cpu").clamp(min=1).rsqrt()
    weight[0] = 0.0
    both = torch.stack([white, torch.fft.irfft(spectrum * weight, samples)])
    return (both - both.mean(1, keepdim=True)) / both.std(1, keepdim=True)


def hann(taps: int) -> Tensor:
    """A Hann window of so many taps, none of them 0."""
    return torch.hann_window(taps + 2, periodic=False, device="cpu")[1:-1]
