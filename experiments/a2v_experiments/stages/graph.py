"""A recipe's stages, run or reused in the order of `walk`: data and folds, pretraining, then fold by fold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from a2v_data.corpus import Corpus
from a2v_data.folds import Folds as StratifiedFolds

from ..recipe.event_classes import check_event_classes
from ..recipe.sections import Recipe
from ..store.lookup import finetune_runs_tag
from ..store.tags import HEARD_LINE, LICENCE, REFIT_RUN
from . import inner, packing, refit, stages
from .advice import advice_on, texts
from .backbones import Backbone, find_backbone, kept_classes
from .datasets import licence_of
from .heard import check_backbone
from .mixture import Mixture, mixture_of, told
from .packing import Origin
from .presence import check_weak
from .rounds import Chain, chain_of
from .specs import given_folds
from .stage import Context, Result
from .walk import Step, walk

Folds = dict[float, list[Result]]  # label share -> its finetunings, in the order of the folds
BySeed = Mapping[int | None, Folds]  # of each seed, in their order; None where the recipe has no seeds
Input = Origin | Backbone | Mixture | Result  # what a stage is made from


@dataclass(frozen=True)
class Sources:
    """What an experiment is made from: folders of recordings with the fingerprint of their content, and a model."""

    corpora: Mapping[str, Origin]  # by the keys of `Recipe.corpora`
    backbone: Backbone | None
    manifests: str | None = None  # digest of the folder with the folds

    @property
    def inputs(self) -> dict[str, Input]:
        """Those that stages are made from, as `walk` calls them."""
        return {**self.corpora, **({} if self.backbone is None else {"backbone": self.backbone})}

    @property
    def fingerprints(self) -> list[str]:
        marks = [source.fingerprint for source in self.inputs.values()]
        return marks if self.manifests is None else [*marks, self.manifests]


@dataclass
class Results:
    """What the stages left so far. folds: the finetunings of each seed. refit: the training on all labels, where the
    recipe wants it. heard: a line about what of the evaluation recordings the pretraining heard, where there is one."""

    pretrained: Result | None = None
    folds: dict[int | None, Folds] = field(default_factory=dict)
    refit: Result | None = None
    heard: str | None = None


def find_sources(recipe: Recipe, work: Path, tracking_uri: str) -> Sources:
    """Look at the recipe's folders and backbone; the synthetic corpus is made. Raises UserError or ValueError."""
    backbone = find_backbone(recipe, work, tracking_uri)
    manifests = given_folds(recipe)
    return Sources({key: packing.origin_of(data, work) for key, data in recipe.corpora.items()}, backbone, manifests)


def run_graph(context: Context, sources: Sources, after_fold: Callable[[BySeed], None] | None = None) -> Results:
    """Run or reuse every stage. Data and folds go under the context's shared run, all else under its parent.

    after_fold(results so far) is called after each fold of each seed but the last, when all its label shares are done.
    """
    graph = _Graph(context, sources, after_fold)
    walk(context.recipe, sources.inputs, graph.hear, graph.do, in_trial=context.shared is not None)
    return graph.results


class _Graph:
    """Does each step of one recipe. corpora: by the keys of `Recipe.corpora`, as far as they are packed."""

    def __init__(self, context: Context, sources: Sources, after_fold: Callable[[BySeed], None] | None) -> None:
        self.context, self.sources, self.after_fold = context, sources, after_fold
        self.results = Results()
        self.corpora: dict[str, Corpus] = {}
        self.folds: StratifiedFolds | None = None
        self.chain: Chain | None = None

    @property
    def labelled(self) -> Corpus:
        """That of `data`."""
        return self.corpora[self.context.recipe.data_key]

    def hear(self, fold: int | None, *inputs: object) -> Mixture:
        return mixture_of(self.context.recipe, self.corpora, self.folds, fold)

    def do(self, step: Step[Any]) -> Result:
        work = {"prepare": self.prepare, "folds": self.split, "pretrain": self.pretrain, "finetune": self.finetune}
        context = replace(self.context, recipe=step.recipe, chain=self.chain)
        return {**work, "inner": self.inner, "refit": self.refit}[step.spec.stage](context, step)

    def prepare(self, context: Context, step: Step[Any]) -> Result:
        source = step.inputs["source"]
        result, corpus = stages.prepare(context.for_all, step.spec, source)
        key, data = list(context.recipe.corpora.items())[len(self.corpora)]
        if licence := licence_of(data, source.folder):
            context.store.tag(result.run_id, LICENCE, licence)  # also of a corpus that was packed before it was said
        if key == context.recipe.data_key:
            check_event_classes(context.recipe, corpus.classes)  # before anything is trained
            check_weak(context.recipe, corpus)
            if context.recipe.finetune is not None:
                context.store.name_classes(context.parent, corpus.classes)
                self.go_on(context, corpus)
        self.corpora[key] = corpus
        return result

    def go_on(self, context: Context, corpus: Corpus) -> None:
        """What is known of the model that finetuning goes on from, and of the review that its labels come from."""
        start = self.sources.backbone
        if start is not None and start.goes_on:
            context.say(f"  {kept_classes(start, corpus.classes)}")
        self.chain = chain_of(context.recipe, start, corpus, context.store)
        if self.chain is not None:
            for key, value in self.chain.tags.items():
                context.store.tag(context.parent, key, value)
            context.store.log_metrics(context.parent, self.chain.metrics)

    def split(self, context: Context, step: Step[Any]) -> Result:
        recipe, corpus, backbone = context.recipe, self.labelled, self.sources.backbone
        result, self.folds = stages.make_folds(context.for_all, step.spec, step.inputs["data"], corpus)
        if recipe.finetune is None:
            return result
        if context.shared is None:  # of its trials a sweep says it once
            say_advice(context, corpus, self.folds)
        heard = told(recipe, self.corpora, self.folds)
        if backbone is not None:
            heard = check_backbone(context, backbone, corpus, self.folds)
        context.store.tag(context.parent, HEARD_LINE, heard or "")
        self.results.heard = heard
        return result

    def pretrain(self, context: Context, step: Step[Any]) -> Result:
        result = stages.pretrain(context, step.spec, step.inputs["audio"], self.labelled, self.folds)
        if step.fold is None:
            self.results.pretrained = result
        return result

    def inner(self, context: Context, step: Step[Any]) -> Result:
        assert self.folds is not None
        return inner.train_without(context, step, self.labelled, self.folds)

    def finetune(self, context: Context, step: Step[Any]) -> Result:
        assert self.folds is not None and step.share is not None
        crossed = inner.crossing(context, step, self.labelled, self.folds)
        result = stages.finetune(context, step, self.labelled, self.folds, crossed)
        if result.reused:  # by an a2v that kept no names
            context.store.name_classes(result.run_id, self.labelled.classes)
        folds = context.recipe.folds
        done = self.results.folds.setdefault(step.seed, {share: [] for share in folds.label_shares})
        done[step.share].append(result)
        by_fold = {
            f"{share:g}": {fold: one.run_id for fold, one in zip(folds.selected, results, strict=False)}
            for share, results in done.items()
        }  # of what is done, whichever call ran it
        context.store.tag(context.parent, finetune_runs_tag(step.seed), json.dumps(by_fold))
        if self.after_fold and step.share == folds.label_shares[-1] and not self.is_last(step):
            self.after_fold(self.results.folds)
        return result

    def is_last(self, step: Step[Any]) -> bool:
        last_seed = (self.context.recipe.seeds or (None,))[-1]
        return step.seed == last_seed and step.fold == step.recipe.folds.selected[-1]

    def refit(self, context: Context, step: Step[Any]) -> Result:
        assert self.folds is not None
        finetuned = self.results.folds[step.seed][context.recipe.folds.refit_share]
        self.results.refit = refit.refit(context, step, self.labelled, self.folds, finetuned)
        context.store.tag(context.parent, REFIT_RUN, self.results.refit.run_id)
        return self.results.refit


def say_advice(context: Context, corpus: Corpus, folds: StratifiedFolds) -> None:
    """Say what finetuning will hear of the labels, before hours are spent."""
    for line in texts(advice_on(context.recipe, corpus, folds)):
        context.say(f"  {line}")
