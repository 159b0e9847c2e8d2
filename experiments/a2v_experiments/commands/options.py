"""Options that several commands share."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..basics.errors import UserError

Work = Annotated[Path, typer.Option("--work", envvar="A2V_WORK", help="Folder for corpora, checkpoints and the store.")]
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow store; default: sqlite in the work folder."
    ),
]
RecipeName = Annotated[str, typer.Argument(help="A recipe file, or the name of a bundled one.")]
Override = Annotated[list[str] | None, typer.Option("--set", help="Override a key: pretrain.mask_probability=0.5")]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Reuse also what an a2v with other code made, in whichever stage.")
]
Force = Annotated[
    list[str] | None,
    typer.Option(
        "--force",
        metavar="STAGE",
        help="Run a stage again, from its start, and what follows from it: prepare, folds, pretrain, finetune,"
        " evaluate, refit.",
    ),
]
Register = Annotated[
    str | None,
    typer.Option("--register", help="Register the final model under this name in MLflow, as its candidate."),
]


def _agree(context: typer.Context, wanted: bool) -> None:
    if wanted:
        from a2v_model.plugins import agreeing

        context.with_resource(agreeing())


AllowPlugins = Annotated[
    bool,
    typer.Option(
        "--allow-plugins",
        callback=_agree,
        expose_value=False,
        help="Run code that a model brings: look at plugins/ in its folder first. Also A2V_ALLOW_PLUGINS=1.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]


def finite(value: float | None) -> float | None:
    """Callback of options that are a time or a size, of which inf and nan are none."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value


class ScaleChoice(StrEnum):
    """How small a recipe is made."""

    tiny = "tiny"


Scale = Annotated[
    ScaleChoice | None,
    typer.Option(help="tiny: everything small, on the synthetic corpus, to see in minutes that a recipe runs."),
]


class LabelledChoice(StrEnum):
    """Which recordings of a folder count as labelled, see `a2v_data.labelled`."""

    auto = "auto"
    annotated = "annotated"
    with_events = "with_events"
    all = "all"


Labelled = Annotated[
    LabelledChoice,
    typer.Option(
        help="Recordings of a folder that were listened to: with annotations, with events, or all; auto: by layout."
    ),
]


def channel_of(text: str) -> int | Literal["mix"]:
    """What `--channel` says. Raises UserError."""
    if text == "mix":
        return "mix"
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"--channel: {text!r} must be a number from 0, or mix")
    return int(text)


def check_new_figure(path: Path) -> None:
    """Raise UserError for a name that no figure can have, or that something has already."""
    formats = (".png", ".pdf", ".svg")
    if path.suffix.lower() not in formats:
        raise UserError(f"{path}: a figure's name ends with {', '.join(formats)}")
    check_new(path)


def check_new(path: Path) -> None:
    """Raise UserError for a name that something has already."""
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: exists already; name a new file or remove this one first")
