"""A tracking store that is only read, and why one cannot be opened."""

from __future__ import annotations

import os
from pathlib import Path

import mlflow
from a2v_data.documents import reason
from mlflow import MlflowClient

from ..basics.errors import FAILED, UserError
from .database import default_uri, sqlite_path
from .moved import put_right
from .outage import quiet_loggers, tell


def existing_client(work: Path, uri: str | None) -> MlflowClient | None:
    """A client that reads the store at uri, or in the work folder; None where its sqlite file does not exist yet
    (MLflow would make an empty one). Raises UserError as `Store` does."""
    uri = uri or default_uri(work)
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        return None
    find_artifacts(uri, work)
    quiet_loggers()
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        raise UserError(why_unusable(uri, error), FAILED) from None
    return client


def is_new(work: Path, uri: str | None) -> bool:
    """Whether `open_store` would make the store."""
    path = sqlite_path(uri or default_uri(work))
    return path is not None and not path.is_file()


def find_artifacts(uri: str, work: Path) -> None:
    """Before a store is only read: where its artifacts are now. What is wrong with that is told and no error, as many
    readers need none."""
    try:
        put_right(uri, work, writing=False)
    except UserError as error:
        tell(f"note: {error}")


def why_unusable(uri: str, error: Exception) -> str:
    """Why the store at uri cannot be opened, for a UserError."""
    text = reason(str(error), 300)
    if "out-of-date" in text or "locate revision" in text or "schema" in text.lower():
        return (
            f"{uri}: this store was written by another version of MLflow than the installed {mlflow.__version__};"
            " update MLflow, or choose another store with --tracking-uri"
        )
    return f"{uri}: {login_refused(error) or f'the tracking store cannot be opened: {text}'}"


def login_refused(error: Exception) -> str | None:
    """What to do about it, where a server wants a login that this process has not given."""
    if "error code 401" not in str(error):
        return None
    given = os.environ.get("MLFLOW_TRACKING_USERNAME")
    what = f"refuses the login of user {given!r}" if given else "wants a login"
    return f"the server {what}: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
