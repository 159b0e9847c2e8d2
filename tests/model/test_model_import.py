"""Importing the original's checkpoints: what they compute, and what is known of them.

Goldens g10: four small checkpoints that the original trainer wrote, and what the original model computes from them.
The source there has been normalised already.
"""

import json
from pathlib import Path

import pytest
import torch
from a2v_model import DecoderConfig, Detector, EncoderConfig, FinetuneConfig, ModelConfig, PretrainConfig, Pretrainer
from a2v_model.checkpoints import load_model, save_model
from a2v_model.config import FrontEndConfig
from a2v_model.original_checkpoint import Imported, import_checkpoint
from a2v_model.original_names import own_name, own_state
from model_archives import FINETUNED, PRETRAINED
from model_goldens import GOLDENS, facts, relative_error, tensors
from torch import Tensor

LAYERS = ((8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 1), (8, 2, 1), (8, 2, 1))
FRONT_END = FrontEndConfig(sample_rate=8000, sinc_filters=127, sinc_kernel=63, layers=LAYERS)
ENCODER = {"dim": 16, "heads": 4, "depth": 2, "prenet_depth": 1, "positional_groups": 4}
CLASSES = ["aa", "bb", "cc", "focal"]


def _imported(name: str) -> Imported:
    return import_checkpoint(GOLDENS / f"tiny_fairseq_ckpt_{name}.pt")


def _pretrained(name: str) -> Pretrainer:
    model = _imported(name).model
    assert isinstance(model, Pretrainer) and not model.training
    return model


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return tensors("g10_checkpoints")


@pytest.mark.parametrize("suffix", ["", "_dictconfig_fp16"])
def test_the_student_computes_what_the_original_computes(suffix: str, golden: dict[str, Tensor]) -> None:
    model = _pretrained(f"pretrain{suffix}")
    with torch.no_grad():
        out = model.student(golden["source"])
    assert relative_error(out, golden[f"pretrain{'_fp16' if suffix else ''}.student_x"]) < 1e-5


@pytest.mark.parametrize("suffix", ["", "_dictconfig_fp16"])
def test_the_detector_computes_what_the_original_computes(suffix: str, golden: dict[str, Tensor]) -> None:
    model = _imported(f"finetuned{suffix}").model
    assert isinstance(model, Detector) and not model.training and model.classes == CLASSES
    with torch.no_grad():
        logits = model(golden["source"])
    assert relative_error(logits, golden[f"finetuned{'_fp16' if suffix else ''}.logits"]) < 1e-5


def test_the_teacher_computes_what_the_original_computes(golden: dict[str, Tensor]) -> None:
    """Up to dropout, which was active in the golden: which channels the prenet's dropped is known (see the JSON), what
    the blocks dropped is not. It changes their small contributions only; the student in the teacher's place is ten
    times as far off."""
    dropped_BT = torch.tensor(facts("g10_teacher_dropout")["dropped"])
    kept_BTD = ((dropped_BT[:, :, None] >> torch.arange(16)) & 1) == 0
    model = _pretrained("pretrain")
    errors = {}
    with torch.no_grad():
        features_BTD = model.student.features(golden["source"])
        for name, encoder in (("teacher", model.teacher), ("student", model.student.encoder)):
            x_BTD = encoder.prenet.norm(encoder.embed(features_BTD)) * kept_BTD / 0.9
            bias = encoder.bias(x_BTD.shape[1])
            for block in (*encoder.prenet.blocks, *encoder.blocks):
                x_BTD, _ = block(x_BTD, bias)
            errors[name] = relative_error(x_BTD, golden["pretrain.teacher_x"])
    assert errors["teacher"] < 0.006 < 0.05 < errors["student"]


@pytest.mark.parametrize("path", [PRETRAINED, FINETUNED])
def test_every_tensor_arrives_exactly(path: Path) -> None:
    """Against torch's own reading of the file."""
    weights = torch.load(path, weights_only=True)["model"]
    teacher = weights.pop("_ema", {})
    state = import_checkpoint(path).model.state_dict()
    prefix = "w2v_encoder.w2v_model."
    expected = own_state(
        {k.removeprefix(prefix): v for k, v in weights.items() if not k.startswith("w2v_encoder.proj")}
    )
    if path == FINETUNED:
        expected = {name.replace("student.", "backbone.", 1): tensor for name, tensor in expected.items()}
        expected |= {f"head.{part}": weights[f"w2v_encoder.proj.{part}"] for part in ("weight", "bias")}
    for name, tensor in teacher.items():
        own = own_name(name).replace("student.encoder.", "teacher.")
        expected[own] = tensor.flatten() if "alibi" in name else tensor
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_half_precision_becomes_float32_and_the_teacher_never_was_half() -> None:
    imported = _imported("pretrain_dictconfig_fp16")
    state = imported.model.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    student = state["student.encoder.blocks.0.fc1.weight"]
    assert torch.equal(student, student.half().float())
    teacher = state["teacher.blocks.0.fc1.weight"]
    assert not torch.equal(teacher, teacher.half().float())
    assert imported.provenance["imported"]["weights"] == {"float16": 90, "float32": 49}


@pytest.mark.parametrize("suffix", ["", "_dictconfig_fp16"])
def test_the_configuration_of_pretraining(suffix: str) -> None:
    model = _pretrained(f"pretrain{suffix}")
    assert model.model_config == ModelConfig(front_end=FRONT_END, encoder=EncoderConfig(**ENCODER))
    decoder = DecoderConfig(dim=12, kernel=7, groups=4, depth=4, dropout=0.1)
    assert model.config == PretrainConfig(
        mask_probability=0.75, mask_length=2, mask_noise=0.01, clones=2, target_layers=2, decoder=decoder,
        ema_start=0.9997, ema_end=1.0, ema_updates=300_000, min_target_variance=0.1, min_prediction_variance=0.01,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", ["", "_dictconfig_fp16"])
def test_the_configuration_of_finetuning(suffix: str) -> None:
    model = _imported(f"finetuned{suffix}").model
    encoder = EncoderConfig(**ENCODER, attention_dropout=0.2, activation_dropout=0.1, mlp_output_dropout=0.1)
    assert model.model_config == ModelConfig(front_end=FRONT_END, encoder=encoder)
    assert model.config == FinetuneConfig(
        mask_probability=0.825 / 4, mask_length=4, mask_noise=0.01, channel_mask_probability=0.5,
        channel_mask_length=4, average_layers=2, focal=True, dropout=0.1, activation_dropout=0.1,
        mlp_output_dropout=0.1, attention_dropout=0.2, head_dropout=0.0, layerdrop=0.0, freeze_front_end=True,
        head_only_updates=1,
    )  # fmt: skip


def test_provenance_says_where_it_comes_from_and_what_was_left_out(tmp_path: Path) -> None:
    known = _imported("finetuned").provenance["imported"]
    assert known["file"] == FINETUNED.name and known["bytes"] == FINETUNED.stat().st_size
    assert known["sha256"] == "42864ec1da8e0408cc77f5ba6b0596abb4383b156668015131d94b625d34aff3"
    assert known["updates"] == 4 and known["teacher"] == "none" and known["not_taken_over"] == []
    assert known["dropped"] == ["optimizer_history", "extra_state", "last_optimizer_state"]
    assert known["bcl"] == {
        "probability": 1.0, "window_s": 0.05, "min_ratio": 0.5, "per_row": False, "mix_targets": True,
        "gain": "A_weighting",
    }  # fmt: skip
    assert known["config"]["criterion"]["label_smoothing"] == 0.09
    imported = _imported("pretrain")
    assert imported.provenance["imported"]["teacher"] == "from the file"
    save_model(imported.model, tmp_path / "model", imported.provenance)
    again = load_model(tmp_path / "model")
    torch.testing.assert_close(again.state_dict(), imported.model.state_dict(), rtol=0, atol=0)
    text = (tmp_path / "model" / "model.json").read_text()
    assert json.loads(text)["extra"] == imported.provenance


def test_progress_counts_tensors() -> None:
    seen: list[tuple[int, int]] = []
    import_checkpoint(PRETRAINED, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 139) for n in range(1, 140)]
