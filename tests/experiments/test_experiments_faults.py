"""The tracking store away, disks full, processes stopped: what `a2v experiment run` says, leaves and goes on with."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from a2v_experiments.basics.errors import UserError
from a2v_experiments.store import outage
from a2v_experiments.store.outage import Outage
from a2v_experiments.store.tracking import open_store
from a2v_experiments.training import checkpoints, loop
from experiments_faults import Flaky, run_terminated, small_files
from experiments_runs import World
from experiments_server import Server
from experiments_world import Said, call_quietly, recipe_tree, write_recipe
from mlflow.exceptions import MlflowException

AWAY = MlflowException("API request to http://far:1 failed with exception [Errno 111] Connection refused")


@pytest.fixture
def fresh(new_work: Callable[[str], Path], csv_source: Path, tmp_path: Path) -> World:
    """The small recipe with one fold, not run yet."""
    tree = recipe_tree(data__source=str(csv_source), folds__run=[0])
    return World(new_work("work"), write_recipe(tmp_path / "small.yaml", tree), Said(0, "", ""))


def statuses(world: World) -> dict[str, str]:
    runs = world.runs()
    assert len({run.data.tags["a2v.stage"] for run in runs}) == len(runs)  # no stage twice
    return {run.data.tags["a2v.stage"]: run.info.status for run in runs}


ALL_DONE = dict.fromkeys(("experiment", "prepare", "folds", "pretrain", "finetune"), "FINISHED")


def test_any_request_of_the_driver_may_fail_and_is_made_again(fresh, world, first_runs, monkeypatch):
    """Every single one fails once, half of them after the server had done it: nothing is lost or doubled."""
    monkeypatch.setattr(outage, "MlflowClient", Flaky)
    monkeypatch.setattr(outage, "RETRY_S", 0.0)
    Flaky.failed = 0
    said = fresh.call()
    assert said.code == 0, said.err
    assert Flaky.failed > 100
    assert statuses(fresh) == ALL_DONE
    for stage in ("pretrain", "finetune"):
        assert fresh.losses(fresh.runs(stage)[0]) == world.losses(first_runs[stage][0])
        assert fresh.artifacts(fresh.runs(stage)[0]) == world.artifacts(first_runs[stage][0])


def test_who_does_not_wait_does_not_give_up_for_those_who_do(monkeypatch):
    """A heartbeat that finds nobody fails at once; the driver's request after it is still made again."""
    monkeypatch.setattr(outage, "RETRY_S", 0.0)
    shared = outage.Outage("store")
    away = MlflowException("Connection refused")

    def refused():
        raise away

    with pytest.raises(UserError):
        shared.call(0.0, refused)
    answers = [away, away, 7]

    def later():
        answer = answers.pop(0)
        if answer == 7:
            return answer
        raise answer

    assert shared.call(5.0, later) == 7


@pytest.mark.parametrize("said", ["UNIQUE constraint failed: inputs.x", "duplicate key value violates unique"])
def test_a_link_whose_answer_was_lost_is_not_made_twice(said, monkeypatch):
    """Refused as double after an outage: it was made. Refused as double at once: something else is wrong."""
    monkeypatch.setattr(outage, "RETRY_S", 0.0)
    double = MlflowException(f"(IntegrityError) {said} constraint")
    answers = [MlflowException("Connection reset"), double]

    def link():
        raise answers.pop(0)

    assert outage.Outage("store").call(5.0, link) is None and not answers
    answers = [double]
    with pytest.raises(MlflowException, match="IntegrityError"):
        outage.Outage("store").call(5.0, link)


def test_an_outage_is_said_once_and_ends(capfd, monkeypatch):
    monkeypatch.setattr(outage, "RETRY_S", 0.01)
    answers = iter([AWAY, AWAY, AWAY, "there"])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert Outage("http://far:1").call(60, ask) == "there"
    lines = [line.strip() for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 2
    pattern = r"http://far:1: the tracking store is away since \d\d:\d\d:\d\d \(Connection refused\); .* for up to 1 .*"
    assert re.fullmatch(pattern, lines[0])
    assert lines[1] == "http://far:1: the tracking store is back after 0 s"


def test_patience_ends_with_an_error_and_is_not_spent_twice(monkeypatch, capfd):
    monkeypatch.setattr(outage, "RETRY_S", 0.01)
    tried = []

    def ask() -> None:
        tried.append(time.monotonic())
        raise AWAY

    away = Outage("http://far:1")
    with pytest.raises(
        UserError, match=r"has not answered for 0\.2 s \(Connection refused\); the same command"
    ) as caught:
        away.call(0.2, ask)
    assert caught.value.code == 1 and len(tried) > 2
    before = len(tried)
    with pytest.raises(UserError):
        away.call(600, ask)  # ending the runs, after that
    assert len(tried) == before + 1


def test_a_request_that_is_wrong_is_not_made_again():
    tried = []

    def ask() -> None:
        tried.append(1)
        raise MlflowException("Run 'x' not found")

    with pytest.raises(MlflowException, match="not found"):
        Outage("http://far:1").call(600, ask)
    assert tried == [1]


@pytest.mark.rehearsal
@pytest.mark.ray
def test_a_server_that_is_killed_during_training_and_comes_back(tmp_path, csv_source, empty_database, monkeypatch):
    """A real one. Every step is logged once, training goes on while it is away, and so do the system metrics."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    server = Server(tmp_path)
    server.start()
    work = tmp_path / "work"
    rate, slept = loop.learning_rate, 0.02
    monkeypatch.setattr(loop, "learning_rate", lambda *given: (time.sleep(slept), rate(*given))[1])
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.5")
    tree = recipe_tree(data__source=str(csv_source), folds__run=[0], pretrain__updates=600)
    tree["pretrain"]["checkpoint_every"] = 20
    recipe = write_recipe(tmp_path / "small.yaml", tree)
    times: list[float] = []

    def interrupt() -> None:
        while not list((work / "checkpoints").glob("pretrain-*/update-*")):
            time.sleep(0.05)
        times.append(time.time())
        server.stop()
        time.sleep(3)
        times.append(time.time())
        server.start()

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    said = call_quietly("experiment", "run", recipe, "--work", work, "--tracking-uri", server.uri)
    thread.join(120)
    try:
        assert said.code == 0, said.err
        store = open_store(work, server.uri, "tones")
        runs = {run.data.tags["a2v.stage"]: run for run in store.client.search_runs([store.experiment_id])}
        assert {stage: run.info.status for stage, run in runs.items()} == ALL_DONE
        history = store.client.get_metric_history(runs["pretrain"].info.run_id, "loss")
        assert sorted(metric.step for metric in history) == list(range(1, 601))
        during = [m.step for m in history if times[0] <= m.timestamp / 1000 <= times[1]]
        assert len(during) > 5  # steps were made while nobody answered
        system = store.client.get_metric_history(runs["pretrain"].info.run_id, "system/cpu_utilization_percentage")
        assert any(m.timestamp / 1000 > times[1] + 1 for m in system)
        assert {"model", "scores.csv"} & {
            item.path for item in store.client.list_artifacts(runs["finetune"].info.run_id)
        }
    finally:
        server.stop()


STOPS = [  # where Ctrl-C comes, and what has been begun by then
    ("a2v_data.pack.pack", ["experiment", "prepare"]),
    ("a2v_experiments.stages.splits.stratify", ["experiment", "folds"]),
    ("a2v_experiments.stages.stages.run_training", ["experiment", "pretrain"]),
    ("update 4", ["experiment", "pretrain"]),
    ("a2v_experiments.stages.stages.finetune", ["experiment"]),  # between two stages
    ("update 3", ["experiment", "finetune"]),
    ("a2v_experiments.stages.stages.evaluate_model", ["experiment", "finetune"]),
    ("a2v_experiments.stages.experiment._summarise", ["experiment"]),
]


def interrupt_at(patch: pytest.MonkeyPatch, place: str) -> None:
    def stop(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    if not place.startswith("update "):
        patch.setattr(place, stop)
        return
    rate = loop.learning_rate

    def learning_rate(update: int, *rest: object) -> float:
        if update == int(place.removeprefix("update ")):
            raise KeyboardInterrupt
        return rate(update, *rest)

    patch.setattr(loop, "learning_rate", learning_rate)


def test_ctrl_c_at_every_stage_leaves_runs_that_read_killed_and_the_next_call_goes_on(
    fresh, world, first_runs, monkeypatch
):
    done: set[str] = set()
    for place, open_then in STOPS:
        with monkeypatch.context() as patch:
            interrupt_at(patch, place)
            said = fresh.call()
        assert said.code == 130, (place, said)
        assert said.lines()[-1] == "a2v: stopped; the same command goes on from the last checkpoint"
        found = statuses(fresh)
        assert {stage for stage, status in found.items() if status == "KILLED"} == set(open_then), place
        assert {status for stage, status in found.items() if stage not in open_then} <= {"FINISHED"}
        assert done <= {stage for stage, status in found.items() if status == "FINISHED"}, place
        done = {stage for stage, status in found.items() if status == "FINISHED"}
    assert fresh.call().code == 0
    assert statuses(fresh) == ALL_DONE
    for stage in ("pretrain", "finetune"):  # as if nothing had happened, to the bit
        assert fresh.losses(fresh.runs(stage)[0]) == world.losses(first_runs[stage][0])


def test_a_polite_kill_ends_as_ctrl_c_does(fresh):
    """What Slurm, `kill` and a stopped Ray job send."""
    ended = run_terminated("experiment", "run", fresh.recipe, "--work", fresh.work)
    assert ended.returncode == 143
    assert ended.stderr.splitlines()[-1] == "a2v: stopped; the same command goes on from the last checkpoint"
    found = statuses(fresh)
    assert {stage for stage, status in found.items() if status == "KILLED"} == {"experiment", "pretrain"}
    assert set(found.values()) == {"KILLED", "FINISHED"}


def test_a_corpus_that_does_not_fit_is_one_line_and_is_packed_when_there_is_room(fresh):
    database = (fresh.work / "mlflow.db").stat().st_size
    samples = 12 * 12400
    assert 2 * samples < database  # so the limit below is on the store's file, which is packed in other processes
    with small_files(samples):
        said = call_quietly("data", "pack", fresh_source(fresh), "--out", fresh.work / "store", "--sample-rate", 4000)
    assert said.code == 1
    assert said.lines()[-1].startswith(f"a2v: {fresh.work / 'store'}: no space left on the disk; free some")
    assert list(fresh.work.glob("*store*")) == []


def fresh_source(world: World) -> Path:
    text = world.recipe.read_text(encoding="utf-8")
    return Path(re.search(r"source: (.*)", text)[1])


@pytest.fixture
def limit_databases() -> Iterator[Callable[[int], None]]:
    """sqlite itself says 'database or disk is full' where a database would grow beyond so many pages."""
    limit = [1 << 30]

    def apply(connection: sqlite3.Connection, *rest: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "checkout", apply)
    yield lambda pages: limit.__setitem__(0, pages)
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "checkout", apply)


def test_a_database_that_cannot_grow_is_one_line_and_the_same_command_goes_on(fresh, limit_databases):
    database = fresh.work / "mlflow.db"
    for more in (1, 6):  # in the first run's making, and later
        limit_databases(database.stat().st_size // 4096 + more)
        said = fresh.call()
        assert said.code == 1 and "Traceback" not in said.err
        assert said.lines()[-1].startswith(f"a2v: sqlite:///{database}: no space left on the disk; free some")
    limit_databases(1 << 30)
    assert fresh.call().code == 0
    assert statuses(fresh) == ALL_DONE


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB. Where mounting is not allowed the test is skipped; those above need no rights."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of a given size cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_real_disk_that_fills_up_in_training(tiny_disk, empty_database, csv_source, tmp_path, monkeypatch):
    work = tiny_disk / "work"
    work.mkdir()
    shutil.copy(empty_database, work / "mlflow.db")
    tree = recipe_tree(data__source=str(csv_source), folds__run=[0])
    world = World(work, write_recipe(tmp_path / "small.yaml", tree), Said(0, "", ""))
    rate = loop.learning_rate

    def learning_rate(update: int, *rest: object) -> float:
        if update == 3 and not (tiny_disk / "filler").exists():
            with contextlib.suppress(OSError), (tiny_disk / "filler").open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        return rate(update, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate", learning_rate)
        said = world.call()
    assert said.code == 1 and "Traceback" not in said.err, said.err
    assert re.match(rf"a2v: .*{re.escape(str(work))}.*: no space left on the disk", said.lines()[-1])
    (folder,) = (work / "checkpoints").iterdir()
    assert checkpoints.newest(folder).name == checkpoints.name(2)
    assert [path.name for path in folder.iterdir()] == [checkpoints.name(2)]
    (tiny_disk / "filler").unlink()
    said = world.call()
    assert said.code == 0, said.err
    (run,) = world.runs("pretrain")
    assert [step for step, _ in world.losses(run)] == [1, 2, 3, 4, 5, 6]
    assert statuses(world) == ALL_DONE
