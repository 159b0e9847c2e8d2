"""What a model has learned to hear and where it looks: arrays for figures (paper, figures 5 and 6).

Shapes: F Sinc filters, K taps, Q frequencies, T frames, L layers, H heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from a2v_model.ear import Ear, EarFilters
from a2v_model.front_end import FrontEnd
from a2v_model.inference import Inference, Waveform
from a2v_model.sinc import SincFilters

POINTS = 2049


@dataclass(frozen=True)
class CumulativeResponse:
    """Sum over the filters of |H(f)|, each (Q,) float64 and divided by its maximum; `frequency_hz` (Q,) runs from 0 to
    half the sample rate. `learned` is the model's, `initial` that of the mel filters which it started from."""

    frequency_hz: Tensor
    learned: Tensor
    initial: Tensor


def frequency_response(filters_FK: Tensor, sample_rate: float, points: int = POINTS) -> tuple[Tensor, Tensor]:
    """Frequencies (Q,) in Hz, evenly from 0 to sample_rate / 2, and |H(f)| (F, Q) of impulse responses (F, K).

    float64; Q = `points`. ValueError where a filter has more taps than 2 (Q - 1), which would alias.
    """
    length = 2 * (points - 1)
    if filters_FK.shape[-1] > length:
        raise ValueError(f"points = {points}: filters of {filters_FK.shape[-1]} taps need at least half as many")
    response_FQ = torch.fft.rfft(filters_FK.detach().double().cpu(), n=length).abs()
    return torch.linspace(0, sample_rate / 2, points, dtype=torch.float64), response_FQ


def cumulative_response(model: Inference, points: int = POINTS) -> CumulativeResponse:
    """The learned Sinc filterbank's response beside that of its mel initialisation (paper, figure 5).

    ValueError where the model has no Sinc filters (the `baseline` preset).
    """
    front_end = model.inner.front_end
    learned: SincFilters | EarFilters
    initial: SincFilters | EarFilters
    if isinstance(front_end, Ear):
        learned, initial = front_end.filters, EarFilters(front_end.config)
    elif isinstance(front_end, FrontEnd) and front_end.sinc is not None:
        learned = front_end.sinc.filters
        initial = SincFilters(len(learned.low_hz), learned.kernel, learned.sample_rate, learned.minimum_band_hz)
    else:
        raise ValueError(
            "this model has no Sinc filters (front_end.sinc is false, or a plugin's front end): there is no response to"
            " show"
        )
    frequency_hz, response_FQ = frequency_response(learned.filters(), learned.sample_rate, points)
    _, initial_FQ = frequency_response(initial.filters(), learned.sample_rate, points)
    return CumulativeResponse(frequency_hz, _to_maximum(response_FQ.sum(0)), _to_maximum(initial_FQ.sum(0)))


def mean_attention(
    model: Inference,
    waveform: Waveform,
    sample_rate: float | None = None,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
) -> Tensor:
    """Attention of a waveform (N,) averaged over layers and heads, (T, T) float32 (paper, figure 6).

    Frames are those of `model.attention_rate`. Row i says how frame i spreads its attention, and sums to 1. layers,
    heads: numbers to average over (None: all).
    The maps are added up as they come, a layer at a time: memory holds those of one layer, never all.
    Raises ValueError as `Inference.attention_maps`.
    """
    total: Tensor | None = None
    count = 0
    for _, map_HTT in model.attention_maps(waveform, sample_rate, layers, heads):
        added = map_HTT.sum(0)
        total = added if total is None else total.add_(added)
        count += len(map_HTT)
        del map_HTT  # before the next layer's are made
    assert total is not None  # attention_maps gives at least one layer
    return total.div_(count).cpu()


def attention_bytes(model: Inference, seconds: float) -> int:
    """About how much memory `mean_attention` takes for a waveform of so many seconds: five times one layer's maps
    (scores, bias, their sum, softmax, what is added up), each H x T x T float32."""
    frames = seconds * model.attention_rate
    return round(5 * 4 * model.inner.transformer.config.heads * frames**2)


def _to_maximum(values: Tensor) -> Tensor:
    return values / values.max()
