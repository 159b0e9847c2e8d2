"""The finetuned model as MLflow's: in the run, in the registry, and behind HTTP."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from a2v_experiments.models import load_model
from a2v_experiments.predict.api import predict
from a2v_experiments.pyfunc import log_detector
from a2v_experiments.store.logged_models import finish_model, model_of
from a2v_experiments.store.tracking import Store, open_store
from a2v_model import PRESETS, Detector, save_model, write_thresholds
from a2v_model.checkpoints import read_description
from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info

RATE = 8000
COLUMNS = ["onset_s", "offset_s", "label", "likelihood", "threshold"]


@dataclass(frozen=True)
class Logged:
    """A detector in a store: one that hears `sn` often and `cc` never."""

    store: Store
    run_id: str
    model_id: str
    folder: Path

    @property
    def uri(self) -> str:
        return f"runs:/{self.run_id}/model"


@pytest.fixture
def logged(new_work: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Logged:
    torch.manual_seed(0)
    tiny, folder = PRESETS["tiny"], tmp_path / "saved" / "model"
    detector = Detector(tiny.model, tiny.finetune, ["cc", "sn"])
    save_model(detector, folder, {})
    usual = float(detector.eval().likelihoods(noise(2), RATE)[:, 1].median())
    write_thresholds(folder, {"cc": 0.999, "sn": usual}, {"method": "avg", "window_s": 0.01})
    store = open_store(new_work("work"), None, "birds")
    run_id = store.begin("finetune", "f", "fold 0", {}, {"fold": "0", "label_share": "1"}, None)
    log_detector(store, run_id, detector, folder)
    model_id = model_of(store.client, run_id)
    assert model_id is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    return Logged(store, run_id, model_id, folder)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def test_every_uri_of_the_model_gives_the_same_events_as_predict(logged):
    expected = predict(noise(2), logged.folder, RATE)
    assert list(expected.columns) == COLUMNS and set(expected.label) == {"sn"} and len(expected) > 3
    by_run, by_id = (mlflow.register_model(uri, "owls") for uri in (logged.uri, f"models:/{logged.model_id}"))
    for uri in (logged.uri, f"models:/owls/{by_run.version}", f"models:/owls/{by_id.version}", by_id.source):
        served = mlflow.pyfunc.load_model(uri)
        assert served.predict(noise(2), params={"sample_rate": RATE}).equals(expected), uri
        assert served.predict(noise(2)).equals(expected)  # the model's rate is the default
        assert load_model(uri).thresholds == load_model(logged.folder).thresholds
    assert predict(noise(2), f"runs:/{logged.run_id}", RATE).equals(expected)


def test_the_store_that_is_named_counts_and_that_of_the_process_stays(logged, new_work, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(f"sqlite:///{new_work('another')}/mlflow.db")
    before = mlflow.get_tracking_uri()
    for uri in (f"runs:/{logged.run_id}", f"models:/{logged.model_id}"):
        assert load_model(uri, logged.store.uri).classes == ["cc", "sn"]
    assert mlflow.get_tracking_uri() == before


def test_another_rate_is_resampled_as_predict_does(logged):
    wave = noise(4)  # 2 s of 16 kHz
    served = mlflow.pyfunc.load_model(logged.uri).predict(wave, params={"sample_rate": 16000})
    assert served.equals(predict(wave, logged.folder, 16000))
    assert served.offset_s.max() < 2.1


def test_what_cannot_be_heard_is_said_in_one_line(logged):
    served = mlflow.pyfunc.load_model(logged.uri)
    for wave, rate, line in [
        (noise(0.001), RATE, "waveform of 8 samples: expected at least"),
        (np.full(RATE, np.nan, np.float32), RATE, "8000 of 8000 samples that are NaN"),
        (noise(1), 0, "sample_rate = 0: expected Hz"),
    ]:
        with pytest.raises(MlflowException, match=line) as raised:
            served.predict(wave, params={"sample_rate": rate})
        assert raised.value.get_http_status_code() == 400


def test_a_request_that_would_take_minutes_is_refused_at_once(logged):
    """8 000 samples at 1 Hz are 2.2 hours; half an hour is heard: 180 000 samples at 100 Hz, and not one more."""
    served = mlflow.pyfunc.load_model(logged.uri)
    least = np.zeros(180_001, np.float32)
    for wave, rate, line in [
        (noise(1), 1, "sample_rate = 1: expected Hz, from 100 to 10000000"),
        (noise(1), 99, "sample_rate = 99: expected Hz, from 100 to 10000000"),
        (noise(1), 10**9, "sample_rate = 1000000000: expected Hz, from 100 to 10000000"),
        (noise(1), 10**18, "sample_rate = 1000000000000000000: expected Hz"),
        (noise(1), 384_001, "needs 99200000 filter weights; choose a rounder sample rate"),
        (least, 100, "waveform of 180001 samples at 100 Hz: expected at most 1800 s; give it in parts"),
        (noise(1) * np.float32(1e30), RATE, "waveform has a sample of"),
    ]:
        begun = time.process_time()
        with pytest.raises(MlflowException, match=line) as raised:
            served.predict(wave, params={"sample_rate": rate})
        assert raised.value.get_http_status_code() == 400 and time.process_time() - begun < 2


def test_the_model_says_what_it_takes_and_needs(logged):
    info = get_model_info(logged.uri)
    assert [(spec.type, spec.shape) for spec in info.signature.inputs] == [(np.dtype("float32"), (-1,))]
    assert info.signature.outputs.input_names() == COLUMNS
    assert info.signature.params.to_dict()[0] | {"default": RATE} == info.signature.params.to_dict()[0]
    place = Path(logged.store.fetch(logged.run_id, "model", logged.folder))
    names = {line.partition("=")[0] for line in (place / "requirements.txt").read_text().split()}
    assert names == {"mlflow", "a2v", "a2v-model", "a2v-data", "a2v-eval", "torch"}
    example = json.loads((place / "serving_input_example.json").read_text())
    assert len(example["inputs"]) == RATE and example["params"] == {"sample_rate": RATE}


def test_a_training_that_is_taken_up_again_has_one_model(logged):
    store, detector = logged.store, load_model(logged.folder)
    log_detector(store, logged.run_id, detector, logged.folder)
    [model] = store.client.search_logged_models([store.experiment_id])
    assert (model.model_id, model.status) == (logged.model_id, "PENDING")
    finish_model(store.client, logged.run_id)
    assert store.client.get_logged_model(logged.model_id).status == "READY"


def test_a_run_has_one_copy_of_its_model_with_its_scores_and_thresholds(world, first_runs):
    store = world.store
    models = {model.source_run_id: model for model in store.client.search_logged_models([store.experiment_id])}
    for run in first_runs["finetune"]:
        model = models[run.info.run_id]
        assert model.status == "READY" and model.model_type == "detector"
        assert model.params["fold"] == run.data.tags["fold"] and model.params["classes"] == "sn, cc"
        scores = {metric.key: metric.value for metric in model.metrics}
        assert scores["strict/AP/micro"] == run.data.metrics["strict/AP/micro"] and "loss" not in scores
        assert not any(key.startswith("energy/") for key in scores)
        weights = [path for path in (world.work / "artifacts").rglob("*.safetensors") if run.info.run_id in str(path)]
        assert weights == []  # they are the model's, not the run's as well
        place = Path(world.fetch(run, "model"))
        assert place == Path(model.artifact_location.removeprefix("file://"))
        assert read_description(place)["thresholds_from"]["recordings"].startswith("the 4 evaluation recordings")


@pytest.fixture
def served(logged: Logged, tmp_path: Path) -> Iterator[Callable[[Any], tuple[int, Any]]]:
    """`mlflow models serve`, and a client: body -> (status, answer)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", logged.uri, "--env-manager", "local"]
    with (tmp_path / "serve.txt").open("w") as out:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts `uvicorn` from there
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen([*command, "-p", str(port)], stdout=out, stderr=out, env=environment)

    def ask(path: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text.strip() else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    try:
        deadline = time.monotonic() + 90
        while True:
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "serve.txt").read_text()
            try:
                ask("ping")
                break
            except OSError:
                time.sleep(0.2)
        yield lambda body: ask("invocations", body)
    finally:
        server.terminate()
        server.wait(30)


def test_a_posted_waveform_is_answered_with_events(served, logged):
    wave = noise(2)
    status, answer = served({"inputs": wave.tolist(), "params": {"sample_rate": RATE}})
    expected = predict(wave, logged.folder, RATE)
    assert status == 200 and len(answer["predictions"]) == len(expected) > 3
    for event, row in zip(answer["predictions"], expected.to_dict("records"), strict=True):
        assert event["label"] == row["label"]
        for key in ("onset_s", "offset_s", "likelihood", "threshold"):
            assert math.isclose(event[key], row[key], rel_tol=1e-6)
    for body, line in [
        ({"inputs": wave[:3].tolist()}, "waveform of 3 samples: expected at least"),
        ({"inputs": [None, *wave.tolist()]}, "1 of 16001 samples that are NaN"),
        ({"inputs": wave.tolist(), "params": {"sample_rate": -1}}, "sample_rate = -1: expected Hz"),
        ({"inputs": [wave.tolist(), wave.tolist()]}, "Shape of input (2, 16000)"),
    ]:
        status, answer = served(body)
        assert status == 400 and line in answer["message"] and "Traceback" not in json.dumps(answer), answer
