"""A recipe's folds of a corpus, and what of a fold's training recordings is kept for validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from a2v_data.folds import (
    Fold,
    Folds,
    class_counts,
    hold_out,
    kinds_apart,
    label_share,
    share_name,
    shuffle_folds,
    with_sizes,
)
from a2v_data.folds import make_folds as stratify
from a2v_data.groups import Grouping, by_pattern, group_of, groups_of
from a2v_data.listing import Listing
from a2v_data.manifests import read_manifests, shares_in
from a2v_data.stratification import best_split
from a2v_data.validation import ValidationSplit, validation_split

from ..basics.errors import UserError
from ..recipe.folds import CROSS, PARTS, FoldsConfig
from ..recipe.sections import Recipe


def split(recipe: Recipe, corpus: Listing) -> Folds:
    """The recipe's folds of a corpus, packed or not. Raises UserError naming the key that is wrong."""
    settings = recipe.folds
    group = grouping(settings)
    if settings.manifests is not None:
        folds = _given(settings, corpus)
    else:
        try:
            if settings.holdout is not None:
                folds = hold_out(corpus, settings.holdout, settings.seed, group)
            elif settings.scheme == "shuffle":
                folds = shuffle_folds(corpus, settings.count, settings.evaluation_share, settings.seed, group)
            else:
                folds = stratify(corpus, settings.count, settings.seed, group)
        except ValueError as error:  # they call the number of folds n_folds, all else as a recipe does
            raise UserError(f"folds.{str(error).replace('n_folds', 'count', 1)}") from None
    return checked(recipe, folds)


def checked(recipe: Recipe, folds: Folds) -> Folds:
    """Folds that were made or given, now or in an earlier run. Raises UserError where the recipe cannot take them."""
    settings = recipe.folds
    if settings.manifests is not None:
        _check_given(settings, folds)
        if settings.group is not None:
            _check_groups(folds, by_pattern(settings.group))
    if folds.overlap and any(recipe.is_cross_fitted(share) for share in settings.label_shares):
        raise UserError(
            "folds: some recordings are evaluated in several folds, so folds cannot choose one another's thresholds"
            " (evaluate.fit_events, folds.refit); choose them on validation recordings (folds.validation), or"
            " say folds.scheme: partition"
        )
    return folds


def _given(settings: FoldsConfig, corpus: Listing) -> Folds:
    """The folds of `manifests`. Raises UserError naming file and row of what is wrong in them."""
    folder = Path(settings.manifests or "")
    try:
        return read_manifests(folder, corpus, settings.holdout is not None)
    except ValueError as error:
        raise UserError(f"folds.manifests: {error}") from None


def _check_given(settings: FoldsConfig, folds: Folds) -> None:
    """Raise UserError where the manifests are not those that the recipe speaks of."""
    folder = settings.manifests
    numbers = [fold.index for fold in folds]
    if numbers != list(range(settings.number)):
        found = ", ".join(map(str, numbers))
        raise UserError(f"folds.manifests: {folder} has the folds {found}; folds.count = {settings.count} must say so")
    for share in settings.label_shares:
        if share < 1 and any(share_name(share) not in fold.shares for fold in folds):
            known = ", ".join(f"{100 * one:g} %" for one in shares_in(folds)) or "none"
            raise UserError(
                f"folds.manifests: {folder} has no subset with {100 * share:g} % of the labels for every fold; those"
                f" that it has: {known} (folds.label_shares)"
            )


def _check_groups(folds: Folds, group: Grouping) -> None:
    """Raise UserError where a fold of manifests trains on a group that it evaluates."""
    for fold in folds:
        train, evaluation = (groups_of(names, group) for names in (fold.train, fold.evaluation))
        both = (set(train.values()) & set(evaluation.values())) - {None}
        if both:
            name = sorted(both, key=str)[0]
            first, second = (next(one for one, of in part.items() if of == name) for part in (train, evaluation))
            raise UserError(
                f"folds.manifests: by folds.group fold {fold.index} trains on {name!r} ({first}) and evaluates it"
                f" ({second}); leave folds.group out (null), or make the manifests with it"
            )


def grouping(settings: FoldsConfig) -> Grouping:
    """What of a recording's name stays together in folds and in validation."""
    return by_pattern(settings.group) if settings.group else "recording"


def held_out(recipe: Recipe, corpus: Listing, recordings: list[str]) -> ValidationSplit:
    """Of a fold's training recordings, those to train on, and those to validate on, if the recipe wants any and there
    can be some. recipe: with the settings of its label share."""
    share = recipe.validated_share
    if share is None:
        return ValidationSplit(recordings, None, ())
    return validation_split(corpus, recordings, share, recipe.folds.seed, grouping(recipe.folds))


def validated(recipe: Recipe, corpus: Listing, fold: Fold) -> dict[float, ValidationSplit]:
    """Label share -> how the fold's training recordings are split for it."""
    return {
        share: held_out(recipe.at_share(share), corpus, of_share(recipe, fold, share).train)
        for share in recipe.folds.label_shares
    }


def of_share(recipe: Recipe, fold: Fold, share: float) -> Fold:
    """The fold with the training recordings of a label share."""
    return label_share(fold, share, recipe.folds.seed) if share < 1 else fold


def inner_parts(recipe: Recipe, corpus: Listing, recordings: list[str]) -> list[list[str]]:
    """A fold's training recordings in as many parts as `folds.validation: cross` makes, in whole groups and with class
    shares alike. Raises UserError where there are too few groups."""
    members: dict[str, list[str]] = {}
    for name in recordings:
        members.setdefault(group_of(name, grouping(recipe.folds)), []).append(name)
    if len(members) < PARTS:
        raise UserError(
            f"folds.validation = {CROSS}: makes {PARTS} parts of a fold's training recordings, and they are of"
            f" {len(members)} groups or single recordings; say folds.validation: null"
        )
    rows = [corpus.indices(names) for names in members.values()]
    sizes_GC = with_sizes(corpus, kinds_apart(corpus, class_counts(corpus)), rows)
    part_G = best_split(sizes_GC, np.full(PARTS, 1 / PARTS), recipe.folds.seed)
    of_each: list[list[str]] = [[] for _ in range(PARTS)]
    for names, part in zip(members.values(), part_G, strict=True):
        of_each[part] += names
    return of_each


def check_validated(recipe: Recipe, corpus: Listing, folds: Folds) -> None:
    """Raise UserError where a fold that runs can spare no recordings for validation, though the recipe wants some."""
    if not recipe.is_validated:
        return
    for fold in recipe.folds.selected:
        if recipe.crosses:
            for share in recipe.folds.label_shares:
                inner_parts(recipe, corpus, of_share(recipe, folds[fold], share).train)
            continue
        for split in validated(recipe, corpus, folds[fold]).values():
            if split.validation is None:
                raise UserError(
                    f"folds.validation = {recipe.folds.validation}: a sweep chooses on validation recordings, and fold"
                    f" {fold} has {split.notices[0]}; to choose on the folds themselves say folds.validation: null"
                )
