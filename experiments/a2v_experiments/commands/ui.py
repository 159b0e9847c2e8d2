"""`a2v ui`: the MLflow UI on this project's tracking store."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

import typer

from ..basics.errors import FAILED, UserError
from ..basics.places import DEFAULT_WORK
from .options import Tracking, Work, say

# MLflow starts schedulers for traces and prompts beside its UI, which nothing here uses
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}


def ui(
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    host: Annotated[str, typer.Option(help="Address to listen on; loopback unless told otherwise.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow UI on this project's tracking store."""
    if tracking_uri and tracking_uri.startswith(("http://", "https://")):
        say(f"a tracking server shows its own UI: open {tracking_uri}")
        return
    _check_address(host, port)
    from ..store.tracking import default_uri, existing_client

    if existing_client(work, tracking_uri) is None:
        raise UserError(
            f"{tracking_uri or work}: no tracking store here; run a recipe first, or name the folder with --work"
        )
    say(f"MLflow UI on http://{'localhost' if host in ('0.0.0.0', '::') else host}:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    command = [
        sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracking_uri or default_uri(work),
        "--artifacts-destination", str((work / "artifacts").resolve()),  # of experiments that the UI makes
        "--host", host, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning",
    ]  # fmt: skip
    os.execve(sys.executable, command, {**os.environ, **QUIET})


def _check_address(host: str, port: int) -> None:
    """Raise UserError where nothing can listen there; MLflow itself would say so among other lines and exit with 0."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        hint = "; give another --port" if not isinstance(error, socket.gaierror) else ""
        raise UserError(f"{host}:{port}: cannot listen there: {error.strerror}{hint}", FAILED) from None
