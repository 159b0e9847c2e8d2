"""What to do after an experiment, as commands that can be pasted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from a2v_eval.summary import spread

from ..basics.places import DEFAULT_WORK, command
from ..recipe.files import RecipeFile
from ..recipe.plugins import asks_first
from ..recipe.sections import Recipe
from ..stages.experiment import Outcome

if TYPE_CHECKING:
    from ..sweep.run import BestTrial

ENOUGH = 0.5
"""Strict micro AP below which a model is better trained on than used."""
UPDATES = "finetune.updates"


def next_steps(
    outcome: Outcome,
    recipe: Recipe,
    given: tuple[str, Sequence[str]],
    work: Path,
    store_uri: str,
    tracking_uri: str | None,
) -> list[str]:
    """A line that says what is next, and the commands for it, each on a line. Empty where there is no detector.

    given: the recipe as it was named on the command line, and its `--set`s. store_uri: where the runs are,
    tracking_uri: what the command line says of that. The model is the one that was trained on all labels, else that of
    the first fold with the most labels.
    """
    if not outcome.models or recipe.finetune is None:
        return []
    share = max(outcome.models)
    name, overrides = given
    folder = ["--work", str(work)] if work != DEFAULT_WORK else []
    store = ["--tracking-uri", tracking_uri] if tracking_uri else []
    known = [fold["strict/AP/micro"] for fold in outcome.scores[share] if "strict/AP/micro" in fold]
    ap = spread(known).mean if known else None
    lines = ["find the calls in your own recordings, NEW (files or folders):"]
    told = []
    if outcome.refit is not None:
        told = [
            f"the model for new recordings, trained on all labels: runs:/{outcome.refit}",
            "its scores are those of the folds above, whose models heard fewer labels"
            if len(outcome.scores[share]) > 1
            else "its scores are those of the fold above, whose model heard fewer labels",
        ]
    if ap is not None and ap < ENOUGH:
        kept = [part for text in overrides if not _sets_updates(text) for part in ("--set", text)]
        more = ["--set", f"{UPDATES}={2 * recipe.finetune.updates}"]
        lines = [
            f"strict AP micro is {ap:.2f}: give it more updates or more labels first, then let it predict:",
            f"  {command(*['experiment', 'run', name, *kept, *more, *folder, *store])}",
        ]
    # `a2v predict` looks for a run in the default work folder
    where = store or ([] if work == DEFAULT_WORK else ["--tracking-uri", store_uri])
    agreed = ["--allow-plugins"] if asks_first(recipe) else []
    model = f"runs:/{outcome.best_model}"
    return [*told, *lines, f"  {command(*['predict', 'NEW', '--model', model, '--out', 'calls', *where, *agreed])}"]


def after_sweep(
    best: BestTrial, given: tuple[str, Sequence[str]], work: Path, store_uri: str, tracking_uri: str | None
) -> list[str]:
    """The same for the best trial of a sweep, whose values stand as `--set` where it is trained on."""
    name, overrides = given
    values = [f"{key}={_yaml(value)}" for key, value in best.parameters.items()]
    sets = [*overrides, "sweep=null", *values]
    lines = next_steps(best.outcome, best.recipe, (name, sets), work, store_uri, tracking_uri)
    return [f"of the best trial, {lines[0]}", *lines[1:]] if lines else []


def after_scale(file: RecipeFile, given: tuple[str, Sequence[str]], work: Path, tracking_uri: str | None) -> list[str]:
    """After a run that was made small: the recipe as it is, first what it would take. FOLDER stands where the recipe
    names no folder of recordings that is there."""
    recipe = replace(file, scale=None).resolve()
    name, overrides = given
    absent = [
        f"{key}.source=FOLDER"
        for key, data in recipe.corpora.items()
        if data.source != "synthetic" and not Path(data.source).is_dir()
    ]
    sets = [part for text in (*overrides, *absent) for part in ("--set", text)]
    folder = ["--work", str(work)] if work != DEFAULT_WORK else []
    store = ["--tracking-uri", tracking_uri] if tracking_uri else []
    where = " on your recordings, FOLDER" if absent else ""
    return [
        f"as the recipe has it{where}, first what it would take:",
        *(f"  {command(*['experiment', verb, name, *sets, *folder, *store])}" for verb in ("plan", "run")),
    ]


def _yaml(value: Any) -> str:
    """A value as `--set` reads it."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1_000_000)
    return text.strip().removesuffix("...").strip()


def _sets_updates(override: str) -> bool:
    return override.partition("=")[0].strip() == UPDATES
