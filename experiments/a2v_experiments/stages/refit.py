"""The model for new recordings (`folds.refit`): trained on all labelled recordings, once the folds have its scores.

No recording is left to choose thresholds on, so they come from the folds: each evaluation recording was scored by a
model of the same recipe that never heard it, and the best threshold of each class over all of these is taken.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from a2v_data.corpus import Corpus
from a2v_data.folds import Folds, class_counts
from a2v_eval.thresholds import ThresholdScores
from a2v_model import Detector, load_model
from a2v_model.checkpoints import DESCRIPTION, WEIGHTS

from ..pyfunc import log_detector
from ..recipe.sections import Recipe
from ..store.logged_models import MODEL
from ..store.tags import FOLD, HAS_MODEL, LABEL_SHARE, LOGGED
from ..store.tracking import scratch
from . import stages
from .datasets import datasets_of
from .evaluation import SHARED_LABELS, holds_for, keep_thresholds, sample_sizes
from .figures import best_thresholds, threshold_scores
from .presence import SCORE as PRESENCE_SCORE
from .presence import filled, presence_of
from .stage import Context, Result, run_stage
from .walk import Step


def refit(context: Context, step: Step[Any], corpus: Corpus, folds: Folds, finetuned: Sequence[Result]) -> Result:
    """Train on every labelled recording, up to the last update, and give the model the thresholds of the folds.

    context, step: as for `stages.finetune`. finetuned: of the recipe's folds, in their order. Where only folds or
    evaluation are others than before, the weights that are there are copied.
    """
    recipe, stage, start = context.recipe, step.spec, step.inputs.get("pretrain")
    names = labelled(corpus, folds)

    def work(run_id: str) -> None:
        context.store.name_classes(run_id, corpus.classes)
        context.store.log_inputs(run_id, datasets_of(corpus, recipe.data.source, training=names))
        fitted = stages.fitted(recipe, corpus, names)
        chosen = out_of_fold(context, fitted, corpus, folds, finetuned)  # before hours are spent
        model_run = stages.detector(context, stage, run_id, corpus, start, names, [])
        if model_run != run_id:  # that one keeps its own thresholds
            _copy(context, model_run, run_id)
        context.store.log_metrics(run_id, sample_sizes(corpus, names))
        if context.chain is not None:
            context.store.log_metrics(run_id, context.chain.metrics)
        context.store.log_json(run_id, chosen, "thresholds.json")
        keep_thresholds(context, run_id, chosen)

    tags = {FOLD: "refit", LABEL_SHARE: "1", **stages.detector_tags(context, stage, start)}
    return run_stage(context, stage, step.inputs, work, tags)


def labelled(corpus: Corpus, folds: Folds) -> list[str]:
    """Every labelled recording, in the corpus's order: those that folds train on or evaluate."""
    known = {name for fold in folds for name in (*fold.train, *fold.evaluation)}
    return [recording.name for recording in corpus.recordings if recording.name in known]


def out_of_fold(
    context: Context, fitted: Recipe, corpus: Corpus, folds: Folds, finetuned: Sequence[Result]
) -> dict[str, Any]:
    """The best threshold of each class over the evaluation recordings of the folds that were run: what
    `write_thresholds` takes. fitted: the recipe with the event settings that these thresholds are for.

    A fold whose model never heard a class says nothing of it. A class that is left without any fold, since all its
    labels are in one recording, has the threshold that suits all classes together, and nothing is known of its F1.
    Raises UserError where a fold's run has no numbers of its thresholds.
    """
    run = context.recipe.folds.selected
    parts = [
        (
            threshold_scores(context, result.run_id),
            presence_of(context, result.run_id) if corpus.meta.get("weak") else None,
            folds[fold].train,
        )
        for fold, result in zip(run, finetuned, strict=True)
    ]
    scores = [_heard(events, corpus, train) for events, _, train in parts if events is not None]
    presence = [_heard(whole.thresholds(), corpus, train) for _, whole, train in parts if whole is not None]
    count = sum(len(folds[fold].evaluation) for fold in run)
    numbers = ", ".join(str(fold) for fold in run)
    told = f"{count} recordings, out of fold: the evaluation recordings of fold{'s' if len(run) > 1 else ''} {numbers},"
    told += " each scored by a model that was not trained on it"
    by_presence = {**holds_for(fitted, told), "score": PRESENCE_SCORE}
    together = reduce(add, scores or presence)
    chosen = best_thresholds(together, holds_for(fitted, told) if scores else by_presence, SHARED_LABELS)
    if scores and presence:
        chosen = filled(chosen, best_thresholds(reduce(add, presence), by_presence, SHARED_LABELS))
    unscored = [
        name
        for name, labels in zip(together.classes, together.labelled, strict=True)
        if not labels and name not in chosen["thresholds"]
    ]
    pooled = ThresholdScores(
        ("all",), together.thresholds, together.hits.sum(0)[None], together.predicted.sum(0)[None],
        together.labelled.sum()[None],
    ).best()  # fmt: skip
    if unscored and pooled:
        chosen["thresholds"] |= dict.fromkeys(unscored, pooled["all"])
        for name in unscored:
            del chosen["thresholds_from"]["labels"][name]
        context.say(
            f"  never scored, as no fold both trained on and evaluated it: {', '.join(unscored)}; the final model has"
            " heard it and takes the threshold of all classes together"
        )
    return chosen


def _heard(scores: ThresholdScores, corpus: Corpus, train: Sequence[str]) -> ThresholdScores:
    """The same without the counts of classes that none of these recordings has."""
    there_C = class_counts(corpus)[corpus.indices(list(train))].sum(0) > 0
    return replace(
        scores, hits=scores.hits * there_C[:, None], predicted=scores.predicted * there_C[:, None],
        labelled=scores.labelled * there_C,
    )  # fmt: skip


def _copy(context: Context, source: str, run_id: str) -> None:
    """Another run's detector, as this run's own."""
    with scratch() as aside:
        folder = Path(aside) / MODEL
        folder.mkdir()
        for name in (WEIGHTS, DESCRIPTION):
            shutil.copy(Path(context.store.fetch(source, MODEL, context.work)) / name, folder)
        model = load_model(folder)
        assert isinstance(model, Detector)
        log_detector(context.store, run_id, model, folder)
    context.store.tag(run_id, HAS_MODEL, LOGGED)
