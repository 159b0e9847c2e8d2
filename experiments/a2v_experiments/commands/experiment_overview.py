"""`a2v experiment list`, `compare` and `plan`: what a store holds, runs side by side, and what would run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..basics.errors import UserError
from ..basics.places import DEFAULT_WORK, command
from .options import (
    AllowPlugins,
    Force,
    Json,
    Override,
    RecipeName,
    ScaleChoice,
    Tracking,
    TrustCode,
    Work,
    check_new_figure,
    finite,
)
from .say import say, say_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ..recipe.sections import Recipe


def list_(work: Work = DEFAULT_WORK, tracking_uri: Tracking = None, as_json: Json = False) -> None:
    """List the experiments in the tracking store: status, folds done, scores, commit; the newest first."""
    from ..overview import listing

    client = _client(work, tracking_uri, empty_is_wrong=False)
    found = listing.rows(client) if client else []
    if as_json:
        say_text(json.dumps(listing.to_json(found), indent=1))
        return
    if not found:
        store = ("--tracking-uri", tracking_uri) if tracking_uri else ("--work", work)
        more = store if tracking_uri or work != DEFAULT_WORK else ()
        makes = command("experiment", "run", "quickstart", *more)
        say(f"no experiment in {tracking_uri or work} yet; `{makes}` makes one")
        return
    say_text(listing.to_text(found))
    for line in listing.notes(found):
        say(line)


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Experiment (its newest finished run, of a sweep every trial), EXPERIMENT:VARIANT, or the beginning"
            " of a run id.",
        ),
    ],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Show and test this metric instead of AP: timestep/F1")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            help="Test this one against the others (its letter in the table, name, variant or run id); else the best.",
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure",
            help="New file (png, pdf, svg) for their precision-recall curves, strict protocol; the paper's protocol"
            " beside it as NAME_paper.",
        ),
    ] = None,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    as_json: Json = False,
) -> None:
    """Set runs side by side: what differs in their configuration, scores, and tests of the best one (or of --baseline)
    against the others, paired over the same folds and seeds and corrected for their number (Holm)."""
    client = _client(work, tracking_uri, empty_is_wrong=True)
    assert client is not None
    from ..overview import compare_report
    from ..overview.compare import sides, ui_link
    from ..overview.compare_figure import draw_curves, places
    from ..overview.compare_tests import baseline_of
    from ..store.links import ui_address, while_it_runs

    for place in places(figure).values() if figure is not None else ():
        check_new_figure(place)
    found, chosen = sides(client, names), metric or []
    compare_report.check_metrics(found, chosen)
    against = baseline_of(client, found, baseline, chosen)
    drawn = [] if figure is None else draw_curves(client, found, figure)
    address, first = ui_address(work, tracking_uri)
    if as_json:
        say_text(json.dumps(compare_report.to_json(found, chosen, address, against), indent=1))
        return
    say_text(compare_report.to_text(found, chosen, against))
    if drawn:
        say("", "precision-recall curves: " + ", ".join(map(str, drawn)))
    say("", f"in MLflow{while_it_runs(first)}:")
    for what, folds in (("runs ", False), ("folds", True)):
        say_text(f"  {what}  {ui_link(found, address, folds=folds)}")  # as long as it has to be


def plan(
    recipe: RecipeName,
    set_: Override = None,
    scale: Annotated[ScaleChoice | None, typer.Option(help="tiny: as `run --scale tiny` would run it.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Time a few training steps here, for the estimate of time.")
    ] = True,
    measured: Annotated[
        list[Path] | None,
        typer.Option(
            "--measured",
            help="Only tell how long the pretraining takes on 1, 8 and 64 cards like that of this file: JSON of `bench"
            " train`, or results.json of infra/gpu_check.sh. Needs no recordings. Several files: steps of several"
            " sizes.",
        ),
    ] = None,
    step_s: Annotated[
        float | None,
        typer.Option(
            "--step-s",
            min=1e-6,
            callback=finite,
            help="The same, of cards that take so many seconds for a micro-batch.",
        ),
    ] = None,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    trust_code: TrustCode = False,
    force: Force = None,
    allow_plugins: AllowPlugins = False,
    as_json: Json = False,
) -> None:
    """Tell what `run` would run and what it would reuse, with an estimate of time and disk. Runs and writes nothing."""
    from ..recipe.files import read_recipe
    from ..store.reuse import Reuse

    reuse = Reuse.of(trust_code, force)
    file = read_recipe(recipe, set_, scale.value if scale else None)
    base = file.resolve()
    if measured or step_s is not None:
        _plan_cards(base, measured or [], step_s, as_json)
        return
    from ..overview import plan_report
    from ..overview.plan import make_plan
    from ..stages.advice import advice_before
    from ..store.database import default_uri

    planned = make_plan(
        file, work, _client(work, tracking_uri, empty_is_wrong=False), tracking_uri or default_uri(work), reuse
    )
    costs = plan_report.costs_of(planned, base, work, measure)
    advice = advice_before(base, work, plan_report.packed_corpus(planned, base, work), costs.update_s)
    if as_json:
        say_text(json.dumps(plan_report.to_json(planned, base, costs, advice), indent=1))
        return
    say_text(plan_report.to_text(planned, base, costs, advice))
    for line in [*plan_report.warnings(costs), *advice.warnings]:
        say(f"a2v: {line}", err=True)


def _plan_cards(recipe: Recipe, measured: list[Path], step_s: float | None, as_json: bool) -> None:
    from ..overview import plan_cards

    if measured and step_s is not None:
        raise UserError("--measured, --step-s: both say how long a step takes; give one of the two")
    if recipe.pretrain is None:
        raise UserError(
            "--measured, --step-s: this recipe has no pretraining; name one that has, e.g. meerkat/pretrain"
        )
    found = plan_cards.report(recipe, measured, step_s)
    say_text(json.dumps(found, indent=1) if as_json else plan_cards.text(found))


def _client(work: Path, tracking_uri: str | None, empty_is_wrong: bool) -> MlflowClient | None:
    from ..store.reading import existing_client

    client = existing_client(work, tracking_uri)
    if client is None and empty_is_wrong:
        raise UserError(
            f"{tracking_uri or work}: no tracking store here; run a recipe first, or name the folder with --work"
        )
    return client
