"""Golden g3: one pretraining step of the original, tensor by tensor; then behaviour of our own."""

import math

import pytest
import torch
from a2v_model import PretrainConfig, Pretrainer, ema_decay
from a2v_model.masking import filled_up, masked_indices
from a2v_model.original_names import own_name, own_tensor
from model_goldens import GOLDEN_PRETRAIN, facts, relative_error, tensors, tiny_model, tiny_pretrain
from torch import Tensor

ROWS, MASKED, DIM = 6, 146, 64


def _silence() -> Tensor:
    return torch.zeros(ROWS, MASKED, DIM)


def test_student_golden(pretrainer: Pretrainer) -> None:
    golden = tensors("g3_pretrain")
    mask = golden["mask"].bool()
    masked, kept = masked_indices(mask), masked_indices(~mask)
    with torch.no_grad():
        x = pretrainer.student.features(golden["source"])
        assert relative_error(x, golden["local_features"]) < 1e-5
        rows = x.repeat_interleave(3, dim=0)
        encoder = pretrainer.student.encoder
        embedded = encoder.embed(rows.masked_fill(mask[:, :, None], 0.0))
        visible = embedded.gather(1, kept[:, :, None].expand(-1, -1, DIM))
        prenet = encoder.prenet(visible, encoder.bias(160, kept))
        assert relative_error(prenet, golden["prenet_out"]) < 1e-5
        context, _ = pretrainer.student.contextualise(rows, kept)
        assert relative_error(context, golden["encoder_out"]) < 1e-5
        predictions = pretrainer.decoder(context, kept, masked, _silence())
        assert relative_error(predictions[5], golden["decoder_out_row5"]) < 1e-5


def test_teacher_golden(pretrainer: Pretrainer) -> None:
    golden = tensors("g3_pretrain")
    with torch.no_grad():
        _, layers = pretrainer.teacher(golden["local_features"], results=3)
    assert len(layers) == 3
    assert relative_error(layers[2][1], golden["teacher_layer_2"]) < 1e-5
    assert relative_error(pretrainer.targets(golden["local_features"]), golden["targets"]) < 1e-5


def test_unmasked_forward_golden(pretrainer: Pretrainer) -> None:
    golden = tensors("g3_pretrain")
    with torch.no_grad():
        x, layers = pretrainer.student.contextualise(pretrainer.student.features(golden["source"]), results=1)
    assert relative_error(x[0], golden["features_x"]) < 1e-5
    assert relative_error(layers[0][0], golden["features_layers_last"]) < 1e-5


def test_loss_golden(pretrainer: Pretrainer) -> None:
    golden, meta = tensors("g3_pretrain"), facts("g3_pretrain")
    mask = golden["mask"].bool()
    out = pretrainer(golden["source"], mask_RT=mask, fill_RMD=_silence())
    assert math.isclose(out.loss_sum.item(), meta["loss_sum"], rel_tol=1e-5)
    assert out.masked_frames == meta["sample_size"] == golden["loss_per_token"].numel()
    assert math.isclose(out.loss_sum.item() / out.masked_frames, meta["loss_normalised"], rel_tol=1e-5)
    assert math.isclose(float(out.target_variance), meta["target_var"], rel_tol=1e-5)
    assert math.isclose(float(out.prediction_variance), meta["pred_var"], rel_tol=1e-5)
    assert math.isclose(out.masked_share, meta["masked_pct"], rel_tol=1e-6)
    with torch.no_grad():
        x = pretrainer.student.features(golden["source"])
        masked, kept = masked_indices(mask), masked_indices(~mask)
        predictions = pretrainer.predict(x, kept, masked, _silence())
        targets = pretrainer.targets(x).repeat_interleave(3, dim=0)
    per_token = (predictions - targets).square().sum(-1)[mask] / math.sqrt(DIM)
    assert relative_error(per_token, golden["loss_per_token"]) < 1e-5


@pytest.mark.parametrize("multiple", [16, 5])  # of 160 - 146 = 14 kept frames
def test_kept_frames_that_are_filled_up_change_nothing(pretrainer: Pretrainer, multiple: int) -> None:
    """As an accelerator has them."""
    golden, found = tensors("g3_pretrain"), []
    rows: list[int] = []
    pretrainer.student.transformer.blocks[0].register_forward_pre_hook(lambda _, given: rows.append(given[0].shape[1]))
    for chosen in (1, multiple):
        pretrainer.zero_grad()
        pretrainer.student.transformer.kept_multiple = chosen
        out = pretrainer(golden["source"], mask_RT=golden["mask"].bool(), fill_RMD=_silence())
        out.loss_sum.backward()
        found.append([out.loss_sum.detach(), *(p.grad.clone() for p in pretrainer.parameters() if p.grad is not None)])
    assert rows == [14, 14 - 14 % -multiple]
    for actual, expected in zip(found[1], found[0], strict=True):
        assert relative_error(actual, expected) < 1e-5


def test_they_are_never_64_more_than_a_multiple_of_128() -> None:
    sizes = {filled_up(torch.zeros(1, kept, dtype=torch.long), 16)[0].shape[1] for kept in range(1, 400)}
    assert not any(size % 128 == 64 or size % 16 for size in sizes)


def test_norms_in_bfloat16_golden(pretrainer: Pretrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As accelerators have them under autocast; with bfloat16 products alone the targets are off by 0.011."""
    golden, meta, kinds = tensors("g3_pretrain"), facts("g3_pretrain"), []
    monkeypatch.setattr("a2v_model.layers.norm_dtype", lambda x: torch.bfloat16)
    pretrainer.student.blocks[0].register_forward_pre_hook(lambda _, given: kinds.append(given[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = pretrainer(golden["source"], mask_RT=golden["mask"].bool(), fill_RMD=_silence())
        targets = pretrainer.targets(golden["local_features"])
    out.loss_sum.backward()
    assert kinds == [torch.bfloat16]
    assert relative_error(targets, golden["targets"]) < 0.02
    assert math.isclose(out.loss_sum.item(), meta["loss_sum"], rel_tol=0.005)
    squares = sum(float(p.grad.norm()) ** 2 for p in pretrainer.parameters() if p.grad is not None)
    assert math.isclose(math.sqrt(squares), math.hypot(*meta["grad_norms"].values()), rel_tol=0.005)


def test_gradients_golden(pretrainer: Pretrainer) -> None:
    golden, meta = tensors("g3_pretrain"), facts("g3_pretrain")
    out = pretrainer(golden["source"], mask_RT=golden["mask"].bool(), fill_RMD=_silence())
    out.loss_sum.backward()
    gradients = {n: p.grad for n, p in pretrainer.named_parameters() if p.requires_grad}
    assert {own_name(key) for key in meta["grad_norms"]} == set(gradients)
    for key, norm in meta["grad_norms"].items():
        assert math.isclose(float(gradients[own_name(key)].norm()), norm, rel_tol=1e-4), key
    full = {k: v for k, v in tensors("g3_gradients_ema_noise").items() if k.startswith("grad.")}
    assert len(full) == 7
    for key, expected in full.items():
        name = own_name(key.removeprefix("grad."))
        assert relative_error(gradients[name], own_tensor(name, expected)) < 1e-4, key


def test_noise_in_masked_frames_golden(pretrainer: Pretrainer) -> None:
    golden, noise = tensors("g3_pretrain"), tensors("g3_gradients_ema_noise")
    mask = golden["mask"].bool()
    meta = facts("g3_pretrain")["noise_run"]
    with torch.no_grad():
        out = pretrainer(golden["source"], mask_RT=mask, fill_RMD=noise["noise.mask_tokens"])
        x = pretrainer.student.features(golden["source"])
        predictions = pretrainer.predict(x, masked_indices(~mask), masked_indices(mask), noise["noise.mask_tokens"])
    assert math.isclose(out.loss_sum.item(), meta["loss_sum"], rel_tol=1e-5)
    assert relative_error(predictions[0], noise["noise.decoder_out_row0"]) < 1e-5


def test_ema_step_golden(pretrainer: Pretrainer) -> None:
    meta = facts("g3_pretrain")
    own = dict(pretrainer.teacher.named_parameters())
    for key, total in meta["teacher"]["sum_per_key"].items():
        name = own_name(key).removeprefix("student.encoder.")
        assert math.isclose(float(own[name].double().sum()), total, rel_tol=1e-4, abs_tol=1e-4), key
    with torch.no_grad():
        for parameter in pretrainer.student.parameters():
            parameter.mul_(1.01).add_(0.001)
    pretrainer.update_teacher(0)  # tau = 0.9997
    for key, total in meta["ema_step"]["sum_per_key"].items():
        name = own_name(key).removeprefix("student.encoder.")
        assert math.isclose(float(own[name].double().sum()), total, rel_tol=1e-4, abs_tol=1e-4), key
        assert math.isclose(float(own[name].norm()), meta["ema_step"]["norm_per_key"][key], rel_tol=1e-5), key
    for key, expected in tensors("g3_gradients_ema_noise").items():
        if key.startswith("ema_after."):
            name = own_name(key.removeprefix("ema_after."))
            actual = own[name.removeprefix("student.encoder.")]
            assert relative_error(actual, own_tensor(name, expected)) < 1e-6, key


def test_ema_schedule_golden() -> None:
    for update, tau in facts("g3_pretrain")["ema_schedule"].items():
        assert math.isclose(ema_decay(int(update), PretrainConfig()), tau, rel_tol=1e-12)


def test_teacher_never_trains_but_is_saved() -> None:
    model = Pretrainer(tiny_model(), tiny_pretrain()).train()
    assert not model.teacher.training and model.student.training
    assert not any(p.requires_grad for p in model.teacher.parameters())
    assert all(f"teacher.{name}" in model.state_dict() for name, _ in model.teacher.named_parameters())
    before = model.teacher.blocks[0].fc1.weight.clone()
    with torch.no_grad():
        model.student.blocks[0].fc1.weight.add_(1.0)
    assert torch.equal(model.teacher.blocks[0].fc1.weight, before)  # not the same storage
    model.update_teacher(0)
    torch.testing.assert_close(model.teacher.blocks[0].fc1.weight, before + 0.0003, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_same_generator_same_loss(seed: int) -> None:
    torch.manual_seed(seed)
    model = Pretrainer(tiny_model(), tiny_pretrain()).eval()
    wave = torch.randn(2, 1600)
    losses = [model(wave, torch.Generator().manual_seed(s)).loss_sum.item() for s in (5, 5, 6)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.slow
def test_loss_falls_when_training() -> None:
    torch.manual_seed(0)
    model = Pretrainer(tiny_model(), tiny_pretrain()).train()
    wave, generator = torch.randn(4, 1600), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for update in range(30):
        out = model(wave, generator)
        (out.loss_sum / out.masked_frames).backward()
        optimiser.step()
        optimiser.zero_grad()
        model.update_teacher(update)
        losses.append(float(out.loss_sum.detach()) / out.masked_frames)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_every_trainable_parameter_gets_a_gradient() -> None:
    model = Pretrainer(tiny_model(), tiny_pretrain()).train()
    model(torch.randn(2, 1600)).loss_sum.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_collapse_guard() -> None:
    model = Pretrainer(tiny_model(), tiny_pretrain())
    model.check_collapse(5000, 0.0, 0.0)  # the first updates may do what they like
    model.check_collapse(5001, 0.1, 0.01)
    with pytest.raises(RuntimeError, match=r"collapsed at update 5001: target variance 0\.05 is below 0\.1"):
        model.check_collapse(5001, 0.05, 0.5)
    with pytest.raises(RuntimeError, match="prediction variance nan"):
        model.check_collapse(9000, 0.5, float("nan"))


def test_unequal_masks_are_refused() -> None:
    mask = torch.zeros(4, 80, dtype=torch.bool)
    mask[:, :40], mask[0, 40] = True, True
    with pytest.raises(ValueError, match="same number of frames"):
        Pretrainer(tiny_model(), tiny_pretrain())(torch.randn(2, 1600), mask_RT=mask)


def test_too_many_target_layers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pretrain.target_layers = 3: the encoder has only"):
        Pretrainer(tiny_model(depth=2), tiny_pretrain(target_layers=3))
    assert GOLDEN_PRETRAIN.target_layers == 3
