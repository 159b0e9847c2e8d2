"""How threads wait and how many compute: in this process, in those of `predict` and in Ray's workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from a2v_data.scheduling import Advance, on_cores
from a2v_experiments import WAITING
from a2v_experiments.basics.errors import UserError
from a2v_experiments.cluster import nodes, session
from a2v_experiments.cluster.environment import use_given_threads, worker_environment
from a2v_experiments.recipe.sections import RayConfig
from a2v_experiments.training import workers
from experiments_world import make_recipe, training_spec

POLICY = "OMP_WAIT_POLICY"


@pytest.mark.parametrize(
    ("given", "policy", "spins"),
    [({}, "passive", "0"), ({POLICY: "active"}, "active", "30000000000"), ({"GOMP_SPINCOUNT": "77"}, None, "77")],
)
@pytest.mark.skipif(sys.platform != "linux", reason="torch brings another OpenMP elsewhere")
def test_threads_of_the_openmp_that_torch_loads_sleep_unless_its_user_chose(given, policy, spins):
    """What libgomp itself says it took: a thread that waits looks so many times before it sleeps."""
    environment = {key: value for key, value in os.environ.items() if key not in WAITING}
    script = f"import os, a2v_experiments, a2v_model; print(os.environ.get('{POLICY}'))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**environment, "OMP_DISPLAY_ENV": "verbose", **given},
    )  # fmt: skip
    assert done.stdout.strip() == str(policy)
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr


def _look(task: int, advance: Advance) -> tuple[str | None, int]:
    return os.environ.get(POLICY), torch.get_num_threads()


def test_processes_on_cores_wait_as_this_one_and_compute_with_one_thread(monkeypatch):
    monkeypatch.setenv(POLICY, "passive")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    seen = [found for _, found in on_cores(2)(_look, [0, 1], lambda amount: None)]
    assert seen == [("passive", 1)] * 2


def test_a_worker_takes_the_threads_that_ray_or_its_user_said(monkeypatch):
    for said, threads in (("2", 2), ("1", 1), ("2,1", 1)):  # a list is of nested ones: what torch took stays
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        use_given_threads()
        assert torch.get_num_threads() == threads


def test_workers_are_told_how_threads_wait_and_how_to_log_in(monkeypatch):
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    assert worker_environment() == {"env_vars": {"GOMP_SPINCOUNT": "5", "MLFLOW_TRACKING_TOKEN": "secret"}}


def _worker(payload: dict[str, object]) -> str | None:
    """The worker as it is, without its training: what it sees is told as the reason why it stopped."""
    told: list[str] = []

    def look(payload: dict[str, object], group: object, *rest: object) -> None:
        told.append(json.dumps([os.environ.get(POLICY), torch.get_num_threads()]))

    workers._train = look
    _ORIGINAL(payload)
    return told[0]


_ORIGINAL = workers._worker


@pytest.mark.ray
def test_a_ray_worker_with_two_processors_computes_with_two_threads_that_sleep(tmp_path: Path, monkeypatch):
    """On a Ray that was begun beside other work, of which nothing is left behind."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # without it Ray takes a cluster that runs on this machine
    monkeypatch.setenv(POLICY, "passive")
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))  # `_worker` is found there
    monkeypatch.setattr(workers, "_worker", _worker)
    config = RayConfig(num_workers=1, cpus_per_worker=2)
    spec = training_spec(make_recipe(tmp_path), "pretrain", tmp_path)
    session.start_beside(config)
    try:
        with pytest.raises(UserError) as told:
            workers.run_training(spec, config, tmp_path, "train", "sqlite://", "run")
        assert nodes.is_own_ray()
    finally:
        session.stop_ray()
    assert json.loads(str(told.value)) == ["passive", 2]
    assert not session.ray_is_up() and not nodes.is_own_ray()
