"""What an experiment, a sweep or a trial keeps of itself, so that the tracking store alone can repeat it."""

from __future__ import annotations

import os
from pathlib import Path

from ..recipe.written import RECIPE
from ..store.tags import FOLDER, SCALE
from ..store.tracking import Store


def keep_recipe(store: Store, run_id: str, text: str, scale: str | None = None, folder: Path | None = None) -> None:
    """The recipe as the run's artifact `recipe.yaml`, how small it is to be made, and where its relative paths start
    (folder; None: here)."""
    store.log_text(run_id, text, RECIPE)
    store.tag(run_id, FOLDER, os.path.abspath(folder or Path.cwd()))
    if scale:
        store.tag(run_id, SCALE, scale)
