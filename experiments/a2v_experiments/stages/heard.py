"""What a pretraining hears: every recording, or all but those that its detectors are evaluated on.

It learns nothing from labels, and the paper's hears the evaluation recordings of its folds too. Scores on a hold-out
are about recordings that nothing heard: neither finetuning nor pretraining, nor unlabelled ones of the same group.
In another corpus the same recordings are known by their sound, not by their names.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2v_data.corpus import Corpus
from a2v_data.corpus_files import AUDIO
from a2v_data.folds import Folds
from a2v_data.groups import groups_of, of_the_same_groups
from mlflow.exceptions import MlflowException

from ..basics.errors import UserError
from ..basics.fingerprint import fingerprint
from ..recipe.sections import Recipe
from ..store.tags import BACKBONE, MODEL_RUN, START, START_HEARD, START_RUN, input_run
from .splits import grouping, validated

if TYPE_CHECKING:
    from .backbones import Backbone
    from .stage import Context

HEARD = "heard.json"  # artifact of a training: name and mark (`Corpus.sound_mark`) of each of its recordings
LABELLED = (MODEL_RUN, START_RUN)  # tags: the runs of the finetunings that a model comes from
INPUTS = (input_run("pretrain"), *LABELLED)  # and the one that pretrained it


@dataclass(frozen=True)
class Heard:
    """Names of the recordings that a pretraining hears, the fingerprint of their audio, and what is worth saying."""

    names: list[str]
    fingerprint: str
    notices: tuple[str, ...] = ()


def heard_by(
    recipe: Recipe,
    corpus: Corpus,
    folds: Folds | None = None,
    fold: int | None = None,
    labelled: Corpus | None = None,
    key: str | None = None,
) -> Heard:
    """What the recipe's pretraining hears of a corpus.

    key: which one it is (`Recipe.heard_corpora`; None: the only one); labelled: the corpus of `data`, where it is
    another, and its folds, if there are some;
    fold: the one whose pretraining it is (`pretrain.hears: train`), None for all. Recordings shorter than a segment are
    padded (`tasks.PretrainTask`). Raises UserError where no recording is left, or none as long as a segment: that would
    train on padding mostly.
    """
    names = [recording.name for recording in corpus.recordings]
    if folds is not None and folds.pretrain is not None and recipe.pretrain_data is None:
        chosen = set(folds.pretrain)
        names = [name for name in names if name in chosen]
    away, notices = _away(recipe, corpus, labelled or corpus, kept_out(recipe, labelled or corpus, folds, fold))
    kept = [name for name in names if name not in away]
    key = key or next(iter(recipe.heard_corpora))
    if not kept:
        raise UserError(
            f"pretraining would hear nothing: all {len(names)} recordings of {key} are evaluated, validated on, or of"
            " the group of one (folds.group); give it others (pretrain_data), or pretrain: null"
        )
    if gone := len(names) - len(kept):
        how = "evaluated or of the group of one"
        if recipe.folds.validation is not None and recipe.hears_train:
            how = "evaluated, validated on, or of the group of one"
        notices.append(f"not heard in pretraining: {gone} recordings, {how}")
    segment_s = recipe.pretrain_source.segment_s
    short = sum(corpus.is_shorter(number, segment_s) for number in corpus.indices(kept))
    if short == len(kept):
        raise UserError(f"{key}.segment_s = {segment_s}: no recording is that long; give a shorter one")
    if short:
        notices.append(f"padded with silence in pretraining: {short} recordings, shorter than a segment")
    mark = fingerprint("audio", {"names": kept, "audio": corpus.meta["checksums"][AUDIO]})
    return Heard(kept, mark, tuple(notices))


def kept_out(recipe: Recipe, corpus: Corpus, folds: Folds | None, fold: int | None) -> list[str]:
    """The recordings that a pretraining must not hear: those that are evaluated, and where it hears training recordings
    only (`pretrain.hears: train`) those for validation, of all label shares. corpus: of `data`."""
    if folds is None:
        return []
    if recipe.folds.holdout is not None:
        fold = 0
    if fold is None:
        return []
    found = dict.fromkeys(folds[fold].evaluation)
    if recipe.hears_train:
        for split in validated(recipe, corpus, folds[fold]).values():
            found |= dict.fromkeys(split.validation or [])
    return list(found)


def _away(recipe: Recipe, corpus: Corpus, labelled: Corpus, tested: list[str]) -> tuple[set[str], list[str]]:
    """Which recordings of a corpus are `tested`, or of the group of one that is; without a group each is alone."""
    if not tested:
        return set(), []
    group, known = grouping(recipe.folds), [one.name for one in labelled.recordings]
    away = same_sound(labelled, of_the_same_groups(known, set(tested), group), corpus)
    if group == "recording" or not same_sound(labelled, known, corpus):
        return away, []
    # where the two have recordings in common, groups are called alike in both
    held = set(groups_of(tested, group).values()) - {None}
    groups = groups_of((one.name for one in corpus.recordings), group)
    away |= {name for name, found in groups.items() if found in held}
    alone = sum(found is None for found in groups.values())
    told = f"{alone} recordings are heard in pretraining in whose names folds.group finds no group"
    return away, [told] if alone else []


def same_sound(source: Corpus, names: Collection[str], corpus: Corpus) -> set[str]:
    """The recordings of `corpus` that sound the same as these of `source`; of the same store, these themselves."""
    if source.folder == corpus.folder:
        return set(names)
    marks = {source.sound_mark(name) for name in names}
    return {one.name for one in corpus.recordings if corpus.sound_mark(one.name) in marks}


def evaluated(recipe: Recipe, folds: Folds) -> set[str]:
    """The evaluation recordings of all folds that run."""
    return {name for fold in recipe.folds.selected for name in folds[fold].evaluation}


def heard_json(corpus: Corpus, names: Collection[str], before: str = "") -> dict[str, Any]:
    """The artifact HEARD of a training on these recordings. before: what stands before their names."""
    return {"recordings": {f"{before}{name}": corpus.sound_mark(name) for name in names}}


def check_backbone(context: Context, backbone: Backbone, corpus: Corpus, folds: Folds) -> str:
    """One line about what a backbone heard of the evaluation recordings, as far as this store knows; of a model that
    finetuning goes on from, what it was trained on with labels. corpus: of `data`.

    Raises UserError where it heard some that are held out, or others of their group.
    """
    recipe, run_id = context.recipe, backbone.run_id
    marks, whole = _marks_of_run(context, run_id) if run_id else (set(), False)
    tested = evaluated(recipe, folds)
    held = tested
    if recipe.folds.holdout is not None:
        held = of_the_same_groups([one.name for one in corpus.recordings], tested, grouping(recipe.folds))
    both = sorted(name for name in held if corpus.sound_mark(name) in marks)
    key, instead = "backbone", "pretrain here, which leaves them out"
    if backbone.goes_on:
        key, instead = "finetune.start", "train here from the start, or hold others out"
    if both and recipe.folds.holdout is not None:
        raise UserError(
            f"{key}: {backbone.source}: it heard {len(both)} of the {len(held)} recordings that are held out, or of"
            f" the group of one ({both[0]}); leave {key} out and {instead}"
        )
    if backbone.goes_on:
        return _trained_on(context, run_id, corpus, folds)
    if both:
        return f"the backbone has heard {len(both)} of the {len(tested)} evaluation recordings"
    if not whole:
        return "what the backbone has heard is not known, or not all of it: its training is not in this store"
    return f"the backbone has heard none of the {len(tested)} evaluation recordings"


def _trained_on(context: Context, run_id: str | None, corpus: Corpus, folds: Folds) -> str:
    """One line about the evaluation recordings whose labels a model knows that finetuning goes on from."""
    marks, whole = _marks_of_run(context, run_id, LABELLED) if run_id else (set(), False)
    tested = evaluated(context.recipe, folds)
    both = {name for name in tested if corpus.sound_mark(name) in marks}
    context.store.tag(context.parent, START_HEARD, str(len(both)) if both or whole else "unknown")
    if both:
        of = [fold for fold in context.recipe.folds.selected if both.intersection(folds[fold].evaluation)]
        which = f"fold{'s' if len(of) > 1 else ''} {', '.join(map(str, of))}"
        return (
            f"finetune.start was finetuned on {len(both)} of the {len(tested)} evaluation recordings, so the scores of"
            f" {which} are too good"
        )
    if not whole:
        return (
            "which recordings finetune.start was finetuned on is not known, or not of all: its training is not in this"
            " store; where evaluation recordings are among them, scores are too good"
        )
    return f"finetune.start was finetuned on none of the {len(tested)} evaluation recordings"


def _marks_of_run(context: Context, run_id: str, inputs: Sequence[str] = INPUTS) -> tuple[set[str], bool]:
    """Marks of the recordings that a model's training heard, and those that it started from; whether that is all.
    inputs: tags of the runs that it comes from which count."""
    try:
        tags = context.store.run(run_id).data.tags
        text = Path(context.store.fetch(run_id, HEARD, context.work)).read_text(encoding="utf-8")
        whole = BACKBONE not in tags and (START not in tags or START_RUN in tags)
        marks = set(json.loads(text)["recordings"].values())
    except (
        UserError,
        MlflowException,
        OSError,
        ValueError,
        KeyError,
    ):  # another store's run, or one of before there was this artifact
        tags, marks, whole = {}, set(), False
    for other in (tags[key] for key in inputs if key in tags):
        more, all_of_it = _marks_of_run(context, other, inputs)
        marks, whole = marks | more, whole and all_of_it
    return marks, whole
