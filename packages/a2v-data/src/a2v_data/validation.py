"""A validation part of the recordings that a model is trained on: what training may look at to choose its best weights.

It never holds evaluation recordings: scores on those would be too good once anything was chosen on them.

Legend: G groups, C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from a2v_data.class_mapping import some_of
from a2v_data.folds import TOLD_CLASSES, class_counts, kinds_apart, with_sizes
from a2v_data.groups import Grouping, group_of
from a2v_data.listing import Listing
from a2v_data.stratification import best_split

LARGEST = 1.5  # times the share that is asked for, so that rare classes do not take all


class ValidationSplit(NamedTuple):
    """Names of recordings to train on and to validate on (None: there can be none, `notices` says why)."""

    train: list[str]
    validation: list[str] | None
    notices: tuple[str, ...]


def validation_split(
    corpus: Listing, recordings: Sequence[str], share: float, seed: int, group: Grouping = "recording"
) -> ValidationSplit:
    """Hold out about `share` (0 to 1) of the groups of these recordings, at least one, for validation.

    As many classes as possible occur in both parts: no class that training could see is kept from it, and one that is
    in two groups or more is in both parts, as far as one and a half times the share allows; class shares are alike.
    `group` is what must stay together, as in folds. Deterministic from recordings, labels and `seed`. There is no
    validation where training can spare no group that has events. Raises `ValueError` for another share.
    """
    if not 0 < share < 1:
        raise ValueError(f"share: {share}; a share for validation must be above 0 and below 1")
    members: dict[str, list[str]] = {}
    for name in recordings:
        members.setdefault(group_of(name, group), []).append(name)
    rows = [corpus.indices(names) for names in members.values()]
    counts_RC = class_counts(corpus)
    counts_GC = np.array([counts_RC[of].sum(0) for of in rows]).reshape(len(rows), len(corpus.classes))
    there_GC = counts_GC > 0
    held_G: np.ndarray = np.zeros(len(rows), bool)
    if (there_GC.sum(0) > 1).any():
        sizes_GC = with_sizes(corpus, kinds_apart(corpus, counts_RC), rows)
        held_G = best_split(sizes_GC, np.array([1 - share, share]), seed) == 1
        held_G = _share_classes(there_GC, held_G, share, np.random.default_rng(seed))
    if not there_GC[held_G].any():
        what = "training recordings" if group == "recording" else "groups of training recordings"
        why = f"each of the {there_GC.any(1).sum()} {what} with events is the only one with some class"
        why = f"{why}, so training needs them all" if there_GC.any() else f"there is no event in the {what}"
        return ValidationSplit(list(recordings), None, (f"no validation: {why}",))
    held = {name for names, out in zip(members.values(), held_G, strict=True) if out for name in names}
    lacking = [name for name, found in zip(corpus.classes, there_GC[held_G].any(0), strict=True) if not found]
    notices = (
        (f"not in validation: {some_of(lacking, TOLD_CLASSES)} (in too few training recordings)",) if lacking else ()
    )
    return ValidationSplit(
        [name for name in recordings if name not in held], [name for name in recordings if name in held], notices
    )


def _share_classes(there_GC: np.ndarray, held_G: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(G,) bool: the split, changed so that training has every class and validation as many as it can hold."""
    held_G = held_G.copy()
    wanted = int(np.clip(round(share * len(held_G)), 1, len(held_G) - 1))
    while (missing_C := there_GC.any(0) & ~there_GC[~held_G].any(0)).any():  # training lacks them
        gain_G = np.where(held_G, (there_GC & missing_C).sum(1), -1)
        held_G[_one_of_the_best(gain_G, rng)] = False

    def spare() -> np.ndarray:
        """Which groups training can do without: others there have each of their classes too."""
        return ~held_G & (there_GC.sum(1) > 0) & ~(there_GC & (there_GC[~held_G].sum(0) < 2)).any(1)

    while held_G.sum() < max(wanted, int(LARGEST * share * len(held_G))):
        missing_C = there_GC.any(0) & ~there_GC[held_G].any(0)
        gain_G = np.where(spare(), (there_GC & missing_C).sum(1), -1)
        if gain_G.max() < (1 if held_G.sum() >= wanted else 0):
            break
        held_G[_one_of_the_best(gain_G, rng)] = True
    return held_G


def _one_of_the_best(gain_G: np.ndarray, rng: np.random.Generator) -> int:
    return int(rng.choice(np.flatnonzero(gain_G == gain_G.max())))
