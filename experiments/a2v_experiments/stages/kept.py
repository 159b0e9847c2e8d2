"""What an experiment, a sweep or a trial keeps of itself, so that the tracking store alone can repeat it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from a2v_model.plugins import loaded

from ..recipe.plugins import write_files
from ..recipe.sections import Recipe
from ..recipe.written import PLUGINS, RECIPE, tree_text
from ..store.tags import FOLDER, SCALE
from ..store.tracking import Store, scratch


def keep_recipe(
    store: Store,
    run_id: str,
    recipe: Recipe,
    tree: dict[str, Any] | None = None,
    scale: str | None = None,
    folder: Path | None = None,
) -> None:
    """The recipe as the run's artifact `recipe.yaml`, the source of its plugins beside it, how small it is to be made,
    and where its relative paths start (folder; None: here). tree: its keys as they were written (None: all of them)."""
    tree = recipe.model_dump(mode="json") if tree is None else tree
    plugins = [plugin for plugin in map(loaded, recipe.plugins.values()) if plugin is not None]
    if plugins:
        with scratch() as aside:
            tree = {**tree, "plugins": [write_files(plugin, Path(aside)) for plugin in plugins]}
            store.log_folder(run_id, Path(aside) / PLUGINS, PLUGINS)
    store.log_text(run_id, tree_text(tree), RECIPE)
    store.tag(run_id, FOLDER, os.path.abspath(folder or Path.cwd()))
    if scale:
        store.tag(run_id, SCALE, scale)
