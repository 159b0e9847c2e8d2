"""Ray Train workers that are killed while they train: the run goes on, once, and ends as if nothing had happened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from a2v_experiments.cluster import session as ray_session
from a2v_experiments.recipe.files import Recipe
from a2v_experiments.stages import packing, stages
from a2v_experiments.stages.mixture import mixture_of
from a2v_experiments.stages.specs import data_spec, pretrain_spec
from a2v_experiments.stages.stage import Context
from a2v_experiments.store.tracking import Store, open_store
from experiments_world import make_recipe
from mlflow.entities import Run
from safetensors.torch import load_file

UPDATES = 120


@pytest.fixture
def _ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_ADDRESS", "local")  # not a cluster that somebody else runs on this machine
    yield
    ray_session.stop_ray()


@dataclass(eq=False)
class Killer(threading.Thread):
    """Kills the worker of rank 0 at the first checkpoint, and the other one once the new workers have saved one.

    Rank 0 writes the checkpoints, and their names hold its process id. `killed`: (rank 0?, updates saved by then).
    """

    storage: Path
    killed: list[tuple[bool, int]] = field(default_factory=list)
    saved_by: set[int] = field(default_factory=set)
    done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        while not self.done.wait(0.02):
            for path in sorted(self.storage.glob("*/update-*-*/loop.json")):
                _, updates, pid, _ = path.parent.name.split("-")
                if int(pid) not in self.saved_by:
                    self.saved_by.add(int(pid))
                    self._kill(int(pid), int(updates))

    def _kill(self, rank_0: int, updates: int) -> None:
        if len(self.killed) == 2:
            return
        first = not self.killed
        for process in psutil.Process().children(recursive=True):
            if is_worker(process) and (process.pid == rank_0) == first:
                process.kill()
                self.killed.append((first, updates))
                return


def is_worker(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def train(recipe: Recipe, work: Path) -> tuple[Store, list[Run]]:
    """Prepare and pretrain under a parent run; returns the store and the pretraining's runs."""
    store = open_store(work, None, recipe.name)
    context = Context(
        recipe, store, work, store.begin("experiment", "parent", "parent", {}, {}, None), lambda line: None
    )
    origin = packing.origin_of(recipe.data, work)
    _, corpus = stages.prepare(context, data_spec(recipe.data, origin.fingerprint), origin)
    heard = mixture_of(recipe, {"data": corpus})
    stages.pretrain(context, pretrain_spec(recipe, heard.fingerprint), heard, corpus)
    query = "tags.`a2v.stage` = 'pretrain'"
    return store, store.client.search_runs([store.experiment_id], query)


def history(store: Store, run: Run, key: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in store.client.get_metric_history(run.info.run_id, key))


@pytest.mark.ray
@pytest.mark.usefixtures("_ray")
def test_workers_killed_in_training_cost_time_and_nothing_else(
    tmp_path: Path, new_work: Callable[[str], Path], csv_source: Path
):
    changes = [f"pretrain.updates={UPDATES}", "pretrain.checkpoint_every=10", "pretrain.optimizer.learning_rate=1e-4"]
    recipe = make_recipe(tmp_path, [*changes, "ray.num_workers=2"], data__source=str(csv_source))
    work = new_work("ray")
    killer = Killer(work / "checkpoints")
    killer.start()
    store, runs = train(recipe, work)
    killer.done.set()

    assert [first for first, _ in killer.killed] == [True, False], killer
    assert len(killer.saved_by) >= 3 and all(updates < UPDATES for _, updates in killer.killed)
    (run,) = runs
    assert run.info.status == "FINISHED" and run.data.tags["a2v.model"] == "logged"
    for key in ("loss", "update", "learning_rate"):
        assert [step for step, _ in history(store, run, key)] == list(range(1, UPDATES + 1)), key
    assert [path for path in (work / "checkpoints").rglob("*") if path.is_file()] == []

    alone_store, (alone,) = train(make_recipe(tmp_path, changes, data__source=str(csv_source)), new_work("alone"))
    assert alone.data.tags["a2v.fingerprint"] == run.data.tags["a2v.fingerprint"]
    losses = [np.array(history(s, r, "loss"))[:, 1] for s, r in ((store, run), (alone_store, alone))]
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3)
    folders = [Path(s.fetch(r.info.run_id, "model", tmp_path)) for s, r in ((store, run), (alone_store, alone))]
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[1].items():
        torch.testing.assert_close(
            weights[0][key], value, rtol=0, atol=2e-3, msg=lambda text, key=key: f"{key}: {text}"
        )
