"""Sizes that a model's description claims are compared with its weights before anything is built."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from a2v_model import load_model, save_model
from a2v_model.checkpoints import weight_shapes
from a2v_model.config import FinetuneConfig, ModelConfig
from a2v_model.finetuning import Detector
from a2v_model.summary import parameters_by_part

FRONT_END = {"sinc_filters": 8, "layers": [[8, 10, 5], [8, 8, 4], [8, 4, 2]]}
ENCODER = {"dim": 16, "heads": 2, "depth": 1, "prenet_depth": 1, "positional_depth": 1, "positional_groups": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = ModelConfig.model_validate({"front_end": FRONT_END, "encoder": ENCODER})
    model = Detector(config, FinetuneConfig(average_layers=1, channel_mask_length=0), ["cc", "sn"])
    save_model(model, tmp_path / "model", {})
    return tmp_path / "model"


def edit(folder: Path, part: str, **values) -> None:
    description = json.loads((folder / "model.json").read_text())
    description["model"][part] |= values
    (folder / "model.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("part", "values", "match"),
    [
        ("encoder", {"dim": 65536}, r"head.weight is \[2, 16\], should be \[2, 65536\]|is \[16\]"),
        ("encoder", {"dim": 100_000}, "model.encoder.dim is 100000|encoder.dim is 100000: .*65536"),
        ("encoder", {"depth": 10**9}, "encoder.depth is 1000000000: .*1000"),
        ("encoder", {"depth": 1000}, r"the configuration has 1005 layers, model.safetensors only \d+ weights"),
        ("encoder", {"mlp_ratio": 1000}, r"should be \[16000"),
        ("front_end", {"sinc_filters": 10**9}, "front_end.sinc_filters is 1000000000"),
        ("front_end", {"sinc_filters": 65536}, r"should be \[65536"),
        ("front_end", {"sinc_kernel": 10**9 + 1}, "front_end.sinc_kernel is 1000000001"),
        ("front_end", {"layers": [[8, 3, 2]] * 50_000}, "50000 layers; at most 1000"),
        ("front_end", {"sample_rate": 1 << 40}, "front_end.sample_rate is"),
    ],
)
def test_claims_of_a_description_are_refused_in_a_line_and_take_no_memory(folder, part, values, match) -> None:
    load_model(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    edit(folder, part, **values)
    with pytest.raises(ValueError, match=match) as error:
        load_model(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_a_header_that_is_damaged_is_a_line(folder: Path) -> None:
    weights = folder / "model.safetensors"
    assert weight_shapes(weights)["head.weight"] == [2, 16]
    whole = weights.read_bytes()
    for data in (b"", whole[:7], whole[:1000], b"\xff" * 8 + whole[8:], whole[:9] + b"[" * 50_000):
        weights.write_bytes(data)
        for read in (load_model, parameters_by_part):
            with pytest.raises(ValueError, match=r"model\.safetensors") as error:
                read(folder)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 101 + "1" + "}" * 101, '{"a": ' + "1" * 5000 + "}", "\xff"])
def test_a_description_that_is_no_document(folder: Path, text: str) -> None:
    (folder / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"model\.json: not a model description") as error:
        load_model(folder)
    assert len(str(error.value)) < 500
