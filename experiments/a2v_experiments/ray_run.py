"""The same work on many recordings over a Ray cluster: a `Run` as `a2v_data.scheduling` describes it.

Every node must see the recordings and the output folder under the same paths (a shared file system).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from a2v_data.scheduling import Advance, Crash, Results, Run, Work

from .recipe_sections import RayConfig
from .workers import start_ray

POLL_S = 0.5
QUEUED = 3  # tasks of each core that are handed out, so that none waits for the next one


def on_ray(address: str | None) -> Run:
    """A task on each core of the cluster at `address` (None: RAY_ADDRESS, or Ray on this machine).

    Raises `UserError` where the cluster cannot be reached.
    """
    start_ray(RayConfig(num_workers=1, address=address))

    def run(work: Work, tasks: Sequence[Any], advance: Advance) -> Results:
        import ray

        counter: Any = ray.remote(num_cpus=0)(_Counter).remote()
        remote = ray.remote(num_cpus=1, max_retries=1)(_call)
        limit = QUEUED * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: dict[Any, int] = {}
        position = 0
        try:
            while running or position < len(tasks):
                while position < len(tasks) and len(running) < limit:
                    running[remote.remote(work, tasks[position], counter)] = position
                    position += 1
                finished, _ = ray.wait(list(running), timeout=POLL_S)
                taken: Any = ray.get(counter.take.remote())
                advance(taken)
                for reference in finished:
                    yield running.pop(reference), _result(reference)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            ray.kill(counter)

    return run


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
        return Crash()
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


class _Counter:
    """Sums up what the tasks have done, for the driver to take."""

    def __init__(self) -> None:
        self._amount = 0.0

    def add(self, amount: float) -> None:
        self._amount += amount

    def take(self) -> float:
        taken, self._amount = self._amount, 0.0
        return taken


def _call(work: Work, task: Any, counter: Any) -> Any:
    """One task on its worker. Tells what it has done now and then, and all of it before it ends."""
    import ray

    untold, told_at = 0.0, time.monotonic()

    def advance(amount: float) -> None:
        nonlocal untold, told_at
        untold += amount
        if time.monotonic() - told_at > POLL_S:
            counter.add.remote(untold)
            untold, told_at = 0.0, time.monotonic()

    try:
        return work(task, advance)
    finally:
        ray.get(counter.add.remote(untold))
