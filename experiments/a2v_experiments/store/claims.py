"""One process works on a stage at a time, on whatever machine; the tracking store is all that they share.

Contract. Who wants a stage makes a run for it (tag `a2v.candidate`) and looks at the other runs of the same stage and
fingerprint. It has the stage once a look shows no other that is alive: of two, the one that came later always sees
the earlier one, whatever their clocks say. Seeing others, it steps back (its own run is deleted) before one that has
the stage already (tag `a2v.driver`) and before one that precedes it by start time and run id; else it waits until
they have stepped back. So exactly one remains, and it takes over the run that an earlier call left, if there is one.

A process of this machine is alive while its process id and start time are there. One of another machine is alive
while the tag `a2v.heartbeat` changes between looks; clocks are not compared.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

from ..basics.errors import FAILED, UserError
from .tags import CANDIDATE, DRIVER, HEARTBEAT

HEARTBEAT_S = 15.0
DEAD_AFTER_S = 180.0  # seconds that a heartbeat stands still, at looks that reached the store
LOOK_S = 0.3
START_TOLERANCE_S = 5.0  # by how much the clock may be set between two looks at a start


class StageBusy(UserError):  # noqa: N818 - it says what is the matter
    """Another process has this stage, or has just done it: run_id, owner (host:pid:start).

    sure: False where that process is on another machine and its heartbeat was not seen to change yet; asking again
    tells, after DEAD_AFTER_S at the latest.
    """

    def __init__(self, name: str, run: Run, sure: bool) -> None:
        self.run_id, self.owner, self.sure = str(run.info.run_id), owner_of(run), sure
        if run.info.status == "FINISHED":
            message = f"process {self.owner} has just done this stage (run {self.run_id}); the same command reuses it"
        else:
            message = f"process {self.owner} is running this stage already (run {self.run_id}); wait for it or stop it"
        super().__init__(f"{name}: {message}", FAILED)


class StageLost(UserError):  # noqa: N818
    """Another process took a run over, because this one could not reach the store for DEAD_AFTER_S."""

    def __init__(self, run_id: str, owner: str) -> None:
        super().__init__(
            f"run {run_id}: process {owner} took it over, as the tracking store could not be reached from here for"
            " minutes; stopped here, it goes on there",
            FAILED,
        )


def this_process() -> str:
    """host:pid:start of this process; the start tells it from a later process that gets the same pid."""
    return _owner(os.getpid())


@functools.cache  # the start is derived from the wall clock, which may be set while the process runs
def _owner(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.0f}"


def owner_of(run: Run) -> str:
    return str(run.data.tags.get(DRIVER) or run.data.tags.get(CANDIDATE, ""))


def now_text() -> str:
    """A heartbeat: any value that differs from the one before; this one people can read."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Witness:
    """Tells which runs other processes are working on, from what it sees at every look."""

    def __init__(self) -> None:
        self.beats: dict[str, str] = {}  # run -> the heartbeat at the last look
        self.looked: dict[str, float] = {}  # run -> when that was
        self.still: dict[str, float] = {}  # run -> seconds for which the heartbeat stood still
        self.changed: set[str] = set()  # runs whose heartbeat was seen to change

    def is_alive(self, run: Run) -> bool:
        """Whether another process works on this run; nobody works on one that does not read RUNNING."""
        if run.info.status != "RUNNING":
            return False
        here = is_alive_here(owner_of(run))
        return self._beats(run) if here is None else here

    def is_sure(self, run: Run) -> bool:
        """Whether a run that counts as alive was seen to be: on this machine, or by a heartbeat that changed."""
        here = is_alive_here(owner_of(run)) is not None
        return here or run.info.status != "RUNNING" or run.info.run_id in self.changed

    def _beats(self, run: Run) -> bool:
        key, beat, now = run.info.run_id, run.data.tags.get(HEARTBEAT, "") + owner_of(run), time.monotonic()
        passed = min(now - self.looked.get(key, now), HEARTBEAT_S)  # a store that was away for long says nothing
        if self.beats.get(key, beat) != beat:
            self.changed.add(key)
            self.still[key] = 0.0
        else:
            self.still[key] = self.still.get(key, 0.0) + passed
        self.beats[key], self.looked[key] = beat, now
        return self.still[key] < DEAD_AFTER_S


def is_alive_here(owner: str) -> bool | None:
    """Whether an owner is another living process of this machine; None for one of another machine.

    This process itself is not: what it left RUNNING it may take up again.
    """
    host, pid, started = (*owner.split(":"), "", "")[:3]
    if host != socket.gethostname():
        return None if host else False
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) <= START_TOLERANCE_S
    except (psutil.Error, ValueError):
        return False


def owner_is_gone(run: Run) -> bool:
    """Whether the process that has a run is known to be gone, whatever the run's status reads."""
    owner = owner_of(run)
    return owner != this_process() and is_alive_here(owner) is False


def contest(name: str, mine: Run, look: Callable[[], list[Run]], witness: Witness) -> list[Run]:
    """Wait until the stage is this process's; returns the dead runs of it, newest first.

    mine: the candidate's run; look(): all runs of the stage. Raises StageBusy when another has it or comes before.
    """
    while True:
        others = [run for run in look() if run.info.run_id != mine.info.run_id]
        alive = [run for run in others if witness.is_alive(run)]
        ahead = [run for run in others if run.info.status == "FINISHED"]
        ahead += [run for run in alive if DRIVER in run.data.tags or order(run) < order(mine)]
        if ahead:
            raise StageBusy(name, ahead[0], witness.is_sure(ahead[0]))
        if not alive:
            return others
        time.sleep(LOOK_S)


def order(run: Run) -> tuple[int, str]:
    """Which of two candidates comes first."""
    return run.info.start_time, run.info.run_id


class Heartbeat:
    """Refreshes the heartbeat of the runs that this process has, in a thread of its own while there are any.

    `lost` holds runs that another process took over because this one could not reach the store for too long; the
    main thread is interrupted then, since two trainings must not write to one run.
    """

    def __init__(self, client: MlflowClient) -> None:
        self.client = client
        self.held: set[str] = set()
        self.lost: dict[str, str] = {}  # run -> who has it now
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None

    def hold(self, run_id: str) -> None:
        with self.changed:
            self.held.add(run_id)
            self.lost.pop(run_id, None)
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name="a2v-heartbeat", daemon=True)
                self.thread.start()

    def release(self, run_id: str) -> None:
        with self.changed:
            self.held.discard(run_id)
            self.changed.notify()

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: not self.held, HEARTBEAT_S)
                if not self.held:
                    self.thread = None
                    return
                held = list(self.held)
            for run_id in held:
                with contextlib.suppress(Exception):  # the store is away: the next beat tries again
                    self._beat(run_id)

    def _beat(self, run_id: str) -> None:
        owner = owner_of(self.client.get_run(run_id))
        if owner == this_process():
            self.client.set_tag(run_id, HEARTBEAT, now_text())
            return
        with self.changed:
            if run_id not in self.held:  # ended in the meantime
                return
            self.held.discard(run_id)
            self.lost[run_id] = owner
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGINT)  # a signal also ends a sleep
