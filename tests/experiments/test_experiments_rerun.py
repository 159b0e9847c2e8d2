"""A run is repeated from the store alone: its recipe is kept whole, and elsewhere its scores come out equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from a2v_experiments.basics.errors import UserError
from a2v_experiments.overview.rerun import kept_recipe, scores_again
from a2v_experiments.recipe.files import BUNDLED, RecipeFile, load_recipe, read_recipe
from a2v_experiments.recipe.written import RECIPE, tree_text
from experiments_plugins import LOSS, forget, nothing_stays
from experiments_runs import World
from experiments_store import MadeUp, ap
from experiments_world import recipe_tree, write_recipe
from mlflow import MlflowClient
from mlflow.entities import Run

NAMES = sorted(str(path.relative_to(BUNDLED).with_suffix("")) for path in BUNDLED.rglob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_reads_back_as_it_was(name: str):
    recipe = load_recipe(name)
    assert RecipeFile("again", yaml.safe_load(tree_text(recipe.model_dump(mode="json")))).resolve() == recipe


def test_a_sweep_reads_back_with_all_its_trials():
    from a2v_experiments.sweep.trials import trials_of

    file = read_recipe("ablation", scale="tiny")
    again = RecipeFile("again", yaml.safe_load(tree_text(file.tree)), "tiny")
    assert again.resolve() == file.resolve() and trials_of(again) == trials_of(file)


def test_no_login_is_kept():
    tree = {"backbone": "s3://me:secret@host/model", "data": {"list": ["http://user:p@x/y", "a@b"]}}
    text = tree_text(tree)
    assert "secret" not in text and "user" not in text
    assert yaml.safe_load(text) == {"backbone": "s3://host/model", "data": {"list": ["http://x/y", "a@b"]}}


def test_scores_that_differ_are_named():
    before = {"AP/micro_mean": 0.5, "AP/macro_mean": 0.25, "loss": 1.0}
    assert scores_again(before, dict(before)) == "all 2 scores are equal"
    told = scores_again(before, before | {"AP/micro_mean": 0.75, "loss": 9.0})
    assert told == "1 of 2 scores are others, most of all AP/micro_mean: 0.5 then, 0.75 now"


def test_a_run_without_a_recipe_says_so(new_work: Callable[[str], Path]):
    made = MadeUp(new_work("old"))
    run_id = made.experiment({1.0: {0: ap(0.5)}})
    with pytest.raises(UserError, match=rf"run {run_id} keeps no {RECIPE}: it was made by an older a2v"):
        kept_recipe(made.store("birds").client, run_id[:12])
    with pytest.raises(UserError, match="feed: no run has this id"):
        kept_recipe(made.store("birds").client, "feed")


def test_a_fold_is_repeated_elsewhere_with_equal_scores(
    world: World, new_work: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, a2v: Callable, tmp_path: Path
):
    """From the id of a fold: its experiment, in another folder, store and current folder."""
    fold, other = world.first_runs()["finetune"][1], new_work("other")
    monkeypatch.chdir(tmp_path)
    uris = ("--tracking-uri", world.store.uri, "--to", "sqlite:///other/mlflow.db")
    said = a2v("experiment", "rerun", fold.info.run_id, "--work", "other", *uris)
    assert said.code == 0, said.err
    parent = world.first_runs()["experiment"][0].info.run_id
    assert f"beside run {parent}: all " in said.out and said.out.rstrip().endswith(" scores are equal")
    assert "reused" not in said.out
    again = MlflowClient(f"sqlite:///{other / 'mlflow.db'}")
    (experiment,) = [one for one in again.search_experiments() if one.name == "tones"]
    assert len(again.search_runs([experiment.experiment_id], "tags.`a2v.stage` = 'finetune'")) == 2

    # in the store of the run there is nothing to be done
    said = a2v("experiment", "rerun", parent, "--work", world.work)
    assert said.code == 0 and f"run {parent} is whole, nothing was to be done" in said.out


def test_a_run_with_a_plugin_is_repeated_from_what_the_store_keeps_of_it_once_that_may_run(
    csv_source: Path, new_work: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, a2v: Callable, tmp_path: Path
):
    """Elsewhere, when the plugin's file is gone; without agreement not a line of it runs."""
    ran = tmp_path / "ran"
    monkeypatch.setenv("TOUCHED", str(ran))
    loss = {"kind": "squares", "weight": 2}
    tree = recipe_tree(data__source=str(csv_source), folds__run=[0], pretrain=None, finetune__loss=loss)
    recipe = write_recipe(tmp_path / "own.yaml", tree | {"plugins": ["mine.py"]})
    file = recipe.with_name("mine.py")
    file.write_text(f"import os, pathlib\npathlib.Path(os.environ['TOUCHED']).touch()\n{LOSS}")
    work, other = new_work("first"), new_work("other")
    with nothing_stays():
        said = a2v("experiment", "run", recipe, "--work", work)
        assert said.code == 0, said.err
        (first,) = _experiments(work)
        for gone in (ran, recipe, file):
            gone.unlink()
        forget()
        (tmp_path / "plugins").mkdir()  # where the command runs: what lies here is not what the run had
        (tmp_path / "plugins/mine.py").write_text(LOSS.replace("** 2", "** 4"))
        monkeypatch.chdir(tmp_path)
        call = ("experiment", "rerun", first.info.run_id[:12], "--work", other, "--to", f"sqlite:///{other}/mlflow.db")
        call += ("--tracking-uri", f"sqlite:///{work}/mlflow.db")
        assert "brings code of its own: look at its artifacts in plugins/" in a2v(*call).only_line()
        assert not ran.exists() and not _experiments(other)
        said = a2v(*call, "--allow-plugins")
        assert said.code == 0, said.err
        assert ran.exists()
    assert f"beside run {first.info.run_id}: all " in said.out and said.out.rstrip().endswith(" scores are equal")
    (again,) = _experiments(other)
    assert again.data.params["finetune.loss.weight"] == first.data.params["finetune.loss.weight"] == "2.0"
    assert again.data.params["plugins.mine"] == first.data.params["plugins.mine"]


def _experiments(work: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{work}/mlflow.db")
    places = [one.experiment_id for one in client.search_experiments()]
    return list(client.search_runs(places, "tags.`a2v.stage` = 'experiment'"))
