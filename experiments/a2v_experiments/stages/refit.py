"""The model for new recordings (`folds.refit`): trained on all labelled recordings, once the folds have its scores.

No recording is left to choose thresholds on, so they come from the folds: each evaluation recording was scored by a
model of the same recipe that never heard it, and the best threshold of each class over all of these is taken.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from a2v_data.corpus import Corpus
from a2v_data.folds import Folds
from a2v_model import Detector, load_model
from a2v_model.checkpoints import DESCRIPTION, WEIGHTS
from a2v_model.saved_plugins import FOLDER as PLUGINS

from ..pyfunc import log_detector
from ..recipe.sections import Recipe
from ..store.logged_models import MODEL
from ..store.tags import FOLD, HAS_MODEL, LABEL_SHARE, LOGGED
from ..store.tracking import scratch
from . import stages
from .datasets import datasets_of
from .evaluation import holds_for, keep_thresholds, sample_sizes
from .pooled import pooled
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
    """The best threshold of each class over the evaluation recordings of the folds that were run, see `pooled`.
    fitted: the recipe with the event settings that these thresholds are for."""
    run = context.recipe.folds.selected
    count = sum(len(folds[fold].evaluation) for fold in run)
    numbers = ", ".join(str(fold) for fold in run)
    told = f"{count} recordings, out of fold: the evaluation recordings of fold{'s' if len(run) > 1 else ''} {numbers},"
    told += " each scored by a model that was not trained on it"
    trained = [(result.run_id, folds[fold].train) for fold, result in zip(run, finetuned, strict=True)]
    return pooled(context, corpus, trained, holds_for(fitted, told), "no fold", "the final model")[0]


def _copy(context: Context, source: str, run_id: str) -> None:
    """Another run's detector, as this run's own."""
    with scratch() as aside:
        folder = Path(aside) / MODEL
        folder.mkdir()
        for name in (WEIGHTS, DESCRIPTION):
            shutil.copy(Path(context.store.fetch(source, MODEL, context.work)) / name, folder)
        if (kept := Path(context.store.fetch(source, MODEL, context.work)) / PLUGINS).is_dir():
            shutil.copytree(kept, folder / PLUGINS)
        model = load_model(folder)
        assert isinstance(model, Detector)
        log_detector(context.store, run_id, model, folder)
    context.store.tag(run_id, HAS_MODEL, LOGGED)
