"""One trial, in a process of its own: the whole graph of its recipe under its run, reporting to Ray Tune.

A trial's run (stage `trial`) stands below the sweep's; below it stand the stages that it runs itself. It is FINISHED
before its last report, so whatever Ray Tune then decides, a trial that is whole is no longer stopped. Its tags:
`trial`, `a2v.parameters`, `a2v.folds` (done so far), and `a2v.error` where it failed.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2v_eval.summary import summarise

from ..basics.errors import UserError
from ..basics.fingerprint import fingerprint
from ..basics.left_out import without_usual
from ..cluster.environment import use_given_threads
from ..recipe.files import RecipeFile
from ..recipe.labelled import with_rules
from ..recipe.sections import Recipe
from ..stages.again import Swept
from ..stages.experiment import complete, log_means
from ..stages.graph import Sources, find_sources
from ..stages.kept import keep_recipe
from ..stages.seeds import BySeed, Scores, over_seeds
from ..stages.specs import experiment_config
from ..stages.stage import Context, ending, found_or_begun
from ..store.lookup import metrics_of, share_prefix
from ..store.reuse import AS_USUAL, Reuse
from ..store.tags import ERROR, FOLDS_DONE, PARAMETERS, TRIAL, VARIANT
from ..store.tracking import Store
from ..training.validation_report import RANKING, VALIDATION
from .pace import Pace
from .trials import Trial, trial

SCORE = "score"  # what Ray Tune compares: the sweep's metric, mean over folds and label shares so far
TIME = "validations"  # by what time, where trials are compared after each validation (`pace.py`)


def score_name(recipe: Recipe) -> str:
    """By which score a sweep chooses: its metric on validation recordings where every training holds some out, so that
    the folds' own scores play no part in it. What is counted at thresholds is known of the folds alone."""
    assert recipe.sweep is not None
    metric = recipe.sweep.metric
    return f"{VALIDATION}{metric}" if recipe.is_validated and RANKING.match(metric) else metric


@dataclass(frozen=True)
class Task:
    """What the process of a trial needs of its sweep; plain data.

    parent, mark: the sweep's run and its fingerprint. folder: where the command runs and relative paths start.
    metric: the score that trials are compared by (`score_name`). known: the trials by number; empty where Optuna
    chooses the values. validations: of a fold, where trials are compared after each; 0 where they are after folds.
    reuse: what of earlier calls is.
    """

    file: RecipeFile
    work: Path
    uri: str
    experiment: str
    parent: str
    mark: str
    folder: Path
    metric: str
    known: tuple[Trial, ...] = ()
    validations: int = 0
    reuse: Reuse = AS_USUAL

    def trial(self, config: Mapping[str, Any]) -> Trial:
        """The trial that a configuration of Ray Tune stands for."""
        return self.known[config["trial"]] if self.known else trial(self.file, config)


def trial_mark(recipe: Recipe, sources: Sources, sweep_mark: str) -> str:
    """The fingerprint of a trial's run: its recipe, what that is made from, and the sweep that it is part of."""
    return fingerprint("trial", experiment_config(recipe, without_usual), sweep_mark, *sources.fingerprints)


def run_trial(config: dict[str, Any], task: Task) -> None:
    """Ray Tune's function: run the trial, report its score after every fold."""
    import torch
    from ray import tune

    if task.folder.is_dir():
        os.chdir(task.folder)
    task.file.load_plugins()  # which what is in `known` is said in
    this = task.trial(config)
    if this.recipe.ray.num_workers:  # they compute, elsewhere
        torch.set_num_threads(1)
    else:
        use_given_threads()
    store = Store(task.uri, task.experiment, None, task.reuse)
    sources = find_sources(this.recipe, task.work, task.uri)
    mark = trial_mark(this.recipe, sources, task.mark)
    # Optuna may choose the same values twice
    done, run_id = found_or_begun(lambda: store.find("trial", mark), lambda: _begin(store, task, this, mark), print)
    if done is not None:
        score = score_of_run(metrics_of(done), task.metric, this.recipe.folds.label_shares)
        score, repeats = score or 0.0, this.recipe.repeats
        tune.report({SCORE: score, TIME: task.validations * repeats, "folds": repeats, "run_id": run_id})
        return
    _run(task, this, sources, store, run_id)


def _run(task: Task, this: Trial, sources: Sources, store: Store, run_id: str) -> None:
    from ray import tune

    said: list[str] = []
    pace = Pace(this.recipe, task.metric, task.validations)

    def report(scores: Scores, folds: int) -> None:
        store.tag(run_id, FOLDS_DONE, str(folds))
        score, time = score_of(scores, task.metric), task.validations * folds
        tune.report({SCORE: score, TIME: time, "folds": folds, "run_id": run_id})

    def after_fold(by_seed: BySeed) -> None:
        log_means(context, by_seed)
        pace.after_fold(by_seed)
        with _pruning():
            report(over_seeds(by_seed), pace.folds)

    def looked(seed: int | None, fold: int, share: float, count: int, scores: Mapping[str, float]) -> None:
        if pace.after_look(seed, fold, share, count, scores):
            with _pruning():
                tune.report({SCORE: pace.score, TIME: pace.time, "folds": pace.folds, "run_id": run_id})

    context = Context(
        this.recipe, store, task.work, run_id, said.append, shared=task.parent,
        looked=looked if task.validations else None, trial=Swept(this.name, this.parameters),
    )  # fmt: skip
    try:
        with ending(store, run_id):
            keep_recipe(store, run_id, this.recipe, folder=task.folder)
            scores = complete(context, sources, after_fold).scores
            score_of(scores, task.metric)
    except KeyboardInterrupt:
        raise SystemExit from None
    except Exception as error:
        store.tag(run_id, ERROR, _reason(error))
        if not isinstance(error, UserError):
            store.log_text(run_id, traceback.format_exc(), "error.txt")
        raise
    finally:
        store.log_text(run_id, "\n".join(said), "log.txt")
    report(scores, this.recipe.repeats)


@contextmanager
def _pruning() -> Iterator[None]:
    """Ray Tune ends a trial that it prunes by SystemExit; its run is to read KILLED, as after Ctrl-C."""
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None


def _begin(store: Store, task: Task, this: Trial, mark: str) -> str:
    recipe = this.recipe
    tags = {
        VARIANT: recipe.variant,
        TRIAL: this.name,
        PARAMETERS: json.dumps(this.parameters),
        FOLDS_DONE: "0",
        ERROR: "",
    }
    config = with_rules(recipe).model_dump(mode="json", exclude={"ray", "sweep", "variant"})
    return store.begin("trial", mark, this.name, config, tags, task.parent)


def score_of(scores: Scores, metric: str) -> float:
    """Mean of a metric over label shares of its mean over folds; 0, the worst there is, where it is undefined, as
    precision is where nothing is predicted. Raises UserError where no fold could ever have it."""
    means = []
    for folds in scores.values():
        found = summarise(folds).get(metric)
        if found is None:
            _check_known(metric, dict.fromkeys(name for fold in folds for name in fold))
        means.append(found.mean if found else 0.0)
    return sum(means) / len(means)


def _check_known(metric: str, there: Collection[str]) -> None:
    """Raise UserError unless folds have scores of the kind of events and of the class that a metric is of."""
    kind, _, of = metric.rpartition("/")
    prefix = kind.rpartition("/")[0]
    alike = [name for name in there if name.rpartition("/")[2] == of and name.startswith(prefix)]
    if not alike:
        known = [name for name in there if "AP/" in name]
        raise UserError(f"sweep.metric = {metric}: no fold has this score; there are {', '.join(known)}")


def score_of_run(metrics: Mapping[str, float], metric: str, shares: list[float]) -> float | None:
    """The same from a trial's run, which holds the means over its folds; None where it has none."""
    found = [metrics.get(f"{share_prefix(share, len(shares))}{metric}_mean") for share in shares]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def _reason(error: BaseException) -> str:
    """The first line of what a user reads, or the kind and text of an error of the program."""
    text = str(error).strip().splitlines() or [""]
    return text[0][:500] if isinstance(error, UserError) else f"{type(error).__name__}: {text[0][:400]}"
