"""A stage is run by one process at a time; a process that dies leaves nothing that others would wait for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from a2v_experiments.claims import claimed
from a2v_experiments.stage import Context, run_stage
from a2v_experiments.tracking import Store, open_store
from experiments_world import make_recipe

SPAWN = multiprocessing.get_context("spawn")


def hold(path: Path, held: object, release: object) -> None:
    with claimed(path, lambda holder: None):
        held.set()  # type: ignore[attr-defined]
        release.wait(60)  # type: ignore[attr-defined]


def count(path: Path, counter: Path, times: int) -> None:
    """Read, wait and write: without the lock, counts are lost."""
    for _ in range(times):
        with claimed(path, lambda holder: None, poll_s=0.001):
            number = int(counter.read_text())
            time.sleep(0.002)
            counter.write_text(str(number + 1))


def test_processes_take_turns_and_leave_no_file(tmp_path: Path):
    lock, counter = tmp_path / "locks" / "a.lock", tmp_path / "counter"
    counter.write_text("0")
    processes = [SPAWN.Process(target=count, args=(lock, counter, 25)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert counter.read_text() == "75" and list(lock.parent.iterdir()) == []


def test_it_says_once_whom_it_waits_for_and_goes_on_when_that_process_is_killed(tmp_path: Path):
    lock, held, release = tmp_path / "a.lock", SPAWN.Event(), SPAWN.Event()
    other = SPAWN.Process(target=hold, args=(lock, held, release))
    other.start()
    assert held.wait(60)
    told: list[str] = []

    def kill_later() -> None:
        while not told:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(other.pid, signal.SIGKILL)

    threading.Thread(target=kill_later).start()
    with claimed(lock, told.append, poll_s=0.02):
        assert len(told) == 1 and told[0].endswith(f":{other.pid}")
    other.join(60)
    assert not lock.exists()


def context(store: Store, work: Path, parent: str, said: list[str]) -> Context:
    return Context(make_recipe(work.parent), store, work, parent, said.append)


def test_two_that_need_the_same_stage_run_it_once(tmp_path: Path, new_work: Callable[[str], Path]):
    work = new_work("work")
    store = open_store(work, None, "birds")
    parents = [store.begin("trial", name, name, {}, {}, None) for name in "ab"]
    ran: list[str] = []
    begun = threading.Event()
    said: list[list[str]] = [[], []]
    results = []

    def run(number: int) -> None:
        def work_on(run_id: str, mark: str) -> None:
            ran.append(run_id)
            begun.set()
            while not said[1]:  # until the other one waits
                time.sleep(0.01)

        own = Store(store.uri, "birds", None)
        results.append(
            run_stage(context(own, work, parents[number], said[number]), "pretrain", "pretrain", {}, {}, work_on)
        )

    first = threading.Thread(target=run, args=(0,))
    first.start()
    assert begun.wait(60)
    run(1)
    first.join(60)
    assert len(ran) == 1 and {result.run_id for result in results} == set(ran)
    assert said[1][0].startswith("pretrain: waiting for process ") and f"(run {ran[0]})" in said[1][0]
    assert said[1][1:] == [f"pretrain: reused, run {ran[0]}"]
    assert store.client.get_run(ran[0]).data.tags["mlflow.parentRunId"] == parents[0]


def test_one_that_waited_takes_over_what_failed(tmp_path: Path, new_work: Callable[[str], Path]):
    work = new_work("work")
    store = open_store(work, None, "birds")
    parents = [store.begin("trial", name, name, {}, {}, None) for name in "ab"]
    said: list[str] = []
    begun = threading.Event()

    def fail(run_id: str, mark: str) -> None:
        begun.set()
        while not said:
            time.sleep(0.01)
        raise ValueError("no")

    def run_first() -> None:
        own = Store(store.uri, "birds", None)
        with pytest.raises(ValueError, match="no"):
            run_stage(context(own, work, parents[0], []), "folds", "folds", {}, {}, fail)

    first = threading.Thread(target=run_first)
    first.start()
    assert begun.wait(60)
    result = run_stage(context(store, work, parents[1], said), "folds", "folds", {}, {}, lambda run_id, mark: None)
    first.join(60)
    run = store.client.get_run(result.run_id)
    assert run.info.status == "FINISHED" and run.data.tags["mlflow.parentRunId"] == parents[1]
    assert len(store.children(parents[0])) == 0
