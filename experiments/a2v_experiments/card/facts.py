"""What the tracking store knows of a model's making: the facts of its card, as JSON data.

run_id, stage, experiment, fold, label_share, seed    which training it is; the last three where it has them
data        context (training, validation, evaluation) -> corpus, recordings, hours, labels, labels_by_class and
            licence (None: not recorded); a context without recordings is not there. Of several corpora: their names and
            sums, and corpora with all that of each, and its share of what was heard
start       what training started from: kind (pretraining, backbone, model), source, run_id and data of it as far as
            they are known; None: random weights, or not known
scores      of (evaluation, validation, folds, training), metrics under the names that runs have them; of folds the
            mean over them, with n (how many) and std; counted_at: the thresholds of what is counted, in words
version, commit, uncommitted    of a2v, None where it is not recorded; repeat: the command that makes it again
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from a2v_data.licences import UNKNOWN
from a2v_eval.label_shares import VALIDATION_LABELS
from a2v_eval.summary import summarise
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from ..store import lookup
from ..store.tags import (
    BACKBONE,
    COMMAND,
    COMMIT,
    DIRTY,
    FINGERPRINT,
    FOLD,
    HEARD_LINE,
    LABEL_SHARE,
    LICENCE,
    SEED,
    SHARE,
    STAGE,
    START,
    START_RUN,
    having,
    input_run,
)

SCORE = re.compile(r"(strict/|presence/)?(mAP|AP|F1|precision|recall)/.+")
VALIDATED = re.compile(r"validation/(?=(strict/|presence/)?m?AP/)")
ENVIRONMENT = "environment.json"
OF_FOLDS = f"{input_run('finetune')} "  # tags of a training on all labels: the runs of the folds
ADAPT = "adapt"  # a stage without a recipe


def facts_of(client: MlflowClient, run_id: str) -> dict[str, Any] | None:
    """The facts of the model that a run trained; None where the store has no such run of a2v."""
    run = _run(client, run_id)
    if run is None or STAGE not in run.data.tags:
        return None
    tags: Mapping[str, str] = run.data.tags
    told = {"fold": FOLD, "label_share": LABEL_SHARE, "seed": SEED}
    data = data_of(client, run)
    own = tags[STAGE] == ADAPT  # has no recipe, but its command
    return {
        "run_id": run_id,
        "stage": tags[STAGE],
        "experiment": client.get_experiment(run.info.experiment_id).name,
        **{key: tags[tag] for key, tag in told.items() if tag in tags},
        "data": data,
        "start": _start(client, tags),
        "scores": _scores(client, run, data),
        "heard": _heard(client, tags),
        "version": _version(client, run_id),
        "commit": tags.get(COMMIT),
        "uncommitted": tags.get(DIRTY) == "true",
        "repeat": tags.get(COMMAND) if own else f"a2v experiment rerun {run_id}",
    }


def _run(client: MlflowClient, run_id: str) -> Run | None:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def data_of(client: MlflowClient, run: Run) -> dict[str, Any]:
    """What a run hears and is scored on, by context; see above."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in run.inputs.dataset_inputs if run.inputs else []:
        tags = {tag.key: tag.value for tag in one.tags}
        context = tags.get(MLFLOW_DATASET_CONTEXT)
        if context is None or not one.dataset.profile:
            continue
        profile = json.loads(one.dataset.profile)
        mark = profile.pop("corpus", "")
        licence = _licence(client, mark) or tags.get(LICENCE)
        profile |= {"share": float(tags[SHARE])} if SHARE in tags else {}
        found.setdefault(context, []).append({"corpus": one.dataset.name, **profile, "licence": licence})
    return {context: corpora[0] if len(corpora) == 1 else _together(corpora) for context, corpora in found.items()}


def _together(corpora: list[dict[str, Any]]) -> dict[str, Any]:
    corpora = sorted(corpora, key=lambda one: (-one.get("share", 0.0), one["corpus"]))
    sums = {key: sum(one[key] for one in corpora) for key in ("recordings", "hours", "labels")}
    by_class: Counter[str] = Counter()
    for one in corpora:
        by_class.update(one["labels_by_class"])
    named = ", ".join(one["corpus"] for one in corpora)
    licences = "; ".join(f"{one['corpus']}: {one['licence'] or UNKNOWN}" for one in corpora)
    sums["hours"] = round(sums["hours"], 3)
    return {"corpus": named, **sums, "labels_by_class": dict(by_class), "licence": licences, "corpora": corpora}


def _licence(client: MlflowClient, mark: str) -> str | None:
    """Of the recordings of a packed corpus. mark: the beginning of its fingerprint."""
    if not re.fullmatch("[0-9a-f]+", mark):
        return None
    query = f"{having(STAGE, 'prepare')} and tags.`{FINGERPRINT}` LIKE '{mark}%'"
    return next((run.data.tags[LICENCE] for run in lookup.search(client, query) if LICENCE in run.data.tags), None)


def _start(client: MlflowClient, tags: Mapping[str, str]) -> dict[str, Any] | None:
    if START in tags:
        kind, source, run_id = "model", tags[START], tags.get(START_RUN)
    elif BACKBONE in tags:
        kind, source = "backbone", tags[BACKBONE]
        named = re.match(r"runs:/([^/]+)", source)
        run_id = named[1] if named else None
    elif input_run("pretrain") in tags:
        run_id = tags[input_run("pretrain")]
        kind, source = "pretraining", f"runs:/{run_id}"
    else:
        return None
    run = _run(client, run_id) if run_id else None
    return {"kind": kind, "source": source, "run_id": run_id, "data": data_of(client, run) if run else {}}


def _heard(client: MlflowClient, tags: Mapping[str, str]) -> str | None:
    above = _run(client, tags[MLFLOW_PARENT_RUN_ID]) if MLFLOW_PARENT_RUN_ID in tags else None
    return above.data.tags.get(HEARD_LINE) or None if above else None


def _scores(client: MlflowClient, run: Run, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    folds = [run_id for tag, run_id in run.data.tags.items() if tag.startswith(OF_FOLDS)]
    if folds:
        runs = lookup.by_id(client, folds).values()
        spreads = summarise([_metrics(one) for one in runs])
        means = {name: spread.mean for name, spread in spreads.items()}
        deviations = {name: spread.std for name, spread in spreads.items() if spread.std is not None}
        at = " or ".join(sorted({_counted_at(one) for one in runs}))
        scored = [{"of": "folds", "n": len(runs), "metrics": means, "std": deviations, "counted_at": at}]
        return scored if means else []
    of = "evaluation"
    if run.data.tags[STAGE] == ADAPT:  # nothing is left that chose neither weights nor thresholds
        of = "validation" if "validation" in data else "training"
    found: list[dict[str, Any]] = [{"of": of, "metrics": _metrics(run), "counted_at": _counted_at(run)}]
    every = lookup.defined_metrics(run).items()
    validated = {VALIDATED.sub("", name): value for name, value in every if VALIDATED.match(name)}
    if of == "evaluation" and validated:
        found.append({"of": "validation", "metrics": validated, "counted_at": None})
    return [one for one in found if one["metrics"]]


def _metrics(run: Run) -> dict[str, float]:
    return {name: value for name, value in lookup.defined_metrics(run).items() if SCORE.fullmatch(name)}


def _counted_at(run: Run) -> str:
    if run.data.tags[STAGE] == ADAPT:
        return "the thresholds with the highest F1 on these recordings"
    if any(name.startswith(VALIDATION_LABELS) for name in run.data.metrics):
        return "thresholds chosen on validation recordings"
    if "counted_over" in run.data.params:
        return "thresholds chosen on the other folds"
    if run.data.params.get("evaluate.fit_events") == "True":
        return "the low threshold from which events are ranked"
    threshold = run.data.params.get("evaluate.events.threshold")
    return "the recipe's threshold" + (f" ({threshold})" if threshold else "")


def _version(client: MlflowClient, run_id: str) -> str | None:
    """Of the a2v that trained."""
    try:
        with tempfile.TemporaryDirectory(prefix="a2v-") as aside:
            path = Path(client.download_artifacts(run_id, ENVIRONMENT, aside))
            found = json.loads(path.read_text(encoding="utf-8"))["packages"]["a2v"]
    except (MlflowException, OSError, ValueError, KeyError):
        return None
    return str(found)
