"""Models by folder and by MLflow URI."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch
from a2v_experiments.basics.errors import UserError
from a2v_experiments.models import load_model
from a2v_experiments.store.tracking import open_store
from a2v_model import PRESETS, Detector, save_model, write_thresholds


@pytest.fixture
def logged(new_work: Callable[[str], Path], tmp_path: Path) -> tuple[Path, str, Path]:
    """A work folder whose store holds a model: (work, run id, the same model's folder)."""
    torch.manual_seed(0)
    tiny = PRESETS["tiny"]
    save_model(Detector(tiny.model, tiny.finetune, ["cc", "sn"]), tmp_path / "saved" / "model", {"run": "x"})
    work = new_work("work")
    store = open_store(work, None, "birds")
    run_id = store.begin("finetune", "f", "fold 0", {}, {}, None)
    store.log_folder(run_id, tmp_path / "saved" / "model", "model")
    store.finish(run_id)
    return work, run_id, tmp_path / "saved" / "model"


def test_the_same_model_from_folder_run_and_registry(logged, monkeypatch, tmp_path):
    work, run_id, folder = logged
    store = open_store(work, None, "birds")
    store.client.create_registered_model("meerkats")
    store.client.create_model_version("meerkats", f"runs:/{run_id}/model", run_id)
    wave = torch.randn(4000)
    expected = load_model(folder).likelihoods(wave, 8000)
    assert expected.shape == (50, 2)
    for uri in (f"runs:/{run_id}/model", f"runs:/{run_id}", "models:/meerkats/1"):
        assert torch.equal(load_model(uri, store.uri).likelihoods(wave, 8000), expected)
    monkeypatch.setenv("A2V_WORK", str(work))
    assert torch.equal(load_model(f"runs:/{run_id}/model").likelihoods(wave), expected)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.setenv("A2V_WORK", str(tmp_path))
    assert torch.equal(load_model(f"runs:/{run_id}/model").likelihoods(wave), expected)


def test_thresholds_reach_the_store_from_a_copy_and_in_place(logged, tmp_path):
    work, run_id, _ = logged
    store = open_store(work, None, "birds")
    place = Path(store.fetch(run_id, "model", work))
    copy = shutil.copytree(place, tmp_path / "fetched" / "model")  # as it comes from a server
    write_thresholds(copy, {"cc": 0.3}, {"recordings": "fold 0"})
    assert load_model(f"runs:/{run_id}", store.uri).thresholds == {}
    store.put_back(run_id, copy / "model.json", "model")
    assert load_model(f"runs:/{run_id}", store.uri).thresholds == {"cc": 0.3}
    write_thresholds(place, {"sn": 0.2}, {"recordings": "fold 0"})  # the artifact itself, where the store is local
    store.put_back(run_id, place / "model.json", "model")
    assert load_model(f"runs:/{run_id}", store.uri).thresholds == {"sn": 0.2}


@pytest.mark.parametrize(
    "uri, needle",
    [
        ("runs:/0123456789abcdef0123456789abcdef/model", "cannot be fetched from sqlite:"),
        ("models:/nobody/1", "cannot be fetched from sqlite:"),
        ("runs:/{run}/scores", "scores"),
    ],
)
def test_a_uri_without_a_model_is_one_line(logged, uri, needle):
    work, run_id, _ = logged
    with pytest.raises(UserError, match=needle) as error:
        load_model(uri.format(run=run_id), open_store(work, None, "birds").uri)
    assert "\n" not in str(error.value)


def test_without_a_store_none_is_made(monkeypatch, tmp_path):
    mlflow.set_tracking_uri(None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("A2V_WORK", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="runs:/abc/model: no MLflow store in a2v-runs: name one"):
        load_model("runs:/abc")
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_that_is_no_model(logged):
    work, _, folder = logged
    store = open_store(work, None, "birds")
    other = store.begin("data", "d", "data", {"a": 1}, {}, None)
    with pytest.raises(UserError, match=r"no model there: expected a folder with model\.json"):
        load_model(f"runs:/{other}/config.json", store.uri)
    with pytest.raises(ValueError, match=r"nowhere: no model\.json there"):
        load_model(folder / "nowhere")
