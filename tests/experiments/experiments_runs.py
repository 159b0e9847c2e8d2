"""A small experiment that was run once, and what MLflow has of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from a2v_experiments.tracking import Store, default_uri
from experiments_world import Said, call_quietly
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
