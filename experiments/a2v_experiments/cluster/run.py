"""The same work on many recordings over a Ray cluster: a `Run` as `a2v_data.scheduling` describes it.

Every node must see the recordings and the output folder under the same paths (a shared file system).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from a2v_data.scheduling import Advance, Crash, Results, Run, Work

from ..recipe.sections import RayConfig
from .session import start_ray

POLL_S = 0.5
RETRIES = 3
QUEUED = 3  # tasks of each core that are handed out, so that none waits for the next one


def on_ray(address: str | None, gpus: float = 0.0) -> Run:
    """A task on each core of the cluster at `address` (None: RAY_ADDRESS, or Ray on this machine), or on each `gpus` of
    a GPU. A task whose node or process died is done again elsewhere, three times at most.

    Raises `UserError` where the cluster cannot be reached.
    """
    start_ray(RayConfig(num_workers=1, address=address))

    def run(work: Work, tasks: Sequence[Any], advance: Advance) -> Results:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        counter: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(_Counter).remote()
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_call)
        at_once = resource(address, "GPU") / gpus if gpus else resource(address, "CPU")
        limit = QUEUED * max(1, int(at_once))
        running: dict[Any, int] = {}
        position, asked_at = 0, time.monotonic()
        given = ray.put(work)  # once, and not with each task
        try:
            while running or position < len(tasks):
                while position < len(tasks) and len(running) < limit:
                    running[remote.remote(given, tasks[position], counter)] = position
                    position += 1
                waiting = list(running)
                finished, _ = ray.wait(waiting, timeout=POLL_S)
                # And all others that have ended by now: the driver looks through what is running once for all of them.
                finished, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0) if finished else (finished, [])
                if time.monotonic() - asked_at > POLL_S or not finished:  # a round trip, which tasks wait for
                    advance(ray.get(counter.take.remote()))
                    asked_at = time.monotonic()
                for reference in finished:
                    yield running.pop(reference), _result(reference)
            advance(ray.get(counter.take.remote()))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            ray.kill(counter)

    return run


def resource(address: str | None, kind: str) -> float:
    """How much of CPU or GPU the cluster has. Raises `UserError` where it cannot be reached."""
    import ray

    start_ray(RayConfig(num_workers=1, address=address))
    return float(ray.cluster_resources().get(kind, 0))


def ask_gpu(question: Callable[..., Any], *arguments: Any) -> Any:
    """What a node with a GPU answers; the driver's may have none."""
    import ray

    return ray.get(ray.remote(num_gpus=0.01)(question).remote(*arguments))


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
