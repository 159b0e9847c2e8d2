"""Faults of the machine that tests make: no room for files, a tracking store that fails."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes in this process and those that it starts (errno EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Flaky:
    """An MlflowClient of which every request fails the first time, before or after the server did it, in turns."""

    failed = 0

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri)
        self.again = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.again = not self.again
            if not self.again:
                return method(*arguments, **named)
            Flaky.failed += 1
            if Flaky.failed % 2:
                method(*arguments, **named)
            raise MlflowException("API request to http://far:1 failed with exception [Errno 111] Connection refused")

        return call


SIGNALLED = """
import os, signal, sys
from a2v_experiments import cli
from a2v_experiments.training import loop
rate = loop.learning_rate
def learning_rate(update, *rest):
    if update == {update}:
        os.kill(os.getpid(), signal.{name})
    return rate(update, *rest)
loop.learning_rate = learning_rate
sys.argv = ["a2v", *sys.argv[1:]]
cli.main()
"""


def signalled(name: str, update: int) -> str:
    """A program: `a2v` that gets a signal of this name when it comes to an update."""
    return SIGNALLED.format(name=name, update=update)


def run_terminated(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`a2v ARGUMENTS` in a process of its own that gets SIGTERM in the update 3 of every training."""
    command = [sys.executable, "-c", signalled("SIGTERM", 3), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)
