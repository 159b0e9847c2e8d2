"""A recipe as a file again: what every experiment and trial keeps, so that the store alone repeats it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ..basics.errors import UserError
from .files import RecipeFile, Scale, read_recipe

RECIPE = "recipe.yaml"
PLUGINS = "plugins"  # the folder beside it with their source
LOGIN = re.compile(r"(?<=://)[^/@\s]*@")  # of a URI


def tree_text(tree: dict[str, Any]) -> str:
    """A recipe's keys as YAML. A sweep's are kept as they were written, parents and `--set` resolved: what a preset or
    `finetune` says of a trial depends on what the trial changes. URIs stand there without user and password."""
    return yaml.safe_dump(_without_logins(tree), sort_keys=False, allow_unicode=True)


def read_written(path: Path, told: str, scale: Scale | None = None) -> RecipeFile:
    """The recipe of an artifact. told: what messages call it. Raises UserError as `read_recipe` does."""
    if not path.is_file():
        raise UserError(f"{told}: no {RECIPE} there")
    found = read_recipe(str(path))
    return RecipeFile(told, found.tree, scale, found.plugins)


def _without_logins(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_logins(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_logins(inner) for inner in value]
    return LOGIN.sub("", value) if isinstance(value, str) else value
