"""Progress of long work, with rate and time left; a bar on a terminal or in a notebook, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from .terminal import one_line

NOTEBOOK_WIDTH = 100  # characters


def bar(label: str, total: int, unit: str) -> tqdm:
    """A progress bar on standard error; without a terminal or notebook it prints about every 30 s."""
    terminal, notebook = sys.stderr.isatty(), in_notebook()
    moves = terminal or notebook
    return tqdm(
        total=total,
        desc=f"  {one_line(label)}",
        unit=f" {unit}",
        ncols=NOTEBOOK_WIDTH if notebook else None,
        dynamic_ncols=terminal,
        mininterval=0.5 if moves else 30,
        maxinterval=1 if moves else 30,
        delay=1,  # work that ends at once needs no bar
        leave=False,
        ascii=not moves,
    )


def in_notebook() -> bool:
    """Whether this process is a notebook's: there a line on standard error is written over like on a terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", {})


def advancing(shown: tqdm) -> Callable[[int, int], None]:
    """A callback `(done, total)` that moves the bar."""

    def advance(done: int, total: int) -> None:
        shown.total = total
        shown.update(done - shown.n)

    return advance


class HoursBar:
    """Progress through recordings: how many are done, hours of audio, times real time, time left."""

    def __init__(self, shown: tqdm) -> None:
        self._shown, self._recordings, self._done = shown, 0, 0
        self._begun, self._seconds = time.monotonic(), 0.0

    def begin(self, recordings: int, seconds: float) -> None:
        """So many recordings and seconds of audio are to be done."""
        self._recordings, self._begun = recordings, time.monotonic()
        self._shown.total = round(seconds / 3600, 4)
        self._shown.unpause()

    def advance(self, seconds: float) -> None:
        """More seconds of audio are done."""
        self._seconds += seconds
        speed = self._seconds / max(time.monotonic() - self._begun, 1e-3)
        said = f"{self._done} of {self._recordings} recordings, {speed:.3g} times real time"
        self._shown.set_postfix_str(said, refresh=False)
        left = self._shown.total - self._shown.n  # what was done twice, since a worker died, counts once
        self._shown.update(min(seconds / 3600, max(left, 0.0)))

    def recording(self) -> None:
        """One more recording is done."""
        self._done += 1


@contextmanager
def hours_bar(label: str) -> Iterator[HoursBar]:
    """A bar that counts hours of audio, as `bar`."""
    with bar(label, 0, "h") as shown:
        shown.bar_format = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h{postfix} [{elapsed}<{remaining}]"
        yield HoursBar(shown)
