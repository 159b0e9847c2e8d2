"""Ctrl-C and a polite kill (SIGTERM) while an update is computed: it is finished and saved before training stops."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE = b"\n  stopping after this update; Ctrl-C stops at once\n"


@contextmanager
def finishing_update() -> Iterator[Callable[[], bool]]:
    """Gives `asked()`, which says whether a signal came; after the block that signal goes to who would have had it
    (for Ctrl-C: KeyboardInterrupt). A second signal goes there at once.

    Only the main thread gets signals; elsewhere (a trial of a sweep) this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    came: list[int] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        came.append(number)
        if len(came) > 1:
            restore()
            signal.raise_signal(number)
            return
        os.write(2, NOTICE)  # print could be in the middle of a line, and refuses

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        restore()
    if came:
        signal.raise_signal(came[0])
        raise KeyboardInterrupt  # where nobody else does


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """A polite kill acts as Ctrl-C does while the block runs, and then, once more, as a polite kill: for work that
    knows how to end in order after Ctrl-C, but not otherwise (Ray Train)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, came = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL, []

    def pass_on(number: int, frame: Any) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if came:
            signal.raise_signal(signal.SIGTERM)
