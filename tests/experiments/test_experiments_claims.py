"""Several processes want the same stage: exactly one gets it, whatever the order of their requests and their clocks."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.stages import stage
from a2v_experiments.stages.specs import StageSpec
from a2v_experiments.stages.stage import Context, begin_alone, ending, run_stage
from a2v_experiments.store import claims, outage, tracking
from a2v_experiments.store.claims import StageBusy, StageLost
from a2v_experiments.store.tracking import Store, open_store
from experiments_store import disown
from mlflow.entities import Experiment, Run, RunData, RunInfo, RunTag
from mlflow.store.entities import PagedList

NAMES = threading.local()  # who the process is, by thread
LEFT = "an-earlier-call"
FOLDS = StageSpec("folds", "folds", {"a": 1}, {})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LOOK_S", 0.002)
    monkeypatch.setattr(stage, "WAIT_S", 0.01)


class Memory:
    """A tracking server that many processes talk to, each request after a delay of its own; `clock` is the clients'."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lock = threading.Lock()
        self.runs: dict[str, SimpleNamespace] = {}

    def get_experiment_by_name(self, name: str) -> Experiment:
        return self.search_experiments()[0]

    def search_experiments(self, **asked: Any) -> PagedList[Experiment]:
        return PagedList([Experiment("1", "tones", "nowhere", "active")], None)

    def create_run(self, experiment_id: str, tags: dict[str, str], run_name: str) -> Run:
        clock = int(self.rng.integers(0, 3))  # of the client, who may be hours off, or in the same millisecond
        self.sleep()
        with self.lock:
            run_id = f"{int(self.rng.integers(10**9)):09d}"
            self.runs[run_id] = SimpleNamespace(start=clock, status="RUNNING", tags=dict(tags), deleted=False)
        self.sleep()
        return self.get_run(run_id)

    def get_run(self, run_id: str) -> Run:
        run = self.runs[run_id]
        info = RunInfo(run_id, "1", "me", run.status, run.start, None, "active")
        return Run(info, RunData(tags=[RunTag(key, value) for key, value in run.tags.items()]))

    def search_runs(self, ids: list[str], query: str, order_by: list[str], **page: Any) -> PagedList[Run]:
        self.sleep()
        with self.lock:
            found = [self.get_run(run_id) for run_id, run in self.runs.items() if not run.deleted]
        self.sleep()
        return PagedList(sorted(found, key=lambda run: -run.info.start_time), None)

    def log_batch(self, run_id: str, tags: list[RunTag] = (), params: Any = ()) -> None:
        self.sleep()
        with self.lock:
            self.runs[run_id].tags.update({tag.key: tag.value for tag in tags})

    def update_run(self, run_id: str, status: str) -> None:
        self.sleep()
        self.runs[run_id].status = status

    set_terminated = update_run

    def delete_run(self, run_id: str) -> None:
        self.sleep()
        self.runs[run_id].deleted = True

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.runs[run_id].tags[key] = value

    def log_text(self, *arguments: Any) -> None:
        self.sleep()

    def sleep(self) -> None:
        time.sleep(float(self.rng.choice([0, 0.0005, 0.003])))


def open_memory(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Store]:
    monkeypatch.setattr(outage, "MlflowClient", lambda uri: memory)
    for module in (tracking, claims):
        monkeypatch.setattr(module, "this_process", lambda: NAMES.value)
    monkeypatch.setattr(claims.Heartbeat, "hold", lambda *given: None)  # its thread would be a process of its own
    return lambda: Store("memory", "tones", None)


@pytest.mark.parametrize("left", [None, "FAILED", "RUNNING"])
@pytest.mark.parametrize("seed", range(12))
def test_exactly_one_of_many_gets_a_stage(seed, left, monkeypatch):
    """Also where an earlier call left a run that all of them would take over."""
    memory = Memory(seed)
    store = open_memory(memory, monkeypatch)
    if left:
        tags = {claims.DRIVER: "", "a2v.stage": "folds"}  # nobody's: a process that is dead
        memory.runs[LEFT] = SimpleNamespace(start=1, status=left, tags=tags, deleted=False)
    got: dict[int, str] = {}
    busy: dict[int, StageBusy] = {}

    def want(number: int) -> None:
        NAMES.value = f"machine{number}:17:{number}"
        mine = store()
        time.sleep(float(np.random.default_rng([seed, number]).choice([0, 0.002, 0.01])))
        try:
            got[number] = mine.begin("folds", "f", "folds", {"a": 1}, {}, None)
        except StageBusy as error:
            busy[number] = error

    threads = [threading.Thread(target=want, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 1 and len(busy) == 4, (got, busy)
    ((winner, run_id),) = got.items()
    kept = {key: run for key, run in memory.runs.items() if not run.deleted}
    assert list(kept) == [run_id] and (left is None or run_id == LEFT)
    assert kept[run_id].status == "RUNNING" and kept[run_id].tags[claims.DRIVER] == f"machine{winner}:17:{winner}"
    assert all(run.status == "KILLED" for run in memory.runs.values() if run.deleted)


@pytest.fixture
def store(new_work: Callable[[str], Path]) -> Iterator[Store]:
    store = open_store(new_work("work"), None, "tones")
    yield store
    for run_id in list(store.heartbeat.held):
        store.heartbeat.release(run_id)


def begin(store: Store) -> str:
    return store.begin("folds", "f", "folds", {"a": 1}, {}, None)


def elsewhere(store: Store) -> str:
    """A run that a process of another machine is at work on."""
    run_id = begin(store)
    disown(store, run_id, "elsewhere:17:1700000000")
    return run_id


def test_a_run_of_another_machine_is_taken_over_when_its_heartbeat_stands_still(store, monkeypatch):
    run_id = elsewhere(store)
    monkeypatch.setattr(claims, "DEAD_AFTER_S", 0.5)
    said: list[str] = []
    assert begin_alone(lambda: begin(store), said.append) == run_id
    assert len(said) == 1 and f"run {run_id} reads RUNNING by process elsewhere:17:1700000000" in said[0]
    assert store.client.get_run(run_id).data.tags[claims.DRIVER] == claims.this_process()


def test_a_run_of_another_machine_whose_heart_beats_is_refused(store, monkeypatch):
    run_id = elsewhere(store)
    with pytest.raises(StageBusy) as first:
        begin(store)
    assert not first.value.sure  # who asks once cannot know
    store.tag(run_id, claims.HEARTBEAT, "another value, by whatever clock")
    with pytest.raises(StageBusy, match="process elsewhere:17:1700000000 is running this stage already") as caught:
        begin_alone(lambda: begin(store), lambda line: None)
    assert caught.value.sure and caught.value.run_id == run_id and caught.value.code == 1


def test_time_in_which_the_store_was_away_does_not_make_a_process_dead(store, monkeypatch):
    run_id = elsewhere(store)
    run = store.client.get_run(run_id)
    clock = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: clock[0])
    witness = claims.Witness()
    assert witness.is_alive(run)
    clock[0] += 3600  # no look in an hour
    assert witness.is_alive(run)
    for _ in range(round(claims.DEAD_AFTER_S / claims.HEARTBEAT_S)):
        clock[0] += claims.HEARTBEAT_S
        last = witness.is_alive(run)
    assert not last


def test_the_heart_beats_while_a_run_is_held(store, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.05)
    run_id = begin(store)

    def beat() -> str:
        return store.client.get_run(run_id).data.tags[claims.HEARTBEAT]

    first, end = beat(), time.monotonic() + 30
    while beat() == first:
        assert time.monotonic() < end
        time.sleep(0.05)
    store.finish(run_id)
    time.sleep(0.3)
    last = beat()
    time.sleep(0.3)
    assert beat() == last


def test_a_process_whose_run_was_taken_over_stops_and_leaves_it_alone(store, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.05)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the suite itself may run with it ignored
    run_id = begin(store)
    with pytest.raises(StageLost, match=f"run {run_id}: process elsewhere:1:1 took it over"), ending(store, run_id):
        store.tag(run_id, claims.DRIVER, "elsewhere:1:1")
        time.sleep(30)  # what it was doing; interrupted
        raise AssertionError("went on")
    assert store.client.get_run(run_id).info.status == "RUNNING"  # of the other one
    signal.signal(signal.SIGINT, before)


def test_a_stage_that_another_process_runs_is_waited_for_and_reused(store, tmp_path):
    run_id = elsewhere(store)
    recipe: Any = SimpleNamespace(variant="default")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            threading.Timer(0.2, lambda: store.client.set_terminated(run_id)).start()

    context = Context(recipe, store, tmp_path, "parent", say)
    store.tag(run_id, "a2v.fingerprint", FOLDS.fingerprint)

    def work(run_id: str) -> None:
        raise AssertionError("ran it again")

    result = run_stage(context, FOLDS, {}, work)
    assert result == stage.Result(FOLDS.fingerprint, run_id, True)
    waits, reused = said
    assert waits == f"folds: process elsewhere:17:1700000000 is running it (run {run_id}); waiting for its result"
    assert reused.startswith(f"folds: reused, run {run_id}")  # of a checkout with changes, if this is one


def test_a_stage_that_fails_while_another_waits_for_it_is_taken_over(store, tmp_path):
    run_id = elsewhere(store)
    store.tag(run_id, "a2v.fingerprint", FOLDS.fingerprint)
    threading.Timer(0.3, lambda: store.client.set_terminated(run_id, "FAILED")).start()
    worked: list[str] = []
    context = Context(SimpleNamespace(variant="v"), store, tmp_path, "parent", lambda line: None)
    result = run_stage(context, FOLDS, {}, worked.append)
    assert result == stage.Result(FOLDS.fingerprint, run_id, False) and worked == [run_id]
    assert store.client.get_run(run_id).info.status == "FINISHED"


def test_a_stage_that_was_finished_while_this_began_is_not_run_again(store, monkeypatch):
    run_id = elsewhere(store)
    store.client.set_terminated(run_id)
    with pytest.raises(UserError, match=r"has just done this stage .*; the same command reuses it"):
        begin_alone(lambda: begin(store), lambda line: None)
    assert [run.info.run_id for run in store.client.search_runs([store.experiment_id])] == [run_id]
