"""Sizes of the presets, the parameters that decay, and normalisation."""

import pytest
import torch
from a2v_model import (
    PRESETS,
    Detector,
    FrontEndConfig,
    ModelConfig,
    Pretrainer,
    normalise,
    weight_decay_groups,
)
from a2v_model.config import EarConfig
from model_goldens import tiny_model, tiny_pretrain
from torch import nn


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_meerkat_has_exactly_the_published_size() -> None:
    with torch.device("meta"):
        model = Pretrainer(PRESETS["meerkat"].model, PRESETS["meerkat"].pretrain)
        detector = Detector(PRESETS["meerkat"].model, PRESETS["meerkat"].finetune, [str(i) for i in range(12)])
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 315_830_026
    assert _count(model.teacher) == 308_542_480
    encoder = model.student.encoder
    millions = {
        "prenet": _count(encoder.prenet),
        "blocks": _count(encoder.blocks),
        "positional": _count(encoder.positional),
        "front end": _count(model.student.front_end),
        "decoder": _count(model.decoder),
        "projection": _count(model.student.projection),
        "detector": _count(detector),
    }
    assert {name: round(count / 1e6, 1) for name, count in millions.items()} == {
        "prenet": 100.8, "blocks": 201.5, "positional": 6.2, "front end": 4.9,
        "decoder": 1.9, "projection": 0.5, "detector": 313.9,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "sample_rate", "stride", "filters"),
    [("meerkat", 8000, 40, 127), ("xeno-canto", 24000, 80, 220), ("baseline", 8000, 320, 0)],
)
def test_layouts_of_the_paper(name: str, sample_rate: int, stride: int, filters: int) -> None:
    front_end = PRESETS[name].model.front_end
    assert (front_end.sample_rate, front_end.stride) == (sample_rate, stride)
    assert front_end.frame_rate == sample_rate / stride
    assert (front_end.filters if front_end.sinc else 0) == filters


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_builds(name: str) -> None:
    preset = PRESETS[name]
    with torch.device("meta"):
        count = _count(Detector(preset.model, preset.finetune, ["cc"]).backbone)
        if name != "crnn":  # learns from labels alone
            assert _count(Pretrainer(preset.model, preset.pretrain).student) == count
    assert preset.source
    if name in ("tiny", "crnn"):  # as their docstrings say
        assert abs(count / 1e6 - {"tiny": 0.28, "crnn": 0.27}[name]) < 0.01


@pytest.mark.parametrize("sample_rate", [16000, 24000, 48000])
def test_any_sample_rate_runs(sample_rate: int) -> None:
    own = tiny_model()
    front_end = FrontEndConfig(sample_rate=sample_rate, sinc_filters=8, layers=own.front_end.layers)
    model = Pretrainer(ModelConfig(front_end=front_end, encoder=own.encoder), tiny_pretrain())
    out = model(torch.randn(2, sample_rate // 8))
    assert torch.isfinite(out.loss_sum)
    assert model.student(torch.randn(1, sample_rate // 8)).shape[1] == front_end.frames(sample_rate // 8)


def test_without_sinc_and_with_gelu() -> None:
    own = tiny_model()
    for fields in ({"sinc": False}, {"sinc_activation": "gelu", "sinc_filters": 8}):
        front_end = FrontEndConfig(layers=own.front_end.layers, **fields)
        model = Pretrainer(ModelConfig(front_end=front_end, encoder=own.encoder), tiny_pretrain())
        assert not any("alpha" in name for name, _ in model.named_parameters())
        assert torch.isfinite(model(torch.randn(2, 1600)).loss_sum)


def test_the_baseline_has_none_of_what_the_paper_adds() -> None:
    """Spec 2, 5 and 9: no Sinc, stride 320, p = 0.1 and l = 5; cross entropy on one layer, p = 0.065 and l = 10."""
    model, pretrain, finetune, _ = PRESETS["baseline"]
    assert not model.front_end.sinc and model.front_end.frame_rate == 25
    assert (pretrain.mask_probability, pretrain.mask_length) == (0.1, 5)
    assert (finetune.focal, finetune.average_layers) == (False, 1)
    assert (finetune.mask_probability, finetune.mask_length) == (0.065, 10)
    assert model.encoder == PRESETS["meerkat"].model.encoder


def test_vectors_do_not_decay() -> None:
    model = Pretrainer(tiny_model(), tiny_pretrain())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying, rest = weight_decay_groups(model, 0.01)
    assert (decaying["weight_decay"], rest["weight_decay"]) == (0.01, 0.0)
    still = {names[id(parameter)] for parameter in rest["params"]}
    moving = {names[id(parameter)] for parameter in decaying["params"]}
    assert still | moving == {n for n, p in model.named_parameters() if p.requires_grad}
    assert {
        "student.encoder.alibi.scale",
        "student.front_end.sinc.filters.low_hz",
        "student.front_end.sinc.activation.beta",
        "student.encoder.prenet.norm.weight",
        "decoder.convs.0.bias",
    } <= still
    assert all(name.endswith("weight") for name in moving)
    assert {"student.front_end.layers.0.conv.weight", "student.encoder.blocks.0.fc1.weight"} <= moving


@pytest.mark.parametrize("front_end", [tiny_model().front_end, EarConfig(sample_rate=8000)])
def test_edges_of_sinc_filters_decay_where_that_is_wanted(front_end: FrontEndConfig | EarConfig) -> None:
    """A step without gradients multiplies them by 1 - lr * decay, and nothing else that is a vector."""
    model = Pretrainer(ModelConfig(front_end=front_end, encoder=tiny_model().encoder), tiny_pretrain())
    before = {name: parameter.clone() for name, parameter in model.student.named_parameters()}
    for parameter in model.student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.AdamW(weight_decay_groups(model, 0.5, decay_sinc=True), lr=0.1).step()
    edges = 0
    for name, parameter in model.student.named_parameters():
        edge = name.rsplit(".", 1)[-1] in ("low_hz", "band_hz", "low_khz", "band_khz")
        edges += edge
        factor = 0.95 if edge or parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter, factor * before[name], msg=name)
    assert edges == 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_normalise(seed: int) -> None:
    torch.manual_seed(seed)
    wave = torch.randn(3, 4000, dtype=torch.double) * torch.tensor([[1e-2], [1.0], [50.0]]) + 3
    out = normalise(wave)
    torch.testing.assert_close(out.mean(1), torch.zeros(3), rtol=0, atol=1e-3)
    expected = (wave.var(1, correction=0) / (wave.var(1, correction=0) + 1e-5)).float()
    torch.testing.assert_close(out.var(1, correction=0), expected, rtol=1e-3, atol=1e-3)
    lengths = torch.tensor([4000, 1000, 10])
    padded = normalise(wave, lengths)
    for item, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(
            padded[item, :length], normalise(wave[item : item + 1, :length])[0], rtol=1e-3, atol=1e-3
        )
        assert not padded[item, length:].any()


def test_silence_stays_silent() -> None:
    assert not normalise(torch.full((2, 100), 0.25)).any()
