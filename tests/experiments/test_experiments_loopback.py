"""A Ray that a2v starts on this machine listens on loopback addresses; one of a cluster is left as it is."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys

import pytest
from a2v_experiments.cluster.environment import CLUSTER_OF_MANY, on_loopback

LISTENS = """
import psutil, ray
from a2v_experiments.cluster.session import start_ray, stop_ray
from a2v_experiments.recipe.sections import RayConfig
start_ray(RayConfig(num_workers=1))
ray.get(ray.remote(lambda: 0).remote())
for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
    for one in process.net_connections("inet"):
        if one.status == "LISTEN":
            print(one.laddr.ip)
stop_ray()
"""


@pytest.mark.parametrize("given", [None, "1"])
def test_the_address_of_this_machine_is_loopback_while_ray_starts_and_as_it_was_afterwards(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    from ray._private import services

    monkeypatch.delenv(CLUSTER_OF_MANY, raising=False)
    if given is not None:
        monkeypatch.setenv(CLUSTER_OF_MANY, given)
    monkeypatch.setattr(services, "node_ip_address_from_perspective", lambda address: "192.0.2.7")
    with pytest.raises(KeyError), on_loopback():
        assert services.get_node_ip_address() in ("127.0.0.1", "::1") and os.environ[CLUSTER_OF_MANY] == "0"
        raise KeyError
    assert services.get_node_ip_address() == "192.0.2.7" and os.environ.get(CLUSTER_OF_MANY) == given


@pytest.mark.slow
def test_nothing_of_a_local_ray_is_reached_from_another_machine() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    said = subprocess.run([sys.executable, "-c", LISTENS], env=environment, capture_output=True, text=True, check=True)
    addresses = [ipaddress.ip_address(line.removeprefix("::ffff:")) for line in said.stdout.split()]
    assert len(addresses) > 5 and all(address.is_loopback for address in addresses), said.stdout
