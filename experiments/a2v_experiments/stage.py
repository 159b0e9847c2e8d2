"""One stage of an experiment: found in the tracking store by its fingerprint, or run as a child run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .claims import DEAD_AFTER_S, StageBusy, StageLost
from .fingerprint import fingerprint
from .recipe import Recipe
from .tracking import Store

WAIT_S = 2.0  # between two looks at a stage that another process runs


@dataclass(frozen=True)
class Context:
    """What every stage needs: the recipe, the store, the work folder, the parent run, and where to say things."""

    recipe: Recipe
    store: Store
    work: Path
    parent: str
    say: Callable[[str], None]


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

    While another process runs the same stage this waits, then reuses its result, or takes over where it failed.

    inputs: name -> the stage it comes from, or a plain fingerprint. The run is tagged with each input's
    fingerprint (`a2v.input.NAME`) and run (`a2v.input_run.NAME`), so that every number can be traced back.
    """
    marks = {key: value if isinstance(value, str) else value.fingerprint for key, value in inputs.items()}
    mark = fingerprint(stage, config, *marks.values())
    runs = {f"a2v.input_run.{key}": value.run_id for key, value in inputs.items() if isinstance(value, Result)}
    origin = {f"a2v.input.{key}": value for key, value in marks.items()}
    tags = {"variant": context.recipe.variant, **origin, **runs, **(tags or {})}
    told = ""
    while True:
        found = context.store.find(stage, mark)
        if found:
            context.say(f"{name}: reused, run {found.info.run_id}")
            return Result(mark, found.info.run_id, True)
        try:
            run_id = context.store.begin(stage, mark, name, config, tags, context.parent)
            break
        except StageBusy as busy:
            if busy.owner != told:
                context.say(f"{name}: process {busy.owner} is running it (run {busy.run_id}); waiting for its result")
                told = busy.owner
            time.sleep(WAIT_S)
    context.say(f"{name}: run {run_id}")
    with ending(context.store, run_id):
        work(run_id, mark)
    return Result(mark, run_id, False)


def begin_alone(begin: Callable[[], str], say: Callable[[str], None]) -> str:
    """begin(), or StageBusy where another process has it: at once, or once the heartbeat of another machine tells."""
    told = False
    while True:
        try:
            return begin()
        except StageBusy as busy:
            if busy.sure:
                raise
            if not told:
                say(
                    f"run {busy.run_id} reads RUNNING by process {busy.owner}, on another machine: watching its"
                    f" heartbeat, for up to {DEAD_AFTER_S / 60:g} minutes"
                )
                told = True
            time.sleep(WAIT_S)


@contextmanager
def ending(store: Store, run_id: str) -> Iterator[None]:
    """The run reads FINISHED, KILLED (Ctrl-C) or FAILED, whatever happens inside."""
    try:
        yield
    except BaseException as error:
        try:
            store.finish(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        except StageLost:
            raise
        except Exception as second:  # where the store is what failed, the first error is the one to tell
            logging.getLogger(__name__).debug("run %s was not ended: %s", run_id, second)
        raise
    store.finish(run_id)
