"""A sweep: many trials of one recipe below one run, run by Ray Tune, ending with a table and figures over them.

MLflow is the memory here too. Trials that are finished or pruned there are not run again, so the same command goes on
with what is missing; with more `sweep.trials`, values or variants it goes on further (`identity.py`). When this
process ends, no run below the sweep's reads RUNNING, whatever happened to the processes of its trials.
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
from ..recipe.sections import Recipe
from ..stages import stages
from ..stages.code import PARTS, marks, record
from ..stages.experiment import Outcome, model_run, scores_of_run
from ..stages.graph import say_advice
from ..stages.kept import keep_recipe
from ..stages.reused import mark_of
from ..stages.seeds import over_seeds
from ..stages.specs import data_spec, folds_spec
from ..stages.splits import check_validated
from ..stages.stage import Context, begin_alone, ending
from ..store.lookup import has_model, seed_runs
from ..store.tags import FINGERPRINT, SPACE, STAGE, SWEEP, TRIALS, VARIANT, having
from ..store.tracking import Store
from .answer import Answer, answer_from
from .answer_page import log_answer, page_of
from .identity import sweep_config
from .placing import node_of_trials
from .report import log_report, text_report
from .rows import DONE, KnownSources, Row, best_of, rows_of
from .search import Evaluated, bundle, optuna_search, scheduler, trials_at_once
from .trial import Task, run_trial, score_name
from .trials import trials_of

if TYPE_CHECKING:
    from .watch import Watch

CODE = tuple(part for part in PARTS if part != "refit")  # of any trial, as one may be added later


@dataclass(frozen=True)
class BestTrial:
    """The trial with the highest score: its recipe, the keys that it changes, its models and their scores."""

    recipe: Recipe
    parameters: dict[str, Any]
    outcome: Outcome


@dataclass(frozen=True)
class SweepOutcome:
    """A sweep's end: its run, the table over its trials, the trials that failed with the reason, the best one, and what
    the sweep found out, which `page` shows: its file, or what to open in MLflow."""

    run_id: str
    table: str
    failed: dict[str, str]
    best: BestTrial | None
    answer: Answer
    page: str


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
    for recipe in [base, *(one.recipe for one in trials)]:
        sources.of(recipe)
    config = sweep_config(base)
    marked = sweep_config(base, without_usual)
    mark = fingerprint("experiment", marked, *sources.of(base).fingerprints, code=marks(CODE))
    found = store.find("experiment", mark)
    tags = {VARIANT: base.variant, SWEEP: sweep.search}
    if found:
        run_id, mark = str(found.info.run_id), mark_of(found, mark)
    else:
        made_by = record(CODE)
        run_id = begin_alone(lambda: store.begin("experiment", mark, base.name, config, tags, None, code=made_by), say)
    by_validation = sweep.pruning is not None and sweep.pruning.grace_validations is not None
    task = Task(
        file, work.resolve(), store.uri, base.name, run_id, mark, Path.cwd(), score_name(base), tuple(trials),
        base.validations if by_validation else 0, store.reuse,
    )  # fmt: skip
    rows = rows_of(task, store, sources)
    if found and _left(task, base, rows, found.data.tags.get(TRIALS)) == 0:
        say(f"every trial: reused, run {run_id}")
        found_out = answer_from(store.client, base, rows)
        return SweepOutcome(
            run_id, text_report(base, rows), {}, best_trial(file, rows, store), found_out, page_of(store, run_id)
        )
    if found:
        store.reopen(run_id)
    with ending(store, run_id):
        keep_recipe(store, run_id, base, file.tree, file.scale)
        store.tag(run_id, SPACE, sweep.model_dump_json(include={"parameters", "variants"}))
        context = Context(base, store, work, run_id, say)
        origin = sources.of(base).corpora["data"]
        data, corpus = stages.prepare(context, data_spec(base.data, origin.fingerprint), origin)
        check_event_classes(base, corpus.classes)
        for one in trials:
            if one.recipe.data == base.data:  # else the trial does it, once its corpus is packed
                check_event_classes(one.recipe, corpus.classes, f"trial {one.name}: ")
        _, folds = stages.make_folds(context, folds_spec(base, data.fingerprint), data, corpus)
        check_validated(base, corpus, folds)
        say_advice(context, corpus, folds)
        failed = _run(task, base, store, rows, say)
        rows = rows_of(task, store, sources)
        for row in rows:
            if row.status == "pruned":
                _drop_checkpoints(task, store, row.run_id)
        rows += [Row(name, {}, "failed", why) for name, why in failed.items() if name not in {row.name for row in rows}]
        log_report(context, rows)
        found_out = answer_from(store.client, base, rows)
        log_answer(context, found_out, rows)
        if not failed:
            store.tag(run_id, TRIALS, str(sweep.trials or len(trials)))
    if failed:
        store.finish(run_id, "FAILED")
    return SweepOutcome(
        run_id, text_report(base, rows), failed, best_trial(file, rows, store), found_out, page_of(store, run_id)
    )


def best_trial(file: RecipeFile, rows: list[Row], store: Store) -> BestTrial | None:
    """The best of the trials that are finished, with what its folds left in the store."""
    base = file.resolve()
    assert base.sweep is not None
    row = best_of(rows, score_name(base), base.folds.label_shares)
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


def _drop_checkpoints(task: Task, store: Store, run_id: str) -> None:
    """Of trainings within which a trial was pruned: nobody goes on from there, as it is not run again."""
    for child in store.children(run_id, having(STAGE, "finetune")):
        if child.info.status == "KILLED" and not has_model(child):
            name = f"finetune-{child.data.tags[FINGERPRINT][:16]}"
            shutil.rmtree(task.work / "checkpoints" / name, ignore_errors=True)


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
    recipes = [base, *(one.recipe for one in task.known)]
    node = node_of_trials(recipes, watch.say) if base.ray.num_workers else None
    storage, name = task.work / "tune", f"{task.mark[:16]}-{time.time_ns()}"
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, task=task),
        tune.PlacementGroupFactory([bundle(base.ray, node)]),
    )
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            num_samples=samples,
            search_alg=search,
            scheduler=scheduler(sweep.pruning, base.repeats, base.validations),
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
    scored = [(row, row.score(score_name(base), base.folds.label_shares)) for row in rows if row.status in DONE]
    return [(row.parameters, score) for row, score in scored if score is not None]
