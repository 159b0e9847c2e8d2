"""`a2v evaluate`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..basics.errors import UserError
from .annotation_options import table_options
from .options import channel_of
from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig

PREDICTIONS = "predictions-"


class ProtocolChoice(StrEnum):
    paper = "paper"
    strict = "strict"
    both = "both"


@table_options("labelled", of="Labels: ", without=["tables", "weak"])
@table_options("predicted", PREDICTIONS, of="Predictions: ", without=["tables", "weak", "regions", "region_label"])
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Table of predicted events, or a folder of tables.")],
    labels: Annotated[Path, typer.Argument(help="Table of labelled events, or a folder of tables.")],
    protocol: Annotated[ProtocolChoice, typer.Option(help="How events are matched and ranked.")] = ProtocolChoice.both,
    iou: Annotated[
        float | None,
        typer.Option(min=0, max=0.99, help="A pair counts above this IoU. Default: strict 0.3, paper 0 (any overlap)."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, help="Precision, recall and F1 of the predictions above this likelihood. Default: of all."),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            help="Channel whose events are scored, from 0 (Raven's counts from 1), or 'mix'. Default: of all."
        ),
    ] = None,
    any_class: Annotated[
        bool, typer.Option("--any-class", help="Make all classes one: is there a call, whatever it is?")
    ] = False,
    recordings: Annotated[
        Path | None,
        typer.Option(help="Text file, one recording a line: what was listened to. Only these are scored."),
    ] = None,
    durations: Annotated[Path | None, typer.Option(help="CSV with file,duration_s: scores timesteps too.")] = None,
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Draws of recordings for 95 % confidence intervals; 1000 is usual.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    out: Annotated[Path | None, typer.Option(help="New folder for the tables as CSV, with every match.")] = None,
    *,
    labelled: AnnotationConfig,
    predicted: AnnotationConfig,
) -> None:
    """Score predicted events against labels, from this project or any other program, by two protocols.

    Tables: CSV (file,onset_s,offset_s,label and likelihood), and all that `data annotations` reads, in the same way. AP
    needs a column likelihood, confidence or score. Recordings are matched by path, name, or name without ending.
    """
    from a2v_eval.events import PROTOCOLS

    from ..score.report import as_dict, as_text, write_tables
    from ..score.scores import Settings, score_events

    if bootstrap == 1:
        raise UserError("--bootstrap 1: intervals need at least 2 draws; 1000 is usual")
    chosen = tuple(name for name in PROTOCOLS if protocol in (name, "both"))
    settings = Settings(
        chosen, iou, threshold, any_class, recordings, durations, bootstrap, labelled, predicted, PREDICTIONS,
        None if channel is None else channel_of(channel),
    )  # fmt: skip
    scores = score_events(predictions, labels, settings)
    if out is not None:
        write_tables(scores, out)
    if as_json:
        say_text(json.dumps(as_dict(scores), indent=1, allow_nan=False))
    else:
        say_text(as_text(scores))
        if out is not None:
            say("", f"{out}: tables written")
