"""`a2v experiment` and `a2v ui`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import FAILED, UserError
from .options import DEFAULT_WORK, ScaleChoice, Tracking, Work, say

group = typer.Typer(no_args_is_help=True, help="Run recipes.")


@group.command("run")
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a bundled one.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: pretrain.mask_probability=0.5")
    ] = None,
    scale: Annotated[
        ScaleChoice | None,
        typer.Option(help="tiny: everything small, on the synthetic corpus, to see in minutes that a recipe runs."),
    ] = None,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
) -> None:
    """Run a recipe: prepare, folds, pretrain, finetune, evaluate, summarise. What is done already is reused.

    A recipe with a sweep runs all its trials, several at once.
    """
    from ..recipe import read_recipe
    from ..sweep_trials import trials_of

    file = read_recipe(recipe, set_, scale.value if scale else None)
    chosen = file.resolve()
    trials = trials_of(file) if chosen.sweep else []
    from ..stages import check_source
    from ..tracking import open_store
    from ..workers import stop_ray

    check_source(chosen)  # before anything is written
    for one in trials:
        if one.recipe.data != chosen.data or one.recipe.pretrain_data != chosen.pretrain_data:
            check_source(one.recipe)
    store = open_store(work, tracking_uri, chosen.name)
    say(f"experiment {chosen.name}, tracked in {store.uri}")
    failed: dict[str, str] = {}
    try:
        if chosen.sweep:
            from ..sweep import run_sweep

            swept = run_sweep(file, work, store, say)
            table, failed = swept.table, swept.failed
        else:
            from ..experiment import run_experiment

            table = run_experiment(chosen, work, store, say).table
    finally:
        stop_ray()
    say(f"\n{table}\n")
    if scale:
        say(f"All was made {scale.value}, on a synthetic corpus, to see that it runs: its scores mean nothing.\n")
    elif chosen.data.source == "synthetic":
        say("These numbers are from a synthetic corpus, a stand-in: they say nothing about real recordings.\n")
    say(f"tracking store: {store.uri}")
    say(f"compare the {'trials' if chosen.sweep else 'folds'}: {ui_command(work, tracking_uri)}")
    if failed:
        raise UserError(
            f"failed: {len(failed)} of the trials ({', '.join(failed)}); the same command runs what is missing", FAILED
        )


def ui_command(work: Path, tracking_uri: str | None) -> str:
    prefix = "" if Path(sys.prefix) == Path(sys.base_prefix) else f"{os.path.relpath(sys.prefix)}/bin/"
    return f"{prefix}a2v ui" + (f" --tracking-uri {tracking_uri}" if tracking_uri else f" --work {work}")


def ui(
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    host: Annotated[str, typer.Option(help="Address to listen on; loopback unless told otherwise.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow UI on this project's tracking store."""
    from ..tracking import default_uri

    uri = tracking_uri or default_uri(work)
    if uri.startswith(("http://", "https://")):
        say(f"a tracking server shows its own UI: open {uri}")
        return
    if not tracking_uri and not (work / "mlflow.db").is_file():
        raise UserError(f"{work}: no tracking store here; run a recipe first, or name the folder with --work")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)
