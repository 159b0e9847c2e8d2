"""Goldens: tensors that the original implementation produced, cut down (see each test for what they are)."""

import json
from pathlib import Path
from typing import Any

import torch
from a2v_model import (
    DecoderConfig,
    Detector,
    EncoderConfig,
    FinetuneConfig,
    FrontEndConfig,
    ModelConfig,
    PretrainConfig,
)
from a2v_model.original_names import own_state
from safetensors.torch import load_file
from torch import Tensor

GOLDENS = Path(__file__).parent / "goldens"
LAYERS = ((32, 10, 5), (32, 3, 2), (32, 3, 2), (32, 3, 2), (32, 3, 1), (32, 2, 1), (32, 2, 1))
GOLDEN_FRONT_END = FrontEndConfig(sinc_filters=127, sinc_kernel=63, layers=LAYERS)
GOLDEN_MODEL = ModelConfig(front_end=GOLDEN_FRONT_END, encoder=EncoderConfig(dim=64, heads=4, depth=3, prenet_depth=2))
GOLDEN_PRETRAIN = PretrainConfig(clones=3, target_layers=3, mask_noise=0.0, decoder=DecoderConfig(dim=48, groups=4))
TINY_LAYERS = ((8, 10, 5), (12, 3, 2), (16, 3, 2))


def tiny_model(**encoder: Any) -> ModelConfig:
    """A model of a few thousand parameters: 8 kHz, 400 Hz frames, D = 32."""
    own = dict(dim=32, heads=4, depth=3, prenet_depth=1, positional_depth=2, positional_width=10, positional_groups=4)
    front_end = FrontEndConfig(sinc_filters=8, layers=TINY_LAYERS)
    return ModelConfig(front_end=front_end, encoder=EncoderConfig(**(own | encoder)))


def tiny_pretrain(**fields: Any) -> PretrainConfig:
    return PretrainConfig(
        **({"clones": 2, "target_layers": 2, "decoder": DecoderConfig(dim=16, groups=4, depth=2)} | fields)
    )


def tensors(name: str) -> dict[str, Tensor]:
    return load_file(GOLDENS / f"{name}.safetensors")


def facts(name: str) -> dict[str, Any]:
    return json.loads((GOLDENS / f"{name}.json").read_text())


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected| in the Euclidean norm; shapes must agree."""
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} != {tuple(expected.shape)}"
    actual = actual.detach()
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def logits_error(model: ModelConfig, student: dict[str, Tensor], golden: dict[str, Tensor], layers: int) -> float:
    """`relative_error` of the logits of a golden g4, whose head reads the mean of so many layers. student: the
    original's weights."""
    config = FinetuneConfig(average_layers=layers, channel_mask_length=4)
    detector = Detector(model, config, [str(i) for i in range(12)]).eval()
    detector.load_backbone(own_state(student))
    with torch.no_grad():
        detector.head.weight.copy_(golden["proj_weight"])
        detector.head.bias.copy_(golden["proj_bias"])
        logits = detector(golden["source"])
    return relative_error(logits, golden[f"logits_top{layers}"])


def golden_teacher(student: dict[str, Tensor], keys: list[str]) -> dict[str, Tensor]:
    """A golden teacher under the original's names, made from the student by the rule in g3_pretrain.json."""
    state = {}
    for key in keys:
        s = student[key]
        rolled = s.flatten().roll(1).view_as(s)
        state[key] = 0.9 * s.flip(2) if key.endswith("alibi_scale") else 0.9 * s + 0.2 * rolled
    return state
