"""Progress of long work, with rate and time left; a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from .tracking import Store

POLL_S = 2.0


def bar(label: str, total: int, unit: str) -> tqdm:
    """A progress bar on standard error; without a terminal it prints about every 30 s."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=f"  {label}",
        unit=f" {unit}",
        dynamic_ncols=terminal,
        mininterval=0.5 if terminal else 30,
        maxinterval=1 if terminal else 30,
        delay=1,  # work that ends at once needs no bar
        leave=False,
        ascii=not terminal,
    )


def advancing(shown: tqdm) -> Callable[[int, int], None]:
    """A callback `(done, total)` that moves the bar."""

    def advance(done: int, total: int) -> None:
        shown.total = total
        shown.update(done - shown.n)

    return advance


@contextmanager
def watching(store: Store, run_id: str, label: str, total: int) -> Iterator[None]:
    """Show a training run's progress while the block runs, read from its metrics in the tracking store.

    So the same bar serves a loop in this process, in local workers and on a cluster.
    """
    stop = threading.Event()

    def watch() -> None:
        with bar(label, total, "updates") as shown:
            while not stop.wait(POLL_S):
                _ignore_errors(lambda: _advance(store, run_id, shown))

    thread = threading.Thread(target=watch, name="a2v-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(2 * POLL_S)


def _advance(store: Store, run_id: str, shown: tqdm) -> None:
    from .metric_log import STEP_METRIC  # and with it MLflow, which other bars do not need

    metrics = store.impatient_client.get_run(run_id).data.metrics
    if "update" in metrics:
        shown.update(int(metrics["update"]) - shown.n)
        shown.set_postfix_str(f"{STEP_METRIC} {metrics[STEP_METRIC]:.4g}", refresh=False)


def _ignore_errors(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # a bar that misses a beat because the server is busy is no reason to stop
        time.sleep(POLL_S)
