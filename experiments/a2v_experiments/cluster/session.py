"""Ray for this process: a cluster that is there, or one on this machine, started once and ended with it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from ..basics.errors import FAILED, UserError, last_line
from ..recipe.sections import RayConfig
from .environment import on_loopback, prepare_local_ray
from .temporary import session_folder

GRACE_S = 10.0


def check_cluster(config: RayConfig, work: Path) -> None:
    """Look at the cluster that the recipe or RAY_ADDRESS names, before hours of work.

    Raises UserError where it cannot be reached, is too small, or has a node that does not see the work folder.
    """
    if config.num_workers and cluster_address(config):
        from .nodes import check_shared

        start_ray(config)
        check_shared(work)


def start_ray(config: RayConfig) -> None:
    """Connect to the cluster of the recipe or of RAY_ADDRESS, or start a local Ray; once a process.

    Raises UserError when it cannot be started or is too small for the recipe.
    """
    _begun.wait()
    _connect(config)
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


def start_beside(config: RayConfig) -> None:
    """Begin to start a Ray of this machine while this process goes on; `start_ray` waits for it and raises what went
    wrong. Nothing happens where the recipe has no workers, names a cluster, or Ray is there."""
    if config.num_workers and not cluster_address(config) and not ray_is_up():
        _begun.begin(config)


class _Beside:
    """A thread that starts Ray. It lives as long as that Ray: Linux ends its processes with the thread that began
    them."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._started, self._stop = threading.Event(), threading.Event()

    def begin(self, config: RayConfig) -> None:
        if self._thread is None:
            import ray  # noqa: F401  # not while this thread imports other things

            self._started.clear()
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, args=(config,), daemon=True, name="a2v-ray")
            self._thread.start()

    def _run(self, config: RayConfig) -> None:
        try:
            with contextlib.suppress(Exception):  # start_ray tries again and says it; this thread has to live
                _connect(config)
                from .nodes import prepare_training  # what the first training would wait for

                prepare_training()
        finally:
            self._started.set()
        self._stop.wait()

    def wait(self, timeout_s: float | None = None) -> None:
        if self._thread is not None:
            self._started.wait(timeout_s)

    def end(self) -> None:
        """After Ray has been shut down, or where it takes so long to start that nobody waits for it."""
        if self._thread is not None:
            self._stop.set()
            if self._started.is_set():
                self._thread.join()
            self._thread = None


_begun = _Beside()


def cluster_address(config: RayConfig) -> str | None:
    """Of the cluster that a recipe or RAY_ADDRESS names; None for a Ray of this machine, which Ray calls `local`."""
    address = config.address or os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address


def _connect(config: RayConfig) -> None:
    """`ray.init`, if it was not. Raises UserError."""
    import logging

    import ray

    if ray.is_initialized():
        return
    address, asked = cluster_address(config), config.address or os.environ.get("RAY_ADDRESS")
    _check_address(address)
    if not address:
        prepare_local_ray()
    logging.getLogger("ray").setLevel(logging.ERROR)  # a thread is told that it sets no handler of signals
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.nullcontext() if address else on_loopback():
            ray.init(
                address=asked, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
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
    """Also one that is being started; one that has not started after GRACE_S ends with this process."""
    _begun.wait(GRACE_S)
    if ray_is_up():
        sys.modules["ray"].shutdown()
    _begun.end()
