"""Metrics of a run: none lost, no step twice, whatever server and worker do; `add` never waits.

`Memory` is a server without MLflow in front of it, for the cases that need many tries; the tests with `store` use a
real sqlite one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from a2v_experiments.store import metric_log
from a2v_experiments.store.metric_log import MetricLog
from a2v_experiments.store.tracking import Store, open_store
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_log, "FLUSH_EVERY_S", 0.02)


@pytest.fixture
def store(new_work: Callable[[str], Path]) -> Store:
    return open_store(new_work("work"), None, "metrics")


@pytest.fixture
def run_id(store: Store) -> str:
    return store.client.create_run(store.experiment_id).info.run_id


def metrics(step: int) -> dict[str, float]:
    return {"loss": 1 / step, "update": float(step), "gradient_norm": step % 7 + 0.5}


def steps_in(store: Store, run_id: str, key: str = "loss") -> list[int]:
    return sorted(metric.step for metric in store.client.get_metric_history(run_id, key))


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_what_is_sent_is_there_before_the_process_may_end(store, run_id, monkeypatch):
    monkeypatch.setattr(metric_log, "FLUSH_EVERY_S", 600.0)
    log = MetricLog(store.uri, run_id, [])
    for step in (1, 2):
        log.add(step, metrics(step))
        log.send()
        assert steps_in(store, run_id) == list(range(1, step + 1))
    log.add(3, metrics(3))
    assert log.close(60) == 0 and steps_in(store, run_id) == [1, 2, 3]


def test_every_value_arrives_once_with_its_step_and_time(store, run_id):
    begin = int(time.time() * 1000)
    log = MetricLog(store.uri, run_id, [])
    for step in range(1, 401):
        log.add(step, metrics(step))
        if step % 100 == 0:
            time.sleep(0.05)  # some are sent while others come
    assert log.close() == 0 and log.pending() == []
    for key in ("loss", "update", "gradient_norm"):
        history = store.client.get_metric_history(run_id, key)
        found = sorted((metric.step, metric.value) for metric in history)
        assert found == [(step, metrics(step)[key]) for step in range(1, 401)]
    assert all(begin <= metric.timestamp <= time.time() * 1000 for metric in history)


def test_a_value_that_is_no_number_is_a_value(store, run_id):
    """A loss that has become NaN must not stop the log, and must be seen."""
    log = MetricLog(store.uri, run_id, [])
    log.add(1, {**metrics(1), "loss": float("nan"), "gradient_norm": float("inf")})
    log.add(2, {**metrics(2), "loss": float("nan"), "gradient_norm": 1.0})
    assert log.close() == 0
    assert np.isnan([metric.value for metric in store.client.get_metric_history(run_id, "loss")]).tolist() == [True] * 2
    again = MetricLog(store.uri, run_id, [])
    again.add(2, {**metrics(2), "loss": float("nan"), "gradient_norm": 1.0})
    assert again.close() == 0 and steps_in(store, run_id) == [1, 2]


def test_a_start_that_is_repeated_is_logged_once(store, run_id):
    """Step 0, of a probe, has no loss; a training that dies before its first checkpoint comes to it again."""
    for value in (0.25, 0.5):
        log = MetricLog(store.uri, run_id, [])
        log.add(0, {"update": 0.0, "probe": value})
        log.add(1, metrics(1))
        assert log.close() == 0
    history = store.client.get_metric_history(run_id, "probe")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.25)] and steps_in(store, run_id) == [1]


def test_a_resumed_log_replays_steps_without_logging_one_twice(store, run_id):
    first = MetricLog(store.uri, run_id, [])
    for step in range(1, 31):
        first.add(step, metrics(step))
    assert first.close() == 0
    resumed = MetricLog(store.uri, run_id, [{"step": 20, "time_ms": 1, "metrics": metrics(20)}])
    for step in range(21, 41):
        resumed.add(step, metrics(step))
    assert resumed.close() == 0
    for key in metrics(1):
        assert steps_in(store, run_id, key) == list(range(1, 41))


def test_what_a_checkpoint_holds_survives_a_worker_that_never_reached_the_server(store, run_id, monkeypatch):
    monkeypatch.setattr(metric_log, "FLUSH_EVERY_S", 3600)  # the worker is killed before its first flush
    dead = MetricLog(store.uri, run_id, [])
    for step in range(1, 6):
        dead.add(step, metrics(step))
    checkpoint = json.loads(json.dumps(dead.pending()))
    dead.add(6, metrics(6))  # after the checkpoint: will be trained again
    assert [entry["step"] for entry in checkpoint] == [1, 2, 3, 4, 5] and steps_in(store, run_id) == []
    resumed = MetricLog(store.uri, run_id, checkpoint)
    for step in (6, 7):
        resumed.add(step, metrics(step))
    assert resumed.close() == 0
    assert steps_in(store, run_id) == [1, 2, 3, 4, 5, 6, 7]


def away(log: MetricLog, failures: int, applied: bool = False) -> list[int]:
    """The next `failures` requests fail; `applied`: the server did them, and only its answer was lost."""
    client, send = log.client, log.client.log_batch
    tried = [0]

    def log_batch(*arguments: Any, **named: Any) -> None:
        tried[0] += 1
        if tried[0] > failures:
            return send(*arguments, **named)
        if applied:
            send(*arguments, **named)
        raise MlflowException("API request failed: connection refused")

    client.log_batch = log_batch
    return tried


@pytest.mark.parametrize("applied", [False, True])
def test_a_server_that_is_away_for_a_while_loses_and_doubles_nothing(store, run_id, applied):
    log = MetricLog(store.uri, run_id, [])
    tried = away(log, 4, applied)
    for step in range(1, 51):
        log.add(step, metrics(step))
    wait_for(lambda: tried[0] >= 3)
    for step in range(51, 101):
        log.add(step, metrics(step))
    assert log.close() == 0 and tried[0] >= 5
    for key in metrics(1):
        assert steps_in(store, run_id, key) == list(range(1, 101))


def test_a_server_that_is_away_from_the_start_is_asked_again(store, run_id):
    log = MetricLog(store.uri, run_id, [])
    ask, asked = log.client.get_metric_history, [0]

    def get_metric_history(*arguments: Any) -> list[Metric]:
        asked[0] += 1
        if asked[0] < 4:
            raise ConnectionError("no route to host")
        return ask(*arguments)

    log.client.get_metric_history = get_metric_history
    log.add(1, metrics(1))
    wait_for(lambda: asked[0] >= 1)
    assert [entry["step"] for entry in log.pending()] == [1]
    assert log.close() == 0 and steps_in(store, run_id) == [1]


def test_close_gives_up_in_time_and_says_how_many_steps_remain(store, run_id):
    log = MetricLog(store.uri, run_id, [])
    away(log, 10**9)
    for step in (1, 2, 3):
        log.add(step, metrics(step))
    begin = time.monotonic()
    assert log.close(timeout_s=0.3) == 3
    assert time.monotonic() - begin < 20
    assert [entry["step"] for entry in log.pending()] == [1, 2, 3]


def test_add_and_pending_do_not_wait_for_a_server_that_hangs(store, run_id):
    log = MetricLog(store.uri, run_id, [])
    hanging, answer = threading.Event(), threading.Event()
    send = log.client.log_batch

    def log_batch(*arguments: Any, **named: Any) -> None:
        hanging.set()
        assert answer.wait(120)
        send(*arguments, **named)

    log.client.log_batch = log_batch
    log.add(1, metrics(1))
    assert hanging.wait(60)
    done = threading.Event()

    def work() -> None:
        for step in range(2, 1002):
            log.add(step, metrics(step))
        assert len(log.pending()) == 1001  # the first is not confirmed
        done.set()

    threading.Thread(target=work, daemon=True).start()
    came_through = done.wait(60)  # while the server still hangs
    answer.set()
    assert came_through and log.close() == 0
    assert steps_in(store, run_id) == list(range(1, 1002))


class Memory:
    """A tracking server: all of a batch or nothing; fails, before or after it did its work, when told to."""

    def __init__(self, rng: np.random.Generator, trouble: float) -> None:
        self.rng, self.trouble = rng, trouble
        self.rows: dict[tuple[Any, ...], None] = {}
        self.sizes: list[int] = []

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        self._maybe_fail()
        return [Metric(k, value, at, step) for k, value, at, step in self.rows if k == key]

    def log_batch(self, run_id: str, metrics: list[Metric]) -> None:
        self._maybe_fail()
        self.sizes.append(len(metrics))
        self.rows.update({(m.key, m.value, m.timestamp, m.step): None for m in metrics})  # MLflow's primary key
        self._maybe_fail()

    def _maybe_fail(self) -> None:
        if self.rng.random() < self.trouble:
            raise ConnectionError

    def steps(self, key: str) -> list[int]:
        return sorted(step for k, _, _, step in self.rows if k == key)


def log_to(server: Memory, pending: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> MetricLog:
    """A log whose thread sleeps: the test flushes."""
    monkeypatch.setattr(metric_log, "FLUSH_EVERY_S", 3600)
    monkeypatch.setattr(metric_log, "MlflowClient", lambda uri: server)
    return MetricLog("memory", "run", pending)


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_steps_flushes_failures_checkpoints_and_deaths_logs_each_step_once(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    server = Memory(rng, trouble=0.3)
    monkeypatch.setattr(metric_log, "MAX_BATCH", int(rng.integers(1, 12)))
    checkpoint: tuple[int, str] = (0, "[]")
    log = log_to(server, [], monkeypatch)
    step = deaths = 0
    while step < 60:
        what = rng.choice(["step", "flush", "checkpoint", "death"], p=[0.6, 0.2, 0.15, 0.05])
        if what == "step":
            step += 1
            log.add(step, metrics(step))
        elif what == "flush":
            flush(log)
        elif what == "checkpoint":
            checkpoint = (step, json.dumps(log.pending()))
        else:
            deaths += 1
            step = checkpoint[0]
            log = log_to(server, json.loads(checkpoint[1]), monkeypatch)
    server.trouble = 0
    flush(log)
    assert log.pending() == []
    for key in metrics(1):
        assert server.steps(key) == list(range(1, 61)), f"after {deaths} deaths"


def flush(log: MetricLog) -> None:
    try:
        log._flush()
    except ConnectionError:
        return


def test_batches_hold_whole_steps_and_at_most_what_the_server_takes(monkeypatch):
    server = Memory(np.random.default_rng(0), trouble=0)
    log = log_to(server, [], monkeypatch)
    for step in range(1, 1001):
        log.add(step, metrics(step))
    log._flush()
    assert max(server.sizes) <= 900 and sum(server.sizes) == 3000 and all(size % 3 == 0 for size in server.sizes)


def test_many_threads_may_add_while_another_sends(monkeypatch):
    """Not what the loop does; it shows that the queue is never cut in the wrong place."""
    server = Memory(np.random.default_rng(0), trouble=0)
    log = log_to(server, [], monkeypatch)
    log._flush()
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            log._flush()

    sender = threading.Thread(target=send)
    sender.start()
    for step in range(1, 3001):
        log.add(step, {"loss": 1.0})
        assert len(log.pending()) <= step
    stop.set()
    sender.join()
    log._flush()
    assert server.steps("loss") == list(range(1, 3001)) and log.pending() == []


def test_system_metrics_survive_a_server_that_is_away_and_a_worker_that_dies(store, run_id):
    """Each arrives once, at the newest step; a resumed log drops none because its step is there already."""
    first = MetricLog(store.uri, run_id, [])
    away(first, 3)
    first.add(1, metrics(1))
    first.add_system({"system/cpu": 10.0})
    wait_for(lambda: first.pending() == [])
    first.add(2, metrics(2))
    first.add_system({"system/cpu": 20.0})
    checkpoint = json.loads(json.dumps(first.pending()))
    assert first.close() == 0
    resumed = MetricLog(store.uri, run_id, checkpoint)  # some of it was sent after the checkpoint
    resumed.add_system({"system/cpu": 30.0})
    resumed.add(3, metrics(3))
    assert resumed.close() == 0 and resumed.pending() == []
    history = store.client.get_metric_history(run_id, "system/cpu")
    assert sorted((metric.value, metric.step) for metric in history) == [(10.0, 1), (20.0, 2), (30.0, 2)]
    assert steps_in(store, run_id) == [1, 2, 3]


def test_a_store_whose_disk_is_full_is_not_waited_for_at_the_end(store, run_id):
    log = MetricLog(store.uri, run_id, [])

    def full(*arguments: Any, **named: Any) -> None:
        raise MlflowException("(sqlite3.OperationalError) database or disk is full [SQL: INSERT ...]")

    log.client.log_batch = full
    log.add(1, metrics(1))
    wait_for(lambda: log.error is not None)
    begin = time.monotonic()
    assert log.close(timeout_s=600) == 1 and "disk is full" in str(log.error)
    assert time.monotonic() - begin < 60
