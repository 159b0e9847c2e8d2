"""Goldens g1 (Sinc layer) and g2 (convolution stack), and what the front end says about itself."""

import pytest
import torch
from a2v_model import FrontEndConfig
from a2v_model.cpu_kernels import sinc_convolution, strided_convolution
from a2v_model.front_end import FrontEnd, SincLayer
from a2v_model.layers import ChannelsLastConv
from a2v_model.original_names import own_state
from a2v_model.sinc import SincFilters
from model_goldens import GOLDEN_FRONT_END, facts, relative_error, tensors
from torch.nn import functional


@pytest.mark.parametrize("sample_rate", [8000, 24000])
def test_sinc_layer_golden(sample_rate: int) -> None:
    golden, meta = tensors(f"g1_sinc_{sample_rate}"), facts(f"g1_sinc_{sample_rate}")
    layer = SincLayer(
        FrontEndConfig(sample_rate=sample_rate, sinc_filters=meta["n_filters"], sinc_kernel=meta["kernel"])
    )
    assert layer.filters.minimum_band_hz == meta["min_band_hz"]
    assert relative_error(layer.filters.low_hz, golden["init_low_hz"][:, 0]) < 1e-5
    assert relative_error(layer.filters.band_hz, golden["init_band_hz"][:, 0]) < 1e-5
    with torch.no_grad():
        layer.filters.low_hz.copy_(golden["low_hz"][:, 0])
        layer.filters.band_hz.copy_(golden["band_hz"][:, 0])
        layer.norm.weight.copy_(golden["norm_weight"])
        layer.norm.bias.copy_(golden["norm_bias"])
        layer.activation.alpha.copy_(golden["pswish_alpha"].flatten())
        layer.activation.beta.copy_(golden["pswish_beta"].flatten())
        assert relative_error(layer.filters.filters(), golden["filters"][:, 0]) < 1e-5
        filtered = layer.filters(golden["waveform"])
        assert relative_error(filtered.transpose(1, 2)[:, ::4], golden["conv_out"]) < 1e-5
        assert relative_error(layer.norm(filtered).transpose(1, 2)[:, ::4], golden["norm_out"]) < 1e-5
        assert relative_error(layer(golden["waveform"]).transpose(1, 2)[:, ::4], golden["out"]) < 1e-5


def test_conv_stack_golden() -> None:
    golden = tensors("g2_conv_stack")
    original = {k.removeprefix("param."): v for k, v in golden.items() if k.startswith("param.")}
    state = own_state({f"modality_encoders.AUDIO.{key}": value for key, value in original.items()})
    state = {key.removeprefix("student."): value for key, value in state.items()}
    front_end = FrontEnd(GOLDEN_FRONT_END)
    front_end.load_state_dict({k.removeprefix("front_end."): v for k, v in state.items() if k.startswith("front_end.")})
    with torch.no_grad():
        out = front_end(golden["waveform"])
        first = front_end.layers[0](front_end.sinc(golden["waveform"]))
    assert relative_error(first[:, :200].transpose(1, 2), golden["after_layer_1"]) < 1e-5
    assert relative_error(out.transpose(1, 2), golden["conv_out"]) < 1e-5
    norm = functional.layer_norm(out, (32,), state["projection.0.weight"], state["projection.0.bias"])
    projected = functional.linear(norm, state["projection.1.weight"], state["projection.1.bias"])
    assert relative_error(projected, golden["projected"]) < 1e-5


def test_frames_for_length_golden() -> None:
    for samples, frames in facts("g2_conv_stack")["frames_for_length"].items():
        assert GOLDEN_FRONT_END.frames(int(samples)) == frames


@pytest.mark.parametrize("samples", [801, 1612, 2003, 4096])
def test_frames_are_what_comes_out(samples: int) -> None:
    config = FrontEndConfig(sample_rate=16000, sinc_filters=4, layers=((4, 10, 5), (4, 3, 3), (4, 2, 2), (4, 4, 1)))
    assert FrontEnd(config)(torch.randn(1, samples)).shape[1] == config.frames(samples)


@pytest.mark.parametrize(
    ("sample_rate", "kernel", "filters", "frame_rate"),
    [(8000, 63, 127, 200.0), (16000, 89, 180, 400.0), (24000, 109, 220, 600.0), (48000, 153, 314, 1200.0)],
)
def test_derived_sinc_layout(sample_rate: int, kernel: int, filters: int, frame_rate: float) -> None:
    config = FrontEndConfig(sample_rate=sample_rate)
    assert (config.kernel, config.filters, config.stride) == (kernel, filters, 40)
    assert config.frame_rate == frame_rate


@pytest.mark.parametrize(
    ("kernel", "stride", "groups"),
    [(10, 5, 1), (3, 2, 1), (3, 1, 1), (2, 1, 1), (2, 2, 1), (4, 1, 2), (19, 1, 4)],
)
def test_channels_last_convolution_equals_conv1d(kernel: int, stride: int, groups: int) -> None:
    torch.manual_seed(kernel)
    conv = ChannelsLastConv(8, 12, kernel, stride, groups=groups).double()
    x = torch.randn(3, 101, 8, dtype=torch.double, requires_grad=True)
    padded = functional.pad(x.transpose(1, 2), (-(-stride // 2),) * 2)
    if stride == 1:
        padded = functional.pad(x.transpose(1, 2), ((kernel - 1) // 2, kernel // 2))
    plain = functional.conv1d(padded, conv.weight, conv.bias, stride, groups=groups).transpose(1, 2)
    fast = conv(x)
    assert fast.shape == plain.shape
    weight = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * weight).sum(), [x, conv.weight, conv.bias])
    actual = torch.autograd.grad((fast * weight).sum(), [x, conv.weight, conv.bias])
    torch.testing.assert_close(fast, plain)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize(("samples", "kernel"), [(64, 63), (100, 9), (257, 89), (1000, 31)])
def test_sinc_convolution_equals_conv1d(samples: int, kernel: int) -> None:
    torch.manual_seed(samples)
    wave = torch.randn(2, samples, dtype=torch.double, requires_grad=True)
    filters = torch.randn(5, kernel, dtype=torch.double, requires_grad=True)
    padded = functional.pad(wave[:, None], (kernel // 2, kernel // 2), mode="reflect")
    plain = functional.conv1d(padded, filters[:, None]).transpose(1, 2)
    fast = sinc_convolution(padded[:, 0], filters)
    weight = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * weight).sum(), [wave, filters])
    padded = functional.pad(wave[:, None], (kernel // 2, kernel // 2), mode="reflect")
    actual = torch.autograd.grad((sinc_convolution(padded[:, 0], filters) * weight).sum(), [wave, filters])
    torch.testing.assert_close(fast, plain)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


def test_a_sinc_filter_passes_its_band_only() -> None:
    filters = SincFilters(16, 255, 8000, 32)
    low, high = filters.bands_hz()
    gain = torch.fft.rfft(filters.filters(), n=8000).abs()  # bin = Hz
    for i in range(16):
        width = (high[i] - low[i]).item()
        middle = int(low[i] + width / 2)
        assert gain[i, middle] > 3 * gain[i, max(0, int(low[i]) - 120)]
        assert gain[i, middle] > 3 * gain[i, min(4000, int(high[i]) + 120)] or high[i] > 3880


@pytest.mark.parametrize(
    ("fields", "needle"),
    [
        ({"layers": ()}, "layers is empty"),
        ({"layers": ((8, 2, 3),)}, "kernel >= stride"),
        ({"sinc_kernel": 64}, "must be odd"),
        ({"sinc_kernel": 3}, "too low for filters"),
        ({"filters": 3}, "Extra inputs"),
    ],
)
def test_bad_front_end_is_refused(fields: dict[str, object], needle: str) -> None:
    with pytest.raises(ValueError, match=needle):
        FrontEndConfig(**fields)


def test_too_short_a_segment_is_refused() -> None:
    with pytest.raises(ValueError, match="30 samples is too short"):
        FrontEnd(GOLDEN_FRONT_END)(torch.zeros(1, 30))


@pytest.mark.parametrize(
    ("taps", "stride", "left", "right"), [(10, 5, 3, 3), (3, 2, 1, 1), (3, 1, 1, 1), (2, 1, 0, 1), (2, 2, 1, 1)]
)
@pytest.mark.parametrize("samples", [23, 100, 101, 104])
def test_strided_convolution_equals_conv1d(taps: int, stride: int, left: int, right: int, samples: int) -> None:
    torch.manual_seed(samples)
    x = torch.randn(3, samples, 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(6, 4, taps, dtype=torch.double, requires_grad=True)
    plain = functional.conv1d(functional.pad(x.transpose(1, 2), (left, right)), weight, stride=stride).transpose(1, 2)
    fast = strided_convolution(x, weight, stride, left, right)
    torch.testing.assert_close(fast, plain)
    direction = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * direction).sum(), [x, weight])
    actual = torch.autograd.grad((fast * direction).sum(), [x, weight])
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("samples", [64, 1000, 1003])
def test_fused_sinc_layer_equals_its_parts(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2v_model.cpu_kernels.CHUNK_VALUES", 1000)
    torch.manual_seed(samples)
    layer = SincLayer(FrontEndConfig(sinc_filters=6))
    with torch.no_grad():
        for parameter in (layer.activation.beta, layer.norm.bias, layer.norm.weight, layer.activation.alpha):
            parameter.normal_()
    wave = torch.randn(2, samples)
    fused = layer(wave)
    parts = layer.activation(layer.norm(layer.filters(wave)))
    torch.testing.assert_close(fused, parts, rtol=1e-4, atol=1e-5)
    direction = torch.randn_like(fused)
    parameters = list(layer.parameters())
    expected = torch.autograd.grad((parts * direction).sum(), parameters)
    actual = torch.autograd.grad((fused * direction).sum(), parameters)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-3)
