"""Between-classes learning: two segments are mixed so that both are heard at the intended ratio.

animal2vec paper, section on between-classes learning; the mixing rule is that of Tokozume et al. 2018
(Learning from Between-class Examples). Legend: B segments, N samples, W windows, F frequency bins, T frames,
C classes.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

FLOOR_DB = -80.0


class BclConfig(BaseModel):
    """How segments are mixed.

    window_s: analysis window of the gain, seconds (MeerKAT 0.05). probability: that a segment is mixed.
    min_ratio: ratios are drawn from U(min_ratio, 1). per_row: one ratio per segment, else one per batch.
    mix_targets: mix targets too (finetuning); pretraining mixes inputs only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_s: Annotated[float, Field(gt=0, le=1)] = 0.05
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    min_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.5
    per_row: bool = False
    mix_targets: bool = True


def a_weighted_gain_db(waveform_BN: Tensor, sample_rate: int, window_s: float) -> Tensor:
    """A-weighted power in dB (at least -80) of Hann windows of `window_s` seconds, hop half a window: (B, W).

    In float32, whatever autocast does around it: in bfloat16 it would be off by up to a quarter of a dB.
    Raises `ValueError` where the waveform is shorter than one window.
    """
    size = round(window_s * sample_rate)
    if not 2 <= size <= waveform_BN.shape[-1]:
        raise ValueError(
            f"window_s: {window_s} s is {size} samples; it must be between 2 samples "
            f"and the segment's {waveform_BN.shape[-1]}"
        )
    device = waveform_BN.device
    frame_BWN = waveform_BN.float().unfold(-1, size, size // 2)
    spectrum_BWF = torch.fft.rfft(frame_BWN * torch.hann_window(size, device=device))
    weight_F = _a_weight(size, sample_rate, device)
    with torch.autocast(device.type, enabled=False):  # which would make a matrix product one of bfloat16
        power_BW = torch.view_as_real(spectrum_BWF).square().sum(-1) @ weight_F
    return 10 * power_BW.clamp_min(10 ** (FLOOR_DB / 10)).log10()


@lru_cache(maxsize=8)
def _a_weight(size: int, sample_rate: int, device: torch.device) -> Tensor:
    """Power weight per FFT bin (F,): IEC 61672 A-weighting, 0 dB at 1 kHz, floored at -80 dB."""
    squared = torch.fft.rfftfreq(size, 1 / sample_rate, dtype=torch.float64).square()
    response = (12194.0**2 * squared.square()) / (
        (squared + 20.6**2) * (squared + 12194.0**2) * ((squared + 107.7**2) * (squared + 737.9**2)).sqrt()
    )
    weight_db = (20 * response.log10() + 2.0).clamp_min(FLOOR_DB)
    return (10 ** (weight_db / 10)).float().to(device, non_blocking=True)


@dataclass(frozen=True)
class Mixing:
    """What `draw` drew: which segments are mixed (B,) bool, at which ratio (B or 1), with which partner (B,)."""

    selected: Tensor
    ratio: Tensor
    partner: Tensor


def draw(batch: int, config: BclConfig, generator: torch.Generator) -> Mixing:
    """The chance in the mixing of so many segments, on the generator's device; always the same number of draws."""
    on = generator.device
    selected = torch.rand(batch, generator=generator, device=on) < config.probability
    ratio = torch.rand(batch if config.per_row else 1, generator=generator, device=on)
    partner = torch.randperm(batch, generator=generator, device=on)
    return Mixing(selected, config.min_ratio + (1 - config.min_ratio) * ratio, partner)


@torch.no_grad()
def mix(
    waveform_BN: Tensor,
    targets_BTC: Tensor | None,
    sample_rate: int,
    config: BclConfig,
    generator: torch.Generator | Mixing,
    *,
    ratio: Tensor | None = None,
    permutation: Tensor | None = None,
    selected: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Mix every selected segment with its partner under a random permutation of the batch.

    With ratio r and gains G1, G2 (dB, the loudest window of each): p = 1 / (1 + 10^((G1-G2)/20) (1-r)/r),
    mixed = (p x1 + (1-p) x2) / sqrt(p^2 + (1-p)^2), targets r y1 + (1-r) y2. Rows that are not selected, and
    targets unless `config.mix_targets`, are returned as they were given. The draws come from `generator`, or were
    made by `draw`; `ratio` (B or 1), `permutation` (B) and `selected` (B, bool) replace them in tests.
    """
    batch, device = waveform_BN.shape[0], waveform_BN.device
    drawn = generator if isinstance(generator, Mixing) else draw(batch, config, generator)
    selected_B = (drawn.selected if selected is None else selected.bool()).to(device, non_blocking=True)
    ratio_B = (drawn.ratio if ratio is None else ratio).to(device, non_blocking=True).expand(batch)
    partner_B = (drawn.partner if permutation is None else permutation).to(device, non_blocking=True)

    gain_B = a_weighted_gain_db(waveform_BN, sample_rate, config.window_s).amax(-1)
    weight_B1 = _amplitude_weight(gain_B, gain_B[partner_B], ratio_B)[:, None]
    mixed_BN = torch.lerp(waveform_BN[partner_B], waveform_BN, weight_B1.to(waveform_BN.dtype))
    mixed_BN /= (weight_B1.square() + (1 - weight_B1).square()).sqrt().to(waveform_BN.dtype)
    mixed_BN = torch.where(selected_B[:, None], mixed_BN, waveform_BN)
    if targets_BTC is None or not config.mix_targets:
        return mixed_BN, targets_BTC
    ratio_B11 = torch.where(selected_B, ratio_B, torch.ones_like(ratio_B))[:, None, None]
    targets_BTC = targets_BTC.float()
    return mixed_BN, ratio_B11 * targets_BTC + (1 - ratio_B11) * targets_BTC[partner_B]


def mixed_streams(streams: dict[str, Tensor], mixing: Mixing) -> dict[str, Tensor]:
    """What was recorded beside mixed segments (B, M, C), by name, mixed by the same ratios as their targets; NaN where
    either has none."""

    def mixed(values_BMC: Tensor) -> Tensor:
        device = values_BMC.device
        ratio_B = mixing.ratio.to(device, non_blocking=True).expand(len(values_BMC))
        ratio_B = torch.where(mixing.selected.to(device, non_blocking=True), ratio_B, torch.ones_like(ratio_B))
        partner_BMC = values_BMC[mixing.partner.to(device, non_blocking=True)]
        both_BMC = ratio_B[:, None, None] * values_BMC + (1 - ratio_B[:, None, None]) * partner_BMC
        return torch.where((ratio_B < 1)[:, None, None], both_BMC, values_BMC)

    return {name: mixed(values_BMC) for name, values_BMC in streams.items()}


def _amplitude_weight(gain_B: Tensor, partner_gain_B: Tensor, ratio_B: Tensor) -> Tensor:
    """Weight p of the first signal: the louder signal is turned down, so that r is what is heard."""
    louder_B = torch.exp((gain_B - partner_gain_B) * (math.log(10) / 20))
    return 1 / (1 + louder_B * (1 - ratio_B) / ratio_B)
