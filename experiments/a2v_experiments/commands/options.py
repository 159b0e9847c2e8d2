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
    """Print a line; what a file's name holds that is no text is shown as an escape."""
    typer.echo(line.encode("utf-8", "backslashreplace").decode())
