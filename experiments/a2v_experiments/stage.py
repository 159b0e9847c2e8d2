"""One stage of an experiment: found in the tracking store by its fingerprint, or run as a child run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .claims import claimed
from .fingerprint import fingerprint
from .recipe_sections import Recipe
from .tracking import StageBusy, Store

POLL_S = 5.0  # between two looks at a stage that a process with another work folder runs


@dataclass(frozen=True)
class Context:
    """What every stage needs: the recipe, the store, the work folder, the parent run, and where to say things.

    shared: the run under which stages go that a sweep's trials share (None: the parent).
    """

    recipe: Recipe
    store: Store
    work: Path
    parent: str
    say: Callable[[str], None]
    shared: str | None = None

    @property
    def for_all(self) -> Context:
        """The same, with stages under the shared run."""
        return replace(self, parent=self.shared or self.parent)


@dataclass(frozen=True)
class Result:
    """A stage that is done: its fingerprint, its run, and whether an earlier call had run it."""

    fingerprint: str
    run_id: str
    reused: bool


def run_stage(
    context: Context,
    stage: str,
    name: str,
    config: dict[str, Any],
    inputs: dict[str, Result | str],
    work: Callable[[str, str], None],
    tags: dict[str, str] | None = None,
) -> Result:
    """Find a finished run with this fingerprint, or run `work(run_id, fingerprint)` in a child run. Says which.

    While another process runs the same stage this one waits, and then reuses what it made, or takes over where it
    failed. inputs: name -> the stage it comes from, or a plain fingerprint. The run is tagged with each input's
    fingerprint (`a2v.input.NAME`) and run (`a2v.input_run.NAME`), so that every number can be traced back.
    """
    marks = {key: value if isinstance(value, str) else value.fingerprint for key, value in inputs.items()}
    mark = fingerprint(stage, config, *marks.values())
    if found := _reused(context, stage, mark, name):
        return found
    runs = {f"a2v.input_run.{key}": value.run_id for key, value in inputs.items() if isinstance(value, Result)}
    origin = {f"a2v.input.{key}": value for key, value in marks.items()}
    tags = {"variant": context.recipe.variant, **origin, **runs, **(tags or {})}

    def waiting(holder: str) -> None:
        running = context.store.find(stage, mark, finished=False)
        run = f" (run {running.info.run_id})" if running else ""
        context.say(f"{name}: waiting for process {holder}, which is running it{run}")

    with claimed(context.work / "locks" / f"{stage}-{mark[:16]}.lock", waiting):
        run_id = None
        told = False
        while run_id is None:
            if found := _reused(context, stage, mark, name):
                return found
            try:
                run_id = context.store.begin(stage, mark, name, config, tags, context.parent)
            except StageBusy as busy:  # by a process with another work folder
                if not told:
                    context.say(str(busy))
                    told = True
                time.sleep(POLL_S)
        context.say(f"{name}: run {run_id}")
        with ending(context.store, run_id):
            work(run_id, mark)
    return Result(mark, run_id, False)


def _reused(context: Context, stage: str, mark: str, name: str) -> Result | None:
    found = context.store.find(stage, mark)
    if found is None:
        return None
    context.say(f"{name}: reused, run {found.info.run_id}")
    return Result(mark, found.info.run_id, True)


@contextmanager
def ending(store: Store, run_id: str) -> Iterator[None]:
    """The run reads FINISHED, KILLED (Ctrl-C) or FAILED, whatever happens inside."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(Exception):  # where the store is what failed, the first error is the one to tell
            store.finish(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    store.finish(run_id)
