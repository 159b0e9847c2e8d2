"""One recipe for the two models that `a2v bench detect` compares: all the same but what belongs to the model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from a2v_model.config import FinetuneConfig, PretrainConfig

from ..basics.errors import UserError
from ..recipe.files import RecipeFile, apply_override, merge, read_recipe, set_key
from ..recipe.sections import Recipe


@dataclass(frozen=True)
class Pair:
    """Recipes of this project's model and of its peer."""

    a2v: Recipe
    peer: Recipe


@dataclass(frozen=True)
class Asked:
    """recipe: a name or file. preset: instead of the recipe's own model; peer: a preset. share: of the labels.
    overrides: KEY=VALUE of both, but what belongs to a model only of this project's; peer_overrides: of the peer."""

    recipe: str
    preset: str | None
    peer: str
    share: float = 1.0
    backbone: str | None = None
    pretrain: bool = False
    overrides: Sequence[str] = ()
    peer_overrides: Sequence[str] = ()


def pair_of(asked: Asked, folder: Path) -> Pair:
    """Both recipes, for the recordings of `folder`.

    A preset in place of the recipe's model brings its own FinetuneConfig and PretrainConfig; sampling, augmentation,
    loop and optimiser stay the recipe's. Raises UserError as `load_recipe`, and where there is nothing to pretrain.
    """
    file = _for_folder(read_recipe(asked.recipe, list(asked.overrides)), folder, asked.share)
    if asked.pretrain and not isinstance(file.tree.get("pretrain"), dict):
        raise UserError(
            f"{file.name}: pretrain: null, so it does not say how to pretrain; say it, for example with"
            " --set 'pretrain={updates: 1, segments: 8, optimizer: {learning_rate: 0.001}}'"
        )
    own = file if asked.preset is None else with_preset(file, asked.preset, asked.overrides)
    own = _changed(own, {"backbone": asked.backbone} | ({} if asked.pretrain else {"pretrain": None}))
    peer = _changed(with_preset(file, asked.peer, asked.peer_overrides), {"backbone": None, "pretrain": None})
    return Pair(own.resolve(), peer.resolve())


def recipe_for(recipe: str, overrides: Sequence[str], folder: Path) -> Recipe:
    """A recipe's finetuning from random weights, on the recordings of `folder`. Raises UserError as `load_recipe`."""
    file = _for_folder(read_recipe(recipe, list(overrides)), folder, 1.0)
    return _changed(file, {"backbone": None, "pretrain": None}).resolve()


def with_preset(file: RecipeFile, preset: str, kept: Sequence[str] = ()) -> RecipeFile:
    """The recipe with the model of a preset, at the recipe's sample rate, and what belongs to that model.

    kept: overrides (KEY=VALUE) that stand on top of the preset's."""
    tree = copy.deepcopy(file.tree)
    rate = (tree.get("data") or {}).get("sample_rate")
    tree["model"] = {"preset": preset, "front_end": {"sample_rate": rate}}
    for stage, of_model in (("finetune", FinetuneConfig), ("pretrain", PretrainConfig)):
        if isinstance(tree.get(stage), dict):
            tree[stage] = {key: value for key, value in tree[stage].items() if key not in of_model.model_fields}
    for override in kept:
        apply_override(tree, override)
    return replace(file, tree=tree)


def _for_folder(file: RecipeFile, folder: Path, share: float) -> RecipeFile:
    """The recipe of one training on a folder: no folds, no trials, the finetuning of that share of the labels.

    A recording that `splits.csv` names was listened to, so all count as labelled. A pretraining has no probe, which
    would be paid for out of the budget.
    """
    tree = copy.deepcopy(file.tree)
    if isinstance(tree.get("pretrain"), dict):
        tree["pretrain"].pop("probe", None)
    by_share = tree.pop("finetune_by_share", None)
    if isinstance(by_share, dict) and isinstance(tree.get("finetune"), dict):
        for of, changes in by_share.items():
            if float(of) == share and isinstance(changes, dict):
                tree["finetune"] = merge(tree["finetune"], changes)
    if not isinstance(tree.get("finetune"), dict):
        raise UserError(f"{file.name}: finetune: null, so there is no detector to measure; name another recipe")
    tree["finetune"].pop("validation", None)  # splits.csv says on which recordings, the budget how often
    for key in ("sweep", "pretrain_data", "folds"):
        tree.pop(key, None)
    return _changed(replace(file, tree=tree), {"data.source": str(folder), "data.labelled": "all"})


def _changed(file: RecipeFile, changes: dict[str, Any]) -> RecipeFile:
    tree = copy.deepcopy(file.tree)
    for key, value in changes.items():
        set_key(tree, key, value)
    return replace(file, tree=tree)
