"""Configurations in fingerprints: without what is usual, and yet never two alike that differ."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from a2v_experiments.basics.code_versions import pinned
from a2v_experiments.basics.left_out import class_key, configurations, without_usual
from a2v_experiments.recipe.files import load_recipe
from a2v_experiments.recipe.sections import Recipe
from a2v_experiments.recipe.sweep import Section
from a2v_model.config import ModelConfig
from pydantic import Field

RECIPES = Path(__file__).parents[2] / "experiments" / "a2v_experiments" / "recipes"
BUNDLED = sorted(str(path.relative_to(RECIPES).with_suffix("")) for path in RECIPES.rglob("*.yaml"))
CHANGES = (
    [], ["finetune.updates=3"], ["finetune.optimizer.learning_rate=0.5"], ["finetune.optimizer.betas=[0.9, 0.99]"],
    ["finetune.focal=false"], ["finetune.head=temporal"], ["finetune.head=linear"], ["finetune.validation={}"],
    ["finetune.validation={share: 0.3}"], ["finetune.sampling={}"], ["finetune.bcl={}"], ["finetune.augment={}"],
    ["finetune.augment={paste: {}}"], ["finetune.weak={share: 0.25}"], ["evaluate.events.threshold=0.5"],
    ["evaluate.events.threshold={a: 0.5}"], ["evaluate.overlap_s=0.25"], ["folds.holdout=0.2"],
    ["folds.scheme=shuffle"], ["folds.label_shares=[1.0, 0.1]"], ["data.annotations.tier=x"],
    ["data.annotations.label_column=x"], ["data.channel=1"], ["data.channel=mix"],
)  # fmt: skip


def as_text(tree: Any) -> str:
    return json.dumps(tree, sort_keys=True)


def test_of_bundled_recipes_and_changes_no_two_look_alike():
    """What is left tells apart exactly what the whole does: recipes, presets, and the kinds of every part."""
    whole: dict[str, str] = {}
    brief: dict[str, str] = {}
    for name, change in itertools.product(BUNDLED, CHANGES):
        try:
            recipe = load_recipe(name, [*change, "name=x"])
        except Exception:  # not every change suits every recipe
            continue
        for what, part in {"recipe": recipe, "model": recipe.model, "finetune": recipe.finetune}.items():
            if part is None:
                continue
            full, left = as_text([what, part.model_dump(mode="json")]), as_text([what, without_usual(part)])
            assert whole.setdefault(full, left) == left and brief.setdefault(left, full) == full
    assert len(whole) > 3 * len(CHANGES)


def test_kinds_are_told_apart():
    """An ear beside a front end of the paper, convolutions beside its transformer, whatever else is as usual."""
    found = [ModelConfig(front_end=front_end, encoder=encoder) for front_end in ({}, {"kind": "ear"})
             for encoder in ({}, {"kind": "convolutions"})]  # fmt: skip
    assert len({as_text(without_usual(one)) for one in found}) == 4
    assert as_text(without_usual(found[0])) == "{}"


class Inner(Section):
    kind: Literal["inner"] = "inner"
    rate: float = 0.1
    flag: bool = False


class Outer(Section):
    inner: Inner = Inner()
    own: Inner | None = None
    many: dict[float, Inner] = Field(default={})
    number: float | bool = 1.0


def test_a_new_option_changes_nothing_and_a_changed_default_does():
    known = {class_key(Inner): {"rate": 0.1}, class_key(Outer): {"inner": {"kind": "inner"}, "own": None, "many": {}}}
    assert without_usual(Outer(number=2), known) == {"number": 2.0}  # flag is new: it has its default
    older = {**known, class_key(Inner): {"rate": 0.3}}  # 0.1 is the default of today
    assert without_usual(Inner(), older) == {"kind": "inner", "rate": 0.1}
    assert without_usual(Inner(rate=0.3), older) == {"kind": "inner"}
    assert without_usual(Outer(), older) == {"inner": {"kind": "inner", "rate": 0.1}}


def test_nothing_is_not_an_empty_section_and_true_is_not_one():
    shown = [Outer(), Outer(own=Inner()), Outer(many={0.5: Inner()}), Outer(many={0.5: Inner(rate=0.2)}),
             Outer(many={1.0: Inner()}), Outer(number=True), Outer(inner=Inner(flag=True))]  # fmt: skip
    assert len({as_text(without_usual(one)) for one in shown}) == len(shown)
    assert without_usual(Outer(own=Inner()), exclude={"own": {"kind"}}) == {"own": {}}


def test_every_configuration_of_a_recipe_is_pinned():
    assert set(pinned()["left_out"]) == {class_key(kind) for kind in configurations(Recipe)}


@pytest.mark.parametrize("name", BUNDLED)
def test_what_a_preset_sets_is_in_the_fingerprint(name):
    """A recipe is made again from what is left of its model, so nothing of it is lost."""
    model = load_recipe(name).model
    assert type(model).model_validate(without_usual(model)) == model
