"""Tasks on a Ray cluster whose results are taken in the tasks' order, never more than some of them at once.

`cluster.run` is for work whose results may come in any order and that says how far it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from ..basics.errors import FAILED, UserError, last_line
from ..recipe.sections import RayConfig
from .run import RETRIES
from .session import start_ray


class Tasks(Protocol):
    """How tasks are begun and what became of them; `task` stands for one that was begun."""

    def begin(self, argument: Any) -> Any: ...

    def ended(self, tasks: Sequence[Any], wait: bool) -> set[Any]:
        """Those that have ended; with wait there is at least one."""
        ...

    def result(self, task: Any) -> Any: ...
    def cancel(self, task: Any) -> None: ...


def in_order(tasks: Tasks, arguments: Sequence[Any], running: int, held: int) -> Iterator[Any]:
    """The results of tasks with these arguments, in their order.

    running: how many have begun and not ended; held: how many have begun and their results are not yet taken, which
    bounds what waits in memory when an early one takes long. What has begun is cancelled when nobody takes the rest.
    """
    left, begun, busy = deque(arguments), deque[Any](), set[Any]()

    def fill() -> None:
        busy.difference_update(tasks.ended(list(busy), wait=False) if busy else ())
        while left and len(busy) < running and len(begun) < held:
            begun.append(tasks.begin(left.popleft()))
            busy.add(begun[-1])

    try:
        fill()
        while begun:
            while begun[0] in busy:
                busy.difference_update(tasks.ended(list(busy), wait=True))
                fill()
            result = tasks.result(begun.popleft())
            fill()  # so that workers go on while the result is used
            yield result
    finally:
        for task in begun:
            tasks.cancel(task)


def on_workers(
    config: RayConfig, work: Callable[[Any], Any], arguments: Sequence[Any], doing: str, gpu: bool
) -> Iterator[Any]:
    """work(argument) for each, in order, on what the recipe's training takes of the cluster: as many tasks at once as
    it has workers, so that in a sweep no trial takes what another one counts on. A task whose process or node died is
    done again elsewhere.

    doing: what the line says that a failure becomes; gpu: each has a GPU, as a worker has with `use_gpu`.
    Raises UserError where a task fails.
    """
    import ray

    if not ray.is_initialized():  # a cluster that is smaller by now is one that goes on
        start_ray(config)
    # Ray ends the process of a GPU task with it: the next one may be given another GPU. The strategy is named since
    # what a trial starts would else have to fit into what Ray Tune reserved for the trial.
    remote = ray.remote(
        num_cpus=config.cpus_per_worker, num_gpus=float(gpu), max_retries=RETRIES, scheduling_strategy="SPREAD"
    )(work)
    return in_order(_RayTasks(remote, doing), arguments, config.num_workers, 3 * config.num_workers)


class _RayTasks:
    def __init__(self, remote: Any, doing: str) -> None:
        self.remote, self.doing = remote, doing

    def begin(self, argument: Any) -> Any:
        return self.remote.remote(argument)

    def ended(self, tasks: Sequence[Any], wait: bool) -> set[Any]:
        import ray

        ended, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=0)
        if wait and not ended:
            ended, _ = ray.wait(list(tasks), num_returns=1)
        return set(ended)

    def result(self, task: Any) -> Any:
        import ray

        try:
            return ray.get(task)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise UserError(f"{self.doing} failed on a Ray worker: {last_line(error)}", FAILED) from error
        except ray.exceptions.RayError as error:
            raise UserError(
                f"{self.doing} failed: the process of a task on the Ray cluster died {RETRIES + 1} times, maybe for"
                f" want of memory: {last_line(error)}",
                FAILED,
            ) from error

    def cancel(self, task: Any) -> None:
        import ray

        ray.cancel(task, force=True)
