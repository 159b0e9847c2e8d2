"""What `a2v experiment run` says to do next: commands that can be pasted."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from a2v_experiments.overview.next_steps import after_scale, after_sweep, next_steps
from a2v_experiments.recipe.files import Recipe, load_recipe, read_recipe
from a2v_experiments.stages.experiment import Outcome
from a2v_experiments.sweep.rows import Row
from a2v_experiments.sweep.run import BestTrial, best_trial
from experiments_world import make_recipe, recipe_tree, write_recipe

VALUES = {"finetune.mask_length": 2, "finetune.optimizer.learning_rate": 1e-05, "finetune.bcl": None,
          "finetune.sampling": {"class_power": 0.25}}  # fmt: skip


def commands_in(lines: list[str]) -> list[list[str]]:
    """The words of each command, as a shell reads them, without `a2v`."""
    return [shlex.split(line)[1:] for line in lines if line.startswith("  ")]


def run_by(command: list[str]) -> Recipe:
    """The recipe that `experiment run ...` would run."""
    assert command[:2] == ["experiment", "run"]
    return load_recipe(command[2], [value for flag, value in pairwise(command) if flag == "--set"])


@pytest.mark.parametrize("ap", [0.08, 0.5])
def test_what_to_do_next_can_be_pasted(tmp_path: Path, ap: float):
    recipe = make_recipe(tmp_path)
    assert recipe.finetune is not None
    scores = {0.5: [{"strict/AP/micro": 0.9}], 1.0: [{"strict/AP/micro": ap}]}
    outcome = Outcome("p", scores, "", {0.5: ["half"], 1.0: ["whole", "other"]})
    sets = ["finetune.updates=7", "name=my birds"]
    said = next_steps(outcome, recipe, ("birds.yaml", sets), Path("work"), "sqlite:///work/mlflow.db", None)
    commands = [line.partition("a2v ")[2] for line in said if line.startswith("  ")]
    assert commands[-1] == ("predict NEW --model runs:/whole --out calls --tracking-uri sqlite:///work/mlflow.db")
    more = f"experiment run birds.yaml --set 'name=my birds' --set finetune.updates={2 * recipe.finetune.updates}"
    assert commands[:-1] == ([f"{more} --work work"] if ap < 0.5 else [])
    refitted = next_steps(replace(outcome, refit="all"), recipe, ("birds.yaml", []), Path("a2v-runs"), "x", None)
    assert refitted[:2] == [
        "the model for new recordings, trained on all labels: runs:/all",
        "its scores are those of the fold above, whose model heard fewer labels",
    ]
    assert refitted[-1].endswith("a2v predict NEW --model runs:/all --out calls")
    default = next_steps(outcome, recipe, ("birds.yaml", []), Path("a2v-runs"), "sqlite:///x", None)
    assert default[-1].endswith("a2v predict NEW --model runs:/whole --out calls")
    assert next_steps(Outcome("p", {}, ""), recipe, ("birds.yaml", []), Path("w"), "s", None) == []


def test_the_best_trial_can_be_used_and_trained_on(tmp_path: Path):
    path = write_recipe(tmp_path / "my sweep.yaml", recipe_tree(sweep={"variants": {"one": VALUES}}))
    recipe = read_recipe(str(path)).resolve(VALUES, "one")
    outcome = Outcome("t", {1.0: [{"strict/AP/micro": 0.2}]}, "", {1.0: ["model"]})
    said = after_sweep(BestTrial(recipe, VALUES, outcome), (str(path), []), Path("a2v-runs"), "sqlite:///x", None)
    more, use = commands_in(said)
    assert said[0].startswith("of the best trial, strict AP micro is 0.20") and use[:2] == ["predict", "NEW"]
    again = run_by(more)
    assert again.sweep is None and again.finetune.updates == 2 * recipe.finetune.updates
    changed = again.finetune.model_copy(update={"updates": recipe.finetune.updates})
    assert changed == recipe.finetune and changed.sampling.class_power == 0.25 and changed.mask_length == 2
    good = BestTrial(recipe, VALUES, Outcome("t", {1.0: [{"strict/AP/micro": 0.9}]}, "", {1.0: ["model"]}))
    (only,) = commands_in(after_sweep(good, (str(path), []), Path("a2v-runs"), "sqlite:///x", None))
    assert only == ["predict", "NEW", "--model", "runs:/model", "--out", "calls"]


def test_the_best_trial_is_found_with_its_models(world, first_runs, tmp_path: Path):
    """A finished run with two folds stands for the trial that scored best."""
    tree = recipe_tree(sweep={"parameters": {"finetune.mask_length": [1, 2]}})
    file = read_recipe(str(write_recipe(tmp_path / "sweep.yaml", tree)))
    trials = [("lower", 1, 0.3, "no-run"), ("best", 2, 0.6, first_runs["experiment"][0].info.run_id)]
    rows = [
        Row(name, {"finetune.mask_length": value}, "finished", "", run_id, 2, {"strict/mAP/micro_mean": score})
        for name, value, score, run_id in trials
    ]
    best = best_trial(file, rows, world.store)
    assert best.recipe.finetune.mask_length == 2 and best.parameters == {"finetune.mask_length": 2}
    assert best.outcome.models == {1.0: [run.info.run_id for run in first_runs["finetune"]]}
    scores = [run.data.metrics["strict/AP/micro"] for run in first_runs["finetune"]]
    assert [fold["strict/AP/micro"] for fold in best.outcome.scores[1.0]] == scores
    assert best_trial(file, [Row("failed", {}, "failed")], world.store) is None


def test_after_a_small_run_comes_the_recipe_as_it_is(csv_source: Path, tmp_path: Path):
    there = write_recipe(tmp_path / "there.yaml", recipe_tree(data__source=str(csv_source)))
    file = read_recipe(str(there), ["finetune.updates=9"], "tiny")
    said = after_scale(file, (str(there), ["finetune.updates=9"]), Path("w"), None)
    plan, run = commands_in(said)
    assert plan == ["experiment", "plan", *run[2:]] and run[-2:] == ["--work", "w"] and "--scale" not in run
    assert run_by(run) == load_recipe(str(there), ["finetune.updates=9"])
    said = after_scale(read_recipe("few_calls", scale="tiny"), ("few_calls", []), Path("a2v-runs"), None)
    assert "on your recordings, FOLDER" in said[0]
    assert commands_in(said)[1] == ["experiment", "run", "few_calls", "--set", "data.source=FOLDER"]
