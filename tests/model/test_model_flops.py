"""FLOP in closed form: against counts by hand, and against torch's own counter where that is right."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from a2v_model import (
    PRESETS,
    ConvolutionConfig,
    DecoderConfig,
    Detector,
    EarConfig,
    EncoderConfig,
    FinetuneConfig,
    FrontEndConfig,
    ModelConfig,
    PretrainConfig,
    Pretrainer,
)
from a2v_model.flops import finetuning_flop, inference_flop, pretraining_flop
from a2v_model.masking import masked_indices
from torch.utils.flop_counter import FlopCounterMode

FRONT_END = FrontEndConfig(sinc_filters=4, sinc_kernel=9, layers=((6, 4, 2), (8, 3, 1)))
ENCODER = EncoderConfig(
    dim=16, heads=2, depth=2, prenet_depth=1, mlp_ratio=2.0, positional_depth=2, positional_width=6, positional_groups=4
)
MODEL = ModelConfig(front_end=FRONT_END, encoder=ENCODER)
FINETUNE = FinetuneConfig(average_layers=2, channel_mask_length=0, layerdrop=0.0)
PRETRAIN = PretrainConfig(clones=3, target_layers=2, decoder=DecoderConfig(dim=8, kernel=5, groups=4, depth=2))
# 100 samples: 50 frames. Sinc 2 * 100 * 9 * 4 = 7 200; convolutions 2 * 50 * 4 * 4 * 6 = 9 600 and 2 * 50 * 3 * 6 * 8
# = 14 400; projection 2 * 50 * 8 * 16 = 12 800; positional, groups of 4: 2 * (2 * 50 * 3 * 4 * 16) = 38 400; in each
# of 3 blocks: linear 2 * 50 * 16 * 64 = 102 400, scores and sum 2 * (2 * 50 * 50 * 16) = 160 000, MLP
# 2 * (2 * 50 * 16 * 32) = 102 400; a head of 3 classes 2 * 50 * 16 * 3 = 4 800.
FORWARD = {
    "front_end": 31_200, "projection": 12_800, "positional": 38_400, "attention_linear": 307_200,
    "attention": 480_000, "mlp": 307_200, "head": 4_800,
}  # fmt: skip


def test_inference_by_hand():
    assert inference_flop(MODEL, FINETUNE, 1, 100, 3) == FORWARD
    assert inference_flop(MODEL, FINETUNE, 5, 100, 3) == {part: 5 * flop for part, flop in FORWARD.items()}


def test_pretraining_by_hand():
    """The waveform has no gradient, so the first layer costs twice its forward pass; attention sees 20 frames; a group
    of the decoder's first convolution has 4 channels, of the second 2."""
    assert pretraining_flop(MODEL, PRETRAIN, 1, 100, kept=20) == {
        "front_end": 2 * 7_200 + 3 * 24_000,
        "projection": 3 * 12_800,
        "positional": 3 * 3 * 38_400,
        "attention_linear": 3 * 3 * 122_880,  # 3 blocks; 2 * 60 * 16 * 64
        "attention": 3 * 3 * 76_800,  # 2 * (2 * 3 * 20 * 20 * 16)
        "mlp": 3 * 3 * 122_880,
        "decoder": 3 * (48_000 + 24_000 + 38_400),
        "teacher": 38_400 + 307_200 + 480_000 + 307_200,
    }


def test_finetuning_by_hand():
    """What is frozen costs its forward pass; of two main blocks of which each is skipped half of the time, and never
    both, 1.25 run."""
    threefold = {part: 3 * flop for part, flop in FORWARD.items()}
    assert finetuning_flop(MODEL, FINETUNE, 1, 100, 3) == threefold | {"front_end": 31_200}
    learning = FINETUNE.model_copy(update={"freeze_front_end": False, "layerdrop": 0.5})
    found = finetuning_flop(MODEL, learning, 1, 100, 3)
    assert found["front_end"] == 2 * 7_200 + 3 * 24_000
    assert found["mlp"] == 3 * 2.25 * 102_400


def test_ear_by_hand():
    """Frames of 80 samples, a transform of 256 points (129 frequencies), 8 bands, stem of 2 and 3 channels. Fixed bands
    cost their forward pass, and the first convolution then has an input without a gradient."""
    ear = EarConfig(sample_rate=8000, filters=8, stem=(2, 3), learned=False)
    model = ModelConfig(front_end=ear, encoder=ConvolutionConfig(dim=4, depth=2))
    finetune = FINETUNE.model_copy(update={"average_layers": 1, "freeze_front_end": False, "head": "temporal"})
    transform, bands, first, second = 5_120, 2 * 129 * 8, 2 * 8 * 9 * 1 * 2, 2 * 4 * 9 * 2 * 3
    other = {"projection": 2 * 6 * 4, "convolutions": 2 * (2 * 3 * 4 * 4), "head": 512 + 81_920 + 384}
    assert inference_flop(model, finetune, 1, 160, 3) == {
        part: 2 * flop for part, flop in {"front_end": transform + bands + first + second, **other}.items()
    }
    found = finetuning_flop(model, finetune, 1, 160, 3)
    assert found == {part: 6 * flop for part, flop in other.items()} | {
        "front_end": 2 * (transform + bands + 2 * first + 3 * second)
    }
    learned = model.model_copy(update={"front_end": ear.model_copy(update={"learned": True})})
    found = finetuning_flop(learned, finetune, 1, 160, 3)
    assert found["front_end"] == 2 * (transform + 2 * bands + 3 * first + 3 * second)


def test_the_papers_step():
    """6.15 TFLOP for one segment of 10 s, 12 clones, 143 or 144 frames kept; torch's counter said 11.4."""
    model, pretrain, _, _ = PRESETS["meerkat"]
    assert sum(pretraining_flop(model, pretrain, 1, 80_000, kept=144).values()) == pytest.approx(6.15e12, rel=0.003)


@pytest.fixture
def without_autocast(monkeypatch):
    """Models on the meta device, which has shapes and no numbers: there attention is two plain products."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)


def counted(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", PRESETS)
def test_inference_as_torch_counts_it(without_autocast, name):
    """Two segments of a second; torch does not count Fourier transforms."""
    model, _, finetune, _ = PRESETS[name]
    samples = model.front_end.sample_rate
    with torch.device("meta"):
        detector = Detector(model, finetune, ["a", "b", "c"]).eval()
        with torch.no_grad():
            found = counted(lambda: detector(torch.empty(2, samples)))
    transforms = 2 * 100 * 5_120 if isinstance(model.front_end, EarConfig) else 0
    assert sum(inference_flop(model, finetune, 2, samples, 3).values()) == found + transforms


UNGROUPED = {"encoder": ENCODER.model_copy(update={"positional_groups": 1})}  # of grouped ones, torch's count is wrong
EAR = {"front_end": EarConfig(sample_rate=8000, filters=8, stem=(2, 3))}


@pytest.mark.parametrize("changed", [UNGROUPED, UNGROUPED | EAR], ids=["waveform", "ear"])
def test_training_as_torch_counts_it(without_autocast, changed):
    """Forward and backward, where no convolution is grouped."""
    model = MODEL.model_copy(update=changed)
    decoder = PRETRAIN.decoder.model_copy(update={"groups": 1})
    pretrain = PRETRAIN.model_copy(update={"decoder": decoder})
    samples = 960
    frames = model.front_end.frames(samples)
    transforms = 2 * frames * 5_120 if isinstance(model.front_end, EarConfig) else 0
    mask_RT = (torch.arange(frames) % 3 > 0).expand(6, -1)
    with torch.device("meta"):
        pretrainer = Pretrainer(model, pretrain).eval()
        pretrainer.student.transformer.kept_multiple = 1  # as on a CPU
        waveform_BN = torch.empty(2, samples)

        def step() -> None:
            x_BTD = pretrainer.student.features(waveform_BN)
            masked_RM, kept_RU = (masked_indices(mask.contiguous()).to("meta") for mask in (mask_RT, ~mask_RT))
            pretrainer.targets(x_BTD)
            pretrainer.predict(x_BTD, kept_RU, masked_RM, torch.empty(*masked_RM.shape, 16)).sum().backward()

        found = counted(step)
        kept = int((~mask_RT[0]).sum())
        assert sum(pretraining_flop(model, pretrain, 2, samples, kept).values()) == found + transforms
        for freeze in (True, False):
            finetune = FINETUNE.model_copy(update={"freeze_front_end": freeze})
            detector = Detector(model, finetune, ["a", "b", "c"]).eval()
            found = counted(lambda detector=detector: detector(waveform_BN).sum().backward())
            assert sum(finetuning_flop(model, finetune, 2, samples, 3).values()) == found + transforms


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="kept = 51: must be 1 to 50"):
        pretraining_flop(MODEL, PRETRAIN, 1, 100, kept=51)
    with pytest.raises(ValueError, match="only a transformer is pretrained"):
        pretraining_flop(PRESETS["crnn"].model, PRETRAIN, 1, 8000, kept=5)
