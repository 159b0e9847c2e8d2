"""Ray for this process: a cluster that is there, or one on this machine, started once and ended with it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path

from ..basics.errors import FAILED, UserError, last_line
from ..recipe.sections import RayConfig
from .temporary import session_folder


def check_cluster(config: RayConfig, work: Path) -> None:
    """Look at the cluster that the recipe or RAY_ADDRESS names, before hours of work.

    Raises UserError where it cannot be reached, is too small, or has a node that does not see the work folder.
    """
    if config.num_workers and (config.address or os.environ.get("RAY_ADDRESS")):
        from .nodes import check_shared

        start_ray(config)
        check_shared(work)


def tracking_login() -> dict[str, str]:
    """How this process logs in to its MLflow server; a cluster that runs already does not know."""
    names = ("USERNAME", "PASSWORD", "TOKEN", "INSECURE_TLS", "SERVER_CERT_PATH")
    given = {f"MLFLOW_TRACKING_{name}": os.environ.get(f"MLFLOW_TRACKING_{name}") for name in names}
    return {name: value for name, value in given.items() if value}


def start_ray(config: RayConfig) -> None:
    """Connect to the cluster of the recipe or of RAY_ADDRESS, or start a local Ray; once a process.

    Raises UserError when it cannot be started or is too small for the recipe.
    """
    import logging

    import ray

    if not ray.is_initialized():
        address = config.address or os.environ.get("RAY_ADDRESS")
        _check_address(address)
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
                _temp_dir=None if address else session_folder(),
            )  # fmt: skip
        except Exception as error:
            where = f"Ray cluster {address} cannot be reached" if address else "Ray cannot be started on this machine"
            local = "ray.num_workers=0 trains without it"
            if "AF_UNIX" in str(error):  # the path of a socket is too long
                local = f"set RAY_TMPDIR to a short folder; {local}"
            hint = "check ray.address and that `ray start` runs there" if address else local
            raise UserError(f"{where}: {last_line(error)}; {hint}", FAILED) from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's would abort this process before its runs are ended
    from .nodes import largest_resources

    have = largest_resources()
    key, workers = ("min_workers", config.min_workers) if config.min_workers else ("num_workers", config.num_workers)
    need = {"CPU": workers * config.cpus_per_worker, "GPU": workers * float(config.use_gpu)}
    for kind, amount in need.items():
        if amount > have.get(kind, 0):
            raise UserError(
                f"ray.{key} = {workers}: needs {amount:g} {kind}, the Ray cluster has"
                f" {have.get(kind, 0):g}; lower ray.{key} or ray.cpus_per_worker"
            )


def _check_address(address: str | None) -> None:
    """Raise UserError where nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"Ray cluster {address} cannot be reached: {error.strerror or error};"
            " check ray.address (or RAY_ADDRESS) and that `ray start` runs there",
            FAILED,
        ) from None


def ray_is_up() -> bool:
    """Whether this process is connected to Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def stop_ray() -> None:
    if ray_is_up():
        sys.modules["ray"].shutdown()
