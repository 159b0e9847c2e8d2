"""Metrics of a training run: never wait for the server, lose nothing, log no step twice.

Contract. `add` puts a step's metrics in memory; a thread sends them in batches of whole steps and tries again
when the server does not answer. What is not yet confirmed is `pending`: the loop writes it into every checkpoint,
so a worker that dies loses only steps after its checkpoint, and those are trained again. A resumed run asks the
store for the last step it holds and drops every step up to it, so a step repeated after a crash is logged once.
System metrics come between steps and go the same way; each has its time, and MLflow keeps equal values once.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from ..basics.errors import is_disk_full
from .outage import quiet_loggers

FLUSH_EVERY_S = 2.0
MAX_BATCH = 900
STEP_METRIC = "update"  # present in every step, also in step 0, which has no loss; tells which steps the store holds


class MetricLog:
    """Buffered metrics of one run.

    pending: what an earlier worker's checkpoint says was not yet confirmed; tags: set with the first batch.
    """

    def __init__(
        self, uri: str, run_id: str, pending: list[dict[str, Any]], tags: dict[str, str] | None = None
    ) -> None:
        quiet_loggers()
        self.client = MlflowClient(uri)
        self.run_id = run_id
        self.tags = [RunTag(key, value) for key, value in (tags or {}).items()]
        self.step = max((entry["step"] for entry in pending), default=0)  # the newest that was added
        self.error: Exception | None = None  # of the last try to send, if it failed
        self.queue: list[dict[str, Any]] = list(pending)
        self.last_step: int | None = None  # asked of the store at the first flush
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.wanted = threading.Event()  # sending at once, and not when it is time
        self.thread = threading.Thread(target=self._work, name="a2v-metrics", daemon=True)
        self.thread.start()

    def add(self, step: int, metrics: dict[str, float]) -> None:
        with self.lock:
            self.step = step
            self.queue.append({"step": step, "time_ms": int(time.time() * 1000), "metrics": metrics})

    def add_system(self, metrics: dict[str, float]) -> None:
        """Metrics of the machine, at the newest step."""
        with self.lock:
            self.queue.append({"step": self.step, "time_ms": int(time.time() * 1000), "metrics": metrics})

    def pending(self) -> list[dict[str, Any]]:
        """Steps that the store has not confirmed, as JSON data for the checkpoint."""
        with self.lock:
            return list(self.queue)

    def send(self, timeout_s: float = 10.0) -> None:
        """Send what was added at once, waiting at most timeout_s until the store has it: this process may end."""
        self.wanted.set()
        end = time.monotonic() + timeout_s
        while self.pending() and time.monotonic() < end:
            time.sleep(0.01)

    def close(self, timeout_s: float = 600.0) -> int:
        """Send what is left, waiting at most timeout_s for a store that is away; returns how many steps remain.

        A store whose disk is full is not waited for: `error` says why a step remains.
        """
        self.closing.set()
        self.wanted.set()
        self.thread.join(timeout_s)
        return sum(STEP_METRIC in entry["metrics"] for entry in self.pending())

    def _work(self) -> None:
        wait = FLUSH_EVERY_S
        while True:
            self.wanted.wait(wait)
            closing = self.closing.is_set()
            if not closing:
                self.wanted.clear()
            try:
                self._flush()
                wait, self.error = FLUSH_EVERY_S, None
            except Exception as error:  # the server is away, whatever the reason: training goes on, this tries again
                self.error = error
                wait = min(2 * wait, 30.0)
                if closing:
                    if is_disk_full(error):
                        return
                    time.sleep(1.0)
                continue
            if closing:
                return

    def _flush(self) -> None:
        if self.last_step is None:
            history = self.client.get_metric_history(self.run_id, STEP_METRIC)
            if self.tags:
                self.client.log_batch(self.run_id, tags=self.tags)
            self.last_step = max((metric.step for metric in history), default=-1)
        while True:
            with self.lock:
                steps = self._next_steps(self.queue)
            if not steps:
                return
            new = [step for step in steps if step["step"] > self.last_step or STEP_METRIC not in step["metrics"]]
            batch = [
                Metric(key, value, step["time_ms"], step["step"])
                for step in new
                for key, value in step["metrics"].items()
            ]
            if batch:
                self.client.log_batch(self.run_id, metrics=batch)
                self.last_step = max(self.last_step, new[-1]["step"])
            with self.lock:
                del self.queue[: len(steps)]

    @staticmethod
    def _next_steps(queue: list[dict[str, Any]]) -> list[dict[str, Any]]:
        count = 0
        for index, step in enumerate(queue):
            count += len(step["metrics"])
            if count > MAX_BATCH and index:
                return queue[:index]
        return list(queue)
