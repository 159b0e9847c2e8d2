"""A tracking store with made-up runs: experiments with known scores, without any training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from a2v_experiments.store.database import default_uri
from a2v_experiments.store.tracking import Store

FOLDS_MARK = "f" * 64
Scores = Mapping[int, Mapping[str, float]]  # fold -> metric -> value


def disown(store: Store, run_id: str, owner: str) -> None:
    """Make a run of this process that of another one (host:pid:start)."""
    store.heartbeat.release(run_id)  # which would find out, and interrupt this process
    store.tag(run_id, "a2v.driver", owner)


@dataclass
class MadeUp:
    """Makes runs as an experiment does, with given scores."""

    work: Path
    stores: dict[str, Store] = field(default_factory=dict)

    def store(self, experiment: str) -> Store:
        if experiment not in self.stores:
            self.stores[experiment] = Store(default_uri(self.work), experiment, self.work / "artifacts")
        return self.stores[experiment]

    def experiment(
        self,
        scores: Mapping[float, Scores],
        name: str = "birds",
        status: str | None = "FINISHED",
        stage: str = "experiment",
        parent: str | None = None,
        folds_mark: str = FOLDS_MARK,
        variant: str = "default",
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        **config: Any,
    ) -> str:
        """A run whose folds have these scores (label share -> fold -> metric -> value); status None: RUNNING.
        Keyword `a__b` sets parameter a.b."""
        store = self.store(name)
        shares = sorted(scores) or [1.0]
        base = {"name": name, "variant": variant, "folds": {"count": 5, "run": None, "holdout": None}}
        base["folds"]["label_shares"] = shares
        params = {key.replace("__", "."): value for key, value in config.items()}
        mark = f"{stage} {name} {variant} {len(self.runs(name))}"
        run_id = store.begin(
            stage, mark, run_name or name, {**base, **params}, {"variant": variant, **(tags or {})}, parent
        )
        done: dict[str, dict[int, str]] = {}
        for share, folds in scores.items():
            for fold, metrics in folds.items():
                fold_tags = {"fold": str(fold), "label_share": f"{share:g}", "a2v.input.folds": folds_mark}
                child = store.begin(
                    "finetune", f"{mark} {share} {fold}", f"finetune fold {fold}", {}, fold_tags, run_id
                )
                store.log_metrics(child, dict(metrics))
                store.finish(child)
                done.setdefault(f"{share:g}", {})[fold] = child
        store.tag(run_id, "a2v.finetune_runs", json.dumps(done))
        if status:
            store.finish(run_id, status)
        return run_id

    def runs(self, name: str) -> list[Any]:
        store = self.store(name)
        return list(store.client.search_runs([store.experiment_id]))


def ap(micro: float, strict: float | None = None, **classes: float) -> dict[str, float]:
    """Scores of one fold: micro AP by both protocols (strict: half of paper unless given), and of classes."""
    strict = micro / 2 if strict is None else strict
    scores = {"AP/micro": micro, "strict/AP/micro": strict, "AP/macro": micro, "strict/AP/macro": strict}
    for name, value in classes.items():
        scores |= {f"AP/{name}": value, f"strict/AP/{name}": value / 2}
    return scores
