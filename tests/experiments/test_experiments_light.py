"""An install without Ray, MLflow and Optuna predicts, scores, explains and reads data; what needs them says so.

The commands run in another interpreter: this one's packages without those that requirements-light.lock leaves out, or
the one that A2V_LIGHT_PYTHON names, as `make test-light` makes it from that lock and from the built wheels.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from a2v_experiments.basics.progress import hours_bar
from a2v_experiments.predict.call import Choice, call
from experiments_predict import make_detector, save_detector, write_sound

ROOT = Path(__file__).parents[2]
OURS = {"a2v", "a2v-model", "a2v-data", "a2v-eval"}
LEFT_OUT = ("ray", "mlflow", "optuna", "psycopg2", "sqlalchemy", "flask")

# Stands in for the interpreter's own: what is named has never been installed, for child processes too.
SITE = """
import sys
from importlib.machinery import PathFinder

BLOCKED = frozenset({blocked!r})


class Light(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else super().find_spec(name, path, target)


sys.meta_path[:] = [Light if finder is PathFinder else finder for finder in sys.meta_path]
"""

# Calls commands as `a2v` does, several in one process, since each one alone would import torch anew.
DRIVER = """
import contextlib, importlib.util, io, json, sys


def said(arguments):
    from a2v_experiments.cli import main

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["a2v", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    there = [name for name in asked["left_out"] if importlib.util.find_spec(name)]
    found = [said(arguments) for arguments in asked["commands"]]
    from a2v_experiments.predict import predict

    table = predict(asked["recording"], asked["model"], precision="float32")
    answer = {"there": there, "said": found, "events": len(table), "columns": list(table.columns)}
    print(json.dumps(answer))
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def light_distributions() -> set[str]:
    """The distributions of the light lock."""
    lock = (ROOT / "requirements-light.lock").read_text()
    return {normal(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}


def left_out_modules() -> list[str]:
    """Everything importable here of which no distribution is in the light lock."""
    light = light_distributions() | OURS
    return [
        name for name, owners in packages_distributions().items() if not {normal(owner) for owner in owners} & light
    ]


def light_python(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The interpreter without what only training needs, and its environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "RAY_", "A2V_"))}
    own = os.environ.get("A2V_LIGHT_PYTHON")
    if own:
        environment.pop("PYTHONPATH", None)  # the wheels count, not the checkout
        return [own], environment
    (folder / "sitecustomize.py").write_text(SITE.format(blocked=sorted(left_out_modules())))
    path = os.environ.get("PYTHONPATH")
    return [sys.executable], {**environment, "PYTHONPATH": os.pathsep.join([str(folder), *([path] if path else [])])}


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What all the commands say, called once, and the folder where they write."""
    folder = tmp_path_factory.mktemp("light")
    save_detector(make_detector(folder), folder / "model")
    for number, name in enumerate(("a.wav", "b.wav")):
        write_sound(folder / "corpus" / "audio" / name, 3.0 + number, number)
    with (folder / "corpus" / "annotations.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "onset_s", "offset_s", "label"), ("a.wav", 0.5, 1.1, "cc")])
    model, audio = ("--model", "model"), "corpus/audio"
    explained = ("--start", "0", "--end", "1", "--out", "attention.png")
    commands = [
        ("predict", audio, *model, "--out", "calls", "--precision", "float32", "--processes", "2", "--report",
         "--format", "raven", "--format", "parquet", "--likelihoods", "hdf5", "--embeddings", "events"),
        ("evaluate", "calls", "corpus/annotations.csv"),
        ("data", "annotations", "corpus"),
        ("model", "info", "model"),
        ("explain", "attention", f"{audio}/a.wav", *model, *explained),
        ("predict", audio, "--model", "runs:/0123", "--out", "other"),
        ("predict", audio, *model, "--out", "other", "--ray"),
        ("experiment", "run", "few_calls", "--set", "data.source=corpus"),
        ("model", "push", "model", "hub"),
    ]  # fmt: skip
    (folder / "driver.py").write_text(DRIVER)
    python, environment = light_python(folder)
    asked = {"left_out": LEFT_OUT, "commands": commands, "recording": f"{audio}/a.wav", "model": "model"}
    done = subprocess.run(
        [*python, "driver.py"], cwd=folder, env=environment, input=json.dumps(asked), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["there"] == []
    return folder, answer


def test_it_predicts_the_same_and_writes_tables_and_report(light: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, answer = light
    [predicted, *_] = answer["said"]
    assert predicted["code"] == 0, predicted["err"]
    calls = folder / "calls"
    for name in ("raven/a.wav.selections.txt", "events.selections.txt", "recordings.csv", "predict.json"):
        assert (calls / name).is_file(), name
    assert "data:image/" in (calls / "report.html").read_text()  # events as spectrograms
    assert list((calls / "likelihoods").iterdir()) and list((calls / "embeddings").iterdir())
    here = Choice(model=str(folder / "model"), formats=("raven",), settings={}, precision="float32", processes=1)
    with hours_bar("predicting") as shown:
        call([str(folder / "corpus" / "audio")], tmp_path / "calls", here, shown)
    assert (calls / "events.csv").read_bytes() == (tmp_path / "calls" / "events.csv").read_bytes()
    of_a = [row for row in csv.DictReader((calls / "events.csv").open()) if row["file"] == "a.wav"]
    assert answer["events"] == len(of_a) > 0 and {"onset_s", "label", "likelihood"} <= set(answer["columns"])


@pytest.mark.parametrize(
    "number, told",
    [(1, "strict"), (2, "cc"), (3, "cc"), (4, "frames"), (8, "README.md")],
    ids=["evaluate", "data", "model", "explain", "push"],
)
def test_what_else_needs_no_training_works(light: tuple[Path, dict[str, Any]], number: int, told: str) -> None:
    said = light[1]["said"][number]
    assert said["code"] == 0 and told in said["out"], said["err"]


@pytest.mark.parametrize(
    "number, line",
    [
        (5, "a2v: runs:/0123: this needs mlflow, which is not installed here: pip install 'a2v[train]'; or give the"
            " model's folder\n"),
        (6, "a2v: this needs ray, which is not installed here: pip install 'a2v[train]'\n"),
        (7, "a2v: this needs mlflow, which is not installed here: pip install 'a2v[train]'\n"),
    ],
    ids=["a run's model", "--ray", "experiment"],
)  # fmt: skip
def test_what_needs_more_says_what_to_install(light: tuple[Path, dict[str, Any]], number: int, line: str) -> None:
    said = light[1]["said"][number]
    assert (said["code"], said["err"]) == (1, line)
