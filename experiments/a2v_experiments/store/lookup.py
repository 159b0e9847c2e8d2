"""Reading the tracking store: runs by stage, fingerprint or id. Nothing here makes a store, an experiment or a run."""

from __future__ import annotations

import json
from collections.abc import Iterable

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ..basics.fingerprint import identity_of
from .names import ClassNames
from .reuse import AS_USUAL, Reuse
from .tags import (
    FINETUNE_RUNS,
    FINGERPRINT,
    HAS_MODEL,
    IDENTITY,
    LOGGED,
    MODEL_RUN,
    REFIT_RUN,
    STAGE,
    TRAINING,
    TRAINING_IDENTITY,
    having,
)

NEWEST_FIRST = ["attributes.start_time DESC"]
IDS_AT_ONCE = 100  # in one query


def experiment_names(client: MlflowClient) -> dict[str, str]:
    """Experiment id -> name, of those that are not deleted."""
    found: dict[str, str] = {}
    token = None
    while True:
        page = client.search_experiments(page_token=token)
        found |= {experiment.experiment_id: experiment.name for experiment in page}
        token = page.token
        if not token:
            return found


def search(client: MlflowClient, query: str, most: int | None = None) -> list[Run]:
    """Runs of all experiments that a query of MLflow finds, the newest first; at most `most` of them."""
    found: list[Run] = []
    token = None
    ids = list(experiment_names(client))
    while ids:
        page = client.search_runs(ids, query, order_by=NEWEST_FIRST, max_results=most or 1000, page_token=token)
        found += page
        token = page.token
        if not token or (most and len(found) >= most):
            break
    return found


def by_id(client: MlflowClient, run_ids: Iterable[str]) -> dict[str, Run]:
    """Runs of these ids, few requests for many; an id that the store does not have is left out."""
    wanted, found = list(dict.fromkeys(run_ids)), []
    for start in range(0, len(wanted), IDS_AT_ONCE):
        ids = ", ".join(f"'{run_id}'" for run_id in wanted[start : start + IDS_AT_ONCE])
        found += search(client, f"attributes.run_id IN ({ids})")
    return {str(run.info.run_id): run for run in found}


def of_stage(client: MlflowClient, stage: str) -> list[Run]:
    """All runs of a stage, the newest first."""
    return search(client, having(STAGE, stage))


def trials_of(client: MlflowClient) -> dict[str, list[Run]]:
    """Run id of a sweep -> its trials, in the order in which they started."""
    found: dict[str, list[Run]] = {}
    for run in reversed(of_stage(client, "trial")):
        found.setdefault(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""), []).append(run)
    return found


def attempts(client: MlflowClient, stage: str, fingerprint: str, reuse: Reuse = AS_USUAL) -> list[Run]:
    """All runs of a stage with this fingerprint that may be reused, finished or not, the newest first."""
    forced = reuse.forces(stage)
    found = search(client, f"{having(STAGE, stage)} and {having(FINGERPRINT, fingerprint)}")
    return [run for run in found if reuse.counts(run, forced)]


def find(client: MlflowClient, stage: str, fingerprint: str, reuse: Reuse = AS_USUAL) -> Run | None:
    """The newest finished run of a stage with this fingerprint, in any experiment of the store; where the code is
    trusted and there is none, with this identity."""
    found = finished(attempts(client, stage, fingerprint, reuse))
    return of_other_code(client, stage, fingerprint, reuse) if found is None and reuse.trust_code else found


def of_other_code(client: MlflowClient, stage: str, fingerprint: str, reuse: Reuse = AS_USUAL) -> Run | None:
    """The newest finished run with a fingerprint's identity, whatever its code."""
    forced = reuse.forces(stage)
    found = search(client, f"{having(STAGE, stage)} and {having(IDENTITY, identity_of(fingerprint))}")
    return finished(run for run in found if reuse.counts(run, forced))


def finished(runs: Iterable[Run]) -> Run | None:
    """The first that is finished."""
    return next((run for run in runs if run.info.status == "FINISHED"), None)


def children(client: MlflowClient, run_id: str, query: str = "") -> list[Run]:
    """All runs directly below one, the oldest first."""
    below = having(MLFLOW_PARENT_RUN_ID, run_id) + (f" and {query}" if query else "")
    return search(client, below)[::-1]


def trained(client: MlflowClient, training: str, stage: str = "finetune", reuse: Reuse = AS_USUAL) -> str | None:
    """The run that holds the finetuned model with this training fingerprint, or identity where the code is trusted.
    stage: finetune, inner or refit, whose training it is."""
    forced = reuse.trains(stage)
    by = {TRAINING: training} | ({TRAINING_IDENTITY: identity_of(training)} if reuse.trust_code else {})
    for tag, value in by.items():
        runs = search(client, f"{having(tag, value)} and {having(HAS_MODEL, LOGGED)}", None if forced else 1)
        found = next((run for run in runs if reuse.counts(run, forced)), None)
        if found is not None:
            return str(found.info.run_id)
    return None


def has_model(run: Run) -> bool:
    """Whether a training's model is stored in its run."""
    return bool(run.data.tags.get(HAS_MODEL) == LOGGED)


def refit_run(run: Run) -> str | None:
    """The run of an experiment's training on all labels, where it is done."""
    tags: dict[str, str] = run.data.tags
    return tags.get(REFIT_RUN)


def finetune_runs_tag(seed: int | None) -> str:
    """The tag of an experiment or trial that names its finetunings, of one seed where its recipe has several."""
    return FINETUNE_RUNS if seed is None else f"{FINETUNE_RUNS}.{seed}"


def seed_runs(run: Run) -> dict[int | None, dict[float, dict[int, str]]]:
    """Run ids of the finetunings that an experiment or trial has done or reused so far: seed (None where its recipe has
    no `seeds`) -> label share -> fold -> id. Empty before the first is done."""
    found = {}
    for key, text in run.data.tags.items():
        if key == FINETUNE_RUNS or key.startswith(f"{FINETUNE_RUNS}."):
            seed = int(key.removeprefix(f"{FINETUNE_RUNS}.")) if key != FINETUNE_RUNS else None
            found[seed] = {
                float(share): {int(fold): str(run_id) for fold, run_id in by_fold.items()}
                for share, by_fold in json.loads(text).items()
            }
    return dict(sorted(found.items(), key=lambda pair: -1 if pair[0] is None else pair[0]))


def finetune_runs(run: Run) -> dict[float, dict[int, str]]:
    """The same, of the lowest seed."""
    return next(iter(seed_runs(run).values()), {})


def model_run(run: Run) -> str:
    """The run that holds a finetuning's model: its own, or that of the same training with another evaluation."""
    return str(run.data.tags.get(MODEL_RUN, run.info.run_id))


def defined_metrics(run: Run) -> dict[str, float]:
    """A run's metrics; those that a later look found to be undefined stand there as NaN, and are left out."""
    return {name: value for name, value in metrics_of(run).items() if value == value}


def metrics_of(run: Run) -> dict[str, float]:
    """A run's metrics, with the names of classes as people wrote them."""
    named = ClassNames.from_tags(run.data.tags)
    return {named.from_store(name): value for name, value in run.data.metrics.items()}


def share_prefix(share: float, shares: int) -> str:
    """What stands before a metric's name on an experiment or trial: nothing, unless it has several label shares."""
    return "" if shares == 1 else f"labels_{share:g}/"
