"""Stages of a trial in MLflow: what they are called, and the folds that it did not run because they were there.

A fold's run belongs to the trial that trained it. Another trial with the same fold shows it too, as a run below it that
has the scores and says of which run they are: MLflow knows one parent for each run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ..store import lookup
from ..store.environment import origin
from ..store.names import flatten
from ..store.tags import CLASS, FOLD, LABEL_SHARE, REUSED, SEED, STAGE, TRIAL, VARIANT, having, input_mark

if TYPE_CHECKING:
    from .stage import Context

NOTE = "mlflow.note.content"  # what MLflow shows as a run's description
LONGEST = 80  # characters of a trial's name in that of a stage
SHOWN = "reused"  # what stands for the stage of such a run, which no look-up takes for one


@dataclass(frozen=True)
class Swept:
    """The trial that a stage belongs to: its name, and the keys that it changes."""

    name: str
    parameters: Mapping[str, Any]

    def run_name(self, stage: str) -> str:
        """`mask_probability=0.5 fold 0` of `finetune fold 0`."""
        name = self.name if len(self.name) <= LONGEST else f"{self.name[: LONGEST - 1]}…"
        return f"{name} {stage.removeprefix('finetune ')}"

    @property
    def params(self) -> dict[str, str]:
        """Parameters that a stage's run has beside its own: `trial`, and each key that is swept."""
        return flatten({TRIAL: self.name, **self.parameters})


def show_reused(context: Context, name: str, found: Run) -> None:
    """A run below a trial's for a fold that an earlier one has, once; none where it lies there already."""
    store, parent, trial, tags = context.store, context.parent, context.trial, found.data.tags
    if trial is None or tags.get(MLFLOW_PARENT_RUN_ID) == parent:
        return
    if store.children(parent, having(REUSED, found.info.run_id)):
        return
    kept = {key: value for key, value in tags.items() if key.startswith(CLASS) or key in (FOLD, LABEL_SHARE, SEED)}
    kept |= {key: tags[key] for key in map(input_mark, ("data", "folds", "pretrain")) if key in tags}
    params = found.data.params | trial.params
    note = f"Reused: [run {found.info.run_id}]({_place(found)}) has the same configuration and inputs; these are its"
    kept |= {STAGE: SHOWN, TRIAL: trial.name, REUSED: found.info.run_id, VARIANT: context.recipe.variant}
    kept |= {MLFLOW_PARENT_RUN_ID: parent, NOTE: f"{note} scores.", **origin()}
    shown = store.client.create_run(store.experiment_id, tags=kept, run_name=f"{trial.run_name(name)} (reused)")
    run_id = str(shown.info.run_id)
    store.client.set_terminated(run_id)  # first, so that none is left RUNNING
    store.log_params(run_id, params)
    store.log_metrics(run_id, lookup.metrics_of(found))


def _place(run: Run) -> str:
    """A run's page in MLflow, from any other page."""
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
