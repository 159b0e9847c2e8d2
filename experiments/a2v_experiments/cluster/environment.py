"""The environment of processes that Ray starts. What is set already stays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from a2v_data.scheduling import cores

from .. import WAITING

LOGIN = ("USERNAME", "PASSWORD", "TOKEN", "INSECURE_TLS", "SERVER_CERT_PATH")
CLUSTER_OF_MANY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # its name: only there Ray is of one machine as it comes
OF_LOCAL_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing about this machine is sent anywhere
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more, for machines that a cloud takes back
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # of 2: how long workers wait at checkpoints and at the end
    "RAY_worker_maximum_startup_concurrency": str(max(4, cores())),  # of one for each core: they wait for disks, too
}


def tracking_login() -> dict[str, str]:
    """How this process logs in to its MLflow server; a cluster that runs already does not know."""
    return _given(f"MLFLOW_TRACKING_{name}" for name in LOGIN)


def worker_environment() -> dict[str, Any]:
    """Ray's `runtime_env` of workers that train: torch is loaded there before any code of a2v, so how its threads wait
    has to be said from outside, as this process has it."""
    return {"env_vars": {**_given(WAITING), **tracking_login()}}


def prepare_local_ray() -> None:
    """Before Ray starts on this machine: its processes inherit the environment of this one."""
    for name, value in OF_LOCAL_RAY.items():
        os.environ.setdefault(name, value)


@contextmanager
def on_loopback() -> Iterator[None]:
    """A Ray that is started in this block listens on loopback addresses, as on a Mac: on Linux it would listen on every
    network, and who reaches it can run code here. For the time of the start alone: a cluster that this process joins
    later needs the machine's own address."""
    from ray._private import ray_constants

    # Ray reads the variable when it is imported: its new processes read it, and this one has read it already
    before, imported = os.environ.get(CLUSTER_OF_MANY), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[CLUSTER_OF_MANY], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = imported
        if before is None:
            del os.environ[CLUSTER_OF_MANY]
        else:
            os.environ[CLUSTER_OF_MANY] = before


def use_given_threads() -> None:
    """torch computes with as many threads as Ray gave this process processors, or as its user said: Ray sets
    OMP_NUM_THREADS where it is not there."""
    import torch

    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        torch.set_num_threads(int(given))


def _given(names: Iterable[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}
