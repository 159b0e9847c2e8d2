"""MLflow is the memory: stages are looked up in it by fingerprint, and every run is made by the driver here.

The driver creates, ends and looks up runs through `Store`. Workers get a run's id and log metrics through
`metric_log.MetricLog`. A run's tags: `a2v.stage`, `a2v.fingerprint`, `a2v.driver` (host:pid that owns it while it
is RUNNING), `a2v.model` = logged once its trained model is an artifact, and fold, label_share, variant.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # read when mlflow is imported
import mlflow
import psutil
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from mlflow.utils.time import get_current_time_millis

from .environment import describe_environment, origin
from .errors import FAILED, UserError

MAX_PARAM_CHARACTERS = 6000
FIGURE_DPI = 200


def default_uri(work: Path) -> str:
    """sqlite in the work folder: the store that needs no server."""
    return f"sqlite:///{work.resolve() / 'mlflow.db'}"


class StageBusy(UserError):  # noqa: N818 - it says what is the matter
    """Another live process is working on a stage."""


class Store:
    """One tracking store and one experiment in it.

    Raises UserError when the store cannot be opened (made by a newer MLflow, not reachable, not writable).
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None) -> None:
        self.uri = uri
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it reports every new database
        try:
            self.client = MlflowClient(uri)
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                location = artifacts.resolve().as_uri() if artifacts else None
                kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens its view for training
                self.experiment_id = self.client.create_experiment(experiment, artifact_location=location, tags=kind)
            elif found.lifecycle_stage == "deleted":
                raise UserError(
                    f"{uri}: experiment {experiment!r} was deleted in MLflow; restore it or rename the recipe"
                )
            else:
                self.experiment_id = found.experiment_id
        except UserError:
            raise
        except Exception as error:
            raise UserError(_why_unusable(uri, error), FAILED) from None
        mlflow.set_tracking_uri(uri)

    def find(self, stage: str, fingerprint: str, finished: bool = True) -> Run | None:
        """The newest run of a stage with this fingerprint, in any experiment of the store."""
        ids = [experiment.experiment_id for experiment in self.client.search_experiments()]
        query = f"tags.`a2v.stage` = '{stage}' and tags.`a2v.fingerprint` = '{fingerprint}'"
        if finished:
            query += " and attributes.status = 'FINISHED'"
        runs = self.client.search_runs(ids, query, order_by=["attributes.start_time DESC"], max_results=1)
        return runs[0] if runs else None

    def trained(self, training: str) -> str | None:
        """The run that holds the finetuned model with this training fingerprint."""
        ids = [experiment.experiment_id for experiment in self.client.search_experiments()]
        query = f"tags.`a2v.training` = '{training}' and tags.`a2v.model` = 'logged'"
        runs = self.client.search_runs(ids, query, order_by=["attributes.start_time DESC"], max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def begin(
        self, stage: str, fingerprint: str, name: str, config: dict[str, Any], tags: dict[str, str], parent: str | None
    ) -> str:
        """Start a stage's run, or take over the unfinished one that an earlier call left; returns its id.

        Raises StageBusy when another live process is working on the same stage.
        """
        tags = {**tags, "a2v.stage": stage, "a2v.fingerprint": fingerprint, "a2v.driver": _owner(), **origin()}
        if parent:
            tags[MLFLOW_PARENT_RUN_ID] = parent
        left = self.find(stage, fingerprint, finished=False)
        if left and left.info.status != "FINISHED":
            driver = left.data.tags.get("a2v.driver", "")
            if left.info.status == "RUNNING" and _is_alive(driver):
                raise StageBusy(
                    f"{name}: process {driver} is running this stage already (run {left.info.run_id}); wait for it or"
                    " stop it; if its machine is gone, delete that run in MLflow",
                    FAILED,
                )
            run_id = left.info.run_id
            self.client.update_run(run_id, status="RUNNING")
            self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            return str(run_id)
        run = self.client.create_run(self.experiment_id, tags={**tags, MLFLOW_RUN_NAME: name}, run_name=name)
        run_id = run.info.run_id
        self._log_params(run_id, config)
        self.log_json(run_id, config, "config.json")
        self.log_json(run_id, describe_environment(), "environment.json")
        return str(run_id)

    def reopen(self, run_id: str) -> None:
        """Go on with a run that was finished: it reads RUNNING again, owned by this process."""
        self.client.update_run(run_id, status="RUNNING")
        self.client.set_tag(run_id, "a2v.driver", _owner())

    def children(self, run_id: str, query: str = "") -> list[Run]:
        """All runs directly below one, in any experiment of the store, the oldest first."""
        ids = [experiment.experiment_id for experiment in self.client.search_experiments()]
        below = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'" + (f" and {query}" if query else "")
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(ids, below, order_by=["attributes.start_time ASC"], page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _log_params(self, run_id: str, config: dict[str, Any]) -> None:
        params = [Param(key, value[:MAX_PARAM_CHARACTERS]) for key, value in flatten(config).items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(run_id, params=params[start : start + 100])

    def finish(self, run_id: str, status: str = "FINISHED") -> None:
        self.client.set_terminated(run_id, status)

    def tag(self, run_id: str, key: str, value: str) -> None:
        self.client.set_tag(run_id, key, value)

    def log_json(self, run_id: str, value: Any, name: str) -> None:
        self.client.log_text(run_id, json.dumps(value, indent=1, sort_keys=True, default=str), name)

    def log_figure(self, run_id: str, figure: Any, name: str) -> None:
        from a2v_eval.figures import quiet_fonts

        with quiet_fonts():
            self.client.log_figure(run_id, figure, name, save_kwargs={"dpi": FIGURE_DPI})

    def log_folder(self, run_id: str, folder: Path, name: str) -> None:
        self.client.log_artifacts(run_id, str(folder), name)

    def put_back(self, run_id: str, path: Path, folder: str) -> None:
        """Upload a changed file of a folder that `fetch` gave; where the store is local it is the artifact itself."""
        place = urlparse(self.client.get_run(run_id).info.artifact_uri)
        if place.scheme in ("", "file") and path == Path(unquote(place.path)) / folder / path.name:
            return
        self.client.log_artifact(run_id, str(path), folder)

    def log_metrics(self, run_id: str, metrics: dict[str, float], step: int = 0) -> None:
        """All metrics of one step in one request."""
        now = get_current_time_millis()
        values = [Metric(allowed_name(key), float(value), now, step) for key, value in metrics.items()]
        self.client.log_batch(run_id, metrics=values)

    def fetch(self, run_id: str, name: str, work: Path) -> str:
        """Local path of a run's artifact: the file itself where the store is local, else a copy under work/fetched.

        The work folder is where every worker of a cluster can read it. Raises UserError where it cannot be had.
        """
        try:
            place = urlparse(self.client.get_run(run_id).info.artifact_uri)
            local = Path(unquote(place.path)) / name
            if place.scheme in ("", "file") and local.exists():
                return str(local)
            copy = work / "fetched" / run_id
            copy.mkdir(parents=True, exist_ok=True)
            return str(Path(self.client.download_artifacts(run_id, name, str(copy))).resolve())
        except (MlflowException, OSError) as error:
            raise UserError(
                f"{self.uri}: artifact {name} of run {run_id} cannot be read: {_one_line(error)}", FAILED
            ) from None


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested configuration as dotted parameters, so that MLflow can filter and compare them."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[allowed_name(name)] = str(value)
    return flat


def allowed_name(name: str) -> str:
    """A name that MLflow takes for a metric or parameter; class names may hold what it does not.

    It allows letters, digits, _ - . : / and space, and no name that reads as another path (a//b, a/../b).
    """
    parts = re.sub(r"[^\w\-.: /]", "_", name).split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)


def _owner() -> str:
    """host:pid:start of this process; the start tells it from a later process that gets the same pid."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _is_alive(owner: str) -> bool:
    """Whether another process is at work on a run. One of another machine counts as alive: nobody can tell here."""
    host, pid, started = (*owner.split(":"), "", "")[:3]
    if host != socket.gethostname():
        return True
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" == started
    except psutil.Error:
        return False


def _why_unusable(uri: str, error: Exception) -> str:
    text = _one_line(error)
    if "out-of-date" in text or "locate revision" in text or "schema" in text.lower():
        return (
            f"{uri}: this store was written by another version of MLflow than the installed {mlflow.__version__};"
            " update MLflow, or choose another store with --tracking-uri"
        )
    return f"{uri}: the tracking store cannot be opened: {text}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:297] + "..."


def scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="a2v-")


def open_store(work: Path, uri: str | None, experiment: str) -> Store:
    """The store at uri, or sqlite in the work folder. Artifacts of a store without server lie in the work folder."""
    if uri and not uri.startswith("sqlite:"):
        return Store(uri, experiment, None)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{work}: cannot be made: {error.strerror}") from None
    return Store(uri or default_uri(work), experiment, work / "artifacts" / experiment)
