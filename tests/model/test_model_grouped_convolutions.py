"""Grouped convolutions as matrix products: against conv1d of torch in float64, in all passes and on all processors."""

import pytest
import torch
from a2v_model import grouped_convolutions
from a2v_model.layers import NormedConv
from torch.nn import functional


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize(
    "channels, filters, kernel, groups, frames",
    [
        (8, 8, 19, 4, 50),
        (8, 12, 16, 2, 31),
        (6, 6, 9, 6, 5),
        (64, 64, 15, 2, 40),
        (64, 128, 7, 2, 23),
        (4, 4, 10, 1, 1),
    ],
)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_value_and_gradients_are_conv1ds(
    monkeypatch: pytest.MonkeyPatch,
    wide: bool,
    channels: int,
    filters: int,
    kernel: int,
    groups: int,
    frames: int,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    """Even kernels, fewer frames than taps, one group, groups that narrow and widen; relative to the largest value."""
    monkeypatch.setattr(grouped_convolutions, "wide_vectors", lambda: wide)
    torch.manual_seed(kernel)
    x = torch.randn(3, frames, channels).to(dtype).requires_grad_()
    weight = torch.randn(filters, channels // groups, kernel).to(dtype).requires_grad_()
    bias = torch.randn(filters).to(dtype).requires_grad_()
    outer = torch.randn(3, frames, filters).to(dtype)
    y = grouped_convolutions.grouped_convolution(x, weight, bias, kernel // 2, groups, dtype)
    found = [y, *torch.autograd.grad(y, (x, weight, bias), outer)]
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    padded = functional.pad(exact[0].transpose(1, 2), (kernel // 2, (kernel - 1) // 2))
    expected_y = functional.conv1d(padded, exact[1], exact[2], groups=groups).transpose(1, 2)
    expected = [expected_y, *torch.autograd.grad(expected_y, exact, outer.double())]
    for own, right in zip(found, expected, strict=True):
        assert own.dtype == dtype and own.shape == right.shape
        assert float((own.double() - right).detach().abs().max() / right.abs().max()) < tolerance


@pytest.mark.parametrize("wide", [True, False])
def test_a_layer_in_autocast_computes_in_bfloat16_and_learns_in_float32(
    monkeypatch: pytest.MonkeyPatch, wide: bool
) -> None:
    monkeypatch.setattr(grouped_convolutions, "wide_vectors", lambda: wide)
    torch.manual_seed(0)
    conv = NormedConv(64, 64, 19, groups=2)
    x = torch.randn(2, 60, 64, requires_grad=True)
    outer = torch.randn(2, 60, 64)
    exact = torch.autograd.grad(conv(x), (x, *conv.parameters()), outer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = torch.autograd.grad(conv(x), (x, *conv.parameters()), outer)
    for one, other in zip(exact, rough, strict=True):
        assert other.dtype == torch.float32
        assert float((one - other).norm() / one.norm()) < 0.02


def test_what_is_frozen_gets_no_gradient_and_what_is_before_it_does() -> None:
    conv = NormedConv(8, 8, 19, groups=4)
    conv.bias.requires_grad_(False)
    conv(torch.randn(1, 30, 8)).square().sum().backward()
    assert conv.weight.grad is not None and conv.bias.grad is None
    conv.requires_grad_(False)
    x = torch.randn(1, 30, 8, requires_grad=True)
    (found,) = torch.autograd.grad(conv(x).pow(3).sum(), x)
    assert bool(found.any())
