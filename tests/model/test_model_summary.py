"""What a model folder tells about itself without its weights being loaded."""

from pathlib import Path

import pytest
import torch
from a2v_model import PRESETS, Detector, FinetuneConfig, Pretrainer, save_model
from a2v_model.front_end import FrontEnd
from a2v_model.summary import parameters_by_part, receptive_field, summarise
from model_goldens import tiny_model, tiny_pretrain
from safetensors.torch import load_file, save_file
from torch import nn


def _count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_parameters_by_part(tmp_path: Path) -> None:
    model = Pretrainer(tiny_model(), tiny_pretrain())
    save_model(model, tmp_path / "pretrained", {})
    encoder = model.student.encoder
    assert encoder.alibi is not None
    assert parameters_by_part(tmp_path / "pretrained") == {
        "front_end": _count(model.student.front_end),
        "projection": _count(model.student.projection),
        "positional_encoder": _count(encoder.positional),
        "alibi_scales": 4,
        "prenet": _count(encoder.prenet),
        "blocks": _count(encoder.blocks),
        "decoder": _count(model.decoder),
        "teacher": _count(model.teacher),
    }
    detector = Detector(tiny_model(), FinetuneConfig(average_layers=2, channel_mask_length=4), ["cc", "sn"])
    save_model(detector, tmp_path / "detector", {"run": "x"})
    summary = summarise(tmp_path / "detector")
    assert summary["parameters"]["parts"]["head"] == 2 * 33 and "teacher" not in summary["parameters"]["parts"]
    assert sum(summary["parameters"]["parts"].values()) == summary["parameters"]["model"] == _count(detector)
    assert summary["classes"] == ["cc", "sn"] and summary["provenance"] == {"run": "x"}
    assert (summary["sample_rate_hz"], summary["frame_rate_hz"], summary["samples_per_frame"]) == (8000, 400.0, 20)
    assert summary["masks"]["channel_mask_length"] == 4


@pytest.mark.parametrize("name", ["meerkat", "baseline"])
def test_receptive_field_is_what_moves_a_frame(name: str) -> None:
    """The samples with a gradient from one frame in the middle."""
    front_end = PRESETS[name][0].front_end.model_copy(update={"sinc_filters": 8, "layers": tuple(
        (4, kernel, stride) for _, kernel, stride in PRESETS[name][0].front_end.layers)})  # fmt: skip
    torch.manual_seed(0)
    wave = torch.randn(1, 8000, requires_grad=True)
    x_BTC = FrontEnd(front_end)(wave)
    x_BTC[0, x_BTC.shape[1] // 2].square().sum().backward()
    assert wave.grad is not None
    moved = wave.grad[0].nonzero().flatten()
    assert int(moved[-1] - moved[0]) + 1 == receptive_field(front_end)


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    save_model(Pretrainer(tiny_model(), tiny_pretrain()), tmp_path / "model", {})
    weights, description = tmp_path / "model" / "model.safetensors", tmp_path / "model" / "model.json"
    state = load_file(weights)
    save_file({**state, "stray": torch.zeros(1)}, weights)
    for needle, break_it in (
        ("unexpected weight stray", lambda: None),
        ("model.safetensors: ", lambda: weights.write_bytes(b"x")),
        ("no model.safetensors there", weights.unlink),
        ("its description is incomplete", lambda: description.write_text('{"format_version": 1}')),
        ("no model.json there", description.unlink),
    ):  # fmt: skip
        break_it()
        with pytest.raises(ValueError, match=needle) as error:
            summarise(tmp_path / "model")
        assert "\n" not in str(error.value)
