"""Options that several commands share."""

from __future__ import annotations

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
DEFAULT_WORK = Path("a2v-runs")


def say(line: str) -> None:
    typer.echo(line)
