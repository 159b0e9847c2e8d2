"""A sweep's section and its trials: every trial is what `--set` of its values would give, and all are checked first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.recipe.files import RecipeFile, load_recipe, read_recipe
from a2v_experiments.recipe.sweep import Range
from a2v_experiments.sweep.trials import draw, number_of_trials, short_names, trial, trial_name, trials_of
from experiments_world import recipe_tree, write_recipe

MASKS = {"pretrain.mask_probability": [0.2, 0.5], "finetune.mask_length": [2, 4, 8]}


def sweep_file(folder: Path, sweep: dict[str, Any], *overrides: str, **changes: Any) -> RecipeFile:
    path = write_recipe(folder / "small.yaml", recipe_tree(sweep=sweep, **changes))
    return read_recipe(str(path), list(overrides))


def told(folder: Path, sweep: dict[str, Any], *overrides: str, **changes: Any) -> str:
    """The one line with which a sweep is refused."""
    with pytest.raises(UserError) as caught:
        trials_of(sweep_file(folder, sweep, *overrides, **changes))
    assert caught.value.code == 2 and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_grid_has_every_combination_and_each_is_what_set_would_give(tmp_path):
    file = sweep_file(tmp_path, {"parameters": MASKS})
    trials = trials_of(file)
    assert [tuple(t.parameters.values()) for t in trials] == [(p, n) for p in (0.2, 0.5) for n in (2, 4, 8)]
    assert number_of_trials(file) == 6
    third = trials[2]
    assert third.name == "mask_probability=0.2 mask_length=8" == third.recipe.variant
    same = load_recipe(
        str(tmp_path / "small.yaml"),
        ["pretrain.mask_probability=0.2", "finetune.mask_length=8", "sweep=null", f"variant={third.name}"],
    )
    assert third.recipe == same


def test_variants_are_trials_in_their_order(tmp_path):
    variants = {
        "as it is": None,
        "scratch": {"pretrain": None},
        "long": {"finetune.updates": 9, "model.encoder.heads": 4},
    }
    trials = trials_of(sweep_file(tmp_path, {"variants": variants}, variant="mine"))
    assert [t.name for t in trials] == list(variants)
    assert [t.recipe.variant for t in trials] == ["mine as it is", "mine scratch", "mine long"]
    assert trials[1].recipe.pretrain is None and trials[0].recipe.pretrain is not None
    assert (trials[2].recipe.finetune.updates, trials[2].recipe.model.encoder.heads) == (9, 4)


def test_a_variant_may_change_the_preset_as_set_does(tmp_path):
    tree = recipe_tree(data__sample_rate=8000, data__segment_s=2.0, model="small", pretrain={"updates": 6})
    tree |= {"finetune": {"updates": 6}, "sweep": {"parameters": {"model": ["tiny", "small"]}}}
    tiny, small = trials_of(read_recipe(str(write_recipe(tmp_path / "p.yaml", tree))))
    assert (tiny.recipe.model.encoder.dim, tiny.recipe.pretrain.target_layers) == (96, 2)
    assert (small.recipe.model.encoder.dim, small.recipe.pretrain.target_layers) == (128, 4)


RANDOM = {
    "search": "random",
    "trials": 5,
    "seed": 3,
    "parameters": {
        "pretrain.optimizer.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "pretrain.mask_length": {"low": 1, "high": 6, "integer": True},
        "pretrain.mask_probability": {"low": 0.1, "high": 0.6, "step": 0.2},
        "finetune.focal": [True, False],
    },
}


def test_random_trials_are_the_seeds_and_more_trials_only_add_some(tmp_path):
    first = [t.parameters for t in trials_of(sweep_file(tmp_path, RANDOM))]
    assert first == [t.parameters for t in trials_of(sweep_file(tmp_path, RANDOM))]
    more = [t.parameters for t in trials_of(sweep_file(tmp_path, RANDOM, "sweep.trials=12"))]
    assert len(more) == 12 and more[:5] == first
    other = [t.parameters for t in trials_of(sweep_file(tmp_path, RANDOM, "sweep.seed=4"))]
    assert len(first) == len({str(p) for p in first}) == 5 and other != first
    for parameters in more:
        rate, length, probability, focal = parameters.values()
        assert 1e-5 <= rate <= 1e-2 and isinstance(focal, bool)
        assert isinstance(length, int) and 1 <= length <= 6 and probability in (0.1, 0.3, 0.5)


def test_draws_reach_all_of_a_range_evenly():
    rng = np.random.default_rng(0)
    logs = [math.log10(draw(Range(low=1e-6, high=1e-2, log=True), rng)) for _ in range(2000)]
    assert np.histogram(logs, bins=4, range=(-6, -2))[0].min() > 420  # 500 expected in each magnitude, sd 19
    whole = [draw(Range(low=2, high=5, integer=True), rng) for _ in range(2000)]
    assert set(whole) == {2, 3, 4, 5} and min(whole.count(n) for n in (2, 3, 4, 5)) > 420
    assert {draw(Range(low=2, high=9, integer=True, step=3), rng) for _ in range(200)} == {2, 5, 8}


def test_a_random_search_of_few_combinations_says_how_many_there_are(tmp_path):
    sweep = {"search": "random", "trials": 7, "parameters": {"finetune.mask_length": [1, 2]}}
    assert told(tmp_path, sweep).startswith("sweep.trials = 7: no more than 2 different combinations of finetune.mask")


def test_optuna_knows_its_trials_only_one_by_one(tmp_path):
    file = sweep_file(tmp_path, {**RANDOM, "search": "optuna"})
    assert trials_of(file) == [] and number_of_trials(file) == 5
    one = trial(file, {"pretrain.mask_length": 3, "finetune.focal": False})
    assert one.recipe.pretrain.mask_length == 3 and not one.recipe.finetune.focal


def test_parameters_can_be_set_and_nested(tmp_path):
    file = sweep_file(tmp_path, {"parameters": MASKS}, "sweep.parameters.finetune.mask_length=[3]")
    assert [t.parameters["finetune.mask_length"] for t in trials_of(file)] == [3, 3]
    nested = {"pretrain": {"mask_probability": [0.2, 0.5]}, "finetune.mask_length": [2, 4, 8]}
    assert trials_of(sweep_file(tmp_path, {"parameters": nested})) == trials_of(
        sweep_file(tmp_path, {"parameters": MASKS})
    )


def test_names_are_as_short_as_they_can_be():
    keys = ["pretrain.mask_length", "finetune.mask_length", "pretrain.bcl.window_s", "mask_length", "a.length"]
    names = short_names(keys)
    assert names["pretrain.bcl.window_s"] == "window_s" and names["a.length"] == "length"
    assert (
        names["pretrain.mask_length"] == "pretrain.mask_length"
        and names["finetune.mask_length"] == "finetune.mask_length"
    )
    assert trial_name({"a.b": 0.1234567, "a.c": None, "a.d": True, "a.e": "x", "a.f": 1e-5}) == (
        "b=0.123457 c=null d=true e=x f=1e-05"
    )


P = "pretrain.mask_probability"


@pytest.mark.parametrize(
    "sweep, line",
    [
        ({"parameters": {"pretrain.mask_probabilty": [0.1]}},
         "small.yaml: trial mask_probabilty=0.1: pretrain.mask_probabilty: unknown key; did you mean 'mask_prob"),
        ({"parameters": {P: [0.1, 1.5]}}, f"small.yaml: trial mask_probability=1.5: {P} = 1.5: input should be less"),
        ({"search": "random", "trials": 2, "parameters": {P: {"low": 0.5, "high": 2}}},
         f"small.yaml: trial mask_probability=2: {P} = 2.0: input should be less than or equal to 1"),
        ({"search": "optuna", "trials": 2, "parameters": {P: {"low": -1, "high": 1}}},
         f"small.yaml: trial mask_probability=-1: {P} = -1.0: input should be greater than or equal to 0"),
        ({"variants": {"deep": {"finetune.average_layers": 3}}},
         "small.yaml: trial deep: finetune.average_layers = 3: the encoder has only encoder.depth = 2"),
        ({"parameters": {P: {"low": 0.1, "high": 0.5}}}, f"small.yaml: sweep: parameters.{P}: a grid needs a list"),
        ({"search": "random", "trials": 2, "parameters": {P: {"low": 0.5, "high": 0.1}}},
         f"small.yaml: sweep.parameters.{P}: low = 0.5 must be below high = 0.1"),
        ({"search": "random", "trials": 2, "parameters": {P: {"low": 0, "high": 0.1, "log": True}}},
         f"small.yaml: sweep.parameters.{P}: low = 0 must be above 0 where log is true"),
        ({"search": "random", "trials": 2, "parameters": {P: {"low": 0, "high": 0.1, "integer": True}}},
         f"small.yaml: sweep.parameters.{P}: low, high and step must be whole numbers"),
        ({"search": "random", "trials": 2, "parameters": {P: {"low": 0, "high": 0.1, "setp": 1}}},
         f"small.yaml: sweep.parameters.{P}.setp: unknown key; did you mean 'step'?"),
        ({"parameters": {P: []}}, f"small.yaml: sweep.parameters.{P} = []: list should have at least 1 item"),
        ({"parameters": {P: [0.1, 0.1]}}, f"small.yaml: sweep.parameters.{P}: 0.1 stands there twice"),
        ({"parameters": {P: [[0.1]]}}, f"small.yaml: sweep.parameters.{P}.0: is [0.1]; must be a number, text, true"),
        ({"parameters": {"ray.num_workers": [1]}}, "small.yaml: sweep: ray.num_workers: cannot differ between trials"),
        ({"variants": {"a": {"name": "b"}}}, "small.yaml: sweep: name: cannot differ between trials"),
        ({}, "small.yaml: sweep: name either parameters"),
        ({"parameters": {P: [0.1]}, "variants": {"a": None}}, "small.yaml: sweep: name either parameters"),
        ({"parameters": {P: [0.1]}, "trials": 3}, "small.yaml: sweep: trials is for search: random or optuna"),
        ({"parameters": {P: [0.1]}, "search": "random"}, "small.yaml: sweep: search: random needs trials"),
        ({"variants": {"a": None}, "search": "optuna", "trials": 1}, "small.yaml: sweep: search: optuna draws from"),
        ({"parameters": {P: [0.1]}, "metric": "loss"}, "small.yaml: sweep.metric: is 'loss'; must be a score of the"),
        ({"parameters": {P: [0.1]}, "pruning": {"grace_folds": 2}},
         "small.yaml: sweep.pruning.grace_folds = 2: must be below the number of folds that run, 2"),
        ({"parameters": {P: [0.1]}, "pruning": {"reduction_factor": 1}},
         "small.yaml: sweep.pruning.reduction_factor = 1: input should be greater than 1"),
    ],
)  # fmt: skip
def test_one_line_names_file_trial_key_and_what_would_be_right(tmp_path, sweep, line):
    assert told(tmp_path, sweep).startswith(line)


@pytest.mark.parametrize("metric", ["AP/cc", "strict/AP/micro", "strict/mAP/macro", "any_class/F1", "timestep/recall"])
def test_scores_that_trials_may_be_compared_by(tmp_path, metric):
    recipe = sweep_file(tmp_path, {"parameters": MASKS, "metric": metric}).resolve()
    assert recipe.sweep.metric == metric


def parts(folder: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(str(write_recipe(folder / "small.yaml", recipe_tree(**changes))))
    return str(caught.value)


def test_parts_of_a_recipe_that_do_not_go_together(tmp_path):
    assert "backbone and pretrain exclude each other" in parts(tmp_path, backbone="model")
    assert "nothing would be trained on it" in parts(
        tmp_path, pretrain=None, pretrain_data={"source": "x", "sample_rate": 4000}
    )
    assert "both null: there is nothing to train" in parts(tmp_path, pretrain=None, finetune=None)
    assert "so it needs finetune" in parts(tmp_path, finetune=None, sweep={"parameters": {P: [0.1]}})
    assert "pretrain_data.sample_rate (8000 Hz) must be equal" in parts(
        tmp_path, pretrain_data={"source": "x", "sample_rate": 8000}
    )
    assert parts(tmp_path, finetune_by_share={0.5: {"mask_lenght": 3}}) == (
        "small.yaml: finetune_by_share.0.5.mask_lenght: unknown key; did you mean 'mask_length'?"
    )


def test_settings_of_a_label_share_stand_on_those_of_finetuning(tmp_path):
    tree = recipe_tree(finetune_by_share={0.5: {"mask_length": 9, "optimizer": {"learning_rate": 0.1}}})
    recipe = load_recipe(str(write_recipe(tmp_path / "small.yaml", tree)), ["finetune.updates=5"])
    half, whole = recipe.at_share(0.5).finetune, recipe.at_share(1.0).finetune
    assert whole == recipe.finetune and (whole.mask_length, whole.updates) == (4, 5)
    assert (half.mask_length, half.updates, half.optimizer.learning_rate, half.optimizer.warmup_updates) == (
        9,
        5,
        0.1,
        2,
    )


def test_null_drops_what_a_parent_sweeps(tmp_path):
    parameters = {"finetune.mask_length": [2, 4], "finetune.focal": [True, False], "pretrain.clones": [1, 2]}
    write_recipe(tmp_path / "base.yaml", recipe_tree(sweep={"parameters": parameters}))
    child = tmp_path / "child.yaml"
    child.write_text("extends: base\nsweep: {parameters: {finetune.focal: null}}\n")
    assert list(read_recipe(str(child)).resolve().sweep.parameters) == ["finetune.mask_length", "pretrain.clones"]
    dropped = read_recipe(str(child), ["sweep.parameters.finetune=null"]).resolve().sweep
    assert list(dropped.parameters) == ["pretrain.clones"]
    nested = read_recipe(str(child), ["sweep.parameters.pretrain.clones=null"]).resolve().sweep
    assert list(nested.parameters) == ["finetune.mask_length"]
    with pytest.raises(UserError, match="name either parameters"):
        read_recipe(str(child), ["sweep.parameters.finetune=null", "sweep.parameters.pretrain=null"]).resolve()
