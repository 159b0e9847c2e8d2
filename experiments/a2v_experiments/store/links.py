"""Pages of MLflow's UI: where it answers, and links that open its view for training.

MLflow 3.17 opens an experiment as one of traces. Its tag `mlflow.experimentKind` does not count: the view is the one
that the browser was switched to (`Model training`, beside MLflow's name, which it remembers), or what a link says.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psutil

from ..basics.places import ui_command
from .claims import START_TOLERANCE_S
from .database import sqlite_path
from .tags import having

VIEW = "workflowType=machine_learning"
USUAL = "http://127.0.0.1:5000"  # where `a2v ui` listens unless told otherwise
NOTE = ".a2v-ui.json"  # beside a sqlite store: the UI that shows it


def is_server(uri: str | None) -> bool:
    return uri is not None and uri.startswith(("http://", "https://"))


def ui_address(work: Path, tracking_uri: str | None) -> tuple[str, str | None]:
    """Where the UI of a store answers, without a login; and the command to run before, None where it answers now."""
    if tracking_uri is not None and is_server(tracking_uri):
        return without_login(tracking_uri).rstrip("/"), None
    running = _running(_folder(work, tracking_uri))
    return (running, None) if running else (USUAL, ui_command(work, tracking_uri))


def without_login(uri: str) -> str:
    """A URL without user and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def run_link(address: str, experiment_id: str, run_id: str) -> str:
    """The page of a run."""
    return f"{address}/#/experiments/{experiment_id}/runs/{run_id}?{VIEW}"


def experiment_link(address: str, experiment_id: str, query: str = "") -> str:
    """The table of an experiment's runs; query: of which ones, as MLflow searches them."""
    only = f"&searchFilter={quote(query, safe='')}" if query else ""
    return f"{address}/#/experiments/{experiment_id}/runs?{VIEW}{only}"


def below(run_id: str, stage: str) -> str:
    """The query for runs of a stage right below one."""
    return f"{having('mlflow.parentRunId', run_id)} and {having('a2v.stage', stage)}"


def while_it_runs(command: str | None) -> str:
    """What stands behind `in MLflow` where the UI has to be started first."""
    return f", while `{command}` runs" if command else ""


def note_ui(work: Path, tracking_uri: str | None, address: str) -> None:
    """Say beside a sqlite store that this process shows it there; one that cannot be written to has no such note."""
    place = _folder(work, tracking_uri)
    if place is not None:
        said = {"address": address, "pid": os.getpid(), "started": psutil.Process().create_time()}
        with contextlib.suppress(OSError):
            (place / NOTE).write_text(json.dumps(said), encoding="utf-8")


def _running(place: Path | None) -> str | None:
    """The address of the UI that shows the store in this folder, if its process of this machine lives."""
    try:
        said = json.loads((place / NOTE).read_text(encoding="utf-8")) if place else {}
        alive = abs(psutil.Process(said["pid"]).create_time() - said["started"]) <= START_TOLERANCE_S
        return str(said["address"]) if alive else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def _folder(work: Path, tracking_uri: str | None) -> Path | None:
    if tracking_uri is None:
        return work
    path = sqlite_path(tracking_uri)
    return path.parent if path else None


def run_hint(work: Path, tracking_uri: str | None, run_id: str) -> str:
    """A run's page, and what to run before where the UI does not answer yet."""
    from .reading import existing_client

    client = existing_client(work, tracking_uri)
    assert client is not None, "the run was written a moment ago"
    address, command = ui_address(work, tracking_uri)
    return run_link(address, client.get_run(run_id).info.experiment_id, run_id) + while_it_runs(command)
