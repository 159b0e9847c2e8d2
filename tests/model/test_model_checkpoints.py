"""Saving and loading models: a round trip, and every way in which a folder can be wrong."""

import json
import os
from pathlib import Path

import pytest
import torch
from a2v_model import Detector, FinetuneConfig, Pretrainer, load_model, save_model, write_thresholds
from a2v_model.checkpoints import read_description, write_card
from model_goldens import tiny_model, tiny_pretrain
from safetensors.torch import load_file, save_file


def _detector() -> Detector:
    return Detector(tiny_model(), FinetuneConfig(average_layers=2, channel_mask_length=4), ["cc", "sn"])


@pytest.mark.parametrize("kind", ["pretrained", "detector"])
def test_round_trip(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Pretrainer(tiny_model(), tiny_pretrain()) if kind == "pretrained" else _detector()
    save_model(model, tmp_path / "deep" / "model", {"run": "abc", "update": 7})
    again = load_model(tmp_path / "deep" / "model")
    assert type(again) is type(model) and not again.training
    assert again.model_config == model.model_config and again.config == model.config
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    description = json.loads((tmp_path / "deep" / "model" / "model.json").read_text())
    assert description["kind"] == kind and description["extra"] == {"run": "abc", "update": 7}
    assert (description["sample_rate"], description["frame_rate"]) == (8000, 400.0)
    total = sum(p.numel() for p in model.parameters())
    assert description["parameters"]["model"] + description["parameters"]["teacher"] == total
    if isinstance(model, Detector):
        assert again.classes == ["cc", "sn"] == description["classes"]
        wave = torch.randn(1, 800)
        assert torch.equal(again(wave), model.eval()(wave))
    else:
        assert not any(p.requires_grad for p in again.teacher.parameters())


def test_saving_again_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for update in (1, 2):
        save_model(_detector(), folder, {"update": update})
    assert json.loads((folder / "model.json").read_text())["extra"] == {"update": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(_detector(), folder, {"update": 1})
    with pytest.raises(TypeError):
        save_model(_detector(), folder, {"update": object()})
    assert json.loads((folder / "model.json").read_text())["extra"] == {"update": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_both_files_have_the_same_permissions(tmp_path: Path) -> None:
    save_model(_detector(), tmp_path / "model", {})
    modes = {os.stat(tmp_path / "model" / name).st_mode for name in ("model.json", "model.safetensors")}
    assert len(modes) == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(_detector(), tmp_path / "model", {})
    return tmp_path / "model"


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _one_line(folder: Path, needle: str) -> None:
    with pytest.raises(ValueError, match=needle) as error:
        load_model(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_a_description_called_as_the_hub_calls_it_is_read_and_written(folder: Path) -> None:
    before = load_model(folder).state_dict()
    (folder / "model.json").rename(folder / "config.json")
    write_thresholds(folder, {"cc": 0.25}, {"recordings": "some"})
    write_card(folder, {"run_id": "abc"})
    model = load_model(folder)
    assert isinstance(model, Detector) and model.thresholds == {"cc": 0.25}
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert read_description(folder)["card"] == {"run_id": "abc"}
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    (folder / "config.json").write_text('{"model_type": "bert"}')
    _one_line(folder, "config.json: not a model description")


def test_missing_folder(tmp_path: Path) -> None:
    _one_line(tmp_path / "nowhere", "no model.json there")


@pytest.mark.parametrize("uri", ["runs:/0123abcd/model", "models:/meerkat/1"])
def test_a_uri_is_not_a_folder(uri: str) -> None:
    with pytest.raises(ValueError, match=r"is a URI, not a folder; a2v_experiments\.models\.load_model"):
        load_model(uri)


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    _one_line(folder, "no model.safetensors there")


def test_truncated_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    _one_line(folder, "model.safetensors")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format_version": null}'])
def test_broken_description(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    _one_line(folder, "not a model description")


def test_newer_format(folder: Path) -> None:
    _edit(folder, format_version=2)
    _one_line(folder, "format version 2 is newer than 1")


def test_unknown_kind_and_key(folder: Path) -> None:
    _edit(folder, kind="other")
    _one_line(folder, "kind = other")
    _edit(folder, kind="detector", model={"front_end": {}, "colour": "red"})
    _one_line(folder, "colour")


def test_wrong_weights_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    state["head.weight"] = torch.zeros(3, 32)
    state["stray"] = state.pop("head.bias")
    save_file(state, path)
    _one_line(folder, r"missing head\.bias; unexpected stray; head\.weight is \[3, 32\], should be \[2, 32\]")


def test_thresholds_are_written_into_the_description_and_read_with_the_model(folder: Path) -> None:
    before, weights = json.loads((folder / "model.json").read_text()), (folder / "model.safetensors").read_bytes()
    assert load_model(folder).thresholds == {} == before["thresholds"]
    chosen = {"method": "avg", "window_s": 0.1, "recordings": "evaluation recordings of fold 0"}
    write_thresholds(folder, {"cc": 0.3, "sn": 0.05}, {"method": "max"})
    write_thresholds(folder, {"cc": 0.25}, chosen)  # the newest replace those that were there
    after = json.loads((folder / "model.json").read_text())
    assert after == before | {"thresholds": {"cc": 0.25}, "thresholds_from": chosen}
    assert (folder / "model.safetensors").read_bytes() == weights
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    model = load_model(folder)
    assert model.thresholds == {"cc": 0.25} and model.thresholds_from == chosen
    save_model(model, folder.parent / "again", {})  # a copy has them too
    assert load_model(folder.parent / "again").thresholds == {"cc": 0.25}


@pytest.mark.parametrize(
    "thresholds, needle",
    [
        ({"ld": 0.5}, r"thresholds: 'ld' is none of the model's classes \['cc', 'sn'\]"),
        ({"cc": 1.0}, "thresholds: 1.0 of 'cc' should be a number within"),
        ({"cc": -0.1}, "thresholds: -0.1 of 'cc'"),
        ({"cc": float("nan")}, "thresholds: nan of 'cc'"),
        ({"cc": True}, "thresholds: True of 'cc'"),
    ],
)
def test_wrong_thresholds_change_nothing(folder: Path, thresholds: dict[str, float], needle: str) -> None:
    before = (folder / "model.json").read_text()
    with pytest.raises(ValueError, match=needle):
        write_thresholds(folder, thresholds, {})
    with pytest.raises(TypeError):
        write_thresholds(folder, {"cc": 0.5}, {"when": object()})
    assert (folder / "model.json").read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    _edit(folder, thresholds=thresholds)
    _one_line(folder, needle)


def test_models_without_thresholds(folder: Path, tmp_path: Path) -> None:
    description = json.loads((folder / "model.json").read_text())
    for name in ("thresholds", "thresholds_from"):  # of before there were any
        description.pop(name)
    (folder / "model.json").write_text(json.dumps(description))
    assert load_model(folder).thresholds == {}
    save_model(Pretrainer(tiny_model(), tiny_pretrain()), tmp_path / "pretrained", {})
    with pytest.raises(ValueError, match="a pretrained model knows no classes"):
        write_thresholds(tmp_path / "pretrained", {}, {})
    _edit(folder, thresholds=[0.5])
    _one_line(folder, "thresholds is \\[0.5\\], should be dict")
