"""MLflow's registry of models: a name, its versions, and which of them is the candidate and which the champion."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from ..basics.errors import UserError
from .logged_models import MODEL, model_of

CANDIDATE, CHAMPION = "candidate", "champion"  # aliases: what was registered last, and what is in use
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_name(name: str) -> None:
    """Raise UserError for a name that `models:/NAME@ALIAS` could not have."""
    if not NAME.fullmatch(name):
        raise UserError(f"--register {name!r}: a model's name has letters, digits, _ . - and begins with the first two")


def register(client: MlflowClient, name: str, run_id: str, tags: Mapping[str, str], told: str) -> str:
    """The version of the model `name` that is this run's, made unless it is there; it becomes the candidate. Returns
    its number. tags: of the version; told: its description."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    there = [one for one in client.search_model_versions(f"name = '{name}'") if one.run_id == run_id]
    if there:
        version = str(max(int(one.version) for one in there))
    else:
        model_id = model_of(client, run_id)
        source = f"models:/{model_id}" if model_id else f"runs:/{run_id}/{MODEL}"
        version = str(client.create_model_version(name, source, run_id, model_id=model_id).version)
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    client.update_model_version(name, version, told)
    client.set_registered_model_alias(name, CANDIDATE, version)
    return version


def version_of(client: MlflowClient, name: str, version: str | None) -> ModelVersion:
    """A version by its number, or (None) the candidate. Raises UserError where there is none."""
    try:
        if version is not None:
            return client.get_model_version(name, version)
        return client.get_model_version_by_alias(name, CANDIDATE)
    except MlflowException as error:
        if not _is_absent(error):
            raise
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if not _is_absent(error):
            raise
        names = sorted(model.name for model in client.search_registered_models())
        there = f"there are: {', '.join(names)}" if names else "none is (a2v experiment run --register NAME)"
        raise UserError(f"{name}: no model of this name is registered; {there}") from None
    if version is None:
        raise UserError(f"{name}: no version is the {CANDIDATE}; name one with --version")
    numbers = sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
    raise UserError(f"{name}: no version {version}; there are: {', '.join(map(str, numbers)) or 'none'}")


def champion_of(client: MlflowClient, name: str) -> ModelVersion | None:
    """The champion's version; None where there is none yet."""
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if not _is_absent(error):
            raise
        return None


def _is_absent(error: MlflowException) -> bool:
    """Whether there is no such model, version or alias: MLflow calls the last an invalid parameter."""
    return error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
