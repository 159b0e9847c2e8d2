"""What a Ray job is given: the recipe, this very code, and where the run is tracked.

The upload is one folder that Ray unpacks on every node and puts first on Python's path, so the cluster runs exactly
the code that submitted, whether its machines have a2v installed or only its dependencies:

    recipe.yaml     its parents and `--set` resolved
    plugins/        the source of its plugins
    a2v_*/          the packages, with a2v_experiments/origin.json: who submitted which commit as which job, and
                    uncommitted.diff where something was changed since
    *.dist-info/    their versions
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import ipaddress
import json
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml

from ..basics.errors import UserError
from ..basics.places import pasted
from ..recipe.corpora import are_several
from ..recipe.files import RecipeFile
from ..recipe.plugins import write_files
from ..recipe.sections import DataConfig, Recipe
from ..store.environment import ORIGIN, UNCOMMITTED, origin, uncommitted
from ..store.tags import JOB

PACKAGES = {
    "a2v": "a2v_experiments",
    "a2v-model": "a2v_model",
    "a2v-data": "a2v_data",
    "a2v-eval": "a2v_eval",
}
RECIPE = "recipe.yaml"


def for_cluster(file: RecipeFile) -> RecipeFile:
    """The recipe as its job reads it: with absolute paths, and on the job's own cluster."""
    tree = copy.deepcopy(file.tree)
    heard = tree.get("pretrain_data")
    several = are_several(heard, DataConfig.model_fields.keys())
    for section in (tree, tree.get("data"), *(heard.values() if several else [heard])):  # type: ignore[union-attr]
        if isinstance(section, dict):
            _absolute(section, "source")
            _absolute(section, "backbone")
            if isinstance(section.get("annotations"), dict):
                _absolute(section["annotations"], "mapping")
    for stage in (tree.get("finetune"), *(tree.get("finetune_by_share") or {}).values()):
        if isinstance(stage, dict):
            _absolute(stage, "start")
    ray = tree.get("ray")
    if isinstance(ray, dict):
        ray.pop("address", None)
        if file.scale and ray.get("num_workers"):  # a recipe that names a cluster keeps its workers when made small
            ray["address"] = "auto"
    return dataclasses.replace(file, tree=tree)


def _absolute(section: dict[str, Any], key: str) -> None:
    """A path's absolute form; neither the word `synthetic` nor a URI (`runs:/RUN_ID`) is a path."""
    value = section.get(key)
    if isinstance(value, str) and value != "synthetic" and ":/" not in value:
        section[key] = os.path.abspath(value)


def write_upload(folder: Path, file: RecipeFile, job_id: str) -> None:
    """Fill an empty folder with what the job needs."""
    tree = file.tree
    if file.plugins:
        tree = {**tree, "plugins": [write_files(plugin, folder) for plugin in file.plugins]}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    (folder / RECIPE).write_text(text, encoding="utf-8")
    for distribution, package in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.submodule_search_locations, package
        skip = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(spec.submodule_search_locations[0], folder / package, ignore=skip)
        number = version(distribution)
        about = folder / f"{distribution.replace('-', '_')}-{number}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {number}\n")
    tags = {**origin(), JOB: job_id}
    (folder / "a2v_experiments" / ORIGIN).write_text(json.dumps(tags, indent=1), encoding="utf-8")
    if changes := uncommitted():
        (folder / "a2v_experiments" / UNCOMMITTED).write_text(changes, encoding="utf-8")


def entrypoint(
    work: Path, scale: str | None, register: str | None = None, trust_code: bool = False, force: Sequence[str] = ()
) -> str:
    """The job's command."""
    options = ["--work", os.path.abspath(work), *(["--scale", scale] if scale else [])]
    options += ["--register", register] if register else []
    options += ["--trust-code"] * trust_code + [text for stage in force for text in ("--force", stage)]
    return pasted(["python", "-m", "a2v_experiments", "experiment", "run", RECIPE, *options])


def runtime_env(
    folder: Path, tracking_uri: str | None, env: dict[str, str], requirements: Path | None
) -> dict[str, Any]:
    """Ray's runtime environment. The tracking URI travels as a variable: it may hold a password, a command is shown."""
    tracking = {"MLFLOW_TRACKING_URI": tracking_uri} if tracking_uri else {}
    pip = {"pip": str(requirements)} if requirements else {}
    return {"working_dir": str(folder), "env_vars": {**tracking, **env}, **pip}


def parse_env(settings: list[str]) -> dict[str, str]:
    """`KEY=VALUE`, or `KEY` for the value that it has here, which keeps secrets out of the shell's history."""
    env: dict[str, str] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not key.isidentifier():
            raise UserError(f"--env {setting}: expected KEY=VALUE, or KEY for its value here")
        if not sign and key not in os.environ:
            raise UserError(f"--env {key}: has no value here; set it, or give --env {key}=VALUE")
        env[key] = value if sign else os.environ[key]
    return env


def check_tracking(uri: str | None, address: str) -> None:
    """Raise UserError where the tracking store cannot be the one that is meant when a cluster's nodes open it."""
    if uri is None or uri.startswith(("sqlite:////", "sqlite+pysqlite:////")):
        return
    place = urlparse(uri)
    if place.scheme in ("", "file", "sqlite"):
        raise UserError(
            f"--tracking-uri {uri}: give sqlite:////SHARED/FOLDER/mlflow.db or a server that nodes can reach"
        )
    if is_loopback(place.hostname) and not is_loopback(urlparse(address).hostname):
        raise UserError(
            f"--tracking-uri {uri}: on the cluster this is another machine; give an address that its nodes can reach"
        )


def is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def sources(recipe: Recipe) -> list[str]:
    """The folders of recordings that a recipe reads."""
    return [data.source for data in recipe.corpora.values() if data.source != "synthetic"]


def notices(recipe: Recipe, work: Path, tracking_uri: str | None) -> list[str]:
    """What has to hold on the cluster and cannot be checked from here."""
    told = [f"work folder {os.path.abspath(work)}: every node must see it under this path"]
    for source in sources(recipe):
        here = "" if Path(source).is_dir() else " (it is not on this machine)"
        told.append(f"source {source}: the head node must see it under this path{here}")
    if tracking_uri is None:
        told.append(
            "tracked in sqlite in the work folder; with several experiments at once use a server: --tracking-uri"
        )
    if recipe.ray.num_workers == 0:
        told.append(
            "ray.num_workers = 0: it trains in one process on the head node; --set ray.num_workers=N uses N workers"
        )
    return told
