"""What training on several machines needs beside Ray Train: addresses that reach the others, and shared folders.

It imports Ray, so it is imported where Ray is used.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..basics.errors import FAILED, UserError

WAIT_S = 120.0  # for a new node to start a process


class TorchOnNodes(TorchConfig):
    """gloo on CPUs, nccl on GPUs, and between nodes over the network that Ray itself uses.

    gloo would take the address that a machine's name resolves to, which on Debian is a loopback address that other
    machines cannot reach.
    """

    @property
    def backend_cls(self) -> Any:
        parent: Any = super().backend_cls

        class Backend(parent):
            def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
                if len(set(worker_group.execute(ray.util.get_node_ip_address))) > 1:
                    worker_group.execute(_choose_interface)
                super().on_start(worker_group, backend_config)

        return Backend


class Trainer(TorchTrainer):
    """Without processes that Ray Train starts for each training and that have nothing to do here: one hands out Ray
    Datasets; one gives back the processors of a controller that died, which on a Ray that ends with this process
    matters to none."""

    def _create_default_callbacks(self) -> Any:
        unused = {"DatasetsCallback", *(["PlacementGroupCleanerCallback"] if is_own_ray() else [])}
        made: Any = super()._create_default_callbacks()  # type: ignore[misc]
        return [callback for callback in made if type(callback).__name__ not in unused]


def is_own_ray() -> bool:
    """Whether this process started the Ray that it is connected to, on this machine: no cluster, and no trial of a
    sweep."""
    node = ray._private.worker._global_node if ray.is_initialized() else None
    return node is not None and node.head


def prepare_training() -> None:
    """Begin the process that Ray Train asks for machines, which a controller would wait for; one serves all."""
    with suppress(ImportError):  # a part of Ray that other versions may have elsewhere; a controller starts it, too
        from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
            get_or_create_autoscaling_coordinator,
        )

        get_or_create_autoscaling_coordinator()


def _choose_interface() -> None:
    """On a worker: gloo uses the network interface that has the node's address, unless its user chose another."""
    name = interface_of(ray.util.get_node_ip_address())
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def interface_of(address: str) -> str | None:
    """The network interface of this machine that has an IP address, or None."""
    import psutil

    families = (socket.AF_INET, socket.AF_INET6)
    for name, addresses in psutil.net_if_addrs().items():
        if any(item.family in families and item.address.partition("%")[0] == address for item in addresses):
            return name
    return None


def largest_resources() -> dict[str, float]:
    """What the cluster has, or can have once its autoscaler has started every node that it may start."""
    from ray._private.state import state

    limits = state.get_max_resources_from_cluster_config() or {}
    return {**limits, **{kind: max(have, limits.get(kind, 0)) for kind, have in ray.cluster_resources().items()}}


def check_shared(folder: Path) -> None:
    """Raise UserError where a node of the cluster does not see the work folder, which workers read and write."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f".seen-{uuid.uuid4().hex}"
    mark.touch()
    try:
        blind = blind_nodes([mark])
    finally:
        mark.unlink()
    if blind:
        raise UserError(
            f"{folder}: node {', '.join(blind)} does not see this folder; the work folder (--work) must be on storage"
            " that all nodes of the Ray cluster share, under the same path",
            FAILED,
        )


def blind_nodes(paths: Sequence[Path]) -> dict[str, str]:
    """The addresses of nodes that do not see all of these files and folders, each with one that it does not see. On a
    single node none is asked."""
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if len(nodes) < 2:
        return {}
    look = ray.remote(num_cpus=0, max_retries=0)(_unseen)
    asked = {}
    for node, address in nodes.items():
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[look.options(scheduling_strategy=there).remote([str(path) for path in paths])] = address
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=WAIT_S)
    found = {asked[reference]: _answer(reference) for reference in answered}
    return {address: path for address, path in found.items() if path is not None}


def _unseen(paths: list[str]) -> str | None:
    """On a node: the first of the paths that is not there."""
    return next((path for path in paths if not os.path.exists(path)), None)


def _answer(reference: Any) -> str | None:
    try:
        answer: str | None = ray.get(reference)
        return answer
    except ray.exceptions.RayError:  # a node that has left since is not asked
        return None
