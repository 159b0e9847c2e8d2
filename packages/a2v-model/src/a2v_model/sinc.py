"""The Sinc filterbank: learned band-passes on the raw waveform (paper, front end; spec 2).

Shapes: B segments, N samples, F filters, K taps.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from a2v_model.cpu_kernels import sinc_convolution
from a2v_model.sizes import placed

MINIMUM_LOW_HZ = 50.0
HAMMING_OFFSET, HAMMING_SWING = 0.53836, 0.46164


def _mel(hz: float) -> float:
    return 2595.0 * math.log10(1.0 + hz / 700.0)


def mel_edges_hz(filters: int, low_hz: float, high_hz: float) -> Tensor:
    """filters + 1 band edges in Hz, equally spaced on the mel scale, float64, on the CPU."""
    mel = torch.linspace(_mel(low_hz), _mel(high_hz), filters + 1, dtype=torch.float64, device="cpu")
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


class SincFilters(nn.Module):
    """Band-pass filters given by a learned low edge and bandwidth; (B, N) -> (B, N, F) in float32.

    Filter i passes low = 50 + |low_hz_i| to high = clamp(low + minimum_band + |band_hz_i|, 50, sr / 2), Hz.
    """

    def __init__(self, filters: int, kernel: int, sample_rate: int, minimum_band_hz: int) -> None:
        super().__init__()
        self.window: Tensor
        self.radians: Tensor
        self.sample_rate, self.kernel, self.minimum_band_hz = sample_rate, kernel, minimum_band_hz
        edges = mel_edges_hz(filters, MINIMUM_LOW_HZ, sample_rate / 2 - (MINIMUM_LOW_HZ + minimum_band_hz))
        self.low_hz = nn.Parameter(placed(edges[:-1].float()))
        self.band_hz = nn.Parameter(placed(edges.diff().float()))
        half = kernel // 2
        taps = torch.linspace(0, kernel / 2 - 1, half, dtype=torch.float64, device="cpu")
        window = HAMMING_OFFSET - HAMMING_SWING * torch.cos(2 * math.pi * taps / kernel)
        time_s = torch.arange(-half, 0, dtype=torch.float64, device="cpu") / sample_rate
        self.register_buffer("window", placed(window.float()), persistent=False)
        self.register_buffer("radians", placed((2 * math.pi * time_s).float()), persistent=False)

    def bands_hz(self) -> tuple[Tensor, Tensor]:
        """Lower and upper edge of every filter in Hz, each (F,)."""
        low = MINIMUM_LOW_HZ + self.low_hz.float().abs()
        high = low + self.minimum_band_hz + self.band_hz.float().abs()
        return low, high.clamp(MINIMUM_LOW_HZ, self.sample_rate / 2)

    def filters(self) -> Tensor:
        """Impulse responses (F, K): difference of two sincs, half a Hamming window mirrored, centre tap 1."""
        low_F1, high_F1 = (edge[:, None] for edge in self.bands_hz())
        left = torch.sin(high_F1 * self.radians) - torch.sin(low_F1 * self.radians)
        left = left / (self.radians / 2) * self.window
        centre = 2 * (high_F1 - low_F1)
        return torch.cat([left, centre, left.flip(1)], dim=1) / centre

    def forward(self, waveform_BN: Tensor) -> Tensor:
        with torch.autocast(waveform_BN.device.type, enabled=False):
            padded, filters = self.pad(waveform_BN), self.filters()
            if padded.device.type == "cpu":
                return sinc_convolution(padded, filters)
            return functional.conv1d(padded[:, None], filters[:, None]).transpose(1, 2)

    def pad(self, waveform_BN: Tensor) -> Tensor:
        """The waveform in float32, reflected at both ends: as many outputs as samples."""
        margin = self.kernel // 2
        return functional.pad(waveform_BN.float()[:, None], (margin, margin), mode="reflect")[:, 0]


class PSwish(nn.Module):
    """x * alpha * sigmoid(beta * x) with one alpha and beta per channel; starts as the identity. (..., C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((channels,), 2.0))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.alpha * torch.sigmoid(self.beta * x)
