"""Goldens g4 (logits) and g5 (focal loss); freezing, masks as a regulariser, padding."""

import math
from typing import Any

import pytest
import torch
from a2v_model import Detector, FinetuneConfig, Pretrainer, focal_loss, normalise
from model_goldens import GOLDEN_MODEL, facts, logits_error, relative_error, tensors, tiny_model, tiny_pretrain
from torch import Tensor
from torch.nn import functional

CLASSES = ["beep", "synch", "sn", "cc"]


def _detector(**fields: Any) -> Detector:
    own = {"average_layers": 2, "channel_mask_length": 4, "head_only_updates": 10}
    return Detector(tiny_model(), FinetuneConfig(**(own | fields)), CLASSES)


@pytest.mark.parametrize("layers", [2, 3])
def test_logits_golden(student: dict[str, Tensor], layers: int) -> None:
    assert logits_error(GOLDEN_MODEL, student, tensors("g4_finetune"), layers) < 1e-5


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_focal_loss_golden(kind: str) -> None:
    golden, meta = tensors("g5_focal"), facts("g5_focal")
    logits = golden["logits"].requires_grad_()
    loss = focal_loss(logits, golden[kind], meta["gamma"], meta["alpha"])
    assert relative_error(loss.detach(), golden[f"loss_{kind}"]) < 1e-5
    loss.sum().backward()
    assert math.isclose(float(loss.detach().sum()), meta[f"sum_{kind}"], rel_tol=1e-5)
    assert relative_error(logits.grad, golden[f"grad_{kind}"]) < 1e-4


def test_focal_loss_without_focus_is_weighted_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 3), torch.rand(50, 3)
    expected = 0.5 * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(focal_loss(logits, targets, gamma=0.0, alpha=0.5), expected)


@pytest.mark.parametrize("value", [-200.0, 0.0, 200.0])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_focal_loss_is_finite_at_the_extremes(value: float, target: float) -> None:
    logits = torch.tensor([value], requires_grad=True)
    focal_loss(logits, torch.tensor([target])).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_loss_counts_valid_frames_only() -> None:
    torch.manual_seed(0)
    detector, logits, targets = _detector(), torch.randn(2, 5, 4), torch.rand(2, 5, 4).round()
    valid = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)
    loss, frames = detector.loss(logits, targets, valid)
    expected = focal_loss(logits[0], targets[0]).sum() + focal_loss(logits[1, :2], targets[1, :2]).sum()
    assert frames == 7
    torch.testing.assert_close(loss, expected)
    assert detector.loss(logits, targets)[1] == 10
    plain, _ = _detector(focal=False).loss(logits, targets)
    torch.testing.assert_close(plain, functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum"))


def test_freezing_follows_the_update() -> None:
    detector = _detector().train()
    wave = torch.randn(2, 1600)

    def learning(update: int) -> set[str]:
        detector.set_trainable(update)
        detector.zero_grad()
        detector(wave).sum().backward()
        return {n for n, p in detector.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}

    assert learning(0) == learning(9) == {"head.weight", "head.bias"}
    later = learning(10)
    assert {"backbone.projection.1.weight", "backbone.encoder.prenet.norm.weight"} <= later
    assert not any("front_end" in name for name in later)
    assert detector.set_trainable(10) is False and detector.set_trainable(0) is True
    thawed = _detector(freeze_front_end=False, head_only_updates=0)
    thawed.set_trainable(0)
    thawed(wave).sum().backward()
    assert thawed.backbone.front_end.sinc.filters.low_hz.grad is not None


def test_masks_only_in_train_mode() -> None:
    quiet = dict(dropout=0.0, activation_dropout=0.0, attention_dropout=0.0, head_dropout=0.0, layerdrop=0.0)
    detector = _detector(**quiet)
    detector.backbone.encoder.prenet.dropout.p = 0.0
    wave = torch.randn(2, 1600)
    detector.eval()
    plain = detector(wave)
    assert torch.equal(plain, detector(wave))
    detector.train()
    first = detector(wave, torch.Generator().manual_seed(1))
    assert torch.equal(first, detector(wave, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, detector(wave, torch.Generator().manual_seed(2)))
    assert (first - plain).norm() > 0.01 * plain.norm()
    unmasked = _detector(**quiet, mask_length=0, channel_mask_length=0).train()
    unmasked.backbone.encoder.prenet.dropout.p = 0.0
    unmasked.load_state_dict(detector.state_dict())
    torch.testing.assert_close(unmasked(wave), plain)


def test_finetuning_dropouts_replace_those_of_pretraining() -> None:
    detector = _detector(dropout=0.3, activation_dropout=0.4, attention_dropout=0.25)
    block = detector.backbone.blocks[0]
    assert (block.dropout.p, block.activation_dropout.p, block.attention.dropout) == (0.3, 0.4, 0.25)
    assert block.attention.out_dropout.p == 0.3
    assert detector.model_config.encoder.dropout == 0.1  # what is saved stays the model's own


def test_layerdrop_skips_blocks_and_never_all() -> None:
    detector = _detector(layerdrop=0.9).train()
    encoder, generator = detector.backbone.encoder, torch.Generator().manual_seed(0)
    counts = [len(list(encoder._active(generator))) for _ in range(300)]
    assert set(counts) >= {1, 2} and min(counts) == 1
    assert len(list(encoder.eval()._active(generator))) == 3


def _prenet_blocks_that_ran(detector: Detector, seeds: range) -> list[tuple[int, ...]]:
    ran: list[int] = []
    for number, block in enumerate(detector.backbone.prenet.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    seen, wave = [], torch.randn(1, 400)
    with torch.no_grad():
        for seed in seeds:
            ran.clear()
            detector(wave, torch.Generator().manual_seed(seed))
            seen.append(tuple(ran))
    return seen


@pytest.mark.slow
def test_layerdrop_of_the_prenet_skips_its_blocks_in_training_only() -> None:
    """Four blocks, each kept with probability .7: 2.8 on average, each alike, in their order; at times none."""
    torch.manual_seed(0)
    config = FinetuneConfig(average_layers=1, channel_mask_length=4, mask_length=2, layerdrop=0, prenet_layerdrop=0.3)
    detector = Detector(tiny_model(prenet_depth=4, depth=1), config, CLASSES).train()
    seen = _prenet_blocks_that_ran(detector, range(400))
    assert all(list(ran) == sorted(ran) for ran in seen) and () in seen and (0, 1, 2, 3) in seen
    shares = [sum(number in ran for ran in seen) / 400 for number in range(4)]
    assert all(abs(share - 0.7) < 4 * math.sqrt(0.3 * 0.7 / 400) for share in shares)
    assert seen[:5] == _prenet_blocks_that_ran(detector, range(5))  # drawn from the generator, which was given
    assert _prenet_blocks_that_ran(detector.eval(), range(3)) == [(0, 1, 2, 3)] * 3


def test_without_layerdrop_of_the_prenet_nothing_is_drawn_for_it() -> None:
    """So what was trained without this option comes out as it did before it."""
    detector, generator = _detector(layerdrop=0.5).train(), torch.Generator().manual_seed(0)
    before = torch.Generator().manual_seed(0)
    x_BTD = torch.randn(1, 20, 32)
    detector.backbone.encoder(x_BTD, generator=generator)
    torch.rand(3, generator=before)  # one number for each main block
    assert torch.equal(generator.get_state(), before.get_state())


def test_the_second_dropout_of_the_mlp_is_in_the_layer_result() -> None:
    torch.manual_seed(0)
    quiet = dict(dropout=0.0, activation_dropout=0.0, attention_dropout=0.0)
    detector = _detector(**quiet, mlp_output_dropout=0.25)
    block = detector.backbone.blocks[0]
    x_BTD = torch.randn(4, 50, 32)
    bias = detector.backbone.encoder.bias(50)
    with torch.no_grad():
        _, plain_BTD = block.eval()(x_BTD, bias)
        out_BTD, dropped_BTD = block.train()(x_BTD, bias)
        kept = dropped_BTD != 0
        assert abs(kept.float().mean() - 0.75) < 4 * math.sqrt(0.25 * 0.75 / kept.numel())
        torch.testing.assert_close(dropped_BTD[kept], plain_BTD[kept] / 0.75)
        r_BTD = block.norm1(x_BTD + block.attention(x_BTD, bias))
        torch.testing.assert_close(out_BTD, block.norm2(r_BTD + dropped_BTD))  # and so in what the next block gets
    for config in (detector.config, detector.backbone.config.encoder):
        assert config.mlp_output_dropout == 0.25
        assert not {"mlp_output_dropout", "prenet_layerdrop"} & type(config)().model_dump().keys()  # off: in no dump


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("alibi", [True, False])
def test_padding_changes_nothing(seed: int, alibi: bool) -> None:
    torch.manual_seed(seed)
    detector = Detector(
        tiny_model(alibi=alibi), FinetuneConfig(average_layers=3, channel_mask_length=4), CLASSES
    ).eval()
    lengths = torch.tensor([1600, 1203, 1600, 790])
    wave = normalise(torch.randn(4, 1600), lengths)
    wave[1, 1203:], wave[3, 790:] = 7.0, float("nan")  # what stands in the padding must not matter
    with torch.no_grad():
        together = detector(wave, lengths=lengths)
        assert torch.isfinite(together).all()
        for item, length in enumerate(lengths.tolist()):
            alone = detector(wave[item : item + 1, :length])
            assert alone.shape[1] == detector.model_config.front_end.frames(length)
            torch.testing.assert_close(together[item, : alone.shape[1]], alone[0], rtol=1e-4, atol=1e-5)


def test_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="lengths: expected 2 values of at most 1600"):
        _detector()(torch.zeros(2, 1600), lengths=torch.tensor([1600, 1601]))


def test_backbone_from_a_pretrainer() -> None:
    torch.manual_seed(0)
    pretrainer, detector = Pretrainer(tiny_model(), tiny_pretrain()), _detector()
    detector.load_backbone(pretrainer.state_dict())
    torch.testing.assert_close(detector.backbone.state_dict(), pretrainer.student.state_dict())
    again = _detector()
    again.load_backbone(detector.state_dict())
    again.load_backbone(detector.backbone.state_dict())
    other = Pretrainer(tiny_model(dim=16), tiny_pretrain())
    with pytest.raises(ValueError, match=r"projection\.1\.weight is \[16, 16\], should be \[32, 16\]"):
        detector.load_backbone(other.state_dict())


@pytest.mark.parametrize(
    ("fields", "needle"),
    [
        ({"average_layers": 4}, "finetune.average_layers = 4: the encoder has only encoder.depth = 3"),
        ({"channel_mask_length": 32}, "finetune.channel_mask_length = 32"),
        ({"mask_probability": 1.5}, "mask_probability"),
    ],
)
def test_bad_finetuning_is_refused(fields: dict[str, object], needle: str) -> None:
    with pytest.raises(ValueError, match=needle):
        _detector(**fields)


@pytest.mark.parametrize("classes", [[], ["a", "a"]])
def test_bad_classes_are_refused(classes: list[str]) -> None:
    with pytest.raises(ValueError, match="classes"):
        Detector(tiny_model(), FinetuneConfig(average_layers=1, channel_mask_length=4), classes)


@pytest.mark.slow
def test_training_learns_where_a_tone_is() -> None:
    """A 1 kHz tone in noise, finetuned from scratch: frames with the tone end up far above the others."""
    torch.manual_seed(0)
    detector = Detector(
        tiny_model(),
        FinetuneConfig(average_layers=3, channel_mask_length=4, head_only_updates=0, freeze_front_end=False),
        ["tone"],
    )
    detector.set_trainable(0)
    generator = torch.Generator().manual_seed(0)
    wave = 0.3 * torch.randn(8, 1600, generator=generator)
    wave[:, 400:800] += torch.sin(2 * math.pi * 1000 * torch.arange(400) / 8000)
    wave = normalise(wave)
    targets = torch.zeros(8, 80, 1)
    targets[:, 20:40] = 1.0
    optimiser = torch.optim.Adam(detector.parameters(), lr=3e-3)
    detector.train()
    for _ in range(60):
        loss, frames = detector.loss(detector(wave, generator), targets)
        (loss / frames).backward()
        optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad():
        likelihood = detector.eval()(wave).sigmoid()
    assert likelihood[:, 23:37].mean() > 0.5 > 0.2 > likelihood[:, 45:].mean()


def test_a_new_head_gives_every_class_the_prior_likelihood_or_one_half() -> None:
    assert _detector().head.bias.sigmoid().tolist() == [0.5] * 4
    assert _detector(head_prior=0.01).head.bias.sigmoid().tolist() == pytest.approx([0.01] * 4)
    assert "head_prior" not in _detector().config.model_dump()  # off, it is no part of what a configuration is


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("focal", [True, False])
def test_targets_that_are_not_known_have_no_loss(seed: int, focal: bool) -> None:
    """The loss is that of the known targets alone, and no gradient comes from the others."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 6, 3, generator=generator, requires_grad=True)
    targets = (torch.rand(2, 6, 3, generator=generator) < 0.3).float()
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, 4:] = False
    unknown = torch.zeros(2, 6, 3, dtype=torch.bool)
    unknown[0, 1:3], unknown[1, 3, 1:] = True, True
    detector = _detector(focal=focal)
    whole, frames = detector.loss(logits, targets, valid)
    assert frames == 10
    loss, frames = detector.loss(logits, targets.masked_fill(unknown, float("nan")), valid)
    assert frames == 8  # two frames have no known target; one knows a class
    only = [
        detector.loss(logits[b, t, c].view(1, 1, 1), targets[b, t, c].view(1, 1, 1))[0]
        for b, t, c in (valid[..., None] & ~unknown).nonzero().tolist()
    ]
    torch.testing.assert_close(loss, torch.stack(only).sum())
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[unknown].any()
    assert whole > loss
