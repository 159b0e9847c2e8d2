"""A sweep: many trials of one recipe below one run, run by Ray Tune, ending with a table and figures over them.

MLflow is the memory here too. Trials that are finished or pruned there are not run again, so the same command goes on
with what is missing; with more `sweep.trials` it goes on further. When this process ends, no run below the sweep's
reads RUNNING, whatever happened to the processes of its trials.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..basics.fingerprint import fingerprint
from ..basics.left_out import without_usual
from ..basics.progress import bar
from ..cluster.session import start_ray, stop_ray
from ..recipe.event_classes import check_event_classes
from ..recipe.files import RecipeFile
from ..recipe.labelled import with_rules
from ..recipe.sections import Recipe
from ..stages import stages
from ..stages.code import marks, record
from ..stages.experiment import Outcome, model_run, scores_of_run
from ..stages.graph import say_advice
from ..stages.reused import mark_of
from ..stages.seeds import over_seeds
from ..stages.specs import code_of, data_spec, folds_spec, whole
from ..stages.stage import Context, begin_alone, ending
from ..store.lookup import seed_runs
from ..store.tags import SWEEP, TRIALS, VARIANT
from ..store.tracking import Store
from .report import log_report, text_report
from .rows import DONE, KnownSources, Row, best_of, rows_of
from .search import Evaluated, bundle, optuna_search, scheduler, trials_at_once
from .trial import Task, run_trial
from .trials import trials_of

if TYPE_CHECKING:
    from .watch import Watch


@dataclass(frozen=True)
class BestTrial:
    """The trial with the highest score: its recipe, the keys that it changes, its models and their scores."""

    recipe: Recipe
    parameters: dict[str, Any]
    outcome: Outcome


@dataclass(frozen=True)
class SweepOutcome:
    """A sweep's end: its run, the table over its trials, the trials that failed with the reason, and the best one."""

    run_id: str
    table: str
    failed: dict[str, str]
    best: BestTrial | None


def run_sweep(file: RecipeFile, work: Path, store: Store, say: Callable[[str], None]) -> SweepOutcome:
    """Run the trials that are missing; returns when the sweep's run holds the summary. say(line) tells what happens.

    Raises UserError before anything runs where a trial's recipe is wrong or its recordings are not there, and
    before any trial where its event settings are for other classes than the corpus has.
    """
    trials = trials_of(file)
    base = file.resolve()
    sweep = base.sweep
    assert sweep is not None
    sources = KnownSources(work, store.uri)
    recipes = [base, *(one.recipe for one in trials)]
    for recipe in recipes:
        sources.of(recipe)
    aside: dict[str, Any] = {"ray": True, "sweep": {"trials", "concurrency"}}
    config, marked = (dump(with_rules(base), exclude=aside) for dump in (whole, without_usual))
    code = tuple(dict.fromkeys(part for recipe in recipes for part in code_of(recipe)))
    mark = fingerprint("experiment", marked, *sources.of(base).fingerprints, code=marks(code))
    found = store.find("experiment", mark)
    tags = {VARIANT: base.variant, SWEEP: sweep.search}
    if found:
        run_id, mark = str(found.info.run_id), mark_of(found, mark)
    else:
        run_id = begin_alone(lambda: store.begin("experiment", mark, base.name, config, tags, None, record(code)), say)
    place = (file, work.resolve(), store.uri, base.name, run_id, mark, Path.cwd())
    task = Task(*place, sweep.metric, tuple(trials), store.reuse)
    rows = rows_of(task, store, sources)
    if found and _left(task, base, rows, found.data.tags.get(TRIALS)) == 0:
        say(f"every trial: reused, run {run_id}")
        return SweepOutcome(run_id, text_report(base, rows), {}, best_trial(file, rows, store))
    if found:
        store.reopen(run_id)
    with ending(store, run_id):
        context = Context(base, store, work, run_id, say)
        origin = sources.of(base).data
        data, corpus = stages.prepare(context, data_spec(base.data, origin.fingerprint), origin)
        check_event_classes(base, corpus.classes)
        for one in trials:
            if one.recipe.data == base.data:  # else the trial does it, once its corpus is packed
                check_event_classes(one.recipe, corpus.classes, f"trial {one.name}: ")
        _, folds = stages.make_folds(context, folds_spec(base, data.fingerprint), data, corpus)
        say_advice(context, corpus, folds)
        failed = _run(task, base, store, rows, say)
        rows = rows_of(task, store, sources)
        rows += [Row(name, {}, "failed", why) for name, why in failed.items() if name not in {row.name for row in rows}]
        log_report(context, rows)
        if not failed:
            store.tag(run_id, TRIALS, str(sweep.trials or len(trials)))
    if failed:
        store.finish(run_id, "FAILED")
    return SweepOutcome(run_id, text_report(base, rows), failed, best_trial(file, rows, store))


def best_trial(file: RecipeFile, rows: list[Row], store: Store) -> BestTrial | None:
    """The best of the trials that are finished, with what its folds left in the store."""
    base = file.resolve()
    assert base.sweep is not None
    row = best_of(rows, base.sweep.metric, base.folds.label_shares)
    if row is None:
        return None
    by_seed = {
        seed: {share: [by_fold[fold] for fold in sorted(by_fold)] for share, by_fold in shares.items()}
        for seed, shares in seed_runs(store.run(row.run_id)).items()
    }
    scores = {
        seed: {share: [scores_of_run(store, run_id) for run_id in folds] for share, folds in shares.items()}
        for seed, shares in by_seed.items()
    }
    recipe = file.resolve(row.parameters, row.name)
    first = by_seed[recipe.seeds[0] if recipe.seeds else None]
    models = {share: [model_run(store, run_id) for run_id in folds] for share, folds in first.items()}
    return BestTrial(recipe, row.parameters, Outcome(row.run_id, over_seeds(scores), "", models))


def _left(task: Task, base: Recipe, rows: list[Row], complete: str | None = None) -> int:
    """How many trials are to be run. complete: for how many trials an earlier call was whole: Optuna may choose the
    same values twice, so there can be fewer rows."""
    done = sum(row.status in DONE for row in rows)
    if task.known:
        return len(task.known) - done
    assert base.sweep is not None and base.sweep.trials is not None
    return 0 if complete is not None and int(complete) >= base.sweep.trials else max(0, base.sweep.trials - done)


def _run(task: Task, base: Recipe, store: Store, rows: list[Row], say: Callable[[str], None]) -> dict[str, str]:
    """Run what is left with Ray Tune; returns the trials that failed, with the reason."""
    from .watch import Watch, close_children

    left, folds = _left(task, base, rows), base.repeats
    if left == 0:
        return {}
    done = sum(row.status in DONE for row in rows)
    if done:
        say(f"trials: {done} done already, {left} to run")
    start_ray(base.ray)
    try:
        with bar("trials", left * folds, "folds") as shown:
            watch = Watch(task, store, folds, left, shown, say)
            _tune(task, base, rows, left, watch)
    except BaseException as error:
        stop_ray()  # so that no trial goes on when its runs are closed
        close_children(store, task.parent, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    close_children(store, task.parent, "FAILED")
    return watch.failed


def _tune(task: Task, base: Recipe, rows: list[Row], left: int, watch: Watch) -> None:
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is an exception, as everywhere here
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new one prints a box even where it is to say nothing
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # MLflow has what its tables would have
    import ray
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    sweep = base.sweep
    assert sweep is not None
    if task.known:
        numbers = [number for number, row in enumerate(rows) if row.status not in DONE]
        space, samples, search = {"trial": tune.grid_search(numbers)}, 1, None
    else:
        space, samples, search = {}, left, optuna_search(sweep, _evaluated(base, rows))
    storage, name = task.work / "tune", f"{task.mark[:16]}-{time.time_ns()}"
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, task=task),
        tune.PlacementGroupFactory([bundle(base.ray, ray.util.get_node_ip_address())]),
    )
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            num_samples=samples,
            search_alg=search,
            scheduler=scheduler(sweep.pruning, base.repeats),
            max_concurrent_trials=trials_at_once(base.ray, ray.cluster_resources(), sweep.concurrency),
        ),
        run_config=tune.RunConfig(name=name, storage_path=str(storage), verbose=0, callbacks=[watch]),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(storage / name, ignore_errors=True)


def _evaluated(base: Recipe, rows: list[Row]) -> Evaluated:
    """Values and scores of the trials that are done, for Optuna to go on from."""
    assert base.sweep is not None
    scored = [(row, row.score(base.sweep.metric, base.folds.label_shares)) for row in rows if row.status in DONE]
    return [(row.parameters, score) for row, score in scored if score is not None]
