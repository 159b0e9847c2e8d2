"""Explanation: responses against numpy's FFT, mean attention against the naive mean of all maps."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from a2v_model import PRESETS, Detector, FinetuneConfig, FrontEndConfig, ModelConfig, Pretrainer
from a2v_model.explain import attention_bytes, cumulative_response, frequency_response, mean_attention
from a2v_model.sinc import SincFilters
from model_goldens import tiny_model, tiny_pretrain
from torch import Tensor


def _detector(seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    return Detector(tiny_model(), FinetuneConfig(average_layers=2, channel_mask_length=4), ["cc", "sn"]).eval()


@pytest.mark.parametrize("rate, kernel, points", [(8000, 63, 257), (24000, 109, 1025)])
def test_response_of_every_filter_is_numpys_fft(rate: int, kernel: int, points: int) -> None:
    sinc = SincFilters(20, kernel, rate, 127)
    with torch.no_grad():
        sinc.low_hz.add_(100 * torch.randn(20, generator=torch.Generator().manual_seed(0)))
    frequency_hz, response_FQ = frequency_response(sinc.filters(), rate, points)
    taps = sinc.filters().detach().double().numpy()
    np.testing.assert_allclose(frequency_hz, np.fft.rfftfreq(2 * (points - 1), 1 / rate))
    for filter_, response in zip(taps, response_FQ, strict=True):
        np.testing.assert_allclose(response, np.abs(np.fft.rfft(filter_, 2 * (points - 1))), atol=1e-9)


@pytest.mark.parametrize("low, high", [(800.0, 1400.0), (2000.0, 2600.0)])
def test_a_long_filter_passes_its_band(low: float, high: float) -> None:
    """The closed form: an ideal band-pass, but for a window's width at the edges. Divided by 2 (high - low), so its
    level is sr / (2 (high - low))."""
    sinc = SincFilters(1, 1023, 8000, 8)
    with torch.no_grad():
        sinc.low_hz.fill_(low - 50)
        sinc.band_hz.fill_(high - low - 8)
    frequency_hz, response_FQ = frequency_response(sinc.filters(), 8000)
    inside = (frequency_hz > low + 30) & (frequency_hz < high - 30)
    outside = (frequency_hz < low - 30) | (frequency_hz > high + 30)
    level = 8000 / (2 * (high - low))
    assert torch.allclose(response_FQ[0, inside] / level, torch.ones(1, dtype=torch.float64), atol=0.02)
    assert float(response_FQ[0, outside].max()) / level < 0.02


def test_cumulative_response_is_the_sum_beside_the_mel_start() -> None:
    model = _detector()
    front_end = model.backbone.front_end
    assert front_end.sinc is not None
    start = SincFilters(
        model.model_config.front_end.filters, model.model_config.front_end.kernel, 8000,
        model.model_config.front_end.minimum_band_hz,
    )  # fmt: skip
    same = cumulative_response(model, 513)
    torch.testing.assert_close(same.learned, same.initial)
    with torch.no_grad():
        front_end.sinc.filters.low_hz.add_(300)
    moved = cumulative_response(model, 513)
    for found, filters in ((moved.learned, front_end.sinc.filters), (moved.initial, start)):
        total = np.abs(np.fft.rfft(filters.filters().detach().double().numpy(), 1024)).sum(0)
        np.testing.assert_allclose(found, total / total.max(), atol=1e-9)
        assert float(found.max()) == 1
    assert not torch.allclose(moved.learned, moved.initial, atol=0.01) and float(moved.frequency_hz[-1]) == 4000
    torch.manual_seed(0)
    pretrained = cumulative_response(Pretrainer(tiny_model(), tiny_pretrain()), 513)
    torch.testing.assert_close(pretrained.initial, same.initial)


def test_no_filters_and_too_few_points() -> None:
    front_end = FrontEndConfig(sinc=False, layers=((8, 10, 5), (8, 3, 2)))
    model = Pretrainer(ModelConfig(front_end=front_end, encoder=tiny_model().encoder), tiny_pretrain())
    with pytest.raises(ValueError, match="no Sinc filters"):
        cumulative_response(model)
    with pytest.raises(ValueError, match="points = 20: filters of 63 taps"):
        frequency_response(torch.ones(2, 63), 8000, 20)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mean_attention_is_the_naive_mean_of_all_maps(seed: int) -> None:
    model = _detector(seed)
    torch.manual_seed(seed)
    wave = torch.randn(1600)
    every = torch.stack([maps for _, maps in model.attention_maps(wave)])  # (L, H, T, T)
    assert every.shape == (4, 4, 80, 80)
    mean_TT = mean_attention(model, wave, 8000)
    torch.testing.assert_close(mean_TT, every.mean((0, 1)))
    torch.testing.assert_close(mean_TT.sum(1), torch.ones(80))
    torch.testing.assert_close(mean_attention(model, wave, layers=2, heads=1), every[2, 1])
    torch.testing.assert_close(mean_attention(model, wave, layers=-1), every[3].mean(0))
    torch.testing.assert_close(mean_attention(model, wave, heads=[0, 3]), every[:, [0, 3]].mean((0, 1)))
    for wrong in ({"layers": 4}, {"heads": 4}):
        with pytest.raises(ValueError, match=r"4: this model has (layer|head)s 0 to 3"):
            mean_attention(model, wave, **wrong)
    with pytest.raises(ValueError, match="this model hears 8000 Hz"):
        mean_attention(model, wave, 16000)


@pytest.mark.slow
def test_maps_of_earlier_layers_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a layer's maps are made, those of no other layer are still held."""
    model = _detector()
    given: list[Any] = []
    maps = Detector.attention_maps

    def watched(self: Detector, *rest: Any) -> Iterator[tuple[int, Tensor]]:
        for layer, map_HTT in maps(self, *rest):
            gc.collect()
            assert all(reference() is None for reference in given), layer
            given.append(weakref.ref(map_HTT))
            yield layer, map_HTT
            del map_HTT

    monkeypatch.setattr(Detector, "attention_maps", watched)
    assert mean_attention(model, torch.randn(1600)).shape == (80, 80)
    assert len(given) == 4


def test_memory_is_that_of_a_few_maps_of_one_layer() -> None:
    """10 s of the `base` preset: 8 heads of 250 x 250 float32 are 2 MB a layer."""
    preset = PRESETS["base"]
    model = Detector(preset.model, preset.finetune, ["a"])
    one_layer = 8 * 250 * 250 * 4
    assert one_layer <= attention_bytes(model, 10.0) < model.layer_count * one_layer
