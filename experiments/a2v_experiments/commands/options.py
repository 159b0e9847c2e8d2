"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Work = Annotated[Path, typer.Option("--work", envvar="A2V_WORK", help="Folder for corpora, checkpoints and the store.")]
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow store; default: sqlite in the work folder."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]
DEFAULT_WORK = Path("a2v-runs")


class ScaleChoice(StrEnum):
    """How small a recipe is made."""

    tiny = "tiny"


class LabelledChoice(StrEnum):
    """Which recordings of a folder were listened to: those with an annotation, or all of them."""

    annotated = "annotated"
    all = "all"


Labelled = Annotated[
    LabelledChoice, typer.Option(help="Of a folder: recordings without annotations are not labelled, or hold no calls.")
]


def say(line: str) -> None:
    """Print a line; what a file's name holds that is no text is shown as an escape."""
    typer.echo(line.encode("utf-8", "backslashreplace").decode())
