"""The stages of a recipe in their order, and what each is made from. `graph.py` runs them, `overview/plan.py` looks
them up: a stage that is new is a step here, and work in `graph.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ..recipe.folds import PARTS
from ..recipe.sections import Recipe
from .specs import StageSpec, data_name, data_spec, finetune_spec, folds_spec, inner_spec, pretrain_spec, refit_spec


class Marked(Protocol):
    """What has a fingerprint: a source, or a stage that is done or planned."""

    @property
    def fingerprint(self) -> str: ...


M = TypeVar("M", bound=Marked)


@dataclass(frozen=True)
class Step(Generic[M]):
    """One stage. recipe: with the settings of its label share or refit; inputs: what it is made from, by the names that
    its spec has for them, without what there is not (random weights); fold, share, seed: those that it is of; part:
    of an inner training, that of the training recordings which it leaves out."""

    spec: StageSpec
    recipe: Recipe
    inputs: Mapping[str, M]
    fold: int | None = None
    share: float | None = None
    seed: int | None = None
    part: int | None = None


def walk(
    recipe: Recipe,
    sources: Mapping[str, M],
    hear: Callable[[int | None, M, Sequence[M], M | None], M],
    do: Callable[[Step[M]], M],
    in_trial: bool,
) -> None:
    """Every stage of a recipe, each once those are done that it is made from.

    sources: of `Recipe.corpora`, and `backbone` where the recipe has one; hear(fold, data, what pretraining hears,
    folds): the audio that the pretraining of a fold hears, or (None) that of all; do(step): the stage, done.
    """
    packed: dict[str, M] = {}
    for key, corpus in recipe.corpora.items():
        spec = data_spec(corpus, sources[key].fingerprint, data_name(key))
        packed[key] = do(Step(spec, recipe, {"source": sources[key]}))
    data, heard = packed[recipe.data_key], [packed[key] for key in recipe.heard_corpora]
    folds = None
    if recipe.finetune is not None or recipe.folds.decides_pretraining:
        folds = do(Step(folds_spec(recipe, data.fingerprint), recipe, {"data": data}))

    for number, seeded in enumerate(recipe.by_seed):
        _walk_trainings(seeded, sources, hear, do, in_trial, (data, heard, folds), refit=number == 0)


def _walk_trainings(
    recipe: Recipe,
    sources: Mapping[str, M],
    hear: Callable[[int | None, M, Sequence[M], M | None], M],
    do: Callable[[Step[M]], M],
    in_trial: bool,
    made: tuple[M, Sequence[M], M | None],
    refit: bool,
) -> None:
    """What is trained with one seed. made: data, what pretraining hears, folds; refit: whether on all labels too."""
    data, heard, folds = made
    seed = recipe.seeds[0] if recipe.seeds else None

    def start(fold: int | None = None) -> dict[str, M]:
        """What finetuning starts from, if it is not random weights."""
        if recipe.pretrain is None:
            return {"pretrain": sources["backbone"]} if "backbone" in sources else {}
        audio = hear(fold, data, heard, folds)
        spec = pretrain_spec(recipe, audio.fingerprint, fold)
        return {"pretrain": do(Step(spec, recipe, {"audio": audio}, fold, seed=seed))}

    by_fold = recipe.pretrains_by_fold
    common = {} if by_fold else start()
    if recipe.finetune is None or folds is None:
        return
    finetuned: dict[str, M] = {}
    for fold in recipe.folds.selected:
        own = start(fold) if by_fold else common
        for share in recipe.folds.label_shares:
            chosen = recipe.at_share(share)
            marks = (data.fingerprint, folds.fingerprint, _mark(own), in_trial)
            inputs = {"folds": folds, **own, "data": data}
            inner = {}
            for part in range(PARTS) if chosen.crosses else ():
                spec = inner_spec(chosen, part, fold, share, *marks)
                inner[f"inner {part}"] = do(Step(spec, chosen, inputs, fold, share, seed, part))
            spec = finetune_spec(chosen, fold, share, *marks)
            done = do(Step(spec, chosen, {**inputs, **inner}, fold, share, seed))
            if share == recipe.folds.refit_share:
                finetuned[f"finetune {len(finetuned)}"] = done
    if recipe.folds.refit and refit:  # one model for new recordings is enough: that of the first seed
        own = start() if by_fold else common  # it is not evaluated, so its pretraining hears all
        chosen = recipe.for_refit()
        marks_of_folds = [one.fingerprint for one in finetuned.values()]
        spec = refit_spec(chosen, marks_of_folds, data.fingerprint, _mark(own), in_trial)
        do(Step(spec, chosen, {"data": data, **own, **finetuned}, seed=seed))


def _mark(start: Mapping[str, Marked]) -> str | None:
    return start["pretrain"].fingerprint if start else None
