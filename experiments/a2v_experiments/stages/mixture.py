"""What a pretraining hears of all its corpora, and how much of it is each one's: of one corpus what `heard.py` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from a2v_data.corpus import Corpus
from a2v_data.folds import Folds

from ..basics.fingerprint import fingerprint
from ..recipe.corpora import shares
from ..recipe.sections import DataConfig, Recipe
from .heard import evaluated, heard_by, heard_json, same_sound


@dataclass(frozen=True)
class Part:
    """One corpus of a mixture. name: which one it is, empty where there is one only; names: of the recordings that are
    heard; seconds: of these; share: how much of what is heard is it, 1 together."""

    name: str
    data: DataConfig
    corpus: Corpus
    names: list[str]
    seconds: float
    share: float = 1.0

    @property
    def folder(self) -> str:
        return str(self.corpus.folder.resolve())


@dataclass(frozen=True)
class Mixture:
    """The corpora that a pretraining hears, the fingerprint of all their audio, and what is worth saying."""

    parts: list[Part]
    fingerprint: str
    notices: tuple[str, ...] = ()

    def told(self) -> list[str]:
        """How much of what is heard each of several corpora is."""
        if len(self.parts) == 1:
            return []
        of = ", ".join(f"{one.name} {one.share:.1%} ({one.seconds / 3600:,.3g} h)" for one in self.parts)
        return [f"it hears {of}"]

    def heard_json(self) -> dict[str, Any]:
        """The artifact `heard.HEARD`."""
        found = [heard_json(one.corpus, one.names, f"{one.name}/" if one.name else "") for one in self.parts]
        return {"recordings": {name: mark for one in found for name, mark in one["recordings"].items()}}


def mixture_of(
    recipe: Recipe, corpora: Mapping[str, Corpus], folds: Folds | None = None, fold: int | None = None
) -> Mixture:
    """corpora: packed, by the keys of `Recipe.corpora`; folds, fold: see `heard_by`, whose rules hold for each corpus.
    Raises UserError as that does."""
    assert recipe.pretrain is not None
    labelled, of = corpora[recipe.data_key], recipe.heard_corpora
    heard = {key: heard_by(recipe, corpora[key], folds, fold, labelled, key) for key in of}
    seconds = [corpora[key].seconds(corpora[key].indices(one.names)) for key, one in heard.items()]
    weights = [data.weight or 1.0 for data in of.values()]
    their = shares([own / 3600 for own in seconds], weights, recipe.pretrain.temperature)
    parts = [
        Part(key.partition(".")[2], of[key], corpora[key], one.names, own, share)
        for (key, one), own, share in zip(heard.items(), seconds, their, strict=True)
    ]
    notices = [f"{part.name}: {line}" if part.name else line
               for part, one in zip(parts, heard.values(), strict=True) for line in one.notices]  # fmt: skip
    marks = [one.fingerprint for one in heard.values()]
    mark = marks[0]
    if len(marks) > 1:
        mark = fingerprint("audio", {"weights": weights}, *marks)
    return Mixture(parts, mark, tuple(notices))


def told(recipe: Recipe, corpora: Mapping[str, Corpus], folds: Folds) -> str | None:
    """One line about what the pretraining heard of the recordings that scores are of; None without a pretraining.

    corpora: as for `mixture_of`.
    """
    if recipe.pretrain is None:
        return None
    tested, labelled = evaluated(recipe, folds), corpora[recipe.data_key]

    def heard(fold: int | None) -> set[str]:
        parts = mixture_of(recipe, corpora, folds, fold).parts
        return {name for part in parts for name in same_sound(part.corpus, part.names, labelled)}

    if recipe.pretrains_by_fold:
        both = {name for fold in recipe.folds.selected for name in heard(fold) & set(folds[fold].evaluation)}
    else:
        both = tested & heard(None)
    count = f"{len(both)} of the {len(tested)} evaluation recordings"
    if both:
        return f"pretraining heard {count}, without their labels (as in the paper; pretrain.hears=train keeps them out)"
    alone = "" if recipe.folds.group else "; each file counts as one of its own (else: folds.group)"
    if recipe.folds.holdout is not None:
        return f"no pretraining heard any of the {len(tested)} recordings that are held out{alone}"
    who = "each fold's pretraining heard none of its" if recipe.pretrains_by_fold else "pretraining heard none of the"
    return f"{who} evaluation recordings{alone}"
