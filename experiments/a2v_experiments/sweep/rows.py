"""What MLflow knows of a sweep's trials: one row each, and what is left to run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mlflow.entities import Run

from ..recipe.sections import Recipe
from ..stages.graph import Sources, find_sources
from ..store import lookup
from ..store.tags import ERROR, FINGERPRINT, FOLDS_DONE, HEARD_LINE, PARAMETERS, PRUNED, STAGE, having
from ..store.tracking import Store
from .cells import ranked_scores
from .trial import Task, score_of_run, trial_mark
from .trials import Trial, trial

Status = Literal["finished", "pruned", "failed", "stopped", "not run"]
DONE = ("finished", "pruned")  # not run again


@dataclass(frozen=True)
class Row:
    """One trial. folds: how many it has scores of; metrics: those of its run (means over these folds).
    heard: what its pretraining heard of the evaluation recordings, a line. ranked: metric -> its mean over folds and
    label shares with 0 where it is undefined for this trial alone, see `ranked_scores`."""

    name: str
    parameters: dict[str, Any]
    status: Status
    reason: str = ""
    run_id: str = ""
    folds: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    heard: str = ""
    ranked: Mapping[str, float] = field(default_factory=dict)

    def score(self, metric: str, shares: list[float]) -> float | None:
        """The metric's mean over folds and label shares, None where there is none."""
        if metric in self.ranked:
            return self.ranked[metric]
        return score_of_run(self.metrics, metric, shares)


class KnownSources:
    """Sources of recipes, each looked up once: a large folder takes a while, and trials mostly share theirs."""

    def __init__(self, work: Path, uri: str) -> None:
        self.work, self.uri = work, uri
        self.found: dict[str, Sources] = {}

    def of(self, recipe: Recipe) -> Sources:
        whole: Any = {key: True for key in ("data", "pretrain_data", "backbone")}
        whole |= {"folds": {"manifests"}, "finetune": {"start"}}
        key = recipe.model_dump_json(include=whole)
        if key not in self.found:
            self.found[key] = find_sources(recipe, self.work, self.uri)
        return self.found[key]


def rows_of(task: Task, store: Store, sources: KnownSources) -> list[Row]:
    """The trials in order: all that the recipe names, or those that Optuna has chosen so far."""
    runs = {run.data.tags[FINGERPRINT]: run for run in store.children(task.parent, having(STAGE, "trial"))}
    trials = task.known or [trial(task.file, json.loads(run.data.tags[PARAMETERS])) for run in runs.values()]
    rows = []
    for one in trials:
        run = runs.get(trial_mark(one.recipe, sources.of(one.recipe), task.mark))
        if run is not None or task.known:
            rows.append(_row(one, run))
    shares = task.file.resolve().folds.label_shares
    finished = [row.run_id for row in rows if row.status == "finished"]
    ranked = ranked_scores(store.client, finished, task.metric, shares)
    return [replace(row, ranked={task.metric: ranked[row.run_id]}) if row.run_id in ranked else row for row in rows]


def _row(one: Trial, run: Run | None) -> Row:
    if run is None:
        return Row(one.name, one.parameters, "not run")
    tags, status = run.data.tags, status_of(run)
    reason = tags.get(ERROR, "") if status == "failed" else ""
    return Row(
        one.name,
        one.parameters,
        status,
        reason,
        run.info.run_id,
        int(tags[FOLDS_DONE]),
        lookup.metrics_of(run),
        tags.get(HEARD_LINE, ""),
    )


def status_of(run: Run) -> Status:
    """What became of a trial."""
    if run.info.status == "FINISHED":
        return "finished"
    if run.data.tags.get(PRUNED) == "true":
        return "pruned"
    return "failed" if run.info.status == "FAILED" else "stopped"


def best_of(rows: list[Row], metric: str, shares: list[float]) -> Row | None:
    """The finished trial with the highest score; pruned ones have fewer folds."""
    scored = [
        (score, row) for row in rows if row.status == "finished" and (score := row.score(metric, shares)) is not None
    ]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None
