"""Evaluation on Ray's workers: the same bytes as in one process, also where a worker dies; what fails is one line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from a2v_data.corpus import Corpus
from a2v_data.folds import Fold
from a2v_experiments.basics.errors import UserError
from a2v_experiments.cluster import session as ray_session
from a2v_experiments.cluster.ordered import on_workers
from a2v_experiments.recipe.files import load_recipe
from a2v_experiments.recipe.sections import RayConfig, Recipe
from a2v_experiments.stages import listening
from a2v_experiments.stages.evaluation import evaluate_model
from a2v_experiments.stages.stage import Context, ending
from a2v_experiments.stages.stages import corpus_folder
from a2v_experiments.store.tags import FOLD


@pytest.fixture
def _ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_ADDRESS", "local")  # not a cluster that somebody else runs on this machine
    yield
    ray_session.stop_ray()


def evaluated(world: Any, recipe: Recipe, name: str) -> tuple[dict[str, float], dict[str, bytes]]:
    """Metrics and artifacts of an evaluation of the first fold's model in a run of its own; two recordings choose
    thresholds."""
    (first, *_), (parent, *_) = world.runs("finetune"), world.runs("experiment")
    store, data = world.store, world.runs("prepare")[0]
    corpus = Corpus.open(corpus_folder(world.work, data.data.tags["a2v.fingerprint"]))
    folds = world.runs("folds")[0]
    train, valid = (sorted(world.manifest(folds, f"{part}_0.tsv")) for part in ("train", "valid"))
    context = Context(recipe, store, world.work, parent.info.run_id, lambda line: None)
    run_id = store.begin("finetune", name, name, {}, {FOLD: "0"}, parent.info.run_id)
    with ending(store, run_id):
        evaluate_model(context, run_id, first.info.run_id, corpus, Fold(0, train, valid), train[:2])
    run = store.run(run_id)
    files = {path: world.fetch(run, path) for path in world.artifacts(run)}
    found = {path: file.read_bytes() for path, file in files.items() if file.is_file()}
    store.client.delete_run(run_id)  # other tests look at all that is in this world
    return dict(run.data.metrics), found


def local_work() -> tuple[Callable[[tuple[Path, int]], int], Callable[[int], int]]:
    """One whose process dies the first time, and one that fails; made here since workers do not have this module."""

    def dies_once(argument: tuple[Path, int]) -> int:
        folder, number = argument
        if number == 2 and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2

    def fails(argument: int) -> int:
        if argument == 3:
            raise RuntimeError("first line\nthe model does not fit")
        return argument

    return dies_once, fails


@pytest.mark.ray
@pytest.mark.usefixtures("_ray")
def test_workers_give_the_same_bytes_as_one_process(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(listening.TASK_S, "cpu", 1.0)  # tasks of a batch, which begin and end within recordings
    monkeypatch.setattr(listening, "LOUDNESS_TASK_S", 4.0)
    torch.set_flush_denormal(True)  # as after a training in this process
    recipe = load_recipe(str(world.recipe))
    metrics, artifacts = evaluated(world, recipe, "alone")
    loads: list[str] = []
    monkeypatch.setattr(listening, "load_model", lambda folder: loads.append(folder))
    on_ray = recipe.model_copy(update={"ray": RayConfig(num_workers=2)})
    ray_metrics, ray_artifacts = evaluated(world, on_ray, "ray")
    assert not loads  # the weights are not for this process
    assert ray_metrics == metrics and "energy/AP/micro" in metrics
    assert ray_artifacts == artifacts and {"evaluation.json", "scores.csv", "example.png"} <= set(artifacts)

    config, (dies_once, fails) = RayConfig(num_workers=2), local_work()
    squares = on_workers(config, dies_once, [(tmp_path, number) for number in range(5)], "trying", gpu=False)
    assert list(squares) == [0, 1, 4, 9, 16] and (tmp_path / "died").exists()
    with pytest.raises(UserError, match=r"^trying failed on a Ray worker: .*the model does not fit$"):
        list(on_workers(config, fails, range(9), "trying", gpu=False))
