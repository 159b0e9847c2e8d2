"""`a2v experiment` and `a2v ui`."""

from __future__ import annotations

import typer

from ..basics.errors import FAILED, INTERRUPTED, UserError
from ..basics.places import DEFAULT_WORK, ui_command
from .experiment_overview import compare, list_, plan
from .options import Force, Override, RecipeName, Scale, Tracking, TrustCode, Work, say

group = typer.Typer(no_args_is_help=True, help="Run recipes, and look at what was run.")


@group.command("run")
def run(
    recipe: RecipeName,
    set_: Override = None,
    scale: Scale = None,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    trust_code: TrustCode = False,
    force: Force = None,
) -> None:
    """Run a recipe: prepare, folds, pretrain, finetune, evaluate, summarise. What is done already is reused.

    A recipe with a sweep runs all its trials, several at once.
    """
    from ..recipe.files import read_recipe
    from ..store.reuse import Reuse
    from ..sweep.trials import trials_of

    reuse = Reuse.of(trust_code, force)
    file = read_recipe(recipe, set_, scale.value if scale else None)
    chosen = file.resolve()
    trials = trials_of(file) if chosen.sweep else []
    from ..cluster.session import check_cluster, stop_ray
    from ..overview.next_steps import after_scale, after_sweep, next_steps
    from ..stages.stages import check_source
    from ..store.tracking import open_store

    check_source(chosen)  # before anything is written
    for one in trials:
        if one.recipe.data != chosen.data or one.recipe.pretrain_data != chosen.pretrain_data:
            check_source(one.recipe)
    failed: dict[str, str] = {}
    next_: list[str] = []
    given = (recipe, set_ or [])
    try:
        check_cluster(chosen.ray, work)
        store = open_store(work, tracking_uri, chosen.name, reuse)
        say(f"experiment {chosen.name}, tracked in {store.uri}")
        if chosen.sweep:
            from ..sweep.run import run_sweep

            swept = run_sweep(file, work, store, say)
            table, failed = swept.table, swept.failed
            if swept.best is not None and not scale:
                next_ = after_sweep(swept.best, given, work, store.uri, tracking_uri)
        else:
            from ..stages.experiment import run_experiment

            outcome = run_experiment(chosen, work, store, say)
            table = outcome.table
            if not scale:
                next_ = next_steps(outcome, chosen, given, work, store.uri, tracking_uri)
        if scale:  # what is made small on purpose is not worth more updates, and its model is of no use
            next_ = after_scale(file, given, work, tracking_uri)
    except KeyboardInterrupt:
        raise UserError("stopped; the same command goes on from the last checkpoint", INTERRUPTED) from None
    finally:
        stop_ray()
    say(f"\n{table}\n")
    if scale:
        say(f"All was made {scale.value}, on a synthetic corpus, to see that it runs: its scores mean nothing.\n")
    elif chosen.data.source == "synthetic":
        say("These numbers are from a synthetic corpus, a stand-in: they say nothing about real recordings.\n")
    if next_:
        say("\n".join([*next_, ""]))
    say(f"tracking store: {store.uri}")
    say(f"compare the {'trials' if chosen.sweep else 'folds'}: {ui_command(work, tracking_uri)}")
    if failed:
        raise UserError(
            f"failed: {len(failed)} of the trials ({', '.join(failed)}); the same command runs what is missing", FAILED
        )


group.command("plan")(plan)
group.command("list")(list_)
group.command("compare")(compare)
