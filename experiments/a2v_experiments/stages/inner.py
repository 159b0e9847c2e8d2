"""Validation of every training recording (`folds.validation: cross`), where they are too few to hold some out.

A fold's training recordings are parted; a model is trained on all parts but one and scored on that one, for each part.
What these choose together serves the fold's own model, which is trained on all parts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from a2v_data.corpus import Corpus
from a2v_data.folds import Fold, Folds

from ..recipe.sections import Recipe
from ..store import lookup
from ..store.tags import FOLD, LABEL_SHARE, SEED
from ..training.validation_report import BEST_UPDATE, validation_metrics
from . import stages
from .evaluation import Crossed, evaluate_model, holds_for
from .pooled import pooled
from .splits import inner_parts, of_share
from .stage import Context, Result, run_stage
from .walk import Step


def train_without(context: Context, step: Step[Any], corpus: Corpus, folds: Folds) -> Result:
    """Train on all parts of a fold's training recordings but the step's, which chooses the best weights, and evaluate
    on that one. context: with the step's recipe."""
    recipe, stage, start = context.recipe, step.spec, step.inputs.get("pretrain")
    assert step.fold is not None and step.share is not None and step.part is not None
    part = _parts(recipe, step, corpus, folds)[step.part]

    def work(run_id: str) -> None:
        context.store.name_classes(run_id, corpus.classes)
        model_run = stages.detector(context, stage, run_id, corpus, start, part.train, part.evaluation)
        scored = replace(context, recipe=_fitted(recipe, step, corpus, folds))
        evaluate_model(scored, run_id, model_run, corpus, part)

    seed = {} if step.seed is None else {SEED: str(step.seed)}
    tags = {FOLD: str(step.fold), LABEL_SHARE: f"{step.share:g}", **seed, **stages.detector_tags(context, stage, start)}
    return run_stage(context, stage, step.inputs, work, tags)


def crossing(context: Context, step: Step[Any], corpus: Corpus, folds: Folds) -> Callable[[], Crossed] | None:
    """What the inner folds of a finetuning chose, once it is asked for; None where it has none. context, step: of the
    finetuning."""
    recipe = context.recipe
    if not recipe.crosses:
        return None

    def crossed() -> Crossed:
        parts = _parts(recipe, step, corpus, folds)
        runs = [context.store.run(step.inputs[f"inner {number}"].run_id) for number in range(len(parts))]
        count = sum(len(part.evaluation) for part in parts)
        told = f"{count} training recordings of fold {step.fold}, each scored by an inner model that never heard it"
        holds = holds_for(_fitted(recipe, step, corpus, folds), told)
        trained = [(run.info.run_id, part.train) for run, part in zip(runs, parts, strict=True)]
        thresholds, presence = pooled(context, corpus, trained, holds, "no inner model", "the fold's model")
        scores = [validation_metrics(lookup.defined_metrics(run)) for run in runs]
        names = dict.fromkeys(name for one in scores for name in one)
        metrics = {name: statistics.fmean(one[name] for one in scores if name in one) for name in names}
        best = [context.store.run(lookup.model_run(run)).data.metrics[BEST_UPDATE] for run in runs]
        updates = int(statistics.median_low(best))
        each = ", ".join(f"{one:.0f}" for one in sorted(best))
        context.say(f"  its inner folds were best after {each} updates; it is trained for {updates}")
        return Crossed(thresholds, presence, metrics, updates)

    return crossed


def _parts(recipe: Recipe, step: Step[Any], corpus: Corpus, folds: Folds) -> list[Fold]:
    """The inner folds: each is trained on all parts but one, and evaluated on that one."""
    whole = _whole(recipe, step, folds)
    parts = inner_parts(recipe, corpus, whole)
    return [Fold(number, [name for name in whole if name not in set(held)], held) for number, held in enumerate(parts)]


def _whole(recipe: Recipe, step: Step[Any], folds: Folds) -> list[str]:
    assert step.fold is not None and step.share is not None
    return of_share(recipe, folds[step.fold], step.share).train


def _fitted(recipe: Recipe, step: Step[Any], corpus: Corpus, folds: Folds) -> Recipe:
    """With the event settings of the fold's own model, so that thresholds are of these."""
    return stages.fitted(recipe, corpus, _whole(recipe, step, folds))
