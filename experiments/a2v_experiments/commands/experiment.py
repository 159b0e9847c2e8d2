"""`a2v experiment` and `a2v ui`."""

from __future__ import annotations

from typing import Annotated

import typer

from .experiment_overview import compare, list_
from .options import DEFAULT_WORK, Tracking, Work, say, ui_command

group = typer.Typer(no_args_is_help=True, help="Run recipes, and look at what was run.")


@group.command("run")
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a bundled one.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: pretrain.mask_probability=0.5")
    ] = None,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
) -> None:
    """Run a recipe: prepare, folds, pretrain, finetune, evaluate, summarise. What is done already is reused."""
    from ..recipe import load_recipe

    chosen = load_recipe(recipe, set_)
    from ..experiment import run_experiment
    from ..stages import check_source
    from ..tracking import open_store
    from ..workers import stop_ray

    check_source(chosen)  # before anything is written
    store = open_store(work, tracking_uri, chosen.name)
    say(f"experiment {chosen.name}, tracked in {store.uri}")
    try:
        outcome = run_experiment(chosen, work, store, say)
    finally:
        stop_ray()
    say(f"\n{outcome.table}\n")
    if chosen.data.source == "synthetic":
        say("These numbers are from a synthetic corpus, a stand-in: they say nothing about real recordings.\n")
    say(f"tracking store: {store.uri}")
    say(f"compare the folds: {ui_command(work, tracking_uri)}")


group.command("list")(list_)
group.command("compare")(compare)
