"""What a pretraining hears: every recording, or all but those that its detectors are evaluated on.

It learns nothing from labels, and the paper's hears the evaluation recordings of its folds too. Scores on a hold-out
are about recordings that nothing heard: neither finetuning nor pretraining, nor unlabelled ones of the same group.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from a2v_data.corpus import AUDIO, Corpus
from a2v_data.folds import Folds
from a2v_data.groups import by_pattern

from .errors import UserError
from .fingerprint import fingerprint
from .recipe_sections import Recipe

if TYPE_CHECKING:
    from .backbones import Backbone
    from .stage import Context

HEARD = "heard.json"  # artifact of a pretraining: the names of its recordings


@dataclass(frozen=True)
class Heard:
    """Names of the recordings that a pretraining hears, the fingerprint of their audio, and what is worth saying."""

    names: list[str]
    fingerprint: str
    notices: tuple[str, ...] = ()


def heard_by(recipe: Recipe, corpus: Corpus, folds: Folds | None = None, fold: int | None = None) -> Heard:
    """What the recipe's pretraining hears of a corpus.

    corpus: that of `pretrain_source`; folds: of the corpus of `data`, None where there are none; fold: the one whose
    pretraining it is (`pretrain.hears: train`), None for all. Recordings shorter than a segment are padded
    (`tasks.PretrainTask`); UserError where none is as long as one: that would train on padding mostly.
    """
    names = [recording.name for recording in corpus.recordings]
    if folds is not None and folds.pretrain is not None and recipe.pretrain_data is None:
        chosen = set(folds.pretrain)
        names = [name for name in names if name in chosen]
    away, notices = _away(recipe, names, evaluated(recipe, folds, fold))
    kept = [name for name in names if name not in away]
    if away:
        notices.append(f"not heard in pretraining: {len(away)} recordings, evaluated or of the group of one")
    segment_s = recipe.pretrain_source.segment_s
    samples, heard = corpus.segment_samples(segment_s), set(kept)
    short = sum(one.n_samples < samples for one in corpus.recordings if one.name in heard)
    if short == len(kept):
        key = "data" if recipe.pretrain_data is None else "pretrain_data"
        raise UserError(f"{key}.segment_s = {segment_s}: no recording is that long; give a shorter one")
    if short:
        notices.append(f"padded with silence in pretraining: {short} recordings, shorter than a segment")
    mark = fingerprint("audio", {"names": kept, "audio": corpus.meta["checksums"][AUDIO]})
    return Heard(kept, mark, tuple(notices))


def evaluated(recipe: Recipe, folds: Folds | None, fold: int | None) -> list[str]:
    """The evaluation recordings that a pretraining must not hear."""
    if folds is None:
        return []
    if recipe.folds.holdout is not None:
        return folds[0].evaluation
    return folds[fold].evaluation if fold is not None else []


def _away(recipe: Recipe, names: Sequence[str], tested: Collection[str]) -> tuple[set[str], list[str]]:
    """Which of the names are evaluated recordings, or of the group of one; without a group a recording is alone."""
    pattern = recipe.folds.group
    if not tested or pattern is None:
        return set(names).intersection(tested), []
    group = by_pattern(pattern)
    groups = {name: _group(group, name) for name in (*names, *tested)}
    held = {groups[name] for name in tested} - {None}
    away = {name for name in names if groups[name] in held}.union(set(names).intersection(tested))
    alone = sum(groups[name] is None for name in names)
    told = f"{alone} recordings are heard in pretraining in whose names folds.group finds no group"
    return away, [told] if alone else []


def _group(group: Callable[[str], str], name: str) -> str | None:
    """None where the pattern is not found: in an unlabelled recording's name, or in that of another corpus."""
    try:
        return group(name)
    except ValueError:
        return None


def told(recipe: Recipe) -> str | None:
    """One line about what the pretraining heard of the recordings that scores are of; None without a pretraining."""
    if recipe.pretrain is None:
        return None
    if recipe.folds.holdout is not None:
        return "no pretraining heard the recordings that are held out"
    if recipe.pretrain.hears == "train":
        return "each fold's pretraining did not hear its evaluation recordings"
    if recipe.pretrain_data is not None:
        return "pretraining heard the recordings of pretrain_data"
    return (
        "pretraining heard the evaluation recordings too, without their labels (as in the paper; pretrain.hears=train"
        " keeps them out)"
    )


def check_backbone(context: Context, backbone: Backbone, folds: Folds) -> str:
    """One line about what a backbone heard of the evaluation recordings, where its run is in this store.

    Raises UserError where it heard some that are held out.
    """
    known = _heard_by_run(context, backbone)
    if known is None:
        return "what the backbone heard is not known: its pretraining is not in this store"
    chosen = [0] if context.recipe.folds.holdout is not None else context.recipe.folds.selected
    tested = {name for number in chosen for name in folds[number].evaluation}
    both = sorted(tested & known)
    if both and context.recipe.folds.holdout is not None:
        raise UserError(
            f"backbone: {backbone.source}: its pretraining heard {len(both)} of the {len(tested)} recordings that are"
            f" held out ({both[0]}); leave backbone out and pretrain here, which leaves them out"
        )
    if not both:
        return "the backbone's pretraining did not hear the evaluation recordings"
    count = f"{len(both)} of the {len(tested)} evaluation recordings"
    return f"the backbone's pretraining heard {count}, without their labels"


def _heard_by_run(context: Context, backbone: Backbone) -> set[str] | None:
    """Names of the recordings that the pretraining of a backbone heard, by the run that its model names."""
    from a2v_model.checkpoints import read_description

    run_id = read_description(backbone.folder).get("extra", {}).get("run_id")
    if not isinstance(run_id, str):
        return None
    try:
        text = Path(context.store.fetch(run_id, HEARD, context.work)).read_text(encoding="utf-8")
        return set(json.loads(text)["recordings"])
    except (UserError, OSError, ValueError, KeyError):
        return None
