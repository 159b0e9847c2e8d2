"""Progress of long work, with rate and time left; a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .probe_report import PROBE
from .validation_report import BEST_METRIC, METRIC, best_of, told

if TYPE_CHECKING:
    from .tracking import Store

POLL_S = 2.0
LOSS = "loss"


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
        self.client, self.run_id, self.say = store.impatient_client, run_id, say
        self.told = 0  # the update of the last validation that was told

    def skip(self) -> None:
        """What an earlier call has told is not told again."""
        self.told = max((metric.step for metric in self.client.get_metric_history(self.run_id, METRIC)), default=0)

    def look(self, shown: tqdm) -> None:
        metrics = self.client.get_run(self.run_id).data.metrics
        if "update" not in metrics:
            return
        shown.update(int(metrics["update"]) - shown.n)
        said = f"{LOSS} {metrics[LOSS]:.4g}" if LOSS in metrics else "starting"
        if PROBE in metrics:
            said += f", probe AP {metrics[PROBE]:.3g}"
        if METRIC in metrics and BEST_METRIC in metrics:
            said += f", validation AP {metrics[METRIC]:.3g} (kept: {metrics[BEST_METRIC]:.3g})"
            self.tell(shown.external_write_mode)
        shown.set_postfix_str(said, refresh=False)

    def tell(self, beside: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        """A line for each validation that is new. beside(): the block in which lines do not disturb a bar."""
        found = sorted((metric.step, metric.value) for metric in self.client.get_metric_history(self.run_id, METRIC))
        for place, (update, score) in enumerate(found):
            if update > self.told:
                self.told = update
                with beside():
                    self.say(f"  {told(update, score, best_of(found[: place + 1]))}")


def _ignore_errors(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # a bar that misses a beat because the server is busy is no reason to stop
        time.sleep(POLL_S)
