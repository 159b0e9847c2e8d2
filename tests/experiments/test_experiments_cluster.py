"""A pretraining submitted to a cluster of two nodes, one of which dies while it trains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments_cluster import RayCluster, ray_cluster, wait_for
from experiments_runs import World
from experiments_world import Said, call_quietly, recipe_tree, write_recipe
from safetensors.torch import load_file

UPDATES = 120


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    """A CPU on each of two nodes, so that two workers sit on both."""
    with ray_cluster(cpus=1) as cluster:
        cluster.add_node(cpus=1)
        yield cluster


def client(cluster: RayCluster, *arguments: object, token: str = "") -> subprocess.Popen[str]:
    """`a2v experiment ARGUMENTS` in a process of its own, which may use the cluster."""
    token = token or cluster.token
    environment = {**os.environ, "RAY_AUTH_TOKEN": token, "RAY_ADDRESS": "192.0.2.1:6379"}  # the option counts for more
    command = [sys.executable, "-m", "a2v_experiments", "experiment", *map(str, arguments), "--address", cluster.url]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def tag(world: World, stage: str, key: str) -> str:
    return next((run.data.tags.get(key, "") for run in world.runs(stage)), "")


@pytest.mark.rehearsal
@pytest.mark.ray
def test_a_submitted_training_goes_on_with_the_node_that_is_left(
    cluster: RayCluster, tmp_path: Path, new_work: Callable[[str], Path], csv_source: Path
):
    changes = {"pretrain__updates": UPDATES, "pretrain__checkpoint_every": 10, "finetune": None}
    tree = recipe_tree(data__source=str(csv_source), **changes)
    tree["pretrain"]["optimizer"]["learning_rate"] = 1e-4
    recipe = write_recipe(tmp_path / "small.yaml", tree)
    work, alone = new_work("shared"), new_work("alone")

    submit = client(
        cluster, "submit", recipe, "--work", work, "--set", "ray.num_workers=2", "--set", "ray.min_workers=1",
        "--job-id", "tones-1", "--env", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=5",
    )  # fmt: skip
    refused = client(cluster, "attach", "tones-1", token="0" * 64).communicate(timeout=60)
    assert "the cluster wants another token" in refused[1] and refused[1].count("\n") == 1
    wait_for(lambda: bool(saved(work)), 240, f"the first checkpoint; {submit.poll()}")
    submit.send_signal(signal.SIGINT)
    assert "job tones-1 goes on without this command" in submit.communicate(timeout=30)[1]
    assert submit.returncode == 130
    world, other = (World(folder, recipe, Said(0, "", "")) for folder in (work, alone))
    both = ("127.0.0.2, 127.0.0.3", "127.0.0.3, 127.0.0.2")
    wait_for(lambda: tag(world, "pretrain", "a2v.nodes") in both, 20, "workers on both nodes")
    assert max(saved(work)) < UPDATES
    cluster.nodes[1].kill()

    attach = client(cluster, "attach", "tones-1")
    out, err = attach.communicate(timeout=300)
    assert attach.returncode == 0, out + err
    assert {run.data.tags["a2v.stage"]: run.info.status for run in world.runs()} == dict.fromkeys(
        ("experiment", "prepare", "pretrain"), "FINISHED"
    )
    assert len(world.runs()) == 3
    assert {run.data.tags["a2v.job"] for run in world.runs()} == {"tones-1"}
    (run,) = world.runs("pretrain")
    assert run.data.tags["a2v.nodes"] == "127.0.0.2"
    workers = [metric.value for metric in world.store.client.get_metric_history(run.info.run_id, "workers")]
    assert workers == sorted(workers, reverse=True) and set(workers) == {2.0, 1.0} and len(workers) == UPDATES

    assert call_quietly("experiment", "run", recipe, "--work", alone).code == 0
    (reference,) = other.runs("pretrain")
    assert run.data.tags["a2v.fingerprint"] == reference.data.tags["a2v.fingerprint"]
    losses = world.losses(run)
    assert [step for step, _ in losses] == list(range(1, UPDATES + 1))
    np.testing.assert_allclose(losses, other.losses(reference), rtol=2e-3)
    weights = load_file(world.fetch(run, "model") / "model.safetensors")
    expected = load_file(other.fetch(reference, "model") / "model.safetensors")
    assert weights.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=2e-3)


def saved(work: Path) -> list[int]:
    """The updates of the checkpoints that are there."""
    return [int(path.parent.name.split("-")[1]) for path in work.glob("checkpoints/pretrain-*/update-*/loop.json")]
