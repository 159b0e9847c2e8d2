"""Rounds of review as a chain of runs in MLflow: which model came before, and what was looked at since.

A run is part of one where its finetuning goes on from a model (`finetune.start`), or where its labels are a folder that
`a2v review export` wrote. It and its finetunings then have the tags `round` and `previous_run`, and the metrics
`round`, `labels` and, where it is known, `reviewed_minutes`, so that MLflow's table and charts show the chain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2v_data.corpus import Corpus
from a2v_data.documents import read_json
from a2v_data.table_files import REVIEW_FILE
from a2v_model.checkpoints import read_description
from mlflow.exceptions import MlflowException

from ..basics.errors import UserError
from ..models import split_name
from ..recipe.sections import Recipe
from ..store.tags import PREVIOUS_RUN, ROUND
from ..store.tracking import Store
from .backbones import Backbone


@dataclass(frozen=True)
class Chain:
    """Where a run stands. number: of its round, 0 for a first model; previous: the run of the model before, where it is
    known; labels: events that there are; minutes: that were looked at in the review."""

    number: int
    previous: str | None
    labels: int
    minutes: float | None = None

    @property
    def tags(self) -> dict[str, str]:
        known = {PREVIOUS_RUN: self.previous} if self.previous else {}
        return {ROUND: str(self.number), **known}

    @property
    def metrics(self) -> dict[str, float]:
        known = {} if self.minutes is None else {"reviewed_minutes": self.minutes}
        return {"round": float(self.number), "labels": float(self.labels), **known}


def chain_of(recipe: Recipe, start: Backbone | None, corpus: Corpus, store: Store) -> Chain | None:
    """The place of a recipe's run in a chain, None where it is in none. start: what its finetuning starts from, if that
    is a model that was there; corpus: of `data`. Raises UserError where the review's record is damaged."""
    goes_on, review = start is not None and start.goes_on, _review_of(recipe.data.source)
    if recipe.finetune is None or not (goes_on or review):
        return None
    review = review or {}
    previous = start.run_id if start is not None and goes_on else _run_of(review.get("model"))
    number = 1 + round_of(store, previous)
    told, minutes = review.get("round"), review.get("reviewed_minutes")
    if isinstance(told, int):
        number = max(number, told) if goes_on else told
    return Chain(number, previous, len(corpus.events), float(minutes) if isinstance(minutes, int | float) else None)


def round_of(store: Store, run_id: str | None) -> int:
    """The round of a model's run; 0 for a first model and where nothing is known of it."""
    try:
        return int(store.run(run_id).data.tags.get(ROUND, 0)) if run_id else 0
    except (UserError, MlflowException, ValueError):  # of another store
        return 0


def _review_of(source: str) -> dict[str, Any] | None:
    """What the export of a review says of itself; None of any other folder."""
    path = Path(source) / REVIEW_FILE
    if not path.is_file():
        return None
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}); export the review again (a2v review export)") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: no record of a review; export the review again (a2v review export)")
    return found


def _run_of(model: object) -> str | None:
    """The run that trained the model whose calls were reviewed, by its URI, or by the folder where it still lies."""
    if not isinstance(model, str):
        return None
    name, _ = split_name(model)
    if found := re.match(r"runs:/([^/]+)", name):
        return found[1]
    try:
        run_id = read_description(name).get("extra", {}).get("run_id")
    except ValueError:
        return None
    return run_id if isinstance(run_id, str) else None
