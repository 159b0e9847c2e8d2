"""Recipes: one YAML file describes one experiment, completely and validated before anything runs.

`extends: NAME` takes another recipe (bundled, or a file beside this one) as the parent; `--set a.b=value`
overrides single keys; `--scale tiny` makes everything small. Unknown keys are refused, and every error names file,
key, value and what would be right.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from a2v_data.documents import read_yaml, shortened, shown, yaml_of
from a2v_model.config import EncoderConfig
from a2v_model.plugins import Plugin, use
from a2v_model.presets import PRESETS
from pydantic import ValidationError

from ..basics.errors import UserError
from .errors import explain
from .plugins import absolute, check_parts, find_plugins, names_of
from .sections import Recipe

BUNDLED = Path(__file__).parents[1] / "recipes"
RENAMED = {"finch": "many_calls", "sparse_mix": "few_calls"}  # bundled recipes under their former names
Scale = Literal["tiny"]
# what these are where no `kind` is said; a loss and a head of a plugin always say it
USUAL_KINDS = {"front_end": "waveform", "encoder": "transformer", "loss": None, "head": None}


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as it was written, with its parents and `--set`: what a recipe and its trials are made from.

    name: the file's, for messages. tree: its keys, before presets and defaults. plugins: the source of what `plugins`
    in the tree names, which travels with it.
    """

    name: str
    tree: dict[str, Any]
    scale: Scale | None = None
    plugins: tuple[Plugin, ...] = ()

    def load_plugins(self) -> None:
        """So that what a recipe was made from means something in this process. Raises UserError."""
        try:
            use(self.plugins)
        except ValueError as error:
            raise UserError(f"{self.name}: {error}") from None

    def resolve(self, changes: Mapping[str, Any] | None = None, trial: str | None = None) -> Recipe:
        """The complete, validated recipe; with `changes` (dotted key -> value) that of the sweep's trial named so.

        Raises UserError naming file, trial, key and what would be right.
        """
        from .scale import tiny

        tree = copy.deepcopy(self.tree)
        where = self.name
        if trial is not None:
            where = f"{self.name}: trial {trial}"
            tree["sweep"] = None
            base = tree.get("variant", "default")
            tree["variant"] = trial if base == "default" else f"{base} {trial}"
        for key, value in (changes or {}).items():
            set_key(tree, key, value)
        self.load_plugins()
        tree.pop("plugins", None)
        if self.plugins:
            tree["plugins"] = names_of(self.plugins)
        _expand_preset(tree, where)
        _complete_shares(tree)
        try:
            recipe = Recipe.model_validate(tree)
        except ValidationError as error:
            raise UserError(explain(error, Recipe, where)) from None
        check_parts(recipe, where)
        if self.scale != "tiny":
            return recipe
        return tiny(recipe, lambda values: self.resolve(values, "made tiny"))


def read_recipe(name: str, overrides: list[str] | None = None, scale: Scale | None = None) -> RecipeFile:
    """Read a recipe file. name: a path, or the name of a bundled recipe with or without `.yaml`. overrides:
    `key.path=value`, the value in YAML. Raises UserError naming file, key and what would be right."""
    path = find_recipe(name)
    tree = _with_parents(path, ())
    for override in overrides or []:
        apply_override(tree, override)
    return RecipeFile(path.name, tree, scale, find_plugins(tree.get("plugins"), path.parent))


def load_recipe(name: str, overrides: list[str] | None = None, scale: Scale | None = None) -> Recipe:
    """Read, complete and validate a recipe; see `read_recipe`. Its sweep's trials: `sweep.trials.trials_of`."""
    return read_recipe(name, overrides, scale).resolve()


def find_recipe(name: str) -> Path:
    """A file of this name, else the bundled recipe. Raises UserError for what is neither."""
    path = Path(name)
    if path.is_file():
        return path
    bundled = BUNDLED / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if bundled.is_file():  # before folders: one with recordings may have a recipe's name
        return bundled
    former = name.removesuffix(".yaml").removesuffix(".yml")
    if former in RENAMED:  # recipes that extend it go on working
        return BUNDLED / f"{RENAMED[former]}.yaml"
    if path.is_dir():
        raise UserError(f"{name}: is a folder; a recipe is a YAML file")
    known = sorted(str(p.relative_to(BUNDLED).with_suffix("")) for p in BUNDLED.rglob("*.yaml"))
    raise UserError(f"{shortened(name)}: no such recipe; give a YAML file or one of: {', '.join(known)}")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = read_yaml(path)
    except ValueError as error:
        raise UserError(f"{path.name}: not readable as YAML: {error}") from None
    except OSError as error:
        raise UserError(f"{path.name}: cannot be read: {error.strerror}") from None
    if not isinstance(tree, dict):
        kind = type(tree).__name__
        raise UserError(f"{path.name}: a recipe is a mapping of keys (name, data, model, ...), not {kind}")
    return tree


def _with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UserError(f"{path.name}: extends: the recipes extend each other in a circle")
    tree = _read_yaml(path)
    if "plugins" in tree:
        tree["plugins"] = absolute(tree["plugins"], path.parent)
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    base = _with_parents(_beside(path, str(parent)) or find_recipe(str(parent)), (*seen, path.resolve()))
    if isinstance(base.get("model"), str):  # so that what this recipe says of the model stands on top of the preset
        base["model"] = {"preset": base["model"]}
    return merge(base, tree)


def _beside(path: Path, parent: str) -> Path | None:
    """A file beside this one, by its name with or without `.yaml`; a recipe that extends the bundled one of its own
    name means that."""
    if (path.parent / parent).is_file():
        return path.parent / parent
    places = [path.parent / f"{parent}{ending}" for ending in (".yaml", ".yml")]
    return next((one for one in places if one.is_file() and one.resolve() != path.resolve()), None)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: mappings are merged key by key, everything else is replaced, and so is a front end or
    an encoder of which `over` says another kind."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and not _another_kind(key, below, value):
            result[key] = merge(below, value)
        else:
            result[key] = value
    return result


def _another_kind(key: str, base: dict[str, Any], over: dict[str, Any]) -> bool:
    return key in USUAL_KINDS and "kind" in over and over["kind"] != base.get("kind", USUAL_KINDS[key])


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Put one `key.path=value` of the command line into the tree. UserError for what is not of this form."""
    keys, sign, text = override.partition("=")
    if not sign or not keys:
        raise UserError(f"--set {override}: expected KEY=VALUE, for example pretrain.mask_probability=0.5")
    try:
        value = yaml_of(text)
    except ValueError:
        raise UserError(f"--set {shortened(override)}: the value is not readable as YAML") from None
    set_key(tree, keys, value)


def set_key(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Set one key, making the mappings above it; `model: NAME` becomes `model: {preset: NAME, ...}`."""
    *parents, last = dotted.split(".")
    node = tree
    for key in parents:
        if not isinstance(node.get(key), dict):
            if key == "model" and isinstance(node.get(key), str):
                node[key] = {"preset": node[key]}
            else:
                node[key] = {}
        node = node[key]
    node[last] = value


def _expand_preset(tree: dict[str, Any], where: str) -> None:
    """`model: NAME`, or a mapping with `preset: NAME`, becomes the whole model configuration.

    What a preset says of pretraining and finetuning stands under what the recipe says. Where the preset averages
    all main blocks, so does a recipe that changes their number.
    """
    value = tree.get("model")
    if isinstance(value, str):
        value = {"preset": value}
    if not isinstance(value, dict) or "preset" not in value:
        return
    over = {key: item for key, item in value.items() if key != "preset"}
    name = value["preset"]
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(f"{where}: model.preset = {shown(name)}: unknown; one of: {', '.join(sorted(PRESETS))}")
    preset = PRESETS[name]
    tree["model"] = merge(preset.model.model_dump(mode="json"), over)
    if isinstance(tree.get("pretrain"), dict):
        tree["pretrain"] = merge(preset.pretrain.model_dump(mode="json"), tree["pretrain"])
    if isinstance(tree.get("finetune"), dict):
        finetune = preset.finetune.model_dump(mode="json")
        if preset.finetune.average_layers == preset.model.encoder.depth and isinstance(tree["model"]["encoder"], dict):
            finetune["average_layers"] = _results(tree["model"]["encoder"])
        tree["finetune"] = merge(finetune, tree["finetune"])


def _results(encoder: dict[str, Any]) -> Any:
    """How many layer results an encoder has for finetuning to average."""
    if encoder.get("kind") == "convolutions":
        return 1
    return encoder.get("depth", EncoderConfig().depth)


def _complete_shares(tree: dict[str, Any]) -> None:
    """What `finetune_by_share` says of a label share stands on top of `finetune`."""
    shares, base = tree.get("finetune_by_share"), tree.get("finetune")
    if isinstance(shares, dict) and isinstance(base, dict):
        tree["finetune_by_share"] = {
            share: merge(base, changes) if isinstance(changes, dict) else changes for share, changes in shares.items()
        }
