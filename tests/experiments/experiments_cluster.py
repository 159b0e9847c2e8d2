"""A Ray cluster of several nodes on this machine, started with `ray start`; it stops only what it started."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "RAY_health_check_period_ms": "500",  # a dead node is noticed within seconds and not half a minute
    "RAY_health_check_failure_threshold": "3",
}
FIRST = "127.0.0."  # and 2, 3, ...: Ray takes 127.0.0.1 for the machine's outer address
STORE_BYTES = 80_000_000  # the smallest object store that Ray takes is 75 MB


class Node:
    """One `ray start --block` with its processes, reached at an address of its own (127.0.0.N)."""

    def __init__(self, ip: str, log: Path, arguments: list[str], cpus: int, environment: dict[str, str]) -> None:
        self.ip, self.log = ip, log
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats",
            f"--node-ip-address={ip}", f"--num-cpus={cpus}", "--num-gpus=0", f"--object-store-memory={STORE_BYTES}",
            f"--dashboard-agent-listen-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0", *arguments,
        ]  # fmt: skip
        with log.open("w", encoding="utf-8") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)

    def kill(self) -> None:
        """As when its machine dies: all its processes at once."""
        if self.process.poll() is None:
            head = psutil.Process(self.process.pid)
            for process in [*head.children(recursive=True), head]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait(30)


class RayCluster:
    """The head (127.0.0.2) and as many further nodes as are added."""

    def __init__(self, folder: Path, cpus: int) -> None:
        self.folder = folder
        self.address = f"{FIRST}2:{free_port()}"
        self.url = f"http://127.0.0.1:{free_port()}"
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_", "PYTHONPATH"))
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited["PATH"]])
        self.token = secrets.token_hex(32)
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        self.environment = {**inherited, **ENVIRONMENT, **token, "PATH": path}
        head = [
            "--head", f"--port={self.address.rpartition(':')[2]}",
            "--include-dashboard=true", "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.url.rpartition(':')[2]}", f"--ray-client-server-port={free_port()}",
        ]  # fmt: skip
        self.nodes: list[Node] = []
        self._start(head, cpus)

    def answers(self) -> bool:
        request = urllib.request.Request(f"{self.url}/api/version", headers={"Authorization": f"Bearer {self.token}"})
        try:
            return bool(urllib.request.urlopen(request, timeout=2).status == 200)
        except OSError:
            return False

    def _start(self, arguments: list[str], cpus: int) -> Node:
        number = len(self.nodes)
        place = self.folder / str(number)  # not shared, as on a machine of its own: a node removes what it finds there
        place.mkdir()
        arguments = [*arguments, f"--temp-dir={place}"]
        self.nodes.append(Node(f"{FIRST}{number + 2}", place / "log", arguments, cpus, self.environment))
        return self.nodes[-1]

    def add_node(self, cpus: int) -> Node:
        return self._start([f"--address={self.address}"], cpus)

    def stop(self) -> None:
        for node in reversed(self.nodes):
            node.kill()


@contextmanager
def ray_cluster(cpus: int) -> Iterator[RayCluster]:
    """A cluster whose head has `cpus` CPUs. Its folder has a short name: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="a2vray", dir="/tmp"))
    cluster = RayCluster(folder, cpus)
    try:
        wait_for(cluster.answers, 60, f"the Jobs API at {cluster.url}, see {cluster.nodes[0].log}")
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
