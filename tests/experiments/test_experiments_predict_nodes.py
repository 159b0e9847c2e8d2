"""`a2v predict --ray` on two nodes, one of which dies: the same bytes as on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from experiments_cluster import ray_cluster, wait_for
from experiments_predict import make_detector, save_detector, write_sound
from experiments_world import call_quietly


@pytest.mark.rehearsal
@pytest.mark.ray
def test_a_node_that_dies_costs_its_own_pieces(tmp_path: Path):
    model = save_detector(make_detector(tmp_path), tmp_path / "model")
    for number in range(3):
        write_sound(tmp_path / f"rec/{number}.wav", 700.0, number)
    options = ["predict", tmp_path / "rec", "--model", model, "--precision", "float32", "--likelihoods", "npz"]
    out, alone = tmp_path / "ray", tmp_path / "alone"

    def pieces() -> int:
        return len(list(out.glob(".predict/pieces/*/[0-9]*.npy")))

    with ray_cluster(cpus=1) as cluster:
        node = cluster.add_node(cpus=1)
        wait_for(lambda: "Ray runtime started" in node.log.read_text(encoding="utf-8"), 60, "the second node")
        command = [sys.executable, "-m", "a2v_experiments", *options, "--out", out, "--ray", "--address"]
        with subprocess.Popen(
            [*map(str, command), cluster.address], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": cluster.token},
        ) as run:  # fmt: skip
            wait_for(lambda: pieces() >= 2 or run.poll() is not None, 120, "the first pieces")
            assert run.poll() is None
            node.kill()
            said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert call_quietly(*options, "--out", alone, "--processes", "1").code == 0
    for path in [*alone.glob("likelihoods/*"), alone / "events.csv"]:
        assert (out / path.relative_to(alone)).read_bytes() == path.read_bytes(), path
