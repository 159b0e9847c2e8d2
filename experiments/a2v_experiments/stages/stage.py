"""One stage of an experiment: found in the tracking store by its fingerprint, or run as a child run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow.entities import Run

from ..recipe.sections import Recipe
from ..store.claims import DEAD_AFTER_S, StageBusy, StageLost
from ..store.tags import TRIAL, VARIANT, input_mark, input_run
from ..store.tracking import Store
from . import code
from .again import Swept, show_reused
from .reused import mark_of, whence, why_not_reused
from .rounds import Chain
from .specs import StageSpec

# seed, fold, label share, how many validations there were, and what ranks of the weights that are kept
AfterLook = Callable[[int | None, int, float, int, Mapping[str, float]], None]
WAIT_S = 2.0  # between two looks at a stage that another process runs


@dataclass(frozen=True)
class Context:
    """What every stage needs: the recipe, the store, the work folder, the parent run, and where to say things.

    shared: the run under which stages go that a sweep's trials share (None: the parent). chain: where it stands in
    rounds of review (None: there are none, or it is not known yet). looked: called after each validation of a
    finetuning that trains in this process. trial: whose stages these are.
    """

    recipe: Recipe
    store: Store
    work: Path
    parent: str
    say: Callable[[str], None]
    shared: str | None = None
    chain: Chain | None = None
    looked: AfterLook | None = None
    trial: Swept | None = None

    @property
    def for_all(self) -> Context:
        """The same, with stages under the shared run."""
        return replace(self, parent=self.shared or self.parent, trial=None)


@dataclass(frozen=True)
class Result:
    """A stage that is done: its fingerprint, its run, and whether an earlier call had run it."""

    fingerprint: str
    run_id: str
    reused: bool


def run_stage(
    context: Context,
    spec: StageSpec,
    inputs: Mapping[str, object],
    work: Callable[[str], None],
    tags: dict[str, str] | None = None,
) -> Result:
    """Find a finished run with the stage's fingerprint, or run `work(run_id)` in a child run. Says which.

    While another process runs the same stage this one waits, and then reuses what it made, or takes over where it
    failed. inputs: what it is made from, stages among it. The run is tagged with each input's fingerprint
    (`a2v.input.NAME`) and run (`a2v.input_run.NAME`), so that every number can be traced back.
    """
    stage, name, mark = spec.stage, spec.name, spec.fingerprint
    runs = {input_run(key): result.run_id for key, result in inputs.items() if isinstance(result, Result)}
    origin = {input_mark(key): value for key, value in spec.inputs.items()}
    tags = {VARIANT: context.recipe.variant, **origin, **runs, **(tags or {})}
    shown, more, trial = name, {}, context.trial
    if trial is not None:
        shown, more, tags[TRIAL] = trial.run_name(name), trial.params, trial.name
    found, run_id = found_or_begun(
        lambda: context.store.find(stage, mark),
        lambda: context.store.begin(
            stage, mark, shown, spec.config, tags, context.parent, more, code.record(spec.code)
        ),
        lambda line: context.say(f"{name}: {line}"),
    )
    if found:
        context.say(f"{name}: reused, run {run_id}{whence(found, spec)}")
        if stage == "finetune":
            show_reused(context, name, found)
        return Result(mark_of(found, mark), run_id, True)
    context.say(f"{name}: run {run_id}")
    if why := why_not_reused(context.store.client, spec):
        context.say(f"  {why}")
    with ending(context.store, run_id):
        work(run_id)
    return Result(mark, run_id, False)


def found_or_begun(
    find: Callable[[], Run | None], begin: Callable[[], str], say: Callable[[str], None]
) -> tuple[Run | None, str]:
    """The finished run of a stage and its id, or None and the id of a run that is this process's from now on.

    Waits while another process has the stage; say(line) tells for which.
    """
    told = ""
    while True:
        if found := find():
            return found, str(found.info.run_id)
        try:
            return None, begin()
        except StageBusy as busy:
            if busy.owner != told:
                say(f"process {busy.owner} is running it (run {busy.run_id}); waiting for its result")
                told = busy.owner
            time.sleep(WAIT_S)


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
