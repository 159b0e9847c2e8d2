"""MLflow is the memory: stages are looked up in it by fingerprint, and every run is made by the driver here.

The driver creates, ends and looks up runs through `Store`. Workers get a run's id and log metrics through
`metric_log.MetricLog`. What a run is tagged with stands in tags.py.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import mlflow
from a2v_data.documents import reason
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import DatasetInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from mlflow.utils.time import get_current_time_millis

from ..basics.errors import FAILED, UserError
from ..basics.fingerprint import identity_of
from . import lookup
from .claims import (
    CANDIDATE,
    DRIVER,
    HEARTBEAT,
    Heartbeat,
    StageBusy,
    StageLost,
    Witness,
    contest,
    now_text,
    order,
    this_process,
)
from .database import check_name, default_uri, is_sqlite, make_database
from .environment import UNCOMMITTED, describe_environment, origin, process_tags, uncommitted
from .logged_models import MAX_PARAM_CHARACTERS, MODEL, begin_model, finish_model, local_place, model_of
from .moved import ARTIFACTS, put_right
from .names import ClassNames, flatten
from .outage import PATIENCE_S, Outage, PatientClient, quiet_loggers
from .reading import why_unusable
from .reuse import AS_USUAL, Reuse
from .tags import FINGERPRINT, IDENTITY, STAGE, TRAINING, TRIAL, having

CODE = "code.json"  # part of a stage -> mark of its code, and module -> digest of what it uses of it
MAX_TAGS = 100  # in one request
FIGURE_DPI = 200
OPENING_S = 120.0  # how long a store may be away when a command begins
ENDING_S = 10.0  # and when it is stopped
AT_ONCE = 5  # others that make the same dataset


class Store:
    """One tracking store and one experiment in it.

    Raises UserError when the store cannot be opened (made by a newer MLflow, not reachable, not writable).
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None, reuse: Reuse = AS_USUAL) -> None:
        self.uri, self.reuse = uri, reuse
        quiet_loggers()
        self.outage = outage = Outage(uri)
        try:
            make_database(uri)
            self.client = _patient(uri, outage, OPENING_S)
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                location = artifacts.resolve().as_uri() if artifacts else None
                self.experiment_id = self._new_experiment(experiment, location)
            elif found.lifecycle_stage == "deleted":
                raise UserError(
                    f"{uri}: experiment {experiment!r} was deleted in MLflow; restore it or rename the recipe"
                )
            else:
                self.experiment_id = found.experiment_id
        except UserError:
            raise
        except Exception as error:
            raise UserError(why_unusable(uri, error), FAILED) from None
        mlflow.set_tracking_uri(uri)
        self.client = _patient(uri, outage, PATIENCE_S)
        self.ending_client = _patient(uri, outage, ENDING_S)
        self.impatient_client = _patient(uri, outage, 0.0)
        self.witness = Witness()
        self.heartbeat = Heartbeat(self.impatient_client)
        self._classes: dict[str, ClassNames] = {}

    def _new_experiment(self, name: str, location: str | None) -> str:
        kind = {"mlflow.experimentKind": "custom_model_development"}  # of older UIs, see links.py
        try:
            return str(self.client.create_experiment(name, artifact_location=location, tags=kind))
        except MlflowException as error:
            made = self.client.get_experiment_by_name(name)  # by another process, in the meantime
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or made is None:
                raise
            return str(made.experiment_id)

    def find(self, stage: str, fingerprint: str) -> Run | None:
        """The newest finished run of a stage that may be reused for this fingerprint, in any experiment of the
        store."""
        return lookup.find(self.client, stage, fingerprint, self.reuse)

    def of_other_code(self, stage: str, fingerprint: str) -> Run | None:
        """The newest finished run that differs in code at most."""
        return lookup.of_other_code(self.client, stage, fingerprint, self.reuse)

    def trained(self, training: str, stage: str = "finetune") -> str | None:
        """The run that holds the detector that may be reused for this training fingerprint. stage: whose it is."""
        return lookup.trained(self.client, training, stage, self.reuse)

    def training_before(self, training: str, run_id: str) -> Run | None:
        """A run, begun before this one, in which another process trains the same model."""
        runs = lookup.search(self.client, having(TRAINING, training))
        mine = next(run for run in runs if run.info.run_id == run_id)
        before = (run for run in runs if run is not mine and order(run) < order(mine) and self.witness.is_alive(run))
        return next(before, None)

    def begin(
        self,
        stage: str,
        fingerprint: str,
        name: str,
        config: dict[str, Any],
        tags: dict[str, str],
        parent: str | None,
        more: Mapping[str, str] | None = None,
        code: dict[str, Any] | None = None,
    ) -> str:
        """Start a stage's run, or take over the unfinished one that an earlier call left; returns its id. more:
        parameters beside the configuration. What another trial left is not taken over, as its parameters say whose it
        is.

        The run is this process's until `finish`. code: what its artifact CODE says. Raises StageBusy when another
        process has the same stage.
        """
        tags = {**tags, STAGE: stage, FINGERPRINT: fingerprint, IDENTITY: identity_of(fingerprint), **origin()}
        tags |= process_tags()
        forced = self.reuse.forces(stage)
        if parent:
            tags[MLFLOW_PARENT_RUN_ID] = parent
        for run in lookup.attempts(self.client, stage, fingerprint):
            if DRIVER in run.data.tags and self.witness.is_alive(run):  # known without making a run
                raise StageBusy(name, run, self.witness.is_sure(run))

        def look() -> list[Run]:
            runs = lookup.attempts(self.client, stage, fingerprint)
            return [run for run in runs if run.info.status == "RUNNING" or self.reuse.counts(run, forced)]

        mine = self.client.create_run(
            self.experiment_id,
            tags={**tags, MLFLOW_RUN_NAME: name, CANDIDATE: this_process(), HEARTBEAT: now_text()},
            run_name=name,
        )
        try:
            dead = contest(name, mine, look, self.witness)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                self._discard(mine)
            raise
        same = [run for run in dead if run.data.tags.get(TRIAL) == tags.get(TRIAL)]
        left = next((run for run in same if DRIVER in run.data.tags and self.reuse.counts(run, forced)), None)
        chosen = left or mine
        run_id = str(chosen.info.run_id)
        self._own(run_id, tags if left else {})
        for run in [mine, *dead]:
            if run is not chosen and DRIVER not in run.data.tags:  # never begun: mine, and candidates that died
                self._discard(run)
        if not chosen.data.params:
            self.log_params(run_id, {**(more or {}), **flatten(config)})
            self.log_json(run_id, config, "config.json")
            self.log_json(run_id, describe_environment(), "environment.json")
            if code:
                self.log_json(run_id, code, CODE)
            if changes := uncommitted():
                self.log_text(run_id, changes, UNCOMMITTED)
        return run_id

    def _own(self, run_id: str, tags: dict[str, str]) -> None:
        tags = {**tags, DRIVER: this_process(), HEARTBEAT: now_text()}
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        self.client.update_run(run_id, status="RUNNING")
        self.heartbeat.hold(run_id)

    def _discard(self, run: Run) -> None:
        self.client.set_terminated(run.info.run_id, "KILLED")  # nothing reads RUNNING, not even in MLflow's bin
        self.client.delete_run(run.info.run_id)

    def reopen(self, run_id: str) -> None:
        """Go on with a run that was finished: it reads RUNNING again, owned by this process."""
        self._own(run_id, {})

    def children(self, run_id: str, query: str = "") -> list[Run]:
        """All runs directly below one, in any experiment of the store, the oldest first."""
        return lookup.children(self.client, run_id, query)

    def log_params(self, run_id: str, named: Mapping[str, str]) -> None:
        params = [Param(key, value[:MAX_PARAM_CHARACTERS]) for key, value in named.items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(run_id, params=params[start : start + 100])

    def finish(self, run_id: str, status: str = "FINISHED") -> None:
        """End a run. Raises StageLost, and leaves the run as it is, where another process has taken it over."""
        self.heartbeat.release(run_id)
        if run_id in self.heartbeat.lost:
            raise StageLost(run_id, self.heartbeat.lost[run_id])
        client = self.ending_client if status == "KILLED" else self.client  # who stops it does not want to wait
        client.set_terminated(run_id, status)

    def tag(self, run_id: str, key: str, value: str) -> None:
        self.client.set_tag(run_id, key, value)

    def run(self, run_id: str, wait: bool = True) -> Run:
        """A run as it stands now. wait: for a store that is away; else that raises at once."""
        return (self.client if wait else self.impatient_client).get_run(run_id)

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Step and value of a metric, in the order of steps. Raises at once where the store is away."""
        return sorted((one.step, one.value) for one in self.impatient_client.get_metric_history(run_id, metric))

    def artifacts(self, run_id: str) -> set[str]:
        """Names of a run's artifacts, folders among them."""
        return {item.path for item in self.client.list_artifacts(run_id)}

    def log_text(self, run_id: str, text: str, name: str) -> None:
        self.client.log_text(run_id, text, name)

    def log_json(self, run_id: str, value: Any, name: str) -> None:
        self.log_text(run_id, json.dumps(value, indent=1, sort_keys=True, default=str), name)

    def log_figure(self, run_id: str, figure: Any, name: str) -> None:
        from a2v_eval.figures import quiet_fonts

        with quiet_fonts():
            self.client.log_figure(run_id, figure, name, save_kwargs={"dpi": FIGURE_DPI})

    def log_folder(self, run_id: str, folder: Path, name: str) -> None:
        self.client.log_artifacts(run_id, str(folder), name)

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput]) -> None:
        """Datasets that a run is of; what it names already stays as it is."""
        for _ in range(AT_ONCE):
            try:
                return self.client.log_inputs(run_id, list(datasets))
            except MlflowException as error:  # two trials make the same dataset at once; then it is there
                if "IntegrityError" not in str(error) and "UniqueViolation" not in str(error):
                    raise
        return self.client.log_inputs(run_id, list(datasets))

    def begin_model(self, run_id: str, kind: str, facts: dict[str, str]) -> str:
        """The id of the run's model in MLflow, see `logged_models.begin_model`."""
        return begin_model(self.client, run_id, kind, facts)

    def log_model(self, model_id: str, folder: Path) -> None:
        self.client.log_model_artifacts(model_id, str(folder))

    def finish_model(self, run_id: str) -> None:
        """The run's model is what it will stay."""
        finish_model(self.client, run_id)

    def put_back(self, run_id: str, path: Path, folder: str) -> None:
        """Upload a changed file of a folder that `fetch` gave; where the store is local it is the artifact itself."""
        place = local_place(self.client, run_id, folder)
        if place and path == place / path.name:
            return
        model_id = model_of(self.client, run_id) if folder == MODEL else None
        if model_id:
            self.client.log_model_artifact(model_id, str(path))
        else:
            self.client.log_artifact(run_id, str(path), folder)

    def log_metrics(self, run_id: str, metrics: dict[str, float], step: int = 0, scored: str | None = None) -> None:
        """All metrics of one step in one request. scored: the run whose model they are scores of. Classes in their
        names are called as people wrote them, see `name_classes`."""
        model_id = model_of(self.client, scored) if scored else None
        now = get_current_time_millis()
        named = self._names_of(run_id)
        values = [
            Metric(named.to_store(key), float(value), now, step, model_id=model_id) for key, value in metrics.items()
        ]
        self.client.log_batch(run_id, metrics=values)

    def name_classes(self, run_id: str, classes: Sequence[str]) -> None:
        """Say which classes a run's metrics are of, before any is logged: each has a name of its own in MLflow, and the
        run's tags tell which."""
        self._classes[run_id] = named = ClassNames.of(classes)
        tags = [RunTag(key, value) for key, value in named.tags.items()]
        for start in range(0, len(tags), MAX_TAGS):
            self.client.log_batch(run_id, tags=tags[start : start + MAX_TAGS])

    def _names_of(self, run_id: str) -> ClassNames:
        if run_id not in self._classes:  # of a run that an earlier call made
            self._classes[run_id] = ClassNames.from_tags(self.client.get_run(run_id).data.tags)
        return self._classes[run_id]

    def fetch(self, run_id: str, name: str, work: Path) -> str:
        """Local path of a run's artifact: the file itself where the store is local, else a copy under work/fetched.
        name: also of a file in one, `model/model.json`.

        The work folder is where every worker of a cluster can read it. Raises UserError where it cannot be had.
        """
        try:
            whole, _, inside = name.partition("/")
            local = local_place(self.client, run_id, whole)
            if local and (local / inside).exists():
                return str(local / inside)
            return str(self._download(run_id, name, work / "fetched").resolve())
        except (MlflowException, OSError) as error:
            raise UserError(
                f"{self.uri}: artifact {name} of run {run_id} cannot be read: {reason(str(error), 300)}", FAILED
            ) from None

    def _download(self, run_id: str, name: str, folder: Path) -> Path:
        """folder/run_id/name, swapped in whole: another process may be reading the one that is there."""
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / run_id / name
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as aside:
            whole, slash, inside = name.partition("/")
            model_id = model_of(self.client, run_id) if whole == MODEL else None
            if model_id:
                uri = f"{self.client.get_logged_model(model_id).artifact_location}{slash}{inside}"
                found = self.outage.call(
                    PATIENCE_S, download_artifacts, artifact_uri=uri, dst_path=aside, tracking_uri=self.uri
                )
                new = Path(found)
            else:
                new = Path(self.client.download_artifacts(run_id, name, aside))
            place.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                place.rename(Path(aside) / "older")
            try:
                new.rename(place)
            except OSError:  # another process was faster
                if not place.exists():
                    raise
        return place


def _patient(uri: str, outage: Outage, patience_s: float) -> MlflowClient:
    return cast(MlflowClient, PatientClient(uri, outage, patience_s))


def scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="a2v-")


def open_store(work: Path, uri: str | None, experiment: str, reuse: Reuse = AS_USUAL) -> Store:
    """The store at uri, or sqlite in the work folder. Artifacts of a store without server lie in the work folder, also
    when that was moved. Raises UserError where it cannot be used."""
    check_name(work)
    if uri and not is_sqlite(uri):
        return Store(uri, experiment, None, reuse)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{work}: cannot be made: {error.strerror}") from None
    uri = uri or default_uri(work)
    put_right(uri, work, writing=True)
    return Store(uri, experiment, work / ARTIFACTS / experiment, reuse)
