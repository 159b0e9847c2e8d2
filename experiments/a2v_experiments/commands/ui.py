"""`a2v ui`: the MLflow UI on this project's tracking store."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

import typer

from ..basics.errors import FAILED, UserError
from ..basics.places import DEFAULT_WORK
from .options import Tracking, Work
from .say import say

SHOWN = 6  # experiments whose links are told
# MLflow starts schedulers for traces and prompts beside its UI, which nothing here uses
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}


def ui(
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    host: Annotated[str, typer.Option(help="Address to listen on; loopback unless told otherwise.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
) -> None:
    """Open the MLflow UI on this project's tracking store."""
    from ..store import links

    if tracking_uri and links.is_server(tracking_uri):
        say(f"a tracking server shows its own UI: open {links.without_login(tracking_uri)}")
        return
    _check_address(host, port)
    from ..store.database import default_uri
    from ..store.reading import existing_client

    client = existing_client(work, tracking_uri)
    if client is None:
        raise UserError(
            f"{tracking_uri or work}: no tracking store here; run a recipe first, or name the folder with --work"
        )
    name = "localhost" if host in ("0.0.0.0", "::") else host
    address = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
    say(f"MLflow UI on {address} (Ctrl-C ends it)")
    experiments = client.search_experiments(max_results=SHOWN, order_by=["last_update_time DESC"])
    for one in experiments:
        if one.name != "Default":
            say(f"  {one.name}: {links.experiment_link(address, one.experiment_id)}")
    say("its list opens experiments as traces until you choose `Model training` at its top left; browsers remember it")
    sys.stdout.flush()
    links.note_ui(work, tracking_uri, address)  # this very process becomes the UI
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
