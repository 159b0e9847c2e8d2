"""Progress of a training, as the tracking store sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from tqdm import tqdm

from ..basics.progress import bar
from ..store.tracking import Store
from .probe_report import PROBE
from .validation_report import BEST_METRIC, BEST_PRESENCE, METRIC, PRESENCE_METRIC, PRESENCE_TOLD, best_of, told

POLL_S = 2.0
LOSS = "loss"


@contextmanager
def watching(store: Store, run_id: str, label: str, total: int, say: Callable[[str], None]) -> Iterator[None]:
    """Show a training run's progress while the block runs, read from its metrics in the tracking store; say(line) is
    told of every validation.

    So the same bar serves a loop in this process, in local workers and on a cluster.
    """
    stop = threading.Event()
    watch = _Watch(store, run_id, say)
    _ignore_errors(watch.skip)

    def work() -> None:
        with bar(label, total, "updates") as shown:
            while not stop.wait(POLL_S):
                _ignore_errors(lambda: watch.look(shown))

    thread = threading.Thread(target=work, name="a2v-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(2 * POLL_S)
    if not thread.is_alive():
        _ignore_errors(watch.tell)


class _Watch:
    """What has been shown of one training run."""

    def __init__(self, store: Store, run_id: str, say: Callable[[str], None]) -> None:
        self.store, self.run_id, self.say = store, run_id, say
        self.told = 0  # the update of the last validation that was told

    def skip(self) -> None:
        """What an earlier call has told is not told again."""
        self.told = max((update for update, _ in self._history()[0]), default=0)

    def look(self, shown: tqdm) -> None:
        metrics = self.store.run(self.run_id, wait=False).data.metrics
        if "update" not in metrics:
            return
        shown.update(int(metrics["update"]) - shown.n)
        said = f"{LOSS} {metrics[LOSS]:.4g}" if LOSS in metrics else "starting"
        if PROBE in metrics:
            said += f", probe AP {metrics[PROBE]:.3g}"
        for score, best, what in ((METRIC, BEST_METRIC, "AP"), (PRESENCE_METRIC, BEST_PRESENCE, PRESENCE_TOLD)):
            if score not in metrics or best not in metrics:
                continue
            said += f", validation {what} {metrics[score]:.3g} (kept: {metrics[best]:.3g})"
            self.tell(shown.external_write_mode)
        shown.set_postfix_str(said, refresh=False)

    def tell(self, beside: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        """A line for each validation that is new. beside(): the block in which lines do not disturb a bar."""
        found, what = self._history()
        for place, (update, score) in enumerate(found):
            if update > self.told:
                self.told = update
                with beside():
                    self.say(f"  {told(update, score, best_of(found[: place + 1]), what)}")

    def _history(self) -> tuple[list[tuple[int, float]], str]:
        """All validations so far, and what their score is."""
        if found := self.store.history(self.run_id, METRIC):
            return found, "strict AP"
        return self.store.history(self.run_id, PRESENCE_METRIC), PRESENCE_TOLD


def _ignore_errors(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # a bar that misses a beat because the server is busy is no reason to stop
        time.sleep(POLL_S)
