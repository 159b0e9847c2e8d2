"""`a2v experiment run`, and what repeats it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..basics.errors import FAILED, INTERRUPTED, UserError
from ..basics.places import DEFAULT_WORK
from ..store.reuse import AS_USUAL, Reuse
from .options import AllowPlugins, Force, Override, RecipeName, Register, Scale, Tracking, TrustCode, Work
from .say import say, say_text

if TYPE_CHECKING:
    from ..recipe.files import RecipeFile


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
    paths start (None: here). register: the name under which its final model is registered; reuse: what of earlier
    calls is."""
    from ..overview.next_steps import after_scale, after_sweep, next_steps
    from ..overview.registering import register_outcome
    from ..store import links
    from ..sweep.start import run_recipe

    chosen, scale = file.resolve(), file.scale
    if register is not None:
        from ..store.registry import check_name

        check_name(register)
    registered = None
    next_: list[str] = []
    try:
        with contextlib.chdir(folder or Path.cwd()):
            ran = run_recipe(file, work, tracking_uri, say, reuse)
            outcome, recipe = (ran.best.outcome, ran.best.recipe) if ran.best else (ran.outcome, chosen)
            if register and outcome is not None and not ran.failed:
                registered = register_outcome(ran.store, register, outcome, recipe)
        if given and scale:  # what is made small on purpose is not worth more updates, and its model is of no use
            next_ = after_scale(file, given, work, tracking_uri)
        elif given and ran.best is not None:
            next_ = after_sweep(ran.best, given, work, ran.store.uri, tracking_uri)
        elif given and ran.outcome is not None:
            next_ = next_steps(ran.outcome, chosen, given, work, ran.store.uri, tracking_uri)
    except KeyboardInterrupt:
        raise UserError("stopped; the same command goes on from the last checkpoint", INTERRUPTED) from None
    say_text(f"\n{ran.table}\n")
    if scale:
        say(f"All was made {scale}, on a synthetic corpus, to see that it runs: its scores mean nothing.", "")
    elif chosen.data.source == "synthetic":
        say("These numbers are from a synthetic corpus, a stand-in: they say nothing about real recordings.", "")
    if next_:
        say(*next_, "")
    if registered:
        say(f"{registered}", "")
    say(f"tracking store: {ran.store.uri}")
    address, first = links.ui_address(work, tracking_uri)
    say(f"in MLflow{links.while_it_runs(first)}:")
    say(f"  the run    {links.run_link(address, ran.store.experiment_id, ran.run_id)}")
    if chosen.finetune is not None:
        below = links.below(ran.run_id, "trial" if chosen.sweep else "finetune")
        what = "trials" if chosen.sweep else "folds "
        say(f"  its {what} {links.experiment_link(address, ran.store.experiment_id, below)}")
    if ran.failed:
        raise UserError(
            f"failed: {len(ran.failed)} of the trials ({', '.join(ran.failed)}); the same command runs what is missing",
            FAILED,
        )
    return ran.run_id
