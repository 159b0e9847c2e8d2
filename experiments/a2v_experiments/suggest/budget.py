"""How many updates fit into some minutes on this machine: a straight line through what a few steps took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ..overview.plan import Mark, Planned
from ..overview.plan_costs import Clock, with_updates
from ..recipe.sections import Recipe
from ..stages import splits
from ..stages.advice import TrainingPart, listing_of, passes, training_parts
from .suggest import FINETUNE_SHARE, MOST_PASSES, PRETRAIN_SHARE, Trainable

FEWEST = 10  # updates, however short the time


def updates_for(
    minutes: float, recipe: Recipe, note: Callable[[str], None] = lambda line: None
) -> dict[str, Trainable]:
    """Updates of each finetuning, if all of them take 70 % of the minutes; of pretraining, for 15 %, if there is one.

    The start of workers counts as part of each. note(line) is told what is measured.
    """
    clock = Clock(note)
    fits = {}
    if recipe.pretrain is not None:
        fits["pretrain"] = _fitting(clock, recipe, "pretrain", 60 * minutes * PRETRAIN_SHARE)
    if recipe.finetune is not None:
        fits["finetune"] = _fitting(clock, recipe, "finetune", 60 * minutes * FINETUNE_SHARE / recipe.folds.trainings)
    return fits


def within_labels(fits: Mapping[str, Trainable], recipe: Recipe, work: Path) -> dict[str, Trainable]:
    """The same with no more updates of finetuning than hear each labelled second of the training part 200 times.

    Reads headers and annotations. Raises UserError or ValueError for folds that cannot be made.
    """
    listing = listing_of(recipe, work)
    if listing is None or "finetune" not in fits:  # so many recordings are never heard that often
        return dict(fits)
    (part,) = training_parts(recipe, listing, splits.split(recipe, listing)).values()
    return {**fits, "finetune": _at_most(fits["finetune"], recipe, part)}


def _at_most(fits: Trainable, recipe: Recipe, part: TrainingPart) -> Trainable:
    assert recipe.finetune is not None
    once = passes(recipe.finetune.model_copy(update={"updates": 1}), recipe.data.segment_s, part)
    most = max(1, int(MOST_PASSES / once + 1e-6))
    if fits.updates <= most:
        return fits
    return replace(fits, updates=most, fitting=fits.updates, audio_s=sum(part.lengths_s))


def _fitting(clock: Clock, recipe: Recipe, stage: Literal["pretrain", "finetune"], seconds: float) -> Trainable:
    planned = Planned(None, stage, stage, "runs", Mark("", False), None, 1, recipe)
    update_s = clock.update_s(planned)
    head_only = recipe.finetune.head_only_updates if stage == "finetune" and recipe.finetune is not None else 0
    beyond = seconds - clock.training_s(with_updates(planned, head_only + 1))  # an update and what comes before it
    return Trainable(max(FEWEST, head_only + 1 + int(beyond / update_s)), update_s)
