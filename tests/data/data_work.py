"""Work for other processes, which must be able to import it."""

import os
import signal
import time
from pathlib import Path

import numpy as np


def square(task: int, advance) -> int:
    for _ in range(4):
        advance(task / 4)
    return task * task


def die_at_three(task: int, advance) -> int:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def fail_at_three(task: int, advance) -> int:
    if task == 3:
        raise OSError(28, "No space left on device", "/disk")
    return task


def endless(task: Path, advance) -> None:
    """Says where it is and goes on until it is stopped."""
    (task / str(os.getpid())).touch()
    while True:
        advance(0.0)
        time.sleep(0.01)


def threads(task: int, advance) -> str:
    return os.environ["OPENBLAS_NUM_THREADS"] + str(len(np.zeros(1)))


def stubborn(task: Path, advance) -> None:
    """A step that takes a minute and does not listen."""
    (task / str(os.getpid())).touch()
    time.sleep(60)
