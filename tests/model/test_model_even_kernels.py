"""Even kernels in positional encoder (16 taps) and decoder (6): goldens g3 and g4 of such a model of the original.

It differs elsewhere, too: 6 heads (no power of two), Sinc filters of 125 taps, targets of 2 of 4 blocks, segments that
are no whole number of frames, masks of 5 frames.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from a2v_model import (
    DecoderConfig,
    Detector,
    EncoderConfig,
    FinetuneConfig,
    FrontEndConfig,
    ModelConfig,
    PretrainConfig,
    Pretrainer,
)
from a2v_model.finetuning import load_exactly
from a2v_model.layers import NormedConv
from a2v_model.masking import masked_indices
from a2v_model.original_checkpoint import export_checkpoint, import_checkpoint
from a2v_model.original_names import own_name, own_state, own_teacher_state, own_tensor
from model_archives import PRETRAINED, edited
from model_goldens import facts, golden_teacher, logits_error, relative_error, tensors
from torch import Tensor
from torch.nn import functional

LAYERS = ((24, 10, 5), (24, 3, 2), (24, 3, 2), (24, 3, 2), (24, 3, 1), (24, 2, 1), (24, 2, 1))
MODEL = ModelConfig(
    front_end=FrontEndConfig(sinc_filters=63, sinc_kernel=125, layers=LAYERS),
    encoder=EncoderConfig(
        dim=48, heads=6, depth=4, prenet_depth=1, positional_depth=3, positional_width=48, positional_groups=8
    ),
)
DECODER = DecoderConfig(dim=48, groups=6, kernel=6, depth=3)
PRETRAIN = PretrainConfig(clones=2, target_layers=2, mask_noise=0.0, decoder=DECODER)
FOLDER = "even_kernels"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return tensors(f"{FOLDER}/g3_pretrain") | tensors(f"{FOLDER}/g3_more")


@pytest.fixture(scope="module")
def meta() -> dict[str, Any]:
    return facts(f"{FOLDER}/g3_pretrain")


@pytest.fixture(scope="module")
def original() -> dict[str, Tensor]:
    parts = [tensors(f"{FOLDER}/student_{i}") for i in range(3)]
    return {key.removeprefix("student."): value for part in parts for key, value in part.items()}


@pytest.fixture
def pretrainer(original: dict[str, Tensor], meta: dict[str, Any]) -> Pretrainer:
    model = Pretrainer(MODEL, PRETRAIN)
    teacher = golden_teacher(original, meta["teacher"]["keys"])
    load_exactly(model, own_state(original) | own_teacher_state(teacher))
    return model.eval()


def test_the_student_golden(pretrainer: Pretrainer, golden: dict[str, Tensor]) -> None:
    mask = golden["mask"].bool()
    masked, kept = masked_indices(mask), masked_indices(~mask)
    silence = torch.zeros(*masked.shape, 48)
    with torch.no_grad():
        x = pretrainer.student.features(golden["source"])
        assert relative_error(x, golden["local_features"]) < 1e-5
        rows = x.repeat_interleave(2, dim=0)
        encoder = pretrainer.student.encoder
        embedded = encoder.embed(rows.masked_fill(mask[:, :, None], 0.0))
        visible = embedded.gather(1, kept[:, :, None].expand(-1, -1, 48))
        prenet = encoder.prenet(visible, encoder.bias(184, kept))
        assert relative_error(prenet[5], golden["prenet_out_row5"]) < 1e-5
        context, _ = pretrainer.student.contextualise(rows, kept)
        assert relative_error(context, golden["encoder_out"]) < 1e-5
        predictions = pretrainer.decoder(context, kept, masked, silence)
        assert relative_error(predictions[5], golden["decoder_out_row5"]) < 1e-5
        noisy = pretrainer.predict(x, kept, masked, golden["noise.mask_tokens"])
        assert relative_error(noisy[0], golden["noise.decoder_out_row0"]) < 1e-5
        out, layers = pretrainer.student.contextualise(x, results=1)
        assert relative_error(out[2], golden["features_x_2"]) < 1e-5
        assert relative_error(layers[0][2], golden["features_layers_last_2"]) < 1e-5


def test_the_teacher_golden(pretrainer: Pretrainer, golden: dict[str, Tensor], meta: dict[str, Any]) -> None:
    with torch.no_grad():
        _, layers = pretrainer.teacher(golden["local_features"], results=1)
    assert relative_error(layers[0][0], golden["teacher_layer_last_0"]) < 1e-5
    assert relative_error(pretrainer.targets(golden["local_features"]), golden["targets"]) < 1e-5
    with torch.no_grad():
        for parameter in pretrainer.student.parameters():
            parameter.mul_(1.01).add_(0.001)
    pretrainer.update_teacher(0)
    own = dict(pretrainer.teacher.named_parameters())
    for key, norm in meta["ema_step"]["norm_per_key"].items():
        name = own_name(key).removeprefix("student.encoder.")
        assert math.isclose(float(own[name].norm()), norm, rel_tol=1e-5), key
    for key in (key for key in golden if key.startswith("ema_after.")):
        name = own_name(key.removeprefix("ema_after."))
        actual = own[name.removeprefix("student.encoder.")]
        assert relative_error(actual, own_tensor(name, golden[key])) < 1e-6, key


def test_loss_and_gradients_golden(pretrainer: Pretrainer, golden: dict[str, Tensor], meta: dict[str, Any]) -> None:
    mask = golden["mask"].bool()
    out = pretrainer(golden["source"], mask_RT=mask, fill_RMD=torch.zeros(6, 68, 48))
    assert math.isclose(out.loss_sum.item(), meta["loss_sum"], rel_tol=1e-5)
    assert out.masked_frames == meta["sample_size"]
    assert math.isclose(float(out.target_variance), meta["target_var"], rel_tol=1e-5)
    assert math.isclose(float(out.prediction_variance), meta["pred_var"], rel_tol=1e-5)
    out.loss_sum.backward()
    gradients = {n: p.grad for n, p in pretrainer.named_parameters() if p.requires_grad}
    assert {own_name(key) for key in meta["grad_norms"]} == set(gradients)
    for key, norm in meta["grad_norms"].items():
        assert math.isclose(float(gradients[own_name(key)].norm()), norm, rel_tol=1e-5), key
    for key in (key for key in golden if key.startswith("grad.")):
        name = own_name(key.removeprefix("grad."))
        assert relative_error(gradients[name], own_tensor(name, golden[key])) < 2e-5, key  # one edge has 9.7e-6


@pytest.mark.parametrize("layers", [2, 4])
def test_logits_golden(original: dict[str, Tensor], layers: int) -> None:
    assert logits_error(MODEL, original, tensors(f"{FOLDER}/g4_finetune"), layers) < 1e-5


@pytest.mark.parametrize(("kernel", "groups"), [(2, 1), (6, 1), (6, 4), (16, 2), (7, 4), (1, 1)])
@pytest.mark.parametrize("frames", [5, 40_000])
def test_the_fast_convolution_equals_conv1d(kernel: int, groups: int, frames: int) -> None:
    """Also where an item is large enough for a backward pass of its own (`layers.LARGE_ITEM`)."""
    torch.manual_seed(kernel)
    conv = NormedConv(8, 8, kernel, groups=groups).double()
    x_BTC = torch.randn(1, frames, 8, dtype=torch.double, requires_grad=True)
    padded = functional.pad(x_BTC.transpose(1, 2), (kernel // 2, (kernel - 1) // 2))
    y_BTC = functional.conv1d(padded, conv.weight, conv.bias, groups=groups).transpose(1, 2)
    assert y_BTC.shape == x_BTC.shape
    plain = functional.gelu(functional.layer_norm(y_BTC.float(), (8,)))
    fast = conv(x_BTC)
    torch.testing.assert_close(fast, plain)
    direction = torch.randn_like(plain)
    inputs = [x_BTC, conv.weight, conv.bias]
    expected = torch.autograd.grad((plain * direction).sum(), inputs)
    actual = torch.autograd.grad((fast * direction).sum(), inputs)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-4)


def test_padding_of_shorter_items_changes_nothing(original: dict[str, Tensor]) -> None:
    detector = Detector(MODEL, FinetuneConfig(average_layers=4, channel_mask_length=4), ["cc"]).eval()
    detector.load_backbone(own_state(original))
    wave = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone = detector(wave[1:, :2400])
        both = detector(wave, lengths=torch.tensor([4000, 2400]))
    torch.testing.assert_close(both[1, : alone.shape[1]], alone[0], rtol=1e-4, atol=1e-5)


def _as_golden(contents: Any, original: dict[str, Tensor], teacher: dict[str, Tensor]) -> None:
    """A checkpoint of the original trainer with the sizes and weights of the golden model."""
    model, weights = contents["cfg"]["model"], dict(original)
    audio = model["modalities"]["audio"]
    model |= {"embed_dim": 48, "num_heads": 6, "depth": 4, "average_top_k_layers": 2, "clone_batch": 2}
    audio |= {"num_alibi_heads": 6, "prenet_depth": 1, "model_depth": 4, "mask_noise_std": 0.0}
    audio |= {"conv_pos_width": 48, "conv_pos_depth": 3, "conv_pos_groups": 8}
    audio["decoder"] |= {"decoder_dim": 48, "decoder_groups": 6, "decoder_kernel": 6, "decoder_layers": 3}
    for section in (model, audio, contents["cfg"]["task"]):
        if "conv_feature_layers" in section:
            section["conv_feature_layers"] = repr([(63, 125, 1), *LAYERS])
    contents["model"] = weights | {"_ema": teacher}


def test_an_original_checkpoint_with_even_kernels_is_imported_and_exported(
    original: dict[str, Tensor], golden: dict[str, Tensor], meta: dict[str, Any], tmp_path: Path
) -> None:
    teacher = golden_teacher(original, meta["teacher"]["keys"])
    path = edited(PRETRAINED, tmp_path / "even.pt", lambda contents: _as_golden(contents, original, teacher))
    model = import_checkpoint(path).model
    export_checkpoint(model, tmp_path / "again.pt")
    for imported in (model, import_checkpoint(tmp_path / "again.pt").model):
        assert isinstance(imported, Pretrainer) and imported.model_config.encoder.positional_kernel == 16
        with torch.no_grad():
            out = imported(golden["source"], mask_RT=golden["mask"].bool(), fill_RMD=torch.zeros(6, 68, 48))
        assert math.isclose(out.loss_sum.item(), meta["loss_sum"], rel_tol=1e-5)
