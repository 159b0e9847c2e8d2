"""Models from wherever they lie: a folder, or an MLflow URI."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from a2v_data.documents import reason
from a2v_model import Detector, Pretrainer
from a2v_model import load_model as load_folder
from a2v_model.plugins import ALLOW, loaded

from .basics.errors import FAILED, UserError, light_install
from .basics.places import DEFAULT_WORK

SCHEME = re.compile(r"^[a-z][a-z0-9+-]+:/")
NAMED = re.compile(r"(?P<name>.+)@(?P<digest>[0-9a-f]{8})")


def load_model(
    source: str | os.PathLike[str], tracking_uri: str | None = None, allow_plugins: bool = False
) -> Pretrainer | Detector:
    """A model in eval mode on the CPU, from a folder that holds model.safetensors and model.json, or an MLflow URI:
    `runs:/RUN_ID` (its artifact `model`), `models:/NAME/VERSION`, or an artifact's own (`s3://...`).

    tracking_uri: the MLflow store; None: MLFLOW_TRACKING_URI, else the one in the work folder (A2V_WORK or a2v-runs).
    allow_plugins: whether code that it brings may be run (see `a2v_model.load_model`).
    Its methods `embed`, `likelihoods` and `attention_maps` take waveforms (a2v_model.inference). Raises ValueError
    where the folder is no model, UserError where the URI cannot be fetched.
    """
    with model_folder(source, tracking_uri) as folder:
        return load_folder(folder, allow_plugins)


def usual_method(model: Detector) -> str:
    """The event method of a model for which none was chosen."""
    return "boxes" if model.config.head == "boxes" else "avg"


def check_event_method(model: Detector, method: str) -> None:
    """Raise ValueError where events are to be found by a method that is not for the model's head, or by a plugin's
    method that the model brings and that is not loaded: nobody agreed to it, or another source of it is in its
    place."""
    boxes = model.config.head == "boxes"
    if boxes != (method == "boxes"):
        gives = "onsets and offsets, so its events are found by boxes only" if boxes else "likelihoods of frames only"
        raise ValueError(f"method: {method}: this model's head gives {gives}; leave the method out")
    for plugin in model.plugins:
        if method in plugin.registers.get("event_method", []) and loaded(plugin.digest) is None:
            raise ValueError(
                f"the model's thresholds are for the event method {method}, code of its own which would be run: look at"
                f" plugins/{plugin.name} in its folder, then allow it with --allow-plugins or {ALLOW}=1, or find events"
                " in another way (predict --method avg)"
            )


@contextmanager
def model_folder(
    source: str | os.PathLike[str], tracking_uri: str | None = None, beside: Path | None = None
) -> Iterator[Path]:
    """The folder with a model's files, `source` itself or what was fetched from its URI: that is gone afterwards.

    beside: an output folder to fetch it next to, where all nodes of a cluster see it; None: this machine's own place.
    Raises UserError where the URI cannot be fetched; a ValueError about the folder names the URI.
    """
    if not is_uri(source):
        yield Path(source)
        return
    prefix, folder = "a2v-", None
    if beside is not None:
        prefix, folder = f".{beside.name}.model-", beside.parent
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder, ignore_cleanup_errors=True) as scratch:
        folder = fetch_model(str(source), Path(scratch), tracking_uri)
        try:
            yield folder
        except ValueError as error:  # what it says of the folder is of use while that is there
            if str(folder) not in str(error):
                raise
            raise ValueError(str(error).replace(str(folder), _of_model(str(source)))) from None


def is_uri(source: str | os.PathLike[str]) -> bool:
    return isinstance(source, str) and SCHEME.match(source) is not None


def name_of(source: str, digest: str) -> str:
    """What tables call a model: its URI or its folder's name, and the beginning of its weights' digest."""
    return f"{source if is_uri(source) else Path(source).resolve().name}@{digest[:8]}"


def split_name(said: str | None) -> tuple[str, str]:
    """URI or folder's name, and the beginning of the digest, of what `name_of` gave; without a digest all is name."""
    found = NAMED.fullmatch(said or "")
    return (found["name"], found["digest"]) if found else (said or "", "")


def fetch_model(uri: str, folder: Path, tracking_uri: str | None = None) -> Path:
    """Download a model's files from MLflow into `folder`; returns where its model.json lies. Raises UserError."""
    try:
        import mlflow
        from mlflow.artifacts import download_artifacts
    except ModuleNotFoundError as error:
        missing = light_install(error)
        if missing is None:
            raise
        raise UserError(f"{uri}: {missing}; or give the model's folder", missing.code) from None

    uri = _of_model(uri)
    store = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or _store_of_work_folder()
    if store is None and uri.startswith(("runs:/", "models:/")) and not mlflow.is_tracking_uri_set():
        work = os.environ.get("A2V_WORK", DEFAULT_WORK)  # MLflow would make an empty store in the current folder
        raise UserError(f"{uri}: no MLflow store in {work}: name one (MLFLOW_TRACKING_URI, --tracking-uri) or A2V_WORK")
    if store is not None:
        from .store.reading import find_artifacts

        find_artifacts(store, Path(os.environ.get("A2V_WORK", DEFAULT_WORK)))
    try:
        with tracking(store):
            found = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=store))
    except Exception as error:  # MLflow raises its own, OSError, and those of every storage client
        from .store.reading import login_refused

        told = login_refused(error) or reason(str(error), 300)
        where = store or "MLflow's default store"
        raise UserError(f"{uri}: cannot be fetched from {where}: {told}", FAILED) from None
    places = [found, *sorted(path.parent for path in found.rglob("model.json"))] if found.is_dir() else []
    for place in places:
        if (place / "model.json").is_file():
            return place
    raise UserError(f"{uri}: no model there: expected a folder with model.json and model.safetensors (.../model)")


def _of_model(uri: str) -> str:
    """`runs:/RUN_ID` is that of its artifact `model`, where every training's run keeps its model."""
    return f"{uri.rstrip('/')}/model" if re.fullmatch(r"runs:/[^/]+/?", uri) else uri


@contextmanager
def tracking(store: str | None) -> Iterator[None]:
    """MLflow looks models up in the store of its process, whatever its functions are told: set it for a while."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    if store:
        mlflow.set_tracking_uri(store)
    try:
        yield
    finally:
        if store:
            mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None: as if none had been set


def _store_of_work_folder() -> str | None:
    from .store.database import default_uri

    work = Path(os.environ.get("A2V_WORK", DEFAULT_WORK))
    return default_uri(work) if (work / "mlflow.db").is_file() else None
