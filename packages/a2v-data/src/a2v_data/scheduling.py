"""The same work on many recordings: in this process, in one beside it, or on several cores.

A `Run` takes work(task, advance), tasks, and a callback that is told how much was done since the last call, in the
unit that the work gives to `advance` (it calls it often: the call is also where a stopped run ends). It yields
(position of the task, result) as they come. A task whose process died (a decoder that crashed, memory that ran out)
yields a `Crash`; the tasks beside it are done again. Other schedulers fit in: `a2v_experiments.cluster.run` has one.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import BaseContext
from typing import Any, Protocol

Advance = Callable[[float], None]
Work = Callable[[Any, Advance], Any]
Results = Generator[tuple[int, Any], None, None]
POLL_S = 0.3
GRACE_S = 2.0  # after Ctrl-C, for a task to end by itself
QUEUED = 3  # tasks of each process that are handed out, so that none waits for the next one
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Crash:
    """In place of a result: the process that worked on this task died."""

    message: str = "made the process that read it die; it is damaged, or too big for the memory of this machine"


class Run(Protocol):
    """Does work on every task; see the module."""

    def __call__(self, work: Work, tasks: Sequence[Any], advance: Advance) -> Results: ...


def in_this_process(work: Work, tasks: Sequence[Any], advance: Advance) -> Results:
    """One task after another."""
    for position, task in enumerate(tasks):
        yield position, work(task, advance)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_cores(count: int | None = None) -> Run:
    """On `count` processes (default: one for each core that this process may use).

    The processes are spawned. Where `work` is defined in the script that runs, that one is read again in each of them
    and needs `if __name__ == "__main__":`.
    """
    processes = count or cores()

    def run(work: Work, tasks: Sequence[Any], advance: Advance) -> Results:
        if min(processes, len(tasks)) <= 1:
            yield from in_this_process(work, tasks, advance)
        else:
            yield from _in_processes(work, tasks, processes, multiprocessing.get_context("spawn"), advance)

    return run


def in_a_child(work: Work, tasks: Sequence[Any], advance: Advance) -> Results:
    """One task after another, in a process beside this one, which outlives it where a task kills it. On Linux it is a
    copy of this one and begins at once: for work on the processor only, as a GPU cannot be copied."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    yield from _in_processes(work, tasks, 1, context, advance)


def _in_processes(work: Work, tasks: Sequence[Any], processes: int, context: BaseContext, advance: Advance) -> Results:
    waiting = deque(range(len(tasks)))
    while waiting:
        suspects: list[int] = []
        yield from _until_broken(work, tasks, waiting, suspects, min(processes, len(waiting)), context, advance)
        for position in suspects:  # one of them killed its process: each again, alone
            again: list[int] = []
            yield from _until_broken(work, tasks, deque([position]), again, 1, context, advance)
            if again:
                yield position, Crash()


def _until_broken(
    work: Work,
    tasks: Sequence[Any],
    waiting: deque[int],
    suspects: list[int],
    processes: int,
    context: BaseContext,
    advance: Advance,
) -> Results:
    """Take tasks from `waiting` until it is empty or a process dies; then `suspects` has those that were begun."""
    done, stop = context.Value("d", 0.0), context.Event()
    told, broken = 0.0, False
    with _one_thread_each(), _pool(processes, context, done, stop) as pool:
        running: dict[Future[Any], int] = {}
        while waiting or running:
            try:
                while waiting and not broken and len(running) < QUEUED * processes:
                    with _script_unread(work):
                        running[pool.submit(_call, work, tasks[waiting[0]])] = waiting[0]
                    waiting.popleft()
            except BrokenProcessPool:
                broken = True
            finished, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            total = done.value
            advance(total - told)
            told = total
            for future in finished:
                position = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    broken = True
                    suspects.append(position)
                    continue
                yield position, result
            if broken and not running:
                return


@contextmanager
def _pool(processes: int, context: BaseContext, done: Any, stop: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes end soon after the block was left by an error or Ctrl-C."""
    pool = ProcessPoolExecutor(processes, context, _begin, (done, stop))
    try:
        yield pool
    except BaseException:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


@contextmanager
def _script_unread(work: Work) -> Iterator[None]:
    """Processes that start in the block do not run the script of this one again, as spawned ones do to find what it
    defines: a short script without `if __name__ == "__main__":` would begin anew in each of them."""
    main: Any = sys.modules["__main__"]
    of = work.func if isinstance(work, partial) else work
    kept = {} if of.__module__ == "__main__" else {name: vars(main).get(name) for name in ("__spec__", "__file__")}
    for name in kept:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None and name == "__file__":
                delattr(main, name)
            else:
                setattr(main, name, value)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start in the block use one thread each for matrix products: there is one for every core."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _StoppedError(Exception):
    """The run was stopped; nobody waits for the result."""


_advance: Advance = lambda amount: None  # noqa: E731  # of this process; set by _begin


def _begin(done: Any, stop: Any) -> None:
    """First thing in a new process: Ctrl-C is the parent's business, and without a parent there is no work."""
    global _advance
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    def leave() -> None:
        """A step that takes long is not waited for: what is written is written aside."""
        stop.wait()
        time.sleep(GRACE_S)
        os._exit(1)

    for target in (follow, leave):
        threading.Thread(target=target, daemon=True).start()

    def advance(amount: float) -> None:
        if stop.is_set():
            raise _StoppedError
        with done.get_lock():
            done.value += amount

    _advance = advance


def _call(work: Work, task: Any) -> Any:
    return work(task, _advance)
