"""`a2v experiment run`, and what repeats it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..basics.errors import FAILED, INTERRUPTED, UserError
from ..basics.places import DEFAULT_WORK
from ..store.reuse import AS_USUAL, Reuse
from .options import AllowPlugins, Force, Override, RecipeName, Register, Scale, Tracking, TrustCode, Work, say

if TYPE_CHECKING:
    from ..recipe.files import RecipeFile
    from ..recipe.sections import Recipe


def run(
    recipe: RecipeName,
    set_: Override = None,
    scale: Scale = None,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    trust_code: TrustCode = False,
    force: Force = None,
    register: Register = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Run a recipe: prepare, folds, pretrain, finetune, evaluate, summarise. What is done already is reused.

    A recipe with a sweep runs all its trials, several at once.
    """
    from ..recipe.files import read_recipe

    reuse = Reuse.of(trust_code, force)
    file = read_recipe(recipe, set_, scale.value if scale else None)
    execute(file, work, tracking_uri, (recipe, set_ or []), register=register, reuse=reuse)


def execute(
    file: RecipeFile,
    work: Path,
    tracking_uri: str | None,
    given: tuple[str, list[str]] | None = None,
    folder: Path | None = None,
    register: str | None = None,
    reuse: Reuse = AS_USUAL,
) -> str:
    """Run a recipe and say what came of it; returns the run of the experiment. given: how the command line named the
    recipe and its `--set`s, for the commands that are next; None: it was not from a file. folder: where its relative
    paths start (None: here). register: the name under which its final model is registered; reuse: what of
    earlier calls is."""
    from ..cluster.session import check_cluster, stop_ray
    from ..overview.next_steps import after_scale, after_sweep, next_steps
    from ..overview.registering import register_outcome
    from ..store import links
    from ..store.tracking import open_store

    chosen, scale = file.resolve(), file.scale
    if register is not None:
        from ..store.registry import check_name

        check_name(register)
    failed: dict[str, str] = {}
    registered = None
    next_: list[str] = []
    try:
        with contextlib.chdir(folder or Path.cwd()):
            _check_sources(file, chosen)  # before anything is written
            check_cluster(chosen.ray, work)
            store = open_store(work, tracking_uri, chosen.name, reuse)
            say(f"experiment {chosen.name}, tracked in {store.uri}")
            if chosen.sweep:
                from ..sweep.answer_text import to_text
                from ..sweep.run import run_sweep

                swept = run_sweep(file, work, store, say)
                run_id, failed = swept.run_id, swept.failed
                table = f"{swept.table}\n\n{to_text(swept.answer)}\nas a page: {swept.page}"
                if register and swept.best is not None and not failed:
                    registered = register_outcome(store, register, swept.best.outcome, swept.best.recipe)
                if swept.best is not None and given and not scale:
                    next_ = after_sweep(swept.best, given, work, store.uri, tracking_uri)
            else:
                from ..stages.experiment import run_experiment

                outcome = run_experiment(chosen, work, store, say)
                run_id, table = outcome.run_id, outcome.table
                if register:
                    registered = register_outcome(store, register, outcome, chosen)
                if given and not scale:
                    next_ = next_steps(outcome, chosen, given, work, store.uri, tracking_uri)
        if given and scale:  # what is made small on purpose is not worth more updates, and its model is of no use
            next_ = after_scale(file, given, work, tracking_uri)
    except KeyboardInterrupt:
        raise UserError("stopped; the same command goes on from the last checkpoint", INTERRUPTED) from None
    finally:
        stop_ray()
    say(f"\n{table}\n")
    if scale:
        say(f"All was made {scale}, on a synthetic corpus, to see that it runs: its scores mean nothing.\n")
    elif chosen.data.source == "synthetic":
        say("These numbers are from a synthetic corpus, a stand-in: they say nothing about real recordings.\n")
    if next_:
        say("\n".join([*next_, ""]))
    if registered:
        say(f"{registered}\n")
    say(f"tracking store: {store.uri}")
    address, first = links.ui_address(work, tracking_uri)
    say(f"in MLflow{links.while_it_runs(first)}:")
    say(f"  the run    {links.run_link(address, store.experiment_id, run_id)}")
    if chosen.finetune is not None:
        below = links.below(run_id, "trial" if chosen.sweep else "finetune")
        what = "trials" if chosen.sweep else "folds "
        say(f"  its {what} {links.experiment_link(address, store.experiment_id, below)}")
    if failed:
        raise UserError(
            f"failed: {len(failed)} of the trials ({', '.join(failed)}); the same command runs what is missing", FAILED
        )
    return run_id


def _check_sources(file: RecipeFile, chosen: Recipe) -> None:
    """Raise UserError or ValueError where recordings of the recipe or of a trial are not there."""
    from ..stages.stages import check_source
    from ..sweep.trials import trials_of

    trials = trials_of(file) if chosen.sweep else []
    check_source(chosen)
    for one in trials:
        if one.recipe.data != chosen.data or one.recipe.pretrain_data != chosen.pretrain_data:
            check_source(one.recipe)
