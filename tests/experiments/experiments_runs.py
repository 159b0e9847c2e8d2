"""A small experiment that was run once, and what MLflow has of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from a2v_experiments.store.database import default_uri
from a2v_experiments.store.tracking import Store
from experiments_world import Said, call_quietly, recipe_tree, write_recipe
from mlflow.entities import Run


@dataclass(frozen=True)
class World:
    """A work folder in which the small recipe was run, and what the command said."""

    work: Path
    recipe: Path
    first: Said

    def call(self, *overrides: str) -> Said:
        sets = [part for override in overrides for part in ("--set", override)]
        return call_quietly("experiment", "run", self.recipe, "--work", self.work, *sets)

    def first_runs(self) -> dict[str, list[Run]]:
        """Stage -> the runs of the first call, whatever later calls add."""
        parent = self.runs("experiment")[0]
        children = [run for run in self.runs() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        found: dict[str, list[Run]] = {}
        for run in [parent, *children]:
            found.setdefault(run.data.tags["a2v.stage"], []).append(run)
        found["finetune"].sort(key=lambda run: run.data.tags["fold"])
        return found

    @property
    def store(self) -> Store:
        return Store(default_uri(self.work), "tones", None)

    def runs(self, stage: str | None = None) -> list[Run]:
        """All runs of a stage, the oldest first."""
        store = self.store
        found = store.client.search_runs([store.experiment_id], order_by=["attributes.start_time ASC"])
        return [run for run in found if stage in (None, run.data.tags["a2v.stage"])]

    def losses(self, run: Run) -> list[tuple[int, float]]:
        return sorted((m.step, m.value) for m in self.store.client.get_metric_history(run.info.run_id, "loss"))

    def artifacts(self, run: Run) -> set[str]:
        return {item.path for item in self.store.client.list_artifacts(run.info.run_id)}

    def fetch(self, run: Run, name: str) -> Path:
        """Local path of an artifact."""
        return Path(self.store.fetch(run.info.run_id, name, self.work))

    def manifest(self, run: Run, name: str) -> set[str]:
        """The recordings in one manifest (train_0.tsv, valid_0.tsv, ...) of a folds run."""
        lines = (self.fetch(run, "manifest") / name).read_text(encoding="utf-8").splitlines()
        return {line.partition("\t")[0] for line in lines[1:]}


def make_world(folder: Path, empty_database: Path, source: Path) -> World:
    """Run the small experiment below `folder`."""
    torch.set_num_threads(1)
    work = folder / "work"
    work.mkdir()
    shutil.copy(empty_database, work / "mlflow.db")
    recipe = write_recipe(folder / "small.yaml", recipe_tree(data__source=str(source)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")  # so that seconds of training have some
        first = call_quietly("experiment", "run", recipe, "--work", work)
    assert first.code == 0, first.err
    return World(work, recipe, first)
