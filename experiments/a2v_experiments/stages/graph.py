"""The stages of one recipe in their order: data and folds, pretraining, then fold by fold finetuning and evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from a2v_data.corpus import Corpus
from a2v_data.folds import Folds as StratifiedFolds

from ..recipe.event_classes import check_event_classes
from ..recipe.sections import DataConfig, Recipe
from ..store.tags import FINETUNE_RUNS, HEARD_LINE, REFIT_RUN
from . import refit, stages
from .advice import advice_on, texts
from .backbones import Backbone, find_backbone
from .heard import check_backbone, told
from .specs import given_folds
from .stage import Context, Result

Folds = dict[float, list[Result]]  # label share -> its finetunings, in the order of the folds


@dataclass(frozen=True)
class Sources:
    """What an experiment is made from: folders of recordings with the fingerprint of their content, and a model."""

    data: tuple[Path, str]
    pretrain_data: tuple[Path, str] | None
    backbone: Backbone | None
    manifests: str | None = None  # digest of the folder with the folds

    @property
    def fingerprints(self) -> list[str]:
        marks = [self.data[1]]
        if self.pretrain_data is not None:
            marks.append(self.pretrain_data[1])
        if self.backbone is not None:
            marks.append(self.backbone.fingerprint)
        if self.manifests is not None:
            marks.append(self.manifests)
        return marks


@dataclass(frozen=True)
class Results:
    """What the stages left. refit: the training on all labels, where the recipe wants it. heard: a line about what of
    the evaluation recordings the pretraining heard, where there is one."""

    pretrained: Result | None
    folds: Folds = field(default_factory=dict)
    refit: Result | None = None
    heard: str | None = None


def find_sources(recipe: Recipe, work: Path, tracking_uri: str) -> Sources:
    """Look at the recipe's folders and backbone; the synthetic corpus is made. Raises UserError or ValueError."""

    def of(data: DataConfig) -> tuple[Path, str]:
        return stages.origin_of(data, work)

    backbone = find_backbone(recipe, work, tracking_uri)
    manifests = given_folds(recipe)
    return Sources(of(recipe.data), of(recipe.pretrain_data) if recipe.pretrain_data else None, backbone, manifests)


def run_graph(context: Context, sources: Sources, after_fold: Callable[[Folds], None] | None = None) -> Results:
    """Run or reuse every stage. Data and folds go under the context's shared run, all else under its parent.

    after_fold(results so far) is called after each fold but the last, when all its label shares are done.
    """
    recipe = context.recipe
    data, corpus = stages.prepare(context.for_all, recipe.data, *sources.data)
    check_event_classes(recipe, corpus.classes)  # before anything is trained
    heard = corpus
    if recipe.pretrain_data is not None and sources.pretrain_data is not None:
        _, heard = stages.prepare(context.for_all, recipe.pretrain_data, *sources.pretrain_data, "pretraining data")
    if recipe.finetune is None and not recipe.folds.decides_pretraining:
        return Results(stages.pretrain(context, heard, corpus, None))
    split, folds = stages.make_folds(context.for_all, data, corpus)
    if recipe.finetune is None:
        return Results(stages.pretrain(context, heard, corpus, folds))
    if context.shared is None:  # of its trials a sweep says it once
        say_advice(context, corpus, folds)
    about = told(recipe, heard, corpus, folds)
    if sources.backbone is not None:
        about = check_backbone(context, sources.backbone, corpus, folds)
    context.store.tag(context.parent, HEARD_LINE, about or "")
    pretrained = None if recipe.pretrains_by_fold else stages.pretrain(context, heard, corpus, folds)
    done: Folds = {share: [] for share in recipe.folds.label_shares}
    for fold in recipe.folds.selected:
        start = pretrained or sources.backbone
        if recipe.pretrains_by_fold:
            start = stages.pretrain(context, heard, corpus, folds, fold)
        for share, results in done.items():
            results.append(stages.finetune(context, corpus, (data, split, start), folds, fold, share))
            context.store.tag(context.parent, FINETUNE_RUNS, json.dumps(_by_fold(recipe, done)))
        if after_fold is not None and fold != recipe.folds.selected[-1]:
            after_fold(done)
    if not recipe.folds.refit:
        return Results(pretrained, done, heard=about)
    if recipe.pretrains_by_fold:  # this one is not evaluated, so its pretraining hears all
        pretrained = stages.pretrain(context, heard, corpus, folds)
    last = refit.refit(context, corpus, (data, pretrained or sources.backbone), folds, done[recipe.folds.refit_share])
    context.store.tag(context.parent, REFIT_RUN, last.run_id)
    return Results(pretrained, done, last, about)


def say_advice(context: Context, corpus: Corpus, folds: StratifiedFolds) -> None:
    """Say what finetuning will hear of the labels, before hours are spent."""
    for line in texts(advice_on(context.recipe, corpus, folds)):
        context.say(f"  {line}")


def _by_fold(recipe: Recipe, done: Folds) -> dict[str, dict[int, str]]:
    """Label share -> fold -> run of what is done, whichever call ran it."""
    return {
        f"{share:g}": {fold: result.run_id for fold, result in zip(recipe.folds.selected, results, strict=False)}
        for share, results in done.items()
    }
