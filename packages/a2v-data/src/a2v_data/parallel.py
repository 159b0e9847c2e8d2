"""The same work on many files, in several processes, in order."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
CHUNK = 256  # items that travel to a process together: many small files cost more to send than to read


def in_processes(
    work: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    jobs: int,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """`work` on chunks of `items`, its results one by one in the order of the items.

    work: takes a chunk and returns a result for each of its items; importable, and so are items and results.
    jobs: processes; one, or so few items that starting processes would take longer, runs here.
    progress: (done, total) items. Raises what `work` raises, and `ValueError` where a process was killed.
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    done = 0
    for results in _here(work, chunks) if jobs == 1 or len(chunks) < 3 else _pool(work, chunks, jobs):
        done += len(results)
        if progress:
            progress(done, len(items))
        yield from results


def _here(
    work: Callable[[Sequence[Item]], list[Result]], chunks: list[Sequence[Item]]
) -> Iterator[list[Result]]:
    return (work(chunk) for chunk in chunks)


def _pool(
    work: Callable[[Sequence[Item]], list[Result]], chunks: list[Sequence[Item]], jobs: int
) -> Iterator[list[Result]]:
    # Spawned, not forked: a progress bar has a thread, and forking with threads can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(chunks)), mp_context=context, initializer=_leave_interrupts_alone)
    try:
        futures: list[Future[list[Result]]] = [pool.submit(work, chunk) for chunk in chunks]
        for future in futures:
            yield future.result()
    except BrokenProcessPool:
        raise ValueError("a reading process was killed (out of memory?); run again with one job") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_alone() -> None:
    """Ctrl-C reaches the whole group of processes; the parent alone says so and stops the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
