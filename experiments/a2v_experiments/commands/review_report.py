"""`a2v review report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..basics.errors import UserError, light_install
from ..basics.places import DEFAULT_WORK, command
from .options import AllowPlugins, Json, Tracking, Work
from .say import say, say_text


def report(
    calls: Annotated[Path, typer.Argument(help="What was reviewed: a folder of `a2v predict`, or a table.")],
    recordings: Annotated[
        Path | None, typer.Option("--recordings", help="Folder of the recordings; needed with a table.")
    ] = None,
    precision: Annotated[
        float, typer.Option("--precision", min=0.01, max=1.0, help="Share of right calls that thresholds are for.")
    ] = 0.9,
    sure: Annotated[
        bool, typer.Option("--sure", help="Thresholds at which the lower limit of the interval reaches it.")
    ] = False,
    window_s: Annotated[
        float, typer.Option("--window-s", min=1.0, help="As the review's: seconds of a random stretch.")
    ] = 10.0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of tables and figures, made anew. Default: beside the journal.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model that predicted: a copy of it gets these thresholds.")
    ] = None,
    model_out: Annotated[
        Path | None, typer.Option("--model-out", help="New folder for that copy. Default: only in the run in MLflow.")
    ] = None,
    track: Annotated[bool, typer.Option("--track/--no-track", help="Log a run to the experiment `review`.")] = True,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    allow_plugins: AllowPlugins = False,
    as_json: Json = False,
) -> None:
    """Precision with intervals, calibration, thresholds, misses and counts per day, from what was decided."""
    from json import dumps

    from a2v_data.storage import refuse_existing
    from a2v_model import save_model

    from ..review.calls import open_calls
    from ..review.journal import read_journal
    from ..review.numbers import numbers
    from ..review.report import plain, report_of, text, write
    from ..review.tracked import log, with_thresholds

    if model_out is not None:
        if model is None:
            raise UserError("--model-out: is for a copy of a model; say which with --model")
        refuse_existing(model_out)
    if model is not None and model_out is None and not track:
        raise UserError("--model: its copy would go nowhere with --no-track; give --model-out FOLDER")
    opened = open_calls(calls, recordings)
    state = read_journal(opened.folder)
    if not state.lines:
        again = command("review", calls, *(("--recordings", recordings) if recordings else ()), "--order", "stratified")
        raise UserError(f"{calls}: nothing was decided yet; review some first: {again}")
    found = report_of(opened, state, numbers(opened, state, window_s), precision, sure)
    detector = with_thresholds(model, found, tracking_uri) if model is not None else None
    folder = out or opened.folder / "report"
    write(found, folder)
    lines = [text(found)]
    if detector is not None and model_out is not None:
        save_model(detector[0], model_out, detector[1])
        lines.append(f"{model_out}: the model with these thresholds")
    run_id = None
    if track:
        try:
            run_id = log(found, folder, detector, work, tracking_uri, lambda line: say(line, err=True))
        except ModuleNotFoundError as error:
            missing = light_install(error)
            if missing is None:
                raise
            lines.append(f"no run in MLflow: {missing}")
    if as_json:
        say_text(dumps({**plain(found), "report": str(folder), "run_id": run_id}, ensure_ascii=False, indent=1))
        return
    lines.append(f"tables and figures: {folder}")
    if run_id:
        from ..store.links import run_hint

        lines.append(f"run {run_id} in the experiment review: {run_hint(work, tracking_uri, run_id)}")
    lines.append("next:")
    if detector is not None:
        named = model_out or f"runs:/{run_id}"
        lines.append(f"  {command('predict', 'RECORDINGS', '--model', named, '--out', 'more-calls')}")
    elif found.thresholds and found.for_predict:
        given = ("--model", "MODEL", "--thresholds", folder / "thresholds.csv")
        lines.append(f"  {command('predict', 'RECORDINGS', *given, '--out', 'more-calls')}")
    extra = ("--recordings", recordings) if recordings else ()
    lines.append(f"  {command('review', 'export', calls, *extra, '--out', 'reviewed')}  # labels to train on")
    say_text("\n".join(lines))
