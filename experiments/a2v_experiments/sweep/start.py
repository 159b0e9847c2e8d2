"""A recipe from beginning to end, with a sweep or without: what `a2v experiment run` and `a2v.Experiment` do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..cluster.session import check_cluster, ray_is_up, start_beside, stop_ray
from ..recipe.files import RecipeFile
from ..stages.experiment import Outcome, run_experiment
from ..stages.stages import check_source
from ..store.reading import is_new
from ..store.reuse import AS_USUAL, Reuse
from ..store.tracking import Store, open_store
from .answer_text import to_text
from .run import run_sweep
from .trials import trials_of

if TYPE_CHECKING:
    from .run import BestTrial


@dataclass(frozen=True)
class Ran:
    """What came of a recipe: its run, the table over folds or trials, and the store. outcome: of a recipe
    without a sweep; best: the best trial of a sweep; failed: its trials that failed, with the reason."""

    run_id: str
    table: str
    store: Store
    outcome: Outcome | None = None
    best: BestTrial | None = None
    failed: Mapping[str, str] = field(default_factory=dict)


def run_recipe(
    file: RecipeFile, work: Path, tracking_uri: str | None, say: Callable[[str], None], reuse: Reuse = AS_USUAL
) -> Ran:
    """Run or reuse every stage of every trial; say(line) tells what happens. reuse: what of earlier calls
    is. Ray that this started is stopped.

    Raises UserError or ValueError before anything is written where recordings or the cluster are not there, and as
    stages do later; KeyboardInterrupt leaves its runs KILLED, and the same call goes on.
    """
    recipe = file.resolve()
    trials = trials_of(file) if recipe.sweep else []
    check_source(recipe)
    for one in trials:
        if one.recipe.data != recipe.data or one.recipe.pretrain_data != recipe.pretrain_data:
            check_source(one.recipe)
    was_up = ray_is_up()
    try:
        check_cluster(recipe.ray, work)
        if is_new(work, tracking_uri):  # so all is to be trained
            start_beside(recipe.ray)
        store = open_store(work, tracking_uri, recipe.name, reuse)
        say(f"experiment {recipe.name}, tracked in {store.uri}")
        if recipe.sweep:
            swept = run_sweep(file, work, store, say)
            table = f"{swept.table}\n\n{to_text(swept.answer)}\nas a page: {swept.page}"
            return Ran(swept.run_id, table, store, best=swept.best, failed=swept.failed)
        outcome = run_experiment(recipe, work, store, say)
        return Ran(outcome.run_id, outcome.table, store, outcome)
    finally:
        if not was_up:
            stop_ray()
