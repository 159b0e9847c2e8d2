"""`seeds` of a recipe: everything is trained with each, on the same folds; both deviations apart."""

from __future__ import annotations

import json

import numpy as np
import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.recipe.files import load_recipe
from a2v_experiments.stages.seeds import over_seeds, seed_metrics, seed_spreads, seeds_text
from a2v_experiments.store.lookup import finetune_runs, seed_runs
from experiments_world import call_quietly, make_recipe

SINGLE = ["0.200", "0.800"]
BY_SEED = {
    3: {1.0: [{"strict/AP/micro": 0.2, "AP/cc": 0.5}, {"strict/AP/micro": 0.6}]},
    5: {1.0: [{"strict/AP/micro": 0.4, "AP/cc": 0.7}, {"strict/AP/micro": 1.0, "AP/cc": 0.9}]},
}


def test_folds_are_means_over_seeds_and_each_deviation_is_of_the_other_ones_means():
    folds = over_seeds(BY_SEED)[1.0]
    assert [fold["strict/AP/micro"] for fold in folds] == pytest.approx([0.3, 0.8])
    assert folds[1]["AP/cc"] == 0.9  # in that fold the other seed does not define it
    spread = seed_spreads(BY_SEED, 1.0)["strict/AP/micro"]
    assert (spread.mean, spread.std) == pytest.approx((0.55, np.std([0.4, 0.7], ddof=1)))
    assert seed_metrics(BY_SEED, 1.0) == {"strict/AP/micro_seed_std": spread.std}  # AP/cc: one seed has both folds
    head, line = seeds_text(BY_SEED, 1.0).splitlines()
    assert head.split("  ")[-2:] == ["seed 3", "seed 5"]
    assert line.split() == ["AP", "micro", "strict", "0.550", "0.354", "0.212", "0.400", "0.700"]
    apart = {0: {1.0: [{"strict/AP/micro": 0.2}, {}]}, 1: {1.0: [{}, {"strict/AP/micro": 0.8}]}}
    assert seed_metrics(apart, 1.0) == {}  # the difference is that of the folds
    assert seeds_text(apart, 1.0).splitlines()[1].split() == ["AP", "micro", "strict", "0.500", "0.424", "–", *SINGLE]
    alone = {None: BY_SEED[3]}
    assert over_seeds(alone) is BY_SEED[3] and seed_metrics(alone, 1.0) == {}


def test_a_recipe_stands_once_for_each_seed_with_every_training_at_it(tmp_path):
    recipe = make_recipe(
        tmp_path, seeds=[3, 5], finetune_by_share={0.5: {"updates": 4}}, folds__label_shares=[0.5, 1.0]
    )
    first, second = recipe.by_seed
    assert (second.pretrain.seed, second.finetune.seed, second.at_share(0.5).finetune.seed) == (5, 5, 5)
    assert first.folds == second.folds == recipe.folds and recipe.repeats == 4
    assert make_recipe(tmp_path).by_seed == [make_recipe(tmp_path)]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seeds=[1, 1]", "seeds = [1, 1]: must be different"),
        ("seeds=[]", "seeds = []: must be"),
        ("seeds=[-1]", "seeds = [-1]: must be"),
        ("sweep.parameters.finetune.seed=[1, 2]", "sweep changes finetune.seed"),
        ("sweep={parameters: {seeds: [1, 2]}}", "seeds: cannot differ between trials"),
    ],
)
def test_seeds_that_cannot_be_are_refused(tmp_path, override, told):
    with pytest.raises(UserError) as refused:
        make_recipe(tmp_path, [override], seeds=[0, 1]) if "sweep" in override else make_recipe(tmp_path, [override])
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_pretraining_alone_has_no_scores_to_deviate():
    with pytest.raises(UserError, match="seeds are for scores"):
        load_recipe("quickstart", ["seeds=[0, 1]", "finetune=null"])


def test_every_seed_has_its_runs_below_one_parent_and_one_model_for_new_recordings(world, first_runs):
    said = world.call("seeds=[0, 1]", "variant=seeds", "folds.refit=true")
    assert said.code == 0, said.err
    (parent,) = [run for run in world.runs("experiment") if run.data.tags["variant"] == "seeds"]
    ids = seed_runs(parent)
    assert {seed: set(shares[1.0]) for seed, shares in ids.items()} == {0: {0, 1}, 1: {0, 1}}
    assert finetune_runs(parent) == ids[0]
    runs = {
        seed: [world.store.run(run_id) for _, run_id in sorted(shares[1.0].items())] for seed, shares in ids.items()
    }
    pretrained = {seed: {run.data.tags["a2v.input_run.pretrain"] for run in folds} for seed, folds in runs.items()}
    assert pretrained[0] == {first_runs["pretrain"][0].info.run_id}  # seed 0 is that of the recipe without seeds
    assert len(pretrained[1]) == 1 and pretrained[1] != pretrained[0]
    assert [run.data.tags["seed"] for folds in runs.values() for run in folds] == ["0", "0", "1", "1"]
    assert runs[1][1].info.run_name == "finetune fold 1 seed 1 seeds" and runs[1][1].data.params["finetune.seed"] == "1"
    assert len({run.data.tags["a2v.input.folds"] for folds in runs.values() for run in folds}) == 1
    of = np.array([[run.data.metrics["strict/AP/micro"] for run in folds] for folds in runs.values()])  # seed, fold
    metrics = parent.data.metrics
    assert metrics["strict/AP/micro_mean"] == pytest.approx(of.mean())
    assert metrics["strict/AP/micro_std"] == pytest.approx(of.mean(0).std(ddof=1))
    assert metrics["strict/AP/micro_seed_std"] == pytest.approx(of.mean(1).std(ddof=1))
    assert "100% of the labels, each fold the mean of seeds 0, 1" in said.out and "± over seeds" in said.out
    assert len([run for run in world.runs("refit") if run.data.tags["variant"] == "seeds"]) == 1
    again = world.call("seeds=[0, 1]", "variant=seeds", "folds.refit=true")
    assert again.code == 0 and "summary: reused" in again.out


def test_the_plan_has_every_seed(world, first_runs):
    said = call_quietly(
        "experiment", "plan", world.recipe, "--work", world.work, "--set", "seeds=[0, 7]", "--set", "variant=p",
        "--json", "--no-measure",
    )  # fmt: skip
    assert said.code == 0, said.err
    planned = json.loads(said.out)["stages"]
    assert [one["name"] for one in planned if one["state"] == "runs"] == [
        "pretrain seed 7", "finetune fold 0 seed 7 p", "finetune fold 1 seed 7 p",
    ]  # fmt: skip
