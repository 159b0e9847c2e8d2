"""Exporting to the original's form: what is written, and that import reads back the same model."""

import os
from pathlib import Path
from typing import Any

import a2v_model.original_export as original_export
import pytest
import torch
from a2v_model import (
    PRESETS,
    DecoderConfig,
    Detector,
    EncoderConfig,
    FinetuneConfig,
    FrontEndConfig,
    ModelConfig,
    PretrainConfig,
    Pretrainer,
)
from a2v_model.config import ConvolutionConfig
from a2v_model.original_checkpoint import export_checkpoint, import_checkpoint
from a2v_model.original_config import read_config
from a2v_model.original_export import write_config
from model_archives import FINETUNED, PRETRAINED
from model_goldens import tiny_model, tiny_pretrain

pytestmark = pytest.mark.slow


def _shaken(model: Pretrainer | Detector, seed: int) -> Pretrainer | Detector:
    """All weights drawn anew, so that none is equal to another or to what a new model has."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return model


def _same(model: Pretrainer | Detector, path: Path) -> None:
    again = import_checkpoint(path).model
    assert type(again) is type(model)
    assert again.model_config == model.model_config and again.config == model.config
    assert getattr(again, "classes", None) == getattr(model, "classes", None)
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("detector", [False, True])
def test_round_trip_of_a_small_model(detector: bool, tmp_path: Path) -> None:
    finetune = FinetuneConfig(average_layers=3, channel_mask_length=4, head_prior=0.02)
    model = tiny_model(init_std=0.12)
    built = Detector(model, finetune, ["sn", "it's"]) if detector else Pretrainer(model, tiny_pretrain())
    export_checkpoint(_shaken(built, 0), tmp_path / "model.pt")
    _same(built, tmp_path / "model.pt")


def test_thresholds_come_back(tmp_path: Path) -> None:
    """And those of a file that someone has changed are checked."""
    built = Detector(tiny_model(), FinetuneConfig(average_layers=2, channel_mask_length=4), ["sn", "cc"])
    built.thresholds, built.thresholds_from = {"cc": 0.35}, {"recordings": "fold 0", "F1": {"cc": 0.8}}
    assert "threshold of cc = 0.35" in export_checkpoint(built, tmp_path / "model.pt")
    again = import_checkpoint(tmp_path / "model.pt").model
    assert isinstance(again, Detector)
    assert (again.thresholds, again.thresholds_from) == (built.thresholds, built.thresholds_from)
    contents = torch.load(tmp_path / "model.pt", weights_only=True)
    for wrong, needle in (({"xx": 0.5}, "'xx' is none of"), ({"cc": 2.0}, "2.0 of 'cc'"), ([1], "mappings")):
        contents["a2v"]["thresholds"] = wrong
        torch.save(contents, tmp_path / "wrong.pt")
        with pytest.raises(ValueError, match=needle):
            import_checkpoint(tmp_path / "wrong.pt")


@pytest.mark.parametrize("name", ["baseline", "meerkat", "xeno-canto"])
def test_the_configuration_of_the_papers_presets_comes_back(name: str) -> None:
    """Without their weights."""
    model, pretrain, finetune, _ = PRESETS[name]
    with torch.device("meta"):
        pretrainer = Pretrainer(model, pretrain)
        detector = Detector(model, finetune, ["a", "b"])
    for built, kind in ((pretrainer, "pretrain"), (detector, "finetune")):
        cfg, overrides, told = write_config(built)
        read = read_config(cfg, overrides=overrides)
        assert read.model == model and read.objective == built.config and read.notes == []
        own = ["finetune.mlp_output_dropout = 0.0", "finetune.prenet_layerdrop = 0.0"]  # the original's would be 0.1
        assert sorted(told) == (own if kind == "finetune" else [])
        assert kind == ("finetune" if read.classes else "pretrain")


@pytest.mark.parametrize(
    ("front_end", "encoder"),
    [
        ({"sinc": False}, {}),
        ({"sinc": False, "sinc_filters": 5}, {"prenet_depth": 0}),
        ({"sinc_activation": "gelu", "sinc_filters": 9, "sinc_kernel": 31}, {"learned_alibi_scale": False}),
        ({"sample_rate": 24000}, {"alibi": False, "learned_alibi_scale": False}),
        ({}, {"alibi": False, "heads": 2, "mlp_ratio": 1.5}),
        ({}, {"positional_depth": 1, "positional_width": 7, "layerdrop": 0.2, "prenet_dropout": 0.3, "dropout": 0.4}),
        ({}, {"prenet_layerdrop": 0.3, "activation_dropout": 0.2, "mlp_output_dropout": 0.0}),
        ({}, {"activation_dropout": 0.2, "mlp_output_dropout": 0.1, "positional_width": 12}),
    ],
)
@pytest.mark.parametrize("detector", [False, True])
def test_round_trip_of_other_models(
    front_end: dict[str, Any], encoder: dict[str, Any], detector: bool, tmp_path: Path
) -> None:
    own = tiny_model(**encoder)
    layers = own.front_end.layers
    model = ModelConfig(front_end=FrontEndConfig(layers=layers, **front_end), encoder=own.encoder)
    built: Pretrainer | Detector = Pretrainer(
        model,
        tiny_pretrain(
            mask_probability=1 / 3, mask_length=7, mask_noise=0.5, ema_start=0.9, ema_end=0.95, ema_updates=7,
            collapse_after=9, decoder=DecoderConfig(dim=8, kernel=3, groups=2, depth=1, dropout=0.2),
        ),
    )  # fmt: skip
    if detector:
        finetune = FinetuneConfig(
            average_layers=2, channel_mask_length=3, channel_mask_probability=0.3, mask_length=3, mask_probability=0.1,
            mask_noise=0.0, focal=False, focal_gamma=1.0, dropout=0.2, head_dropout=0.4, layerdrop=0.5,
            freeze_front_end=False, head_only_updates=3,
        )  # fmt: skip
        built = Detector(model, finetune, ["only"])
    told = export_checkpoint(_shaken(built, 1), tmp_path / "model.pt")
    _same(built, tmp_path / "model.pt")
    assert ("finetune.focal_gamma = 1.0" if detector else "pretrain.collapse_after = 9") in told


@pytest.mark.parametrize("path", [PRETRAINED, FINETUNED])
def test_an_imported_checkpoint_goes_back_to_what_it_was(path: Path, tmp_path: Path) -> None:
    """Names, shapes and numbers of the weights, and every key of the configuration that export writes."""
    imported = import_checkpoint(path)
    assert export_checkpoint(imported.model, tmp_path / "again.pt", 4, imported.provenance) == []
    original, written = (torch.load(file, weights_only=True) for file in (path, tmp_path / "again.pt"))
    for part in (original, written):
        part["model"] |= {f"_ema.{name}": tensor for name, tensor in part["model"].pop("_ema", {}).items()}
    assert written["model"].keys() == original["model"].keys()
    assert all(torch.equal(written["model"][name], tensor) for name, tensor in original["model"].items())
    differences = list(_differences(written["cfg"], original["cfg"]))
    layers = "[(127, 63, 1), (8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 1), (8, 2, 1), (8, 2, 1)]"
    assert all(value in (layers, "['aa', 'bb', 'cc', 'focal']", None) for _, value in differences), differences
    assert written["optimizer_history"][-1]["num_updates"] == 4
    known = import_checkpoint(tmp_path / "again.pt").provenance
    assert known["imported"]["updates"] == 4 and known["before_export"] == imported.provenance


def _differences(written: dict[str, Any], original: dict[str, Any], prefix: str = "") -> Any:
    for key, value in written.items():
        assert key in original, f"{prefix}{key} is no key of the original"
        if isinstance(value, dict) and value:
            yield from _differences(value, original[key], f"{prefix}{key}.")
        elif value != original[key]:
            yield f"{prefix}{key}", value


def test_what_the_original_cannot_express_is_refused_by_name(tmp_path: Path) -> None:
    model = Pretrainer(tiny_model(positional_depth=0), tiny_pretrain())
    with pytest.raises(ValueError, match=r"^encoder\.positional_depth = 0: the original always has a relative"):
        export_checkpoint(model, tmp_path / "model.pt")
    model, _, finetune, _ = PRESETS["tiny"]
    with pytest.raises(ValueError, match=r"^front_end\.kind = ear: the original has no such front end"):
        export_checkpoint(Detector(model, finetune, ["cc"]), tmp_path / "model.pt")
    model = ModelConfig(front_end=tiny_model().front_end, encoder=ConvolutionConfig(dim=16))
    finetune = FinetuneConfig(average_layers=1, channel_mask_length=4)
    with pytest.raises(ValueError, match=r"^encoder\.kind = convolutions: the original always has a transformer"):
        export_checkpoint(Detector(model, finetune, ["cc"]), tmp_path / "model.pt")
    assert os.listdir(tmp_path) == []


def test_a_field_that_nobody_declared_harmless_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a later field means to the original is not known until it is entered in the list."""
    monkeypatch.setattr(original_export, "_CARRIED", set())
    with pytest.raises(ValueError, match=r"^model\.encoder\.init_std = 0\.12: the original cannot express it$"):
        export_checkpoint(Pretrainer(tiny_model(init_std=0.12), tiny_pretrain()), tmp_path / "model.pt")
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_refused_and_a_failed_export_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Pretrainer(tiny_model(), tiny_pretrain())
    (tmp_path / "mine.pt").write_text("mine")
    with pytest.raises(ValueError, match="exists already; name a new file"):
        export_checkpoint(model, tmp_path / "mine.pt")
    assert (tmp_path / "mine.pt").read_text() == "mine"

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        export_checkpoint(model, tmp_path / "new.pt")
    assert os.listdir(tmp_path) == ["mine.pt"]


def test_settings_of_a_recipe_do_not_travel(tmp_path: Path) -> None:
    """Configurations of training stages have more fields than the model's."""

    class Stage(PretrainConfig):
        updates: int = 7

    config = tiny_pretrain()
    model = Pretrainer(tiny_model(), Stage(**config.model_dump()))
    export_checkpoint(model, tmp_path / "model.pt")
    assert import_checkpoint(tmp_path / "model.pt").model.config == config


def test_defaults_of_the_paper_have_published_values() -> None:
    """The published MeerKAT configuration: mask_prob is start probability times length."""
    model, pretrain, _, _ = PRESETS["meerkat"]
    with torch.device("meta"):
        cfg, _, _ = write_config(Pretrainer(model, pretrain))
        finetuned, _, _ = write_config(Detector(model, FinetuneConfig(), ["cc"]))
    audio = cfg["model"]["modalities"]["audio"]
    assert (audio["mask_prob"], audio["mask_length"], cfg["model"]["clone_batch"]) == (1.5, 2, 12)
    assert EncoderConfig() == model.encoder and cfg["model"]["embed_dim"] == 1024
    assert (finetuned["model"]["mask_prob"], finetuned["model"]["mask_length"]) == (0.825, 4)
    assert audio["conv_feature_layers"].startswith("[(127, 63, 1), (512, 10, 5), (512, 3, 2), ")
