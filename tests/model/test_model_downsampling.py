"""A transformer at a lower frame rate than the front end's: what head, embeddings, maps and pretraining see of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from a2v_model import Detector, FinetuneConfig, Pretrainer, load_model, save_model
from a2v_model.config import EncoderConfig, ModelConfig
from a2v_model.downsampling import Downsampling, Upsampling
from a2v_model.masking import frame_mask
from a2v_model.original_checkpoint import export_checkpoint
from a2v_model.summary import summarise
from model_goldens import tiny_model, tiny_pretrain

CLASSES = ["cc", "sn"]


def _detector(factor: int, **encoder: Any) -> Detector:
    """One in which no part of the way down and up is as it begins."""
    torch.manual_seed(0)
    config = FinetuneConfig(average_layers=2, channel_mask_length=4, freeze_front_end=False)
    model = Detector(tiny_model(downsampling=factor, **encoder), config, CLASSES).eval()
    for name, parameter in model.backbone.named_parameters():
        if "sampling" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def _pretrainer(factor: int) -> Pretrainer:
    torch.manual_seed(0)
    return Pretrainer(tiny_model(downsampling=factor), tiny_pretrain())


def test_an_option_that_is_off_is_in_no_dump() -> None:
    assert "downsampling" not in EncoderConfig().model_dump()
    assert EncoderConfig(downsampling=2).model_dump()["downsampling"] == 2
    with pytest.raises(ValueError, match="downsampling"):
        EncoderConfig(downsampling=0)


@pytest.mark.parametrize("frames", [8, 9, 11])
def test_down_and_up_are_strided_convolutions_of_torch(frames: int) -> None:
    torch.manual_seed(0)
    down, up, x_BTD = Downsampling(6, 4), Upsampling(6, 4), torch.randn(2, frames, 6)
    torch.testing.assert_close(down(x_BTD[:, :8])[0], x_BTD[:, :8].unflatten(1, (2, 4)).mean(2))  # as they begin
    torch.testing.assert_close(up(x_BTD[:, :2], x_BTD[:, :7]), x_BTD[:, :2].repeat_interleave(4, 1)[:, :7])
    for parameter in (*down.parameters(), *up.parameters()):
        torch.nn.init.normal_(parameter)
    padded_BDT = torch.nn.functional.pad(x_BTD.transpose(1, 2), (0, -frames % 4))
    weight = down.project.weight.unflatten(1, (4, 6)).transpose(1, 2)  # out, in, tap
    expected = torch.nn.functional.conv1d(padded_BDT, weight, down.project.bias, stride=4).transpose(1, 2)
    small_BSD, valid = down(x_BTD)
    torch.testing.assert_close(small_BSD, expected)
    assert valid is None and small_BSD.shape[1] == {8: 2, 9: 3, 11: 3}[frames]
    weight = up.expand.weight.unflatten(0, (4, 6)).permute(2, 1, 0)  # in, out, tap
    wide_BDT = torch.nn.functional.conv_transpose1d(small_BSD.transpose(1, 2), weight, stride=4)
    expected = (
        wide_BDT.transpose(1, 2)[:, :frames]
        + up.expand.bias.unflatten(0, (4, 6)).repeat(small_BSD.shape[1], 1)[:frames]
    )
    torch.testing.assert_close(up(small_BSD, x_BTD), expected + up.skip(x_BTD), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4, 5])
@pytest.mark.parametrize("samples", [1600, 1591, 1500])
def test_whatever_the_length_frames_are_the_front_ends(factor: int, samples: int) -> None:
    """An item alone, and as the shorter of two: the same, whether or not its frames are a multiple of the factor."""
    model, wave_N = _detector(factor), torch.randn(1, samples)
    frames = model.model_config.front_end.frames(samples)
    with torch.no_grad():
        alone = model(wave_N)
        both_BN = torch.cat([torch.nn.functional.pad(wave_N, (0, 2400 - samples), value=3.0), torch.randn(1, 2400)])
        together = model(both_BN, lengths=torch.tensor([samples, 2400]))
    assert alone.shape == (1, frames, 2) and together.shape == (2, 120, 2)
    torch.testing.assert_close(together[:1, :frames], alone, rtol=1e-4, atol=1e-5)
    assert model.embed(wave_N[0]).shape == (frames, 32)
    assert model.backbone(both_BN, torch.tensor([samples, 2400])).shape == (2, 120, 32)


def test_every_frame_reaches_its_own_logit() -> None:
    """Within one frame of the encoder too: a jolt of one frame's feature moves that frame's logit through the skip."""
    model = _detector(4)
    x_BTD = torch.randn(1, 40, 32, requires_grad=True)
    with torch.no_grad():
        trunk_BSD = model.backbone.contextualise(model.backbone.encoder_input(x_BTD)[0])[0]
    logits_BTC = model.classify(model.backbone.at_frame_rate(trunk_BSD, x_BTD))
    for frame in (0, 13, 39):
        (moved_BTD,) = torch.autograd.grad(logits_BTC[0, frame, 0], x_BTD, retain_graph=True)
        assert moved_BTD[0].abs().sum(-1).nonzero().flatten().tolist() == [frame]


def test_embeddings_and_maps() -> None:
    """Those of the head are up-sampled, those of a layer repeated; maps stay at the encoder's rate."""
    model, wave_N = _detector(4), torch.randn(1580)  # 79 frames, 20 of the encoder
    assert (model.frame_rate, model.attention_rate) == (400.0, 100.0)
    with torch.no_grad():
        likelihood_TC = model.classify(model.embed(wave_N)[None])[0].sigmoid()
    torch.testing.assert_close(model.likelihoods(wave_N), likelihood_TC, rtol=1e-4, atol=1e-6)
    layers_LTD = model.embed(wave_N, layers=[0, -1])
    assert layers_LTD.shape == (2, 79, 32)
    torch.testing.assert_close(layers_LTD, layers_LTD[:, ::4].repeat_interleave(4, 1)[:, :79], rtol=0, atol=0)
    maps = dict(model.attention_maps(wave_N))
    assert len(maps) == 4 and all(map_HSS.shape == (4, 20, 20) for map_HSS in maps.values())


def test_pretraining_masks_predicts_and_counts_the_encoders_frames() -> None:
    model, wave_BN = _pretrainer(2), torch.randn(2, 1580)
    mask_RT = frame_mask(4, 40, 0.3, 3, torch.Generator().manual_seed(1))  # of 79 frames of the front end
    out = model(wave_BN, torch.Generator().manual_seed(0), mask_RT=mask_RT)
    assert out.masked_frames == int(mask_RT.sum()) and out.masked_share == out.masked_frames / (4 * 40)
    out.loss_sum.backward()
    without = [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None]
    assert without == []  # what learns is used: two workers would wait for a gradient in vain
    assert float(model.student.downsampling.project.weight.grad.abs().sum()) > 0
    assert not any(one.requires_grad for one in model.student.upsampling.parameters())
    drawn = model(wave_BN, torch.Generator().manual_seed(0))
    assert 0 < drawn.masked_share < 1 and torch.isfinite(drawn.loss_sum)
    embedded_TD = model.embed(wave_BN[0])  # nothing was learned behind the encoder: each of its frames twice
    torch.testing.assert_close(embedded_TD[0:78:2], embedded_TD[1:78:2])


def test_finetuning_learns_the_way_up_from_a_pretrained_backbone() -> None:
    pretrained, detector = _pretrainer(2), _detector(2)
    detector.load_backbone(pretrained.state_dict())
    start = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    detector.train().set_trainable(10**9)
    wave_BN, target_BTC = torch.randn(2, 1580), (torch.rand(2, 79, 2) < 0.3).float()
    optimizer = torch.optim.SGD([one for one in detector.parameters() if one.requires_grad], lr=0.1)
    for _ in range(2):  # the skip begins at 0
        loss, frames = detector.loss(detector(wave_BN, torch.Generator().manual_seed(0)), target_BTC)
        optimizer.zero_grad()
        (loss / frames).backward()
        optimizer.step()
    for name, tensor in detector.state_dict().items():
        if "sampling" in name:
            assert not torch.equal(tensor, start[name]), name


def test_a_checkpoint_keeps_it_and_the_summary_tells(tmp_path: Path) -> None:
    model, wave_N = _detector(4), torch.randn(1580)
    save_model(model, tmp_path / "model", {})
    loaded = load_model(tmp_path / "model")
    torch.testing.assert_close(loaded.likelihoods(wave_N), model.likelihoods(wave_N), rtol=0, atol=0)
    told = summarise(tmp_path / "model")
    parts = told["parameters"]["parts"]
    assert (parts["downsampling"], parts["upsampling"]) == (4 * 32 * 32 + 32, 4 * 32 * 32 + 4 * 32 + 32 * 32 + 32)
    assert told["model"]["encoder"]["downsampling"] == 4 and told["frame_rate_hz"] == 400


def test_the_original_cannot_express_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^model\.encoder\.downsampling = 2: the original cannot express it$"):
        export_checkpoint(_pretrainer(2), tmp_path / "model.pt")


def test_a_model_says_what_the_encoder_sees() -> None:
    model = ModelConfig.model_validate({"encoder": {"downsampling": 4}})  # the paper's front end: 200 Hz
    assert (model.downsampling, model.encoder_frame_rate, model.encoder_frames(2001)) == (4, 50.0, 501)
    convolutions = ModelConfig.model_validate({"encoder": {"kind": "convolutions"}})
    assert (convolutions.downsampling, convolutions.encoder_frames(7)) == (1, 7)
