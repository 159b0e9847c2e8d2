"""A front end that starts as a filterbank: a pair of channels follows its band, and nothing else changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from a2v_model import Detector, FinetuneConfig, FrontEndConfig, ModelConfig, load_model, save_model
from a2v_model.filterbank_start import NOISE, hann, noises, unit_gains
from a2v_model.front_end import FrontEnd
from model_goldens import tiny_model
from torch import nn
from torch.nn import functional

LAYERS = ((72, 10, 5), (64, 3, 2), (64, 3, 2), (64, 2, 1))


def _config(start: str = "filterbank", filters: int = 32) -> FrontEndConfig:
    return FrontEndConfig(sinc_filters=filters, layers=LAYERS, start=start)


def _call(low_hz: float, high_hz: float, seed: int) -> torch.Tensor:
    """3 s of white noise at 8 kHz; between two frequencies a noise that swells to 20 dB above it, twice a second."""
    rng, samples = np.random.default_rng(seed), 24_000
    spectrum, frequency_hz = np.fft.rfft(rng.normal(size=samples)), np.fft.rfftfreq(samples, 1 / 8000)
    spectrum[(frequency_hz < low_hz) | (frequency_hz > high_hz)] = 0
    level = 10 * np.maximum(0, np.sin(2 * np.pi * 2 * np.arange(samples) / 8000))
    wave = rng.normal(size=samples) + level * np.fft.irfft(spectrum, samples)
    return torch.tensor(wave / wave.std()).float()[None]


@pytest.mark.parametrize("band", [4, 16, 29])
def test_a_pair_of_channels_follows_the_energy_of_its_band(band: int) -> None:
    """In a random start it does not: the difference of the channels j and F + j, frame by frame."""
    found = {}
    for start in ("filterbank", "random"):
        torch.manual_seed(0)
        front_end = FrontEnd(_config(start))
        assert front_end.sinc is not None
        low_hz, high_hz = (float(edge[band]) for edge in front_end.sinc.filters.bands_hz())
        wave = _call(low_hz, high_hz, seed=band)
        with torch.no_grad():
            x_TC, band_N = front_end(wave)[0], front_end.sinc.filters(wave)[0, :, band]
        energy_T = (band_N.double().numpy() ** 2).reshape(-1, front_end.config.stride).mean(1)[: len(x_TC)]
        smooth_T = np.log(np.convolve(energy_T, np.hanning(13), "same"))
        difference_T = (x_TC[:, band] - x_TC[:, 32 + band])[: len(smooth_T)]
        found[start] = np.corrcoef(difference_T, smooth_T)[0, 1]
    assert found["filterbank"] > 0.8 and abs(found["random"]) < 0.4


def test_without_noise_a_layer_passes_signed_values_smoothed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the second layer makes of values v in pairs that went through GELU is their mean under a Hann window."""
    monkeypatch.setattr("a2v_model.filterbank_start.NOISE", 0.0)
    second = FrontEnd(_config()).layers[1].conv
    v_TF = torch.randn(101, 32, generator=torch.Generator().manual_seed(0))
    spare_TC = torch.randn(101, 8, generator=torch.Generator().manual_seed(1))
    x_BTC = functional.gelu(torch.cat([v_TF, -v_TF, spare_TC], 1))[None]
    y_TC = second(x_BTC)[0].detach()
    torch.testing.assert_close(y_TC[:, :32], -y_TC[:, 32:])
    smooth_TF = 0.25 * v_TF[1:-3:2] + 0.5 * v_TF[2:-2:2] + 0.25 * v_TF[3:-1:2]  # kernel 3, stride 2, padded by 1
    scale = np.sqrt(2) / np.sqrt(2 * (0.25**2 + 0.5**2 + 0.25**2))  # rows as long as Kaiming's
    torch.testing.assert_close(y_TC[1:50, :32], scale * smooth_TF)
    torch.testing.assert_close(hann(3) / hann(3).sum(), torch.tensor([0.25, 0.5, 0.25]))


def test_noise_is_heard_alike_in_all_bands() -> None:
    front_end = FrontEnd(_config())
    assert front_end.sinc is not None
    heard = front_end.sinc.norm(front_end.sinc.filters(noises(8000)))
    torch.testing.assert_close(heard.flatten(0, 1).std(0), torch.ones(32), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(noises(8000).std(1), torch.ones(2))
    assert bool((front_end.sinc.activation.beta == 2).all())
    gains = unit_gains(front_end.sinc.filters, front_end.sinc.norm.eps)
    assert torch.equal(gains, front_end.sinc.norm.weight)  # nothing is drawn anew


def test_random_is_what_it_was_and_no_further_number_is_drawn() -> None:
    """The convolutions draw Kaiming's numbers in their order; the filterbank is added to a share of the same."""
    torch.manual_seed(3)
    channels, expected = 32, []
    for filters, kernel, stride in LAYERS:
        conv = nn.Conv1d(channels, filters, kernel, stride, bias=False)
        nn.init.kaiming_normal_(conv.weight)
        expected.append(conv.weight)
        channels = filters
    after = torch.rand(())
    for start in ("random", "filterbank"):
        torch.manual_seed(3)
        front_end = FrontEnd(_config(start))
        assert torch.equal(torch.rand(()), after)
        for layer, weight in zip(front_end.layers, expected, strict=True):
            if start == "random":
                assert torch.equal(layer.conv.weight, weight)
            else:
                torch.testing.assert_close(layer.conv.weight[64:], NOISE * weight[64:])
                added = layer.conv.weight - NOISE * weight
                torch.testing.assert_close(added.flatten(1).norm(dim=1)[:64], torch.full((64,), 2**0.5))
    assert "start" not in _config("random").model_dump() and _config().model_dump()["start"] == "filterbank"
    assert FrontEndConfig.model_validate(_config().model_dump()) == _config()


def test_weights_of_a_folder_are_not_started_again(tmp_path: Path) -> None:
    model = ModelConfig(front_end=_config(), encoder=tiny_model().encoder)
    detector = Detector(model, FinetuneConfig(average_layers=2, channel_mask_length=4), ["cc"])
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.normal_()
    save_model(detector, tmp_path / "model", {})
    torch.testing.assert_close(load_model(tmp_path / "model").state_dict(), detector.state_dict(), rtol=0, atol=0)
    with torch.device("meta"):
        FrontEnd(_config())


def test_what_has_no_room_for_it_is_told() -> None:
    with pytest.raises(ValueError, match=r"start = filterbank: each of the 33 Sinc filters needs 2 channels in every "
                                         r"layer, but front_end\.layers has one of 64; at least 66, or at most "
                                         r"sinc_filters: 32"):  # fmt: skip
        _config(filters=33)
    with pytest.raises(ValueError, match="start = filterbank: needs Sinc filters"):
        FrontEndConfig(sinc=False, start="filterbank")
