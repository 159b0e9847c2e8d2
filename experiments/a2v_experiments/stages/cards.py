"""The card of every model that an experiment made, in the model's folder once all scores are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from a2v_model.checkpoints import DESCRIPTION, read_description

from ..card.facts import facts_of
from ..card.folder import CARD, put_card
from ..store import lookup
from ..store.logged_models import MODEL
from ..store.tags import input_run
from .stage import Context, Result


def write_cards(context: Context, results: Sequence[Result]) -> None:
    """Of these trainings, and of the pretrainings that they start from, as far as their models have none yet. Models of
    other runs keep theirs."""
    wanted: dict[str, None] = {}
    for result in results:
        start = context.store.run(result.run_id).data.tags.get(input_run("pretrain"))
        wanted |= dict.fromkeys([*([start] if start else []), result.run_id])
    for run_id in wanted:
        if lookup.has_model(context.store.run(run_id)):
            write_run_card(context, run_id)


def write_run_card(context: Context, run_id: str) -> dict[str, Any]:
    """The card of a run's own model, where it has none yet; returns its facts."""
    store = context.store
    folder = Path(store.fetch(run_id, f"{MODEL}/{DESCRIPTION}", context.work)).parent
    there: dict[str, Any] = read_description(folder).get("card") or {}
    if there.get("run_id") == run_id:  # that of another run comes with a copy of its model
        return there
    facts = facts_of(store.client, run_id)
    assert facts is not None
    put_card(folder, facts)
    for file in (DESCRIPTION, CARD):
        store.put_back(run_id, folder / file, MODEL)
    return facts
