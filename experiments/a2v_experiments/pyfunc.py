"""A finetuned model as MLflow knows models: `mlflow models serve` answers a waveform with its events.

The run's model `model` is a folder with what `a2v_model.save_model` writes and, beside it, what MLflow needs (MLmodel,
requirements.txt, an example of its input); the weights are stored once. Input: one waveform, float32 (N,), of up to
LONGEST_S seconds, with the parameter `sample_rate` (Hz; default: the model's). Output: a row per event, in the columns
of `a2v_experiments.predict.api.predict`, found with the model's own thresholds and event settings; classes that it
has not learned have none, which the server's log says.
"""

from __future__ import annotations

import logging
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")  # no other project's lock file gets into a model
import numpy as np
import pandas
import torch
from a2v_model import Detector, load_model
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import save_model
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from .predict.api import event_table, events_of_waveform
from .predict.settings import not_learned_notice, not_written, settings_for
from .store.tracking import Store, scratch

PACKAGES = ("a2v", "a2v-model", "a2v-data", "a2v-eval", "torch")
EXAMPLE_S = 1.0
LONGEST_S = 1800.0  # of a request: MLflow gives an answer up after a minute, and goes on with the work all the same


class EventModel:
    """What MLflow calls: `predict(waveform, params)`."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.settings, notices = settings_for(detector)
        for notice in [*not_learned_notice(not_written(detector), "a2v predict --all-classes"), *notices]:
            logging.getLogger(__name__).warning(notice)

    def predict(self, waveform: np.ndarray, params: dict[str, Any] | None = None) -> pandas.DataFrame:
        """The events of a waveform (N,). Raises MlflowException (HTTP 400) for one that cannot be used."""
        rate = (params or {}).get("sample_rate", self.detector.sample_rate)
        try:
            events = events_of_waveform(self.detector, waveform, rate, self.settings, longest_s=LONGEST_S)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return event_table(self.detector, self.settings, [(None, events)])


def _load_pyfunc(path: str) -> EventModel:
    """MLflow's entry: the model of a folder, on the GPU where there is one."""
    detector = load_model(path)
    assert isinstance(detector, Detector)
    return EventModel(detector.to("cuda" if torch.cuda.is_available() else "cpu"))


def signature(sample_rate: int) -> ModelSignature:
    columns = {"onset_s": "double", "offset_s": "double", "label": "string", "likelihood": "double"}
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), (-1,))]),
        outputs=Schema([ColSpec(kind, name) for name, kind in {**columns, "threshold": "double"}.items()]),
        params=ParamSchema([ParamSpec("sample_rate", DataType.long, sample_rate)]),
    )


def log_detector(store: Store, run_id: str, detector: Detector, folder: Path) -> None:
    """Make the detector's `folder` an MLflow model and upload it as the run's; pending until `finish_model`."""
    facts = {"classes": ", ".join(detector.classes), "sample_rate": str(detector.sample_rate)}
    model_id = store.begin_model(run_id, "detector", facts)
    add_mlflow_files(folder, detector, Model(run_id=run_id, model_id=model_id))
    store.log_model(model_id, folder)


def add_mlflow_files(folder: Path, detector: Detector, model: Model) -> None:
    """Put what MLflow needs beside the detector's own files. model: with what is known of it already."""
    rate = detector.sample_rate
    time_N = np.arange(round(EXAMPLE_S * rate)) / rate
    chirp_N = 0.5 * np.sin(2 * np.pi * rate * time_N * (0.05 + 0.1 * time_N / EXAMPLE_S))
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # it tells that it looks at the example
    with scratch() as aside:
        save_model(
            Path(aside) / "model",
            loader_module=__name__,
            mlflow_model=model,
            signature=signature(rate),
            input_example=(chirp_N.round(3).astype(np.float32), {"sample_rate": rate}),
            pip_requirements=[f"{name}=={version(name)}" for name in PACKAGES],
        )
        for path in (Path(aside) / "model").iterdir():
            shutil.move(path, folder / path.name)
    model.model_size_bytes = sum(path.stat().st_size for path in folder.iterdir())
    model.save(str(folder / "MLmodel"))
