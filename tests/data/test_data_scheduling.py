"""Work on several processes: all of it once, whatever dies on the way."""

import os
import time
from pathlib import Path

import data_work
import psutil
import pytest
from a2v_data.scheduling import Crash, in_a_child, in_this_process, on_cores

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("run", [in_this_process, in_a_child, on_cores(1), on_cores(2)])
def test_every_task_once(run) -> None:
    told: list[float] = []
    results = dict(run(data_work.square, range(20), told.append))
    assert results == {number: number * number for number in range(20)}
    assert sum(told) == pytest.approx(sum(range(20)))
    assert list(run(data_work.square, [], told.append)) == []


@pytest.mark.parametrize("run", [in_a_child, on_cores(2)])
def test_a_task_that_kills_its_process_is_named_and_the_others_are_done(run) -> None:
    results = dict(run(data_work.die_at_three, range(8), lambda amount: None))
    assert results.pop(3) == Crash()
    assert results == {number: number for number in (0, 1, 2, 4, 5, 6, 7)}


def test_an_error_of_the_machine_ends_the_run() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        list(on_cores(2)(data_work.fail_at_three, range(50), lambda amount: None))
    assert caught.value.filename == "/disk"


@pytest.mark.parametrize("run", [in_a_child, on_cores(2)])
@pytest.mark.parametrize("work", [data_work.endless, data_work.stubborn])
def test_processes_end_when_nobody_wants_their_results(run, work, tmp_path: Path) -> None:
    results = run(work, [tmp_path, tmp_path], _interrupt_when(tmp_path, 1 if run is in_a_child else 2))
    with pytest.raises(KeyboardInterrupt):
        next(results)
    for path in tmp_path.iterdir():
        deadline = time.monotonic() + 10
        while psutil.pid_exists(int(path.name)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not psutil.pid_exists(int(path.name))


def _interrupt_when(folder: Path, begun: int):
    def advance(amount: float) -> None:
        if len(list(folder.iterdir())) == begun:
            raise KeyboardInterrupt

    return advance


def test_each_process_has_one_thread_for_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    assert set(dict(on_cores(2)(data_work.threads, [1, 2], lambda amount: None)).values()) == {"11"}
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"
