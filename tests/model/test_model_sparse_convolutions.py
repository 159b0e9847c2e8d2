"""What pretraining leaves out: values and gradients are those of the whole computation."""

import pytest
import torch
from a2v_model import DecoderConfig, EncoderConfig
from a2v_model.decoder import Decoder
from a2v_model.encoder import Encoder
from a2v_model.layers import NormedConv
from a2v_model.sparse_convolutions import convolution_at, convolution_from, put, take
from torch import Tensor
from torch.nn import functional


def _kept(rows: int, frames: int, kept: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randperm(frames, generator=generator)[:kept].sort().values for _ in range(rows)])


def _close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for own, right in zip(found, expected, strict=True):
        assert own.shape == right.shape
        assert float((own.double() - right).detach().norm() / right.detach().norm()) < tolerance


@pytest.mark.parametrize("kernel, groups, frames, kept", [(19, 4, 50, 7), (16, 2, 31, 31), (9, 8, 5, 2), (4, 1, 9, 1)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_few_inputs_or_outputs_of_a_convolution(
    kernel: int, groups: int, frames: int, kept: int, dtype: torch.dtype, tolerance: float
) -> None:
    """Against conv1d in float64: neighbouring frames and such at the ends, even kernels, fewer frames than taps."""
    torch.manual_seed(0)
    index, left = _kept(3, frames, kept), kernel // 2
    weight, bias = torch.randn(24, 8 // groups, kernel).to(dtype), torch.randn(24).to(dtype)
    x, x_kept = torch.randn(3, frames, 8).to(dtype), torch.randn(3, kept, 8).to(dtype)
    outer = torch.randn(3, frames, 24).to(dtype)
    outer_kept = outer.gather(1, index[:, :, None].expand(-1, -1, 24))
    leaves = [tensor.requires_grad_() for tensor in (x, x_kept, weight, bias)]
    exact = [tensor.detach().double().requires_grad_() for tensor in leaves]

    def whole(values: Tensor) -> Tensor:
        padded = functional.pad(values.transpose(1, 2), (left, kernel - 1 - left))
        return functional.conv1d(padded, exact[2], exact[3], groups=groups).transpose(1, 2)

    y = convolution_at(x, index, weight, bias, left, groups, dtype)
    expected = whole(exact[0]).gather(1, index[:, :, None].expand(-1, -1, 24))
    found = torch.autograd.grad(y, (x, weight, bias), outer_kept)
    right = torch.autograd.grad(expected, (exact[0], *exact[2:]), outer_kept.double())
    _close([y, *found], [expected, *right], tolerance)

    y = convolution_from(x_kept, index, frames, weight, bias, left, groups, dtype)
    shown = torch.zeros(3, frames, 8, dtype=torch.double).scatter(1, index[:, :, None].expand(-1, -1, 8), exact[1])
    expected = whole(shown)
    found = torch.autograd.grad(y, (x_kept, weight, bias), outer)
    right = torch.autograd.grad(expected, exact[1:], outer.double())
    _close([y, *found], [expected, *right], tolerance)


def test_frames_are_taken_and_put() -> None:
    index = _kept(2, 20, 6)
    x = torch.randn(2, 20, 3, requires_grad=True)
    taken = take(x, index)
    for row in range(2):
        assert torch.equal(taken[row], x[row, index[row]])
    taken.square().sum().backward()
    assert torch.equal(x.grad, put(2 * taken.detach(), index, 20))
    assert torch.equal(take(put(taken, index, 20), index), taken)


@pytest.mark.parametrize("depth", [0, 1, 2, 4])
@pytest.mark.parametrize("kept", [5, 40])
def test_embedding_of_kept_frames(depth: int, kept: int) -> None:
    """As that of all frames where the others are 0."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(dim=16, heads=2, depth=1, prenet_depth=0, positional_depth=depth))
    index, x = _kept(3, 60, kept), torch.randn(3, 60, 16, requires_grad=True)
    visible = torch.zeros(3, 60, 1).scatter(1, index[:, :, None], 1.0)
    weights = list(encoder.positional.parameters())
    expected = encoder.embed(x * visible).gather(1, index[:, :, None].expand(-1, -1, 16))
    found = encoder.embed_kept(x, index)
    outer = torch.randn(found.shape)
    one, other = (torch.autograd.grad(y, (x, *weights), outer) for y in (found, expected))
    _close([found, *one], [expected, *other], 1e-5)
    with pytest.raises(ValueError, match="frames are kept of whole segments only"):
        encoder(x, index, torch.ones(3, 60, dtype=torch.bool))


@pytest.mark.parametrize("depth, width", [(1, 16), (3, 12)])
def test_predictions_of_masked_frames(depth: int, width: int) -> None:
    torch.manual_seed(0)
    decoder = Decoder(16, DecoderConfig(dim=width, depth=depth, groups=4, dropout=0.0))
    kept = _kept(2, 30, 12)
    hidden = torch.ones(2, 30).scatter(1, kept, 0.0).nonzero()[:, 1].view(2, -1)
    x, fill, outer = torch.randn(2, 12, 16, requires_grad=True), torch.randn(2, 18, 16), torch.randn(2, 18, 16)
    whole = decoder(x, kept, hidden, fill).gather(1, hidden[:, :, None].expand(-1, -1, 16))
    found = decoder(x, kept, hidden, fill, only_masked=True)
    one, other = (torch.autograd.grad(y, (x, *decoder.parameters()), outer) for y in (found, whole))
    _close([found, *one], [whole, *other], 1e-5)


@pytest.mark.parametrize("kept", [4, 50])
def test_a_layer_in_autocast(kept: int) -> None:
    """Few or many frames: in bfloat16 as far from float32 as the whole layer, gradients in float32."""
    torch.manual_seed(0)
    conv, index = NormedConv(32, 32, 19, groups=2), _kept(2, 60, kept)
    x = torch.randn(2, 60, 32, requires_grad=True)
    expected = torch.autograd.grad(take(conv(x), index).square().sum(), (x, *conv.parameters()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv.at(x, index)
    found = torch.autograd.grad(y.square().sum(), (x, *conv.parameters()))
    assert y.dtype == torch.float32 and all(own.dtype == torch.float32 for own in found)
    _close(list(found), list(expected), 0.05)


@pytest.mark.parametrize("way", ["at", "of_few"])
def test_a_backward_pass_inside_autocast_loses_nothing(way: str) -> None:
    torch.manual_seed(0)
    conv, index = NormedConv(32, 32, 19, groups=2), _kept(2, 200, 12)
    x = torch.randn(2, 200 if way == "at" else 12, 32, requires_grad=True)
    found = []
    for inside in (False, True):
        y = conv.at(x, index) if way == "at" else conv.of_few(x, index, 200)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            found.append(torch.autograd.grad(y.square().sum(), (x, *conv.parameters())))
    _close(list(found[1]), list(found[0]), 1e-6)
