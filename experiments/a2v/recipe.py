"""A recipe in Python: a file, and what is changed in it."""

from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2v_experiments.basics.errors import UserError
from a2v_experiments.recipe.files import RecipeFile, Scale, merge, read_recipe, set_key
from a2v_experiments.recipe.plugins import find_plugins

from .telling import in_one_line

if TYPE_CHECKING:
    import pandas
    from a2v_experiments.recipe.sections import Recipe as Resolved

SHOWN = 12  # changes that `repr` shows


class Recipe:
    """One experiment, complete and validated. It never changes: `changed` gives another one.

    recipe["finetune.updates"] is one value, recipe["finetune"] a section as a dict, presets and defaults included.
    `resolved` is the validated configuration as the stages read it, `file` what a sweep makes its trials from.
    """

    def __init__(self, file: RecipeFile, parent: Recipe | None = None) -> None:
        """file: as it was read. parent: the recipe that it is a change of. Raises UserError for what is wrong in it."""
        self.file, self.parent = file, parent
        with in_one_line():
            self.resolved: Resolved = file.resolve()
        self._tree: dict[str, Any] = self.resolved.model_dump(mode="json")

    @classmethod
    def load(
        cls, name: str | os.PathLike[str], changes: Mapping[str, Any] | None = None, scale: Scale | None = None
    ) -> Recipe:
        """A bundled recipe by its name, or a file. changes: see `changed`. scale: 'tiny' makes everything small, on the
        synthetic corpus, to see that it runs. Raises UserError naming file, key and what would be right."""
        recipe = cls(read_recipe(os.fspath(name), scale=scale))
        return recipe.changed(changes) if changes else recipe

    @classmethod
    def of(cls, tree: Mapping[str, Any], name: str = "recipe") -> Recipe:
        """A recipe from its keys, as a file has them, `extends` too. name: what messages call it."""
        tree = dict(tree)
        parent = tree.pop("extends", None)
        if parent is None:
            return cls(RecipeFile(name, copy.deepcopy(tree), plugins=find_plugins(tree.get("plugins"), Path.cwd())))
        return cls.load(parent, tree)

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """This recipe with some keys changed: {"finetune.updates": 400, "folds": {"count": 3}}.

        Dots lead into sections; a mapping is laid over the section that is there, key by key, as a recipe that extends
        this one would do it, and everything else is replaced. Raises UserError as `load` does.
        """
        over: dict[str, Any] = {}
        for key, value in changes.items():
            one: dict[str, Any] = {}
            set_key(one, key, copy.deepcopy(value))
            over = merge(over, one)
        tree = copy.deepcopy(self.file.tree)
        if isinstance(tree.get("model"), str):  # so that what is said of the model stands on top of its preset
            tree["model"] = {"preset": tree["model"]}
        plugins = find_plugins(over["plugins"], Path.cwd()) if "plugins" in over else self.file.plugins
        return Recipe(replace(self.file, tree=merge(tree, over), plugins=plugins), self)

    @property
    def name(self) -> str:
        """The experiment's, in MLflow."""
        return self.resolved.name

    def __getitem__(self, key: str) -> Any:
        """The value at a dotted key. Raises UserError, in one line, for a key that is not there."""
        node: Any = self._tree
        path = key.split(".")
        for place, part in enumerate(path):
            if not isinstance(node, dict) or part not in node:
                known = list(node) if isinstance(node, dict) else []
                close = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
                above = ".".join(path[:place]) or "a recipe"
                hint = f"did you mean {close[0]!r}?" if close else f"{above} has {', '.join(known) or 'no keys'}"
                raise UserError(f"{self.file.name}: {key}: no such key; {hint}")
            node = node[part]
        return copy.deepcopy(node)

    def differences(self, other: Recipe | None = None) -> pandas.DataFrame:
        """Where this recipe and another one (None: the one that it was first loaded from) differ: the columns key,
        this, other, with None where one has no such key."""
        import pandas as pd

        rows = list(self._differing(other or self._first))
        return pd.DataFrame(rows, columns=["key", "this", "other"], dtype=object)

    @property
    def _first(self) -> Recipe:
        return self if self.parent is None else self.parent._first

    def _differing(self, other: Recipe) -> Iterator[tuple[str, Any, Any]]:
        return _differing(self._tree, other._tree, "")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a file for `a2v experiment run`, with what was changed in it. Raises UserError where one is."""
        import yaml

        place = Path(path)
        if place.exists():
            raise UserError(f"{place}: exists already; name a new file or remove this one first")
        place.write_text(yaml.safe_dump(self.file.tree, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def __repr__(self) -> str:
        """Its name, and what differs from the recipe that it was first loaded from."""
        changes = [f"{key}: {_shown(there)} -> {_shown(here)}" for key, here, there in self._differing(self._first)]
        more = [f"... {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
        scale = f", scale={self.file.scale!r}" if self.file.scale else ""
        told = "".join(f"\n  {line}" for line in [*changes[:SHOWN], *more])
        return f"Recipe({self.file.name!r}{scale})" + (f" with{told}" if told else "")


def _differing(mine: Mapping[str, Any], others: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, Any]]:
    """Dotted key and both values, of the smallest parts that differ."""
    for key in dict.fromkeys([*mine, *others]):
        here, there = mine.get(key), others.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            yield from _differing(here, there, f"{prefix}{key}.")
        elif here != there:
            yield f"{prefix}{key}", here, there


def _shown(value: Any) -> str:
    return "{...}" if isinstance(value, dict) and value else repr(value)
