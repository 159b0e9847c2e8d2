"""infra/mlflow/serve, really started: PostgreSQL, logins, artifacts through the server, experiments tracked in it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from a2v_experiments.cluster.environment import tracking_login
from a2v_experiments.models import load_model
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

SERVE = Path(__file__).parents[2] / "infra" / "mlflow" / "serve"
A2V = [sys.executable, "-c", "from a2v_experiments.cli import main; main()"]
UPDATES = 8
STAGES = ["experiment", "prepare", "folds", "pretrain", "finetune"]

needs_postgresql = pytest.mark.skipif(
    shutil.which("initdb") is None and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
    reason="PostgreSQL is not installed (apt-get install postgresql)",
)
pytestmark = [needs_postgresql, pytest.mark.ray]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The server's folder. Not below pytest's own: the database's user has to get there."""
    with tempfile.TemporaryDirectory(prefix="a2v-") as scratch:
        Path(scratch).chmod(0o711)
        yield Path(scratch) / "mlflow"


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # of a refused login there is nothing to wait for


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A running server's address; it has to end cleanly when it is asked to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = folder.parent / "told.txt"
    with told.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, str(SERVE), str(folder), "--port", str(port), "--workers", "1"], stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + 60
        while "serve: clients" not in told.read_text():
            assert server.poll() is None and time.monotonic() < deadline, told.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, told.read_text()


def login(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / "login.env").read_text().splitlines())


def start(recipe: Path, work: Path, uri: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [*A2V, "experiment", "run", str(recipe), "--work", str(work), "--tracking-uri", uri]
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_recipe(folder: Path, name: str, seed: int) -> Path:
    """Minutes of the synthetic corpus, seconds of training, in one process."""
    training = {"updates": UPDATES, "segments": 2, "micro_batches": 1, "log_every": 1, "checkpoint_every": UPDATES}
    tree = {
        "extends": "quickstart", "name": name,
        "data": {"synthetic": {"minutes": 1.5, "seed": seed}},
        "folds": {"count": 2, "run": [0], "group": None},
        "pretrain": training, "finetune": {**training, "head_only_updates": 2}, "ray": {"num_workers": 0},
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return folder / f"{name}.yaml"


def runs_of(client: MlflowClient, name: str) -> dict[str, Run]:
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return {run.data.tags["a2v.stage"]: run for run in client.search_runs([experiment.experiment_id])}


def check_metrics(client: MlflowClient, name: str) -> None:
    runs = runs_of(client, name)
    assert sorted(runs) == sorted(STAGES) and {run.info.status for run in runs.values()} == {"FINISHED"}
    for stage in ("pretrain", "finetune"):
        for metric in ("loss", "learning_rate", "gradient_norm"):
            history = client.get_metric_history(runs[stage].info.run_id, metric)
            assert sorted(value.step for value in history) == list(range(1, UPDATES + 1)), (name, stage, metric)


@pytest.mark.rehearsal
def test_two_experiments_at_once_lose_nothing_and_the_server_keeps_it(folder, tmp_path, monkeypatch):
    with serving(folder) as uri:
        who = login(folder)
        recipes = {name: write_recipe(tmp_path, name, seed) for seed, name in enumerate(["bats", "owls"])}
        started = [start(recipe, tmp_path / name, uri, who) for name, recipe in recipes.items()]
        for process in started:
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
        for name, value in who.items():
            monkeypatch.setenv(name, value)
        client = MlflowClient(uri)
        for name in recipes:
            check_metrics(client, name)
        model_run = runs_of(client, "owls")["finetune"]
        assert model_run.info.artifact_uri.startswith("mlflow-artifacts:/")
        # nothing of it came by way of the disk that client and server share here
        assert not list((tmp_path / "owls").rglob("scores.csv")) and list((folder / "artifacts").rglob("scores.csv"))
        wave = torch.randn(4000)
        model = load_model(f"runs:/{model_run.info.run_id}", uri)
        assert model.thresholds  # written after the weights were uploaded; classes without labels have none
        before = model.likelihoods(wave, 8000)

    with serving(folder) as uri:  # the same folder again
        assert login(folder) == who
        client = MlflowClient(uri)
        for name in recipes:
            check_metrics(client, name)
        assert torch.equal(load_model(f"runs:/{model_run.info.run_id}", uri).likelihoods(wave, 8000), before)


def test_without_the_right_login_there_is_one_line_and_nothing_to_read(folder, tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path, "bats", 0)
    with serving(folder) as uri:
        for name, value in {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "password1234"}.items():
            with pytest.raises(MlflowException, match="401"):
                MlflowClient(uri).search_experiments()
            monkeypatch.setenv(name, value)
        with pytest.raises(MlflowException, match="401"):
            MlflowClient(uri).search_experiments()
        process = start(recipe, tmp_path / "work", uri, {})
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and not (tmp_path / "work").exists()
    assert err.splitlines() == [
        f"a2v: {uri}: the server refuses the login of user 'admin': set MLFLOW_TRACKING_USERNAME and"
        " MLFLOW_TRACKING_PASSWORD"
    ]


def test_the_folder_is_its_owners_and_one_servers(folder):
    with serving(folder):
        for name in ("login.env", "secrets.json", "auth.ini"):
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        assert len(login(folder)["MLFLOW_TRACKING_PASSWORD"]) >= 24
        second = subprocess.run(
            [sys.executable, str(SERVE), str(folder), "--port", "0"], capture_output=True, text=True
        )
    assert second.returncode == 1
    assert second.stderr == f"serve: {folder}: another server is running on this folder\n"


def test_workers_of_a_running_cluster_get_the_login(monkeypatch):
    assert tracking_login() == {}
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "mara")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert tracking_login() == {"MLFLOW_TRACKING_USERNAME": "mara", "MLFLOW_TRACKING_PASSWORD": "secret"}
