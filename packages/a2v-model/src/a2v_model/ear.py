"""A front end that starts as an ear: band energies, their logarithm over a slow level, a stem of small convolutions.

Sinc bands, energy and pooling in one step: by Parseval's theorem the energy of a windowed stretch of sound behind a
filter is the sum over frequencies of its power times the filter's squared response, so a frame costs one Fourier
transform and one matrix product instead of a convolution at the full rate (compare LEAF, Zeghidour et al. 2021, which
filters, squares and pools in time). The band edges stay the parameters, as in SincNet.

Shapes: B segments, N samples, T frames, F bands, K taps, Q frequencies, C channels.
"""

from copy import copy
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from a2v_model.config import EarConfig
from a2v_model.layers import BatchNorm
from a2v_model.recomputation import Recomputing
from a2v_model.sinc import mel_edges_hz
from a2v_model.sizes import placed

SMALLEST_ENERGY = 1e-6  # of a waveform with unit variance; the quantisation of 16 bits lies below it
LEVELS = (-4.0, 8.0)  # in units of exp(2): -35 to +69 dB around the level
TIME_MASK_S = 0.06
NARROW = 0.5  # of the segments in training, with `any_rate`, lose their highest bands; half of these are told so

Part = TypeVar("Part", bound=nn.Module)


def _view(module: Part) -> Part:
    """A module with the same parameters and parts, and buffers and settings of its own."""
    view = copy(module)
    view._buffers, view._modules = dict(module._buffers), dict(module._modules)
    return view


class EarFilters(nn.Module):
    """Band-pass filters given by a learned low edge and bandwidth, in kHz so that an optimiser's steps suit them.

    At first band i reaches from mel edge i to mel edge i + 2: neighbours overlap by half.
    """

    def __init__(self, config: EarConfig) -> None:
        super().__init__()
        self.time_s: Tensor
        self.window: Tensor
        self.highest_hz = config.sample_rate / 2
        edges = mel_edges_hz(config.filters + 1, config.minimum_hz, config.sample_rate / 2)
        self.low_khz = nn.Parameter(placed(edges[:-2].float() / 1000), requires_grad=config.learned)
        self.band_khz = nn.Parameter(placed((edges[2:] - edges[:-2]).float() / 1000), requires_grad=config.learned)
        self._sample(config)

    def _sample(self, config: EarConfig, device: torch.device | None = None) -> None:
        """When the taps of the impulse responses are, and their window."""
        self.sample_rate, half = config.sample_rate, config.taps // 2
        time_s = torch.arange(-half, half + 1, device=device or "cpu") / config.sample_rate
        window = torch.hamming_window(config.taps, periodic=False, device=device or "cpu")
        self.register_buffer("time_s", placed(time_s, device), persistent=False)
        self.register_buffer("window", placed(window, device), persistent=False)

    def at(self, config: EarConfig) -> "EarFilters":
        """The same bands, sampled at another rate; the parameters are shared."""
        view = _view(self)
        view._sample(config, self.time_s.device)
        return view

    def heard(self) -> Tensor:
        """bool (F,): the bands that lie below half the sample rate."""
        return self.bands_hz()[1] <= self.sample_rate / 2

    def bands_hz(self) -> tuple[Tensor, Tensor]:
        """Lower and upper edge of every band in Hz, each (F,)."""
        low = 1000 * self.low_khz.float().abs()
        high = (low + 1000 * self.band_khz.float().abs()).clamp(max=self.highest_hz)
        return low, high

    def filters(self) -> Tensor:
        """Impulse responses (F, K): the difference of two sincs under a Hamming window, with unit energy."""
        low_F1, high_F1 = (edge[:, None] for edge in self.bands_hz())
        sincs = 2 * high_F1 * torch.sinc(2 * high_F1 * self.time_s) - 2 * low_F1 * torch.sinc(2 * low_F1 * self.time_s)
        shaped = sincs * self.window
        return shaped / (shaped.square().sum(1, keepdim=True) + 1e-9).sqrt()


class BandEnergies(nn.Module):
    """(B, N) -> (B, F, T): mean energy in every band, in a window around the middle of every frame."""

    def __init__(self, config: EarConfig) -> None:
        super().__init__()
        self.window: Tensor
        self.weight_Q: Tensor
        self.filters = EarFilters(config)
        self._sample(config)

    def _sample(self, config: EarConfig, device: torch.device | None = None) -> None:
        """The window of a frame, and what a frequency of the Fourier transform counts."""
        self.config = config
        window = torch.hann_window(config.energy_window, device=device or "cpu")
        weight_Q = torch.full((config.transform // 2 + 1,), 2.0, device=device or "cpu")  # of both signs of a frequency
        weight_Q[[0, -1]] = 1.0
        weight_Q /= config.transform * window.square().sum()
        self.register_buffer("window", placed(window, device), persistent=False)
        self.register_buffer("weight_Q", placed(weight_Q, device), persistent=False)

    def at(self, config: EarConfig) -> "BandEnergies":
        """The same bands of sound at another rate; the parameters are shared."""
        view = _view(self)
        view.filters = self.filters.at(config)
        view._sample(config, self.window.device)
        return view

    def forward(self, waveform_BN: Tensor) -> Tensor:
        config = self.config
        frames = config.frames(waveform_BN.shape[1])
        before = (config.transform - config.stride) // 2
        padded_BN = functional.pad(waveform_BN, (before, config.transform))
        spectrum_BQT = torch.stft(
            padded_BN, config.transform, config.stride, config.energy_window, self.window, center=False,
            return_complex=True,
        )[..., :frames]  # fmt: skip
        power_BQT = spectrum_BQT.real.square() + spectrum_BQT.imag.square()
        response_FQ = torch.fft.rfft(self.filters.filters(), config.transform).abs().square()
        return (response_FQ * self.weight_Q) @ power_BQT


def rectified_maxima(x_BCFT: Tensor) -> Tensor:
    """The larger of every two neighbouring bands, and 0 where both are negative: (B, C, F, T) -> (B, C, F / 2, T).

    As max_pool2d(relu(x), (2, 1)), which on a CPU takes 10 to 70 times as long.
    """
    if x_BCFT.device.type != "cpu" or torch.compiler.is_compiling():
        return functional.max_pool2d(functional.relu(x_BCFT), (2, 1))
    if not torch.is_grad_enabled():
        return torch.maximum(x_BCFT[:, :, ::2], x_BCFT[:, :, 1::2]).clamp_(min=0)
    maxima: Tensor = _RectifiedMaxima.apply(x_BCFT)
    return maxima


class _RectifiedMaxima(torch.autograd.Function):
    """Of two equal values the first has the gradient, as in torch's pooling."""

    @staticmethod
    def forward(ctx: Any, x_BCFT: Tensor) -> Tensor:
        first, second = x_BCFT[:, :, ::2], x_BCFT[:, :, 1::2]
        out = torch.maximum(first, second).clamp_(min=0)
        ctx.save_for_backward(out, first >= second)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        out, is_first = ctx.saved_tensors
        d_out = gradients[0] * (out > 0)
        d_x = d_out.new_empty(*out.shape[:2], 2 * out.shape[2], out.shape[3])
        torch.mul(d_out, is_first, out=d_x[:, :, ::2])
        torch.mul(d_out, ~is_first, out=d_x[:, :, 1::2])
        return d_x


class Stem(Recomputing):
    """3 x 3 convolutions over bands and time, each with batch normalisation, ReLU, and pairs of bands pooled."""

    def __init__(self, config: EarConfig) -> None:
        super().__init__()
        channels = (2 if config.any_rate else 1, *config.stem)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in pairwise(channels)
        )
        self.norms = nn.ModuleList(BatchNorm(after) for after in config.stem)

    def forward(self, x_BCFT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """(B, inputs, F, T) -> (B, T, C). Frames that are not valid stay 0 throughout, as what lies beyond an end."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x_BCFT = self.part(self._layer, conv, norm, x_BCFT)
            if valid_BT is not None:
                x_BCFT = x_BCFT * valid_BT[:, None, None].to(x_BCFT.dtype)
        return x_BCFT.flatten(1, 2).transpose(1, 2).float()

    @staticmethod
    def _layer(conv: nn.Conv2d, norm: BatchNorm, x_BCFT: Tensor) -> Tensor:
        if norm.of_batch() or torch.is_grad_enabled():
            return rectified_maxima(norm(conv(x_BCFT)))
        scale_C, shift_C = norm.scale_and_shift()  # nothing learns: the normalisation goes into the filters
        weight = conv.weight.float() * scale_C[:, None, None, None]
        return rectified_maxima(functional.conv2d(x_BCFT, weight, shift_C, padding=1))


class Ear(nn.Module):
    """Frames (B, T, C) of normalised waveforms (B, N): each band's energies are taken relative to their own quantile
    over the segment, so that neither a recorder's response nor stationary noise is heard."""

    def __init__(self, config: EarConfig) -> None:
        super().__init__()
        self.config = config
        self.energies = BandEnergies(config)
        self.stem = Stem(config)

    @property
    def filters(self) -> EarFilters:
        return self.energies.filters

    def at(self, config: EarConfig) -> "Ear":
        """What hears sound at another rate, as `EarConfig.at` says; the parameters are shared."""
        view = _view(self)
        view.config, view.energies = config, self.energies.at(config)
        return view

    def forward(
        self, waveform_BN: Tensor, lengths: Tensor | None = None, generator: torch.Generator | Tensor | None = None
    ) -> Tensor:
        """lengths (B, samples): what of an item is no padding; in eval mode the rest changes nothing, in train mode
        it counts in the batch's statistics as silence. Frames of padding are 0.
        generator (CPU): in train mode, draws the masks over bands and time; or what `draw_mask` drew."""
        valid_BT = None
        if lengths is not None:
            lengths = lengths.to(waveform_BN.device, non_blocking=True)
            valid_BT = torch.arange(self.config.frames(waveform_BN.shape[1]), device=waveform_BN.device) < (
                lengths[:, None] // self.config.stride
            )
            inside_BN = torch.arange(waveform_BN.shape[1], device=waveform_BN.device) < lengths[:, None]
            waveform_BN = waveform_BN * inside_BN  # a frame's window reaches beyond the item's end
        with torch.autocast(waveform_BN.device.type, enabled=False):
            x_BFT = self.loudness(waveform_BN.float(), valid_BT)
        mask_BFT = None
        if self.training and generator is not None:
            if isinstance(generator, torch.Generator):
                generator = self.draw_mask(len(x_BFT), x_BFT.shape[2], generator)
            mask_BFT = generator.to(x_BFT.device, non_blocking=True)
            x_BFT = x_BFT * mask_BFT.clamp(min=0)
        return self.stem(self._inputs(x_BFT, mask_BFT, valid_BT), valid_BT)

    def _inputs(self, x_BFT: Tensor, mask_BFT: Tensor | None, valid_BT: Tensor | None) -> Tensor:
        """The stem's (B, 1, F, T), or with `any_rate` (B, 2, F, T): loudness, and 1 where a band is heard."""
        if not self.config.any_rate:
            return x_BFT[:, None]
        heard_BFT = self.filters.heard().to(x_BFT.dtype)[None, :, None].expand_as(x_BFT)
        if mask_BFT is not None:
            heard_BFT = heard_BFT * (mask_BFT >= 0)
        if valid_BT is not None:
            heard_BFT = heard_BFT * valid_BT[:, None]
        return torch.stack([x_BFT * heard_BFT, heard_BFT], 1)

    def loudness(self, waveform_BN: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """(B, F, T): log energy over the band's level, in units of exp(2), within LEVELS; 0 is the level."""
        log_BFT = torch.log(self.energies(waveform_BN) + SMALLEST_ENERGY)
        level_BF1 = self._level(log_BFT, valid_BT)
        relative_BFT = ((log_BFT - level_BF1) / 2).clamp(*LEVELS)
        return relative_BFT if valid_BT is None else relative_BFT * valid_BT[:, None]

    def _level(self, log_BFT: Tensor, valid_BT: Tensor | None) -> Tensor:
        if valid_BT is None:
            rank = max(1, int(self.config.level_quantile * log_BFT.shape[-1]))
            return log_BFT.kthvalue(rank, dim=-1, keepdim=True).values
        # frames beyond an item's end sort behind all others
        sorted_BFT = log_BFT.masked_fill(~valid_BT[:, None], torch.inf).sort(dim=-1).values
        rank_B = (self.config.level_quantile * valid_BT.sum(1).double()).long().clamp(min=1) - 1
        return sorted_BFT.gather(2, rank_B[:, None, None].expand(-1, sorted_BFT.shape[1], 1))

    def draw_mask(self, batch: int, frames: int, generator: torch.Generator) -> Tensor:
        """(B, F, T) on the CPU: 1, and 0 in masked bands and frames, where a sound is as loud as its surroundings (Park
        et al. 2019); -1 where bands are taken for those above half the rate of a recording. Those that are lost without
        being told are as in a recording that somebody resampled to a higher rate."""
        config, bands = self.config, self.config.filters
        mask_BFT = torch.ones(batch, bands, frames)
        longest = min(round(TIME_MASK_S * config.frame_rate), frames - 1)

        def draw(high: int) -> int:
            return int(torch.randint(high, (), generator=generator))

        for row_FT in mask_BFT:
            for _ in range(draw(config.band_masks + 1)):
                width = 1 + draw(max(1, bands // 8))
                first = draw(bands - width + 1)
                row_FT[first : first + width] = 0
            if longest > 0 and float(torch.rand((), generator=generator)) < config.time_mask_probability:
                width = 1 + draw(longest)
                first = draw(frames - width + 1)
                row_FT[:, first : first + width] = 0
            if config.any_rate and float(torch.rand((), generator=generator)) < NARROW:
                row_FT[bands - draw(bands // 2 + 1) :] = -draw(2)  # beyond half the rate, or heard and silent
        return mask_BFT
