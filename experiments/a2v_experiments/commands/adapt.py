"""`a2v adapt`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..basics.errors import INTERRUPTED, UserError
from ..basics.places import DEFAULT_WORK, command
from .annotation_options import table_options
from .options import AllowPlugins, Json, Labelled, LabelledChoice, Tracking, Work
from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig


class HeadChoice(StrEnum):
    linear = "linear"
    temporal = "temporal"


@table_options()
def adapt(
    folder: Annotated[Path, typer.Argument(help="Recordings with their annotations, as `data check` takes them.")],
    model: Annotated[str, typer.Option(help="Pretrained or finetuned: a folder, runs:/RUN_ID, models:/NAME/VERSION.")],
    out: Annotated[Path, typer.Option(help="Folder of the new model.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="At most, for training the head; features come on top.")] = 5,
    head: Annotated[
        HeadChoice, typer.Option(help="temporal sees neighbouring frames; only linear can be exported.")
    ] = HeadChoice.linear,
    unfreeze_updates: Annotated[
        int, typer.Option(min=0, help="Updates that finetune all of the model afterwards; needs a fast machine.")
    ] = 0,
    labelled: Labelled = LabelledChoice.auto,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    allow_plugins: AllowPlugins = False,
    as_json: Json = False,
    *,
    annotations: AnnotationConfig,
) -> None:
    """Adapt a model to your own classes in minutes, on a laptop.

    What the model hears in your recordings is computed once and kept; a new head is trained on it. A fifth of the
    labelled recordings are kept apart, to choose weights and thresholds by.
    """
    from ..adapt.adapt import AdaptOptions
    from ..adapt.adapt import adapt as run_adapt

    options = AdaptOptions(
        folder, model, out, minutes, head.value, unfreeze_updates, labelled.value, annotations=annotations
    )
    try:
        record = run_adapt(options, work, tracking_uri, _to_stderr if as_json else say)
    except KeyboardInterrupt:
        raise UserError("stopped; features are kept, the same command goes on from there", INTERRUPTED) from None
    if as_json:
        say_text(json.dumps(record, indent=1, allow_nan=False))
    else:
        _report(record, out, work, tracking_uri)


def _to_stderr(line: str) -> None:
    say(line, err=True)


def _report(record: dict[str, Any], out: Path, work: Path, tracking_uri: str | None) -> None:
    from a2v_model.checkpoints import read_description
    from a2v_model.saved_plugins import asks_first

    from ..adapt.scores import score_table
    from ..store.links import run_hint

    agreed = ["--allow-plugins"] if asks_first(out, read_description(out)) else []
    say_text(f"\n{score_table(record['scores'])}")
    say(f"of {record['recordings']['told']}")
    say("found, predictions, F1: strict protocol, at the threshold of each class; AP: of the whole ranking")
    lost = [row["class"] for row in record["scores"] if row.get("learned") is False]
    if lost:
        say(f"not learned: {', '.join(lost)}: a2v predict writes no events of them unless asked to (--all-classes)")
    say("", f"{out}: the model, run {record['run_id']}; find the calls in your own recordings, NEW (files or folders):")
    say(f"  {command('predict', 'NEW', '--model', out, '--out', 'calls', *agreed)}")
    say(f"its scores and figures: {run_hint(work, tracking_uri, record['run_id'])}")
