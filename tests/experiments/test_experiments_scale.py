"""`--scale tiny`: sizes shrink, what tells recipes and their trials apart stays."""

from __future__ import annotations

from typing import Literal

import pytest
from a2v_experiments.recipe.files import BUNDLED, load_recipe, read_recipe
from a2v_experiments.recipe.sections import Recipe
from a2v_experiments.sweep.trials import trials_of
from a2v_experiments.training.spec import part
from a2v_model import Detector, Pretrainer
from a2v_model.config import FinetuneConfig, PretrainConfig
from experiments_world import recipe_tree, write_recipe

BUNDLED_NAMES = sorted(str(path.relative_to(BUNDLED)) for path in BUNDLED.rglob("*.yaml"))


def all_recipes(name: str, scale: Literal["tiny"] | None = "tiny") -> list[Recipe]:
    file = read_recipe(name, scale=scale)
    recipe = file.resolve()
    return [recipe, *(one.recipe for one in trials_of(file))] if recipe.sweep else [recipe]


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_every_bundled_recipe_becomes_small_enough_for_a_laptop(name):
    full, strides = load_recipe(name), {recipe.model.front_end.stride for recipe in all_recipes(name, scale=None)}
    for recipe in all_recipes(name):
        assert recipe.name == f"{full.name}-tiny" and recipe.data.source == "synthetic"
        assert recipe.data.sample_rate == full.data.sample_rate and recipe.data.segment_s <= 2
        assert recipe.model.front_end.stride in strides
        assert len(recipe.folds.selected) <= 2 and recipe.ray.num_workers == 0 and not recipe.ray.use_gpu
        assert recipe.pretrain_source.source == "synthetic"
        for stage in (recipe.pretrain, recipe.finetune, *recipe.finetune_by_share.values()):
            assert stage is None or (stage.updates <= 8 and stage.segments * stage.micro_batches <= 4)
        if recipe.pretrain is not None:
            parameters = sum(
                p.numel() for p in Pretrainer(recipe.model, part(recipe.pretrain, PretrainConfig)).parameters()
            )
            assert parameters < 150_000 and recipe.pretrain.clones <= 2
        if recipe.finetune is not None:
            Detector(recipe.model, part(recipe.finetune, FinetuneConfig), ["cc"])


@pytest.mark.parametrize("preset", ["base", "crnn"])
def test_an_ear_becomes_small(tmp_path, preset):
    tree = recipe_tree(data__sample_rate=8000, data__segment_s=2.0, model=preset, finetune={"updates": 6})
    tree |= {"pretrain": None if preset == "crnn" else {"updates": 6}}
    recipe = load_recipe(str(write_recipe(tmp_path / "p.yaml", tree)), scale="tiny")
    assert recipe.model.front_end.kind == "ear" and recipe.data.segment_s == 2.0
    assert recipe.model.encoder.kind == ("convolutions" if preset == "crnn" else "transformer")
    model = Detector(recipe.model, part(recipe.finetune, FinetuneConfig), ["cc"])
    assert sum(p.numel() for p in model.parameters()) < 60_000


def test_a_start_as_filterbank_keeps_its_room(tmp_path):
    path = str(write_recipe(tmp_path / "s.yaml", recipe_tree()))
    over = ["model.front_end.start=filterbank", "model.front_end.layers=[[64, 10, 5], [64, 8, 8]]"]
    front_end = load_recipe(path, [*over, "model.front_end.sinc_filters=20"], scale="tiny").model.front_end
    assert (front_end.start, front_end.filters, front_end.layers[0][0]) == ("filterbank", 8, 16)


def test_the_rows_of_the_ladder_stay_apart():
    rows = all_recipes("meerkat/ladder")[1:]
    assert len(rows) == 12
    assert len({row.model_dump_json(exclude={"name", "variant"}) for row in rows}) == 12
    first, last = rows[0], rows[-1]
    assert (first.model.front_end.frame_rate, last.model.front_end.frame_rate) == (25, 200)
    assert not first.model.front_end.sinc and last.model.front_end.sinc_activation == "pswish"
    assert (first.pretrain.mask_probability, last.pretrain.mask_probability) == (0.1, 0.75)
    assert (first.finetune.average_layers, last.finetune.average_layers) == (1, 2)
    assert (first.finetune.focal, last.finetune.focal) == (False, True)
    assert first.finetune.bcl is None and last.finetune.bcl is not None


def test_label_shares_keep_their_masks():
    recipe = load_recipe("meerkat/finetune", scale="tiny")
    lengths = [recipe.at_share(share).finetune.mask_length for share in recipe.folds.label_shares]
    assert recipe.folds.label_shares == [0.01, 0.25, 1.0] and lengths == [2, 3, 4]


def test_nips4bplus_is_pretrained_on_other_recordings_than_it_is_finetuned_on():
    recipe = load_recipe("nips4bplus", scale="tiny")
    assert recipe.pretrain_data.synthetic != recipe.data.synthetic and recipe.data.sample_rate == 24_000


def test_a_sweep_has_the_ends_of_each_parameter_and_few_trials(tmp_path):
    swept = {"parameters": {"finetune.mask_length": [1, 2, 3, 4], "finetune.focal": [True, False]}, "pruning": {}}
    path = str(write_recipe(tmp_path / "s.yaml", recipe_tree(sweep=swept)))
    trials = trials_of(read_recipe(path, scale="tiny"))
    assert [tuple(one.parameters.values()) for one in trials] == [(1, True), (1, False), (4, True), (4, False)]
    assert load_recipe(path, scale="tiny").sweep.pruning.grace_folds == 1
    assert load_recipe(path, ["folds.run=[1]", "sweep.pruning=null"], scale="tiny").folds.selected == [0]
    drawn = {
        "search": "random",
        "trials": 9,
        "parameters": {"finetune.mask_length": {"low": 1, "high": 90, "integer": True}},
    }
    path = str(write_recipe(tmp_path / "d.yaml", recipe_tree(sweep=drawn)))
    assert len(trials_of(read_recipe(path, scale="tiny"))) == 4


def test_what_belongs_to_other_recordings_is_left_out(tmp_path):
    tree = recipe_tree(
        folds__group="^(bird[0-9]+)_", folds__holdout="^bird7$", folds__run=None, data__classes=["a", "b"],
        evaluate__events={"threshold": {"a": 0.5, "b": 0.2}}, pretrain=None, backbone="models/big",
        ray={"num_workers": 2, "address": "host:1"},
    )  # fmt: skip
    recipe = load_recipe(str(write_recipe(tmp_path / "s.yaml", tree)), scale="tiny")
    assert recipe.data.classes is None and recipe.evaluate.events.threshold == 0.2 and recipe.backbone is None
    assert recipe.folds.group == "^(r[0-9]+)_" and recipe.folds.holdout == 0.25 and recipe.folds.selected == [0]
    assert recipe.ray.num_workers == 2 and recipe.ray.address == "host:1"  # a cluster: Ray Train is tried too
    assert recipe.finetune.micro_batches == 2  # one for each worker


def test_without_a_cluster_it_trains_in_this_process(tmp_path):
    path = write_recipe(tmp_path / "s.yaml", recipe_tree(ray={"num_workers": 2}))
    recipe = load_recipe(str(path), scale="tiny")
    assert recipe.ray.num_workers == 0 and recipe.finetune.micro_batches == 1


@pytest.mark.parametrize(
    "sweep, key, expected",
    [
        ({"parameters": {"finetune.updates": [100, 1000]}}, "finetune.updates", [4, 8]),
        ({"parameters": {"finetune.updates": [5, 1000]}}, "finetune.updates", [5, 8]),
        ({"parameters": {"finetune.updates": [1000, 300, 100]}}, "finetune.updates", [8, 4]),
        ({"parameters": {"pretrain.clones": [4, 16]}}, "pretrain.clones", [1, 2]),
        ({"parameters": {"finetune.mask_length": [2, 9]}}, "finetune.mask_length", [2, 9]),  # is not capped
        (
            {"variants": {"a": {"finetune.updates": 50}, "b": {"finetune.updates": 60}, "c": {"finetune.focal": True}}},
            "finetune.updates",
            [4, 8, 6],
        ),
    ],
)
def test_swept_values_stay_distinct(tmp_path, sweep, key, expected):
    file = read_recipe(str(write_recipe(tmp_path / "s.yaml", recipe_tree(sweep=sweep))), scale="tiny")
    stage, field = key.split(".")
    trials = trials_of(file)
    assert [getattr(getattr(one.recipe, stage), field) for one in trials] == expected
    assert len({one.name for one in trials}) == len(trials)


def test_a_swept_range_stays_one(tmp_path):
    sweep = {"search": "random", "trials": 3, "parameters": {"finetune.updates": {"low": 50, "high": 900}}}
    sweep["parameters"]["finetune.updates"] |= {"integer": True, "step": 50}
    file = read_recipe(str(write_recipe(tmp_path / "s.yaml", recipe_tree(sweep=sweep))), scale="tiny")
    assert file.resolve().sweep.parameters["finetune.updates"].ends == [4, 8]
    assert len({one.recipe.finetune.updates for one in trials_of(file)}) == 3
