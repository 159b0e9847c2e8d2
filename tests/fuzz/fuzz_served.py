"""Requests to the model that MLflow serves: MLflow reads them, and asks the model in this process."""

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_audio import RATE, RATES, small_detector
from fuzz_mutate import NUMBERS, damage_bytes, damage_tree, values
from fuzz_run import Case, Family

_served: list[Any] = []  # the model, which is loaded once


def _ready(folder: Path) -> None:
    import mlflow.pyfunc
    from a2v_experiments.pyfunc import add_mlflow_files
    from a2v_model import load_model
    from mlflow.models import Model

    place = small_detector(folder / "model")
    add_mlflow_files(place, load_model(place), Model())
    _served[:] = [mlflow.pyfunc.load_model(str(place))]


def _make(rng: Random, ready: Path, folder: Path) -> Case:
    wave = np.random.default_rng(0).normal(0, 0.1, rng.choice((100, RATE // 2, RATE))).round(3).tolist()
    request = {"inputs": wave, "params": {"sample_rate": RATE}}
    kind = rng.choice(("tree", "tree", "rate", "rate", "sample", "key", "waveform", "bytes"))
    if kind == "tree":
        what, request = damage_tree(rng, request)
    elif kind == "rate":
        rate = rng.choice((*RATES, *NUMBERS, -1, 1.5, values(rng)))
        what, request["params"] = f"rate {str(rate)[:40]}", {"sample_rate": rate}
    elif kind == "sample":
        value = rng.choice((1e38, -1e30, 1e308, float("nan"), float("inf"), 10**400, values(rng)))
        what, wave[rng.randrange(len(wave))] = f"sample {str(value)[:40]}", value
    elif kind == "key":
        key = rng.choice(("instances", "dataframe_split", "dataframe_records", "input", "messages", "x"))
        what, request = f"key {key}", {key: rng.choice((wave, [wave], {"columns": [0], "data": wave}, values(rng)))}
    elif kind == "waveform":
        scalars = [[one] for one in wave]
        shape = rng.choice(([wave], scalars, [wave, wave], [[wave]], {"x": wave}, [], "AAAA", "=" * 999))
        what, request["inputs"] = "shape", shape
    else:
        what = ""
    body = _json(request)
    if kind == "bytes":
        what, body = damage_bytes(rng, body)
    (folder / "request.json").write_bytes(body)
    return Case(what, call=lambda: _ask(body))


def _json(request: Any) -> bytes:
    """Also of what is nested more deeply than usual."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)
    try:
        return json.dumps(request).encode()
    finally:
        sys.setrecursionlimit(usual)


def _ask(body: bytes) -> None:
    """What the server's process does with a request. Only an answer that says what is wrong is right."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import invocations

    asked: list[bool] = []

    class Asked:
        """The model; what MLflow cannot read does not come so far."""

        metadata = _served[0].metadata

        def predict(self, data: Any, params: Any = None) -> Any:
            asked.append(True)
            return _served[0].predict(data, params=params)

    try:
        schema = _served[0].metadata.get_input_schema()
        answer = invocations(body.decode("utf-8", "replace"), "application/json", Asked(), schema)
        json.loads(answer.response)
        print(f"{answer.status}, {len(answer.response)} characters")
    except MlflowException as error:
        if "unexpected error" in str(error) and asked:
            raise
        print(f"refused: {str(error.message).splitlines()[-1][:300]!a}")
        raise SystemExit(1) from None
    except Exception as error:
        if asked:
            raise
        print(f"not read: {error!a:.300}")
        raise SystemExit(1) from None


SERVED = Family("served", _make, _ready)
