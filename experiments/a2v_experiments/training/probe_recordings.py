"""Which labelled recordings a pretraining is probed with. R recordings, G groups, C classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from a2v_data.corpus import Corpus
from a2v_data.folds import Folds, class_counts, with_sizes
from a2v_data.groups import Grouping, group_of
from a2v_data.stratification import best_split
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ..basics.errors import UserError
from ..recipe.sections import Recipe

Halves = tuple[list[str], list[str]]


class ProbeSpec(BaseModel):
    """All that a worker needs to probe: plain data, as `TrainingSpec`.

    corpus: folder of the packed store; halves: names of labelled recordings; every: updates between two probes;
    segment_s: seconds of a window; layers: how many of the last layer results a head sees the mean of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str
    halves: tuple[list[str], list[str]]
    every: int
    segment_s: float
    layers: int
    seed: int = 0


def probe_of(
    recipe: Recipe, corpus: Corpus, folds: Folds | None, group: Grouping
) -> tuple[ProbeSpec | None, str | None]:
    """What the recipe's pretraining is probed with, None for nothing, and a line that is worth saying about it.

    corpus: that of `data`, whose labels finetuning learns. folds: of it; recordings that none of those that run
    evaluates are taken, where there are two with labels of a class; None: there is no finetuning.
    group: what is never in both halves. Raises UserError where there are no two such recordings at all.
    """
    if recipe.pretrain is None or recipe.pretrain.probe is None:
        return None, None
    settings, seed = recipe.pretrain.probe, recipe.pretrain.seed
    shortest = recipe.model.front_end.shortest
    labelled = [one.name for one in corpus.recordings if one.labelled and one.n_samples >= shortest]
    evaluated = {name for number in recipe.folds.selected for name in folds[number].evaluation} if folds else set()
    free = [name for name in labelled if name not in evaluated]
    halves = choose_halves(corpus, free, settings.recordings, seed, group)
    if halves is None:
        halves = choose_halves(corpus, labelled, settings.recordings, seed, group)
    if halves is None:
        raise UserError(_too_few(recipe, len(labelled)))
    layers = recipe.pretrain.target_layers if recipe.finetune is None else recipe.finetune.average_layers
    spec = ProbeSpec(
        corpus=str(corpus.folder.resolve()), halves=halves, every=settings.every, segment_s=recipe.data.segment_s,
        layers=layers, seed=seed,
    )  # fmt: skip
    heard = len(evaluated.intersection([*halves[0], *halves[1]]))
    note = f"the probe hears {heard} recordings that are evaluated, as too few others are labelled"
    return spec, f"{note}; the model learns nothing from it" if heard else None


def _too_few(recipe: Recipe, labelled: int) -> str:
    found = f"{labelled} of its recordings are labelled" if labelled != 1 else "1 of its recordings is labelled"
    if labelled >= 2:
        found += ", of which no two (of different groups, if folds.group is given) have calls of the same class"
    return (
        f"pretrain.probe: {recipe.data.source}: {found}; a probe needs two, to learn from one and be scored on the"
        " other: label more, or leave pretrain.probe out"
    )


def choose_halves(corpus: Corpus, names: Sequence[str], count: int, seed: int, group: Grouping) -> Halves | None:
    """At most `count` of the recordings, which have the classes of all as evenly as that can be, in two halves alike;
    None where no class has calls in both. A group is in one of them. Deterministic from `seed`."""
    rows = np.array(corpus.indices(names), dtype=np.int64)
    groups = np.unique([group_of(name, group) for name in names], return_inverse=True)[1]
    counts_RC = class_counts(corpus)
    chosen = covering(counts_RC[rows] > 0, groups, count, np.random.default_rng([seed, 6]))
    members = [
        [int(rows[place]) for place in chosen if groups[place] == number]
        for number in dict.fromkeys(groups[chosen].tolist())
    ]
    if len(members) < 2:
        return None
    part_G = best_split(with_sizes(corpus, counts_RC, members), np.array([0.5, 0.5]), seed)
    halves = [sorted(row for number in np.flatnonzero(part_G == part) for row in members[number]) for part in (0, 1)]
    if not (counts_RC[halves[0]].any(0) & counts_RC[halves[1]].any(0)).any():
        return None
    first, second = ([corpus.recordings[row].name for row in half] for half in halves)
    return first, second


def covering(
    there_RC: NDArray[np.bool_], group_R: NDArray[np.integer], count: int, rng: np.random.Generator
) -> list[int]:
    """At most `count` rows that hold a class: the next one is always that whose classes were chosen least often, of
    rare classes and of new groups rather than others; among equals the generator chooses."""
    rows_C = np.maximum(there_RC.sum(0), 1)
    taken_C, taken_G = np.zeros(there_RC.shape[1]), np.zeros(int(group_R.max(initial=-1)) + 1)
    order = rng.permutation(len(there_RC))
    chosen: list[int] = []
    left_R = np.asarray(there_RC.any(1))
    while len(chosen) < count and left_R.any():
        gain_R = there_RC @ (1 / (rows_C * (1 + taken_C))) / (1 + taken_G[group_R]) * left_R
        best = int(order[np.argmax(gain_R[order])])
        chosen.append(best)
        left_R[best] = False
        taken_C += there_RC[best]
        taken_G[group_R[best]] += 1
    return chosen
