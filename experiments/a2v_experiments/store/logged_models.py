"""A run's model as MLflow knows models: it stands in the UI beside its scores, and in the registry.

A detector is such a model, `model` in its run (tag `a2v.model_id`), and its files are stored there and nowhere else; a
pretraining's model is a plain artifact `model`.
"""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus

from .database import local_path
from .tags import FOLD, LABEL_SHARE, MODEL_ID, VARIANT

MAX_PARAM_CHARACTERS = 6000
MODEL = "model"  # how a training's run calls its model
TOLD_APART_BY = (FOLD, LABEL_SHARE, VARIANT)


def begin_model(client: MlflowClient, run_id: str, kind: str, facts: dict[str, str]) -> str:
    """The id of the run's model, made at the first call; pending until `finish_model`.

    facts: its parameters beside the tags by which runs are told apart.
    """
    model_id = model_of(client, run_id)
    if model_id is None:
        run = client.get_run(run_id)
        tags: dict[str, str] = run.data.tags
        told = {key: tags[key] for key in TOLD_APART_BY if key in tags}
        facts = {key: value[:MAX_PARAM_CHARACTERS] for key, value in facts.items()}  # hundreds of classes are longer
        model = client.create_logged_model(
            run.info.experiment_id, MODEL, run_id, params={**told, **facts}, model_type=kind
        )
        model_id = str(model.model_id)
        client.set_tag(run_id, MODEL_ID, model_id)
        client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    return model_id


def model_of(client: MlflowClient, run_id: str) -> str | None:
    """The id of the run's model, where it has one."""
    tags: dict[str, str] = client.get_run(run_id).data.tags
    return tags.get(MODEL_ID)


def finish_model(client: MlflowClient, run_id: str) -> None:
    """The run's model is what it will stay."""
    model_id = model_of(client, run_id)
    if model_id:
        client.finalize_logged_model(model_id, LoggedModelStatus.READY)


def local_place(client: MlflowClient, run_id: str, name: str) -> Path | None:
    """Where a run's artifact or model lies, or would lie, on this machine's disk; None where a server keeps it."""
    model_id = model_of(client, run_id) if name == MODEL else None
    if model_id:
        return local_path(client.get_logged_model(model_id).artifact_location)
    place = local_path(client.get_run(run_id).info.artifact_uri)
    return place / name if place else None
