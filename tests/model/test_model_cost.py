"""What must not be computed twice or at all, and how close bfloat16 stays to float32."""

import math
from typing import Any

import pytest
import torch
from a2v_model import Detector, FinetuneConfig, FrontEndConfig, Pretrainer, normalise
from a2v_model.attention_bias import AttentionBias
from a2v_model.blockwise import Distances
from a2v_model.front_end import SincLayer
from model_goldens import relative_error, tiny_model, tiny_pretrain
from torch import Tensor, nn

STEP = 2.0**-8  # bfloat16 has 8 significant bits: neighbours are this far apart, relatively


def _rows_of(model: nn.Module, wave: Tensor) -> list[int]:
    """Rows of the batch in every call of a module during model(wave)."""
    rows: list[int] = []
    handle = model.student.front_end.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    model(wave)
    handle.remove()
    return rows


def test_the_front_end_hears_each_segment_once() -> None:
    assert _rows_of(Pretrainer(tiny_model(), tiny_pretrain(clones=5)).train(), torch.randn(3, 1600)) == [3]


@pytest.mark.parametrize("clones", [1, 5])
def test_clones_share_one_teacher_pass_and_no_bias_is_larger_than_the_kept_frames(
    clones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []

    def watch(kind: type, name: str) -> None:
        original = getattr(kind, name)

        def watched(*inputs: Any) -> Tensor:
            found: Tensor = original(*inputs)
            shapes.append(tuple(found.shape))
            return found

        monkeypatch.setattr(kind, name, watched)

    watch(AttentionBias, "distance")
    watch(Distances, "_of")
    model = Pretrainer(tiny_model(), tiny_pretrain(clones=clones)).train()
    rows: list[int] = []
    model.teacher.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    wave = torch.randn(2, 8000)
    out = model(wave)
    kept = 400 - out.masked_frames // (2 * clones)
    assert rows == [2]
    assert set(shapes) == {(1, 400, 400), (2 * clones, kept, kept)}
    assert kept < 60


def test_a_frozen_front_end_has_no_backward_pass() -> None:
    config = FinetuneConfig(average_layers=2, channel_mask_length=4, head_only_updates=5)
    detector = Detector(tiny_model(), config, ["cc"]).train()
    seen: list[tuple[bool, bool]] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((torch.is_grad_enabled(), output.requires_grad))

    detector.backbone.front_end.register_forward_hook(watch)
    detector.backbone.encoder.blocks[-1].fc1.register_forward_hook(watch)
    for update in (0, 5):
        detector.set_trainable(update)
        detector(torch.randn(2, 1600))
    # the front end never keeps a graph; the transformer does once it learns
    assert seen == [(False, False), (False, False), (False, False), (True, True)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_sinc_layer_is_float32_and_rounded_once(seed: int) -> None:
    """Under autocast its result is the float32 one in bfloat16, to the bit; gradients differ by that rounding."""
    torch.manual_seed(seed)
    layer = SincLayer(FrontEndConfig(sinc_filters=6))
    with torch.no_grad():
        layer.activation.beta.normal_()
    wave, direction = torch.randn(2, 1000), torch.randn(2, 1000, 6)
    exact = layer(wave)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = layer(wave)
    assert exact.dtype == torch.float32 and torch.equal(rough, exact.bfloat16())
    expected = torch.autograd.grad((exact * direction).sum(), list(layer.parameters()))
    actual = torch.autograd.grad((rough * direction).sum(), list(layer.parameters()))
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == torch.float32 and relative_error(a, e) < STEP


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_likelihoods_in_bfloat16(seed: int) -> None:
    """About 20 roundings of 2^-9 in a row add up to about 1 %; a likelihood's slope is at most 1/4."""
    torch.manual_seed(seed)
    config = FinetuneConfig(average_layers=3, channel_mask_length=4)
    model = Detector(tiny_model(init_std=0.12), config, ["cc", "sn"]).eval()
    wave = torch.randn(4000)
    embedded, likelihoods = model.embed(wave), model.likelihoods(wave)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, rough_likelihoods = model.embed(wave), model.likelihoods(wave)
    assert rough.dtype == rough_likelihoods.dtype == torch.float32
    assert STEP / 8 < relative_error(rough, embedded) < 5 * STEP  # bfloat16 was used, and did no harm
    assert (rough_likelihoods - likelihoods).abs().max() < 2 * STEP


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_pretraining_step_in_bfloat16(seed: int) -> None:
    """Loss within a bfloat16 step, and a gradient that points the same way."""
    torch.manual_seed(seed)
    model = Pretrainer(tiny_model(init_std=0.12), tiny_pretrain()).eval()
    wave = normalise(torch.randn(2, 4000))
    gradients, losses = [], []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = model(wave, torch.Generator().manual_seed(0)).loss_sum
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert losses[0] != losses[1] and math.isclose(*losses, rel_tol=STEP)
    cosine = torch.cosine_similarity(gradients[0], gradients[1], dim=0)
    assert cosine > 0.999 and math.isclose(gradients[0].norm(), gradients[1].norm(), rel_tol=4 * STEP)
