"""Registered models: which run's model a version is, its scores, and what it takes to become the champion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from a2v_experiments.basics.errors import UserError
from a2v_experiments.models import load_model
from a2v_experiments.overview.registering import look_at, promote, register_outcome
from a2v_experiments.stages.backbones import fetch_backbone
from a2v_experiments.stages.experiment import Outcome, scores_of_run
from a2v_experiments.store import lookup
from a2v_experiments.store.registry import check_name
from a2v_model import PRESETS, Detector, save_model
from experiments_store import MadeUp, ap
from experiments_world import make_recipe


@pytest.fixture
def made(new_work: Callable[[str], Path]) -> MadeUp:
    return MadeUp(new_work("work"))


def outcome(made: MadeUp, strict: Mapping[int, float], folds_mark: str = "f" * 64, refit: bool = False) -> Outcome:
    """An experiment whose folds have these strict mAP, each with a model of its own."""
    scores = {fold: ap(0.9, value / 2) | {"strict/mAP/micro": value} for fold, value in strict.items()}
    run_id = made.experiment({1.0: scores}, folds_mark=folds_mark)
    store = made.store("birds")
    folds = list(lookup.finetune_runs(store.run(run_id))[1.0].values())
    own = store.begin("refit", run_id, "refit", {}, {}, run_id) if refit else None
    return Outcome(run_id, {1.0: [scores_of_run(store, one) for one in folds]}, "", {1.0: folds}, own)


def test_the_better_model_on_the_same_folds_becomes_the_champion(made: MadeUp, tmp_path: Path):
    store, recipe = made.store("birds"), make_recipe(tmp_path)
    client = store.client
    first = outcome(made, {0: 0.2, 1: 0.4})
    told = register_outcome(store, "birds", first, recipe)
    assert told == "registered as version 1 of birds, of the first fold that ran: models:/birds@candidate"
    version = client.get_model_version("birds", "1")
    assert version.run_id == first.models[1.0][0]
    assert float(version.tags["strict/mAP/micro"]) == pytest.approx(0.3)
    assert float(version.tags["strict/mAP/micro_std"]) == pytest.approx(0.141421, abs=1e-6)
    found = look_at(client, "birds", None, None)
    assert found.against is None and "the first champion" in found.lines[0]
    assert promote(client, "birds", found.version).endswith("models:/birds@champion")
    assert look_at(client, "birds", "1", None).lines == ["version 1 of birds is the champion already"]

    # the same model again is no new version
    assert "version 1 of" in register_outcome(store, "birds", first, recipe)
    assert len(client.search_model_versions("name = 'birds'")) == 1

    worse = outcome(made, {0: 0.1, 1: 0.3}, refit=True)
    assert "version 2 of birds, trained on all labels" in register_outcome(store, "birds", worse, recipe)
    assert client.get_model_version("birds", "2").run_id == worse.refit
    found = look_at(client, "birds", None, None)
    assert found.against == "its strict/mAP/micro is 0.200, the champion's 0.300, over the same folds"
    text = "\n".join(found.lines)
    assert "0.20 ± 0.14" in text and "0.30 ± 0.14" in text and "candidate against champion" in text

    register_outcome(store, "birds", outcome(made, {0: 0.5, 1: 0.5}), recipe)
    found = look_at(client, "birds", None, None)
    assert found.version == "3" and found.against is None
    promote(client, "birds", "3")
    assert client.get_model_version_by_alias("birds", "champion").version in (3, "3")


@pytest.mark.parametrize(
    "folds, mark, reason",
    [
        ({0: 0.9, 1: 0.9}, "e" * 64, "their folds are not the same"),
        ({0: 0.9, 2: 0.9}, "f" * 64, "one has the folds 0, 2, the other 0, 1"),
    ],
)
def test_other_folds_need_force(made: MadeUp, tmp_path: Path, folds: dict[int, float], mark: str, reason: str, a2v):
    store, recipe = made.store("birds"), make_recipe(tmp_path)
    register_outcome(store, "birds", outcome(made, {0: 0.2, 1: 0.4}), recipe)
    promote(store.client, "birds", "1")
    register_outcome(store, "birds", outcome(made, folds, mark), recipe)
    said = a2v("model", "promote", "birds", "--work", made.work)
    assert said.code == 2
    assert said.only_line() == (f"not promoted: they cannot be compared: {reason}; --force promotes it all the same")
    assert str(store.client.get_model_version_by_alias("birds", "champion").version) == "1"
    said = a2v("model", "promote", "birds", "--work", made.work, "--force")
    assert said.code == 0 and said.out.endswith("version 2 is the champion now: models:/birds@champion\n")


def test_what_is_not_there_is_said(made: MadeUp, tmp_path: Path):
    client = made.store("birds").client
    with pytest.raises(UserError, match=r"birds: no model of this name is registered; none is \(a2v experiment run"):
        look_at(client, "birds", None, None)
    register_outcome(made.store("birds"), "birds", outcome(made, {0: 0.2}), make_recipe(tmp_path))
    with pytest.raises(UserError, match="birds: no version 7; there are: 1"):
        look_at(client, "birds", "7", None)
    for wrong in ("a/b", "a@b", ""):
        with pytest.raises(UserError, match="a model's name has letters"):
            check_name(wrong)


def test_the_champion_is_a_model_wherever_one_is_named(made: MadeUp, tmp_path: Path):
    """A detector, which MLflow keeps as a logged model, by its alias: loaded, and to start from."""
    torch.manual_seed(0)
    tiny, store = PRESETS["tiny"], made.store("birds")
    detector = Detector(tiny.model, tiny.finetune, ["cc", "sn"])
    save_model(detector, tmp_path / "model", {"run_id": "x"})
    done = outcome(made, {0: 0.2})
    (run_id,) = done.models[1.0]
    store.log_model(store.begin_model(run_id, "detector", {}), tmp_path / "model")
    store.finish_model(run_id)
    register_outcome(store, "birds", done, make_recipe(tmp_path))
    promote(store.client, "birds", "1")
    wave = torch.randn(4000)
    found = load_model("models:/birds@champion", store.uri)
    assert torch.equal(found.likelihoods(wave, 8000), load_model(tmp_path / "model").likelihoods(wave, 8000))
    start = fetch_backbone("models:/birds@champion", tmp_path / "other", store.uri, key="finetune.start")
    assert start.goes_on and start.run_id == "x" and start.source == "models:/birds@champion"
