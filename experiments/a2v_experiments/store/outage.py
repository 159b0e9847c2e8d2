"""A tracking store that does not answer for a while: say so once, try again, give up after a stated time.

MLflow's own retries wait silently, up to minutes between two tries; they are turned down (`__init__.py`). A training
step never comes through this module: `metric_log.MetricLog` has a thread of its own.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from tqdm import tqdm

from ..basics.errors import FAILED, UserError, disk_full, is_disk_full
from ..basics.terminal import one_line

RETRY_S = 2.0
PATIENCE_S = 600.0  # how long the store may be away before an experiment ends
AWAY = (  # what MLflow, requests, urllib3 and SQLAlchemy say when nobody answers, or a proxy does instead of the server
    "Connection refused", "Connection aborted", "Connection reset", "connection to server",
    "closed the connection", "Read timed out", "failed with timeout exception", "error code 502", "error code 503",
    "error code 504", "502 Server Error", "503 Server Error", "504 Server Error", "database is locked",
    "Max retries exceeded",
)  # fmt: skip
# what SQLite and PostgreSQL say of a link between run and model that is there already
DONE_BEFORE = ("UNIQUE constraint failed", "duplicate key value violates unique constraint")


def quiet_loggers() -> None:
    """What these report is told in one line here, or is no news."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # every new database; tracebacks
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # every retry


def why_away(error: BaseException) -> str | None:
    """The reason, if an error means that the store could not be reached and trying again may help; else None."""
    if not isinstance(error, MlflowException | RequestException):
        return None
    text = " ".join(str(error).split())
    if is_disk_full(error):
        return None
    return next((sign for sign in AWAY if sign.lower() in text.lower()), None)


class Outage:
    """What is known of one store's absence, shared by all clients of a process."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.since: float | None = None
        self.given_up = False
        self.lock = threading.Lock()

    def begins(self, reason: str, patience_s: float) -> None:
        with self.lock:
            if self.since is None:
                self.since = time.monotonic()
                clock = datetime.now().strftime("%H:%M:%S")
                limit = duration(patience_s or PATIENCE_S)
                tell(
                    f"{self.uri}: the tracking store is away since {clock} ({reason}); a training goes on, all else"
                    f" waits, for up to {limit}"
                )

    def ends(self) -> None:
        if self.since is None:
            return
        with self.lock:
            if self.since is not None:
                tell(f"{self.uri}: the tracking store is back after {time.monotonic() - self.since:.0f} s")
            self.since, self.given_up = None, False

    def call(self, patience_s: float, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """method(...), again and again while the store is away.

        A request whose answer was lost may have been done: made again it is refused as double, which is fine (the
        result of a link is None).

        Raises UserError after patience_s seconds, at once where that has happened before, or when its disk is full.
        """
        end = time.monotonic() + patience_s
        again = False
        while True:
            try:
                result = method(*arguments, **named)
            except Exception as error:
                if again and any(sign in str(error) for sign in DONE_BEFORE):
                    self.ends()
                    return None
                if is_disk_full(error):
                    raise disk_full(
                        getattr(error, "filename2", None) or getattr(error, "filename", None) or self.uri
                    ) from error
                reason = why_away(error)
                if reason is None:
                    raise
                self.begins(reason, patience_s)
                if self.given_up or time.monotonic() >= end:
                    # who does not wait at all (a heartbeat, a progress bar) has not given up for those who do
                    self.given_up = self.given_up or patience_s > 0
                    raise UserError(
                        f"{self.uri}: the tracking store has not answered for {duration(patience_s)} ({reason});"
                        " the same command goes on when it is back",
                        FAILED,
                    ) from error
                again = True
                time.sleep(RETRY_S)
            else:
                self.ends()
                return result


class PatientClient:
    """An MlflowClient, each of whose calls waits up to patience_s seconds for a store that is away."""

    def __init__(self, uri: str, outage: Outage, patience_s: float) -> None:
        self._client, self._outage, self._patience_s = MlflowClient(uri), outage, patience_s

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            return self._outage.call(self._patience_s, method, *arguments, **named)

        return call


def duration(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} s"


def tell(line: str) -> None:
    """A line on standard error."""
    tqdm.write(one_line(line), file=sys.stderr)  # beside a bar, not through it
