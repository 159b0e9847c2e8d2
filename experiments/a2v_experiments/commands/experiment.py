"""`a2v experiment` and `a2v ui`."""

from __future__ import annotations

import typer

from ..basics.errors import FAILED, INTERRUPTED, UserError
from ..basics.places import DEFAULT_WORK, ui_command
from .experiment_overview import compare, list_, plan
from .options import Override, RecipeName, Scale, Tracking, Work, say

group = typer.Typer(no_args_is_help=True, help="Run recipes, and look at what was run.")


@group.command("run")
def run(
    recipe: RecipeName,
    set_: Override = None,
    scale: Scale = None,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
) -> None:
    """Run a recipe: prepare, folds, pretrain, finetune, evaluate, summarise. What is done already is reused.

    A recipe with a sweep runs all its trials, several at once.
    """
    from ..recipe.files import read_recipe

    file = read_recipe(recipe, set_, scale.value if scale else None)
    chosen = file.resolve()
    from ..overview.next_steps import after_scale, after_sweep, next_steps
    from ..sweep.start import run_recipe

    next_: list[str] = []
    given = (recipe, set_ or [])
    try:
        ran = run_recipe(file, work, tracking_uri, say)
        if scale:  # what is made small on purpose is not worth more updates, and its model is of no use
            next_ = after_scale(file, given, work, tracking_uri)
        elif ran.best is not None:
            next_ = after_sweep(ran.best, given, work, ran.store, tracking_uri)
        elif ran.outcome is not None:
            next_ = next_steps(ran.outcome, chosen, given, work, ran.store, tracking_uri)
    except KeyboardInterrupt:
        raise UserError("stopped; the same command goes on from the last checkpoint", INTERRUPTED) from None
    say(f"\n{ran.table}\n")
    if scale:
        say(f"All was made {scale.value}, on a synthetic corpus, to see that it runs: its scores mean nothing.\n")
    elif chosen.data.source == "synthetic":
        say("These numbers are from a synthetic corpus, a stand-in: they say nothing about real recordings.\n")
    if next_:
        say("\n".join([*next_, ""]))
    say(f"tracking store: {ran.store}")
    say(f"compare the {'trials' if chosen.sweep else 'folds'}: {ui_command(work, tracking_uri)}")
    if ran.failed:
        raise UserError(
            f"failed: {len(ran.failed)} of the trials ({', '.join(ran.failed)}); the same command runs what is missing",
            FAILED,
        )


group.command("plan")(plan)
group.command("list")(list_)
group.command("compare")(compare)
