"""Stratified folds of a corpus, a hold-out, and few-shot shares of them.

A fold is a list of recordings to train on and one to evaluate on; a group (recording, individual, day) never
straddles the two. Unlabelled recordings are in neither; they stay available to pretraining. Recordings that are
labelled as a whole only (`weak.py`) are split like others, each of their classes as one event. `manifests.py` writes
and reads folds.

Legend: R recordings, G groups, P parts (the evaluation recordings of each fold; or train and hold-out), C classes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from a2v_data.class_mapping import some_of
from a2v_data.groups import Grouping, group_of
from a2v_data.intervals import IGNORED
from a2v_data.listing import Listing, learned_times, weak_of
from a2v_data.stratification import best_split, stratified_sample

TOLD_CLASSES = 10  # of more, one line tells how many there are


@dataclass(frozen=True)
class Fold:
    """Names of recordings to train on and to evaluate on. `counts` has events per class of the train ones; `shares`
    those of the train ones that a given share of the labels has, by `share_name`, where somebody chose them; `times_s`
    the labelled time of the train ones, where only parts of recordings were annotated."""

    index: int
    train: list[str]
    evaluation: list[str]
    counts: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)
    shares: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)
    times_s: dict[str, float] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Folds:
    """All folds, in order, and what is worth knowing about them (one line each). `pretrain`: the recordings that
    pretraining hears, where somebody chose them."""

    folds: tuple[Fold, ...]
    notices: tuple[str, ...] = field(default=(), compare=False)
    pretrain: tuple[str, ...] | None = field(default=None, compare=False)

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    def __len__(self) -> int:
        return len(self.folds)

    def __getitem__(self, index: int) -> Fold:
        return self.folds[index]

    @property
    def overlap(self) -> bool:
        """Whether a recording is evaluated in more than one fold."""
        evaluated = [name for fold in self.folds for name in fold.evaluation]
        return len(set(evaluated)) < len(evaluated)


def share_name(share: float) -> str:
    """How a share (0 to 1) of the labels is written in a file's name: its percentage."""
    return f"{100 * share:.6g}"


def make_folds(corpus: Listing, n_folds: int, seed: int, group: Grouping = "recording") -> Folds:
    """Split the labelled recordings into `n_folds` folds with alike class shares (iterative stratification).

    Shares are of the labels as they were written: a mapping that merges classes moves no recording (`_stratified`).

    `group` says what must stay together: 'recording' (each by itself), or a function or mapping from
    recording name to group. Deterministic from `seed`. Classes that are in fewer groups than there are folds
    are named in `Folds.notices`, since some folds cannot evaluate them. Raises `ValueError` where there are
    fewer labelled groups than folds.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds: {n_folds}; it must be at least 2")
    counts_RC = class_counts(corpus)
    members = list(_members(corpus, group).values())
    if len(members) < n_folds:
        what = "recordings" if group == "recording" else "groups of recordings"
        raise ValueError(
            f"n_folds: {n_folds}, but the corpus has {len(members)} labelled {what}; "
            f"choose at most {len(members)} folds or annotate more"
        )
    shares_P = np.full(n_folds, 1 / n_folds)
    evaluated = list(range(n_folds))
    part_G, changed = _stratified(corpus, counts_RC, members, lambda of: best_split(of, shares_P, seed), evaluated)
    folds = tuple(_fold(corpus, counts_RC, members, part_G == part, part) for part in range(n_folds))
    counts_GC = np.array([counts_RC[rows].sum(0) for rows in members])
    return Folds(folds, (*changed, *_notices(corpus.classes, counts_GC, n_folds, group)))


def shuffle_folds(
    corpus: Listing, n_folds: int, evaluation_share: float, seed: int, group: Grouping = "recording"
) -> Folds:
    """`n_folds` stratified shuffle splits: each evaluates on a share (0 to 1) of its own of the labelled groups, alike
    in its classes, and trains on the others. A recording may be evaluated in several folds, and in none.

    So the paper splits MeerKAT: five of 80/20. Deterministic from `seed`; fold k does not depend on how many there are.
    Raises `ValueError` for another share, fewer than one fold, or fewer than 2 labelled groups.
    """
    if n_folds < 1:
        raise ValueError(f"n_folds: {n_folds}; it must be at least 1")
    if not 0 < evaluation_share < 1:
        raise ValueError(f"evaluation_share: {evaluation_share}; a share must be above 0 and below 1")
    counts_RC = class_counts(corpus)
    members = list(_members(corpus, group).values())
    if len(members) < 2:
        raise ValueError(f"the corpus has {len(members)} labelled group(s) of recordings; folds need 2 or more")
    shares_P = np.array([1 - evaluation_share, evaluation_share])
    folds: list[Fold] = []
    changed: dict[str, None] = {}
    for number in range(n_folds):
        split = partial(best_split, shares_P=shares_P, seed=(seed, number))
        part_G, notices = _stratified(corpus, counts_RC, members, split, [0, 1])
        folds.append(_fold(corpus, counts_RC, members, part_G == 1, number))
        changed |= dict.fromkeys(notices)
    return Folds(tuple(folds), (*changed, *_missing(corpus, counts_RC, folds)))


def _missing(corpus: Listing, counts_RC: np.ndarray, folds: Sequence[Fold]) -> Iterator[str]:
    """One line for each class with events that a fold cannot evaluate, or not learn."""
    for part, cannot in (("evaluation", "not evaluated in"), ("train", "not learned in")):
        there_FC = np.array([counts_RC[corpus.indices(getattr(fold, part))].any(0) for fold in folds])
        some = np.flatnonzero(counts_RC.any(0) & ~there_FC.all(0))
        if len(some) > TOLD_CLASSES:
            yield f"{len(some)} classes: {cannot} some folds ({some_of([corpus.classes[number] for number in some])})"
            continue
        for number, name in enumerate(corpus.classes):
            without = [str(fold.index) for fold, there_C in zip(folds, there_FC, strict=True) if not there_C[number]]
            if without and counts_RC[:, number].any():
                yield f"{name}: {cannot} fold{'s' if len(without) > 1 else ''} {', '.join(without)}"


def hold_out(corpus: Listing, held: float | str, seed: int, group: Grouping = "recording") -> Folds:
    """One fold, number 0, that evaluates on held out groups and trains on the others.

    held: a share (0 to 1) of the groups, chosen so that class shares are alike (iterative stratification, from
    `seed`), or a regular expression: every group whose name it is found in is held out. The name of a group is what
    `group` gives for its recordings, by default the recording's own. Raises `ValueError` where nothing would be held
    out or nothing would be left.
    """
    counts_RC = class_counts(corpus)
    by_name = _members(corpus, group)
    members = list(by_name.values())
    changed: tuple[str, ...] = ()
    if len(members) < 2:
        raise ValueError(f"holdout: the corpus has {len(members)} labelled group(s) of recordings; it needs 2 or more")
    if isinstance(held, str):
        try:
            held_G = np.array([re.search(held, name) is not None for name in by_name])
        except re.error as error:
            raise ValueError(f"holdout: {held!r} is not a regular expression ({error})") from None
        if held_G.all() or not held_G.any():
            some = ", ".join(list(by_name)[:3])
            found = "all" if held_G.all() else "none"
            raise ValueError(f"holdout: {held!r} is found in {found} of {len(members)} groups ({some}, ...)")
    else:
        if not 0 < held < 1:
            raise ValueError(f"holdout: {held}; a share must be above 0 and below 1")
        shares_P = np.array([1 - held, held])
        part_G, changed = _stratified(corpus, counts_RC, members, lambda of: best_split(of, shares_P, seed), [0, 1])
        held_G = part_G == 1
    kept_C, held_C = (sum(counts_RC[members[k]].sum(0) for k in np.flatnonzero(part)) for part in (~held_G, held_G))
    notices = []
    for what, here_C, there_C in (
        ("not evaluated, no held out", kept_C, held_C),
        ("not learned, no train", held_C, kept_C),
    ):
        lost = [name for name, here, there in zip(corpus.classes, here_C, there_C, strict=True) if here and not there]
        if len(lost) > TOLD_CLASSES:
            notices.append(f"{len(lost)} classes: {what} recording has them ({some_of(lost)})")
        else:
            notices += [f"{name}: {what} recording has it" for name in lost]
    return Folds((_fold(corpus, counts_RC, members, held_G, 0),), (*changed, *notices))


def _stratified(
    corpus: Listing,
    counts_RC: np.ndarray,
    members: list[list[int]],
    split: Callable[[np.ndarray], np.ndarray],
    parts: Sequence[int],
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(G,) the part of each group, and a line where it depends on a mapping of the classes.

    Stratified is what was labelled, with the labels as they were written: merging, renaming and dropping classes moves
    no recording. Only where that leaves a merged class out of one of `parts`, and the classes themselves do not, are
    they stratified. split: `with_sizes` of groups -> their parts.
    """
    written = written_counts(corpus)
    if written is None:
        return split(with_sizes(corpus, kinds_apart(corpus, counts_RC), members)), ()
    counts_RL, labels = written
    part_G = split(with_sizes(corpus, kinds_apart(corpus, counts_RL), members))
    if len(labels) <= len(corpus.classes):
        return part_G, ()
    counts_GC = with_sizes(corpus, counts_RC, members)[:, :-1]
    lost = _without(counts_GC, part_G, parts)
    if not lost:
        return part_G, ()
    other_G = split(with_sizes(corpus, kinds_apart(corpus, counts_RC), members))
    if len(_without(counts_GC, other_G, parts)) >= len(lost):
        return part_G, ()
    names = ", ".join(dict.fromkeys(corpus.classes[number] for number, _ in lost))
    return other_G, (
        f"other recordings are evaluated than without the mapping: stratified by the {len(labels)} labels as they were "
        f"written, some part of the folds would have no event of {names}",
    )


def _without(counts_GC: np.ndarray, part_G: np.ndarray, parts: Sequence[int]) -> list[tuple[int, int]]:
    """(class, part) where a part has no event of a class that enough groups have."""
    enough = (counts_GC > 0).sum(0) >= len(parts)
    return [
        (int(number), part) for part in parts for number in np.flatnonzero(enough & ~counts_GC[part_G == part].any(0))
    ]


def written_counts(corpus: Listing) -> tuple[np.ndarray, list[str]] | None:
    """(R, L) events of each recording by label, and the labels, as the tables had them before a mapping; None where
    the classes are these labels (`pack.written_labels`). Labels of whole recordings count as in `class_counts`."""
    written = corpus.meta.get("written")
    if not written:
        return None
    counts_RL = np.zeros((len(corpus.recordings), len(written["labels"])), np.int64)
    for row, recording in enumerate(corpus.recordings):
        for number, count in written["events"].get(recording.name, ()):
            counts_RL[row, number] = count
    return counts_RL, list(written["labels"])


def _fold(
    corpus: Listing, counts_RC: np.ndarray, members: list[list[int]], evaluated_G: np.ndarray, index: int
) -> Fold:
    train, evaluation = (
        [corpus.recordings[row].name for row in sorted(row for k in np.flatnonzero(part) for row in members[k])]
        for part in (~evaluated_G, evaluated_G)
    )
    assert not set(train) & set(evaluation)
    counts = train_counts(corpus, counts_RC, train)
    return Fold(index, train, evaluation, counts, times_s=train_times(corpus, train))


def train_counts(corpus: Listing, counts_RC: np.ndarray, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Events per class of each recording: `Fold.counts`."""
    return {name: tuple(counts_RC[row].tolist()) for name, row in zip(names, corpus.indices(names), strict=True)}


def train_times(corpus: Listing, names: Sequence[str]) -> dict[str, float]:
    """Seconds of each recording that are labelled: `Fold.times_s`. None where they were annotated as a whole."""
    if not partly_annotated(corpus):
        return {}
    times_R = learned_times(corpus)
    return {name: float(times_R[row]) for name, row in zip(names, corpus.indices(names), strict=True)}


def partly_annotated(corpus: Listing) -> bool:
    """Whether there is time in labelled recordings that is not."""
    return bool((corpus.unsure["class"] == IGNORED).any())


def with_sizes(corpus: Listing, counts_RC: np.ndarray, members: list[list[int]]) -> np.ndarray:
    """(G, C + 1): events per class of each group, and how many recordings it has, or, where only parts of them were
    annotated, how many labelled minutes."""
    sizes_R = learned_times(corpus) / 60 if partly_annotated(corpus) else np.ones(len(counts_RC), np.int64)
    return np.array([[*counts_RC[rows].sum(0), sizes_R[rows].sum()] for rows in members])


def class_counts(corpus: Listing) -> np.ndarray:
    """Events per recording and class, (R, C) int; 1 for each class of a recording that is labelled as a whole only."""
    counts_RC = np.zeros((len(corpus.recordings), len(corpus.classes)), np.int64)
    np.add.at(counts_RC, (corpus.events["recording"], corpus.events["class"]), 1)
    weak = weak_of(corpus)
    for row, names in zip(corpus.indices(weak), weak.values(), strict=True):
        counts_RC[row] = np.isin(corpus.classes, names)
    return counts_RC


def kinds_apart(corpus: Listing, counts_RC: np.ndarray) -> np.ndarray:
    """What splits balance, (R, ...) int: counts as `class_counts` has them, or of other labels; with recordings that
    are labelled as a whole only, those of either kind apart, and which recordings are labelled by events, so that no
    part has one kind alone."""
    weak = weak_of(corpus)
    if not weak:
        return counts_RC
    whole_R1 = np.array([[recording.name in weak] for recording in corpus.recordings])
    strong_R1 = np.array([[recording.labelled] for recording in corpus.recordings])
    return np.concatenate([counts_RC * ~whole_R1, counts_RC * whole_R1, strong_R1], axis=1)


def _members(corpus: Listing, group: Grouping) -> dict[str, list[int]]:
    """Positions of the labelled recordings of each group, those labelled as a whole only too, in the order of first
    appearance."""
    members: dict[str, list[int]] = {}
    weak = weak_of(corpus)
    for row, recording in enumerate(corpus.recordings):
        if recording.labelled or recording.name in weak:
            members.setdefault(group_of(recording.name, group), []).append(row)
    return members


def _notices(classes: Sequence[str], counts_GC: np.ndarray, n_folds: int, group: Grouping) -> Iterator[str]:
    what = "recordings" if group == "recording" else "groups of recordings"
    of = f"of {len(counts_GC)} {what}"
    found = dict(zip(classes, (counts_GC > 0).sum(0).tolist(), strict=True))
    rare = [name for name, count in found.items() if count < n_folds]
    if len(rare) > TOLD_CLASSES:
        yield (
            f"{len(rare)} of {len(classes)} classes are in fewer {of} than there are folds ({n_folds}), so some folds "
            f"cannot evaluate them: {some_of(rare)}"
        )
        return
    for name in rare:
        yield f"{name}: in {found[name]} {of}, fewer than {n_folds} folds; " + (
            "some folds cannot evaluate it" if found[name] else "no fold can evaluate it"
        )


def label_share(fold: Fold, share: float, seed: int) -> Fold:
    """The fold with `share` (0 to 1) of its train recordings, class shares kept; evaluation is unchanged.

    Those of `Fold.shares` where they are given. Else drawn: at least one recording; as many classes are kept as so few
    recordings can hold, the rarest first. Shares are of recordings, the unit that was labelled, or where only parts of
    them were, of the labelled time, as near as whole recordings come. Deterministic from `seed`. Raises `ValueError`
    for another share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: {share}; it must be above 0 and at most 1")
    if share_name(share) in fold.shares:
        return _with_train(fold, fold.shares[share_name(share)])
    wanted = max(1, round(share * len(fold.train)))
    if wanted >= len(fold.train):
        return fold
    rng = np.random.default_rng([seed, fold.index])
    counts_RC = np.array([fold.counts[name] for name in fold.train])
    chosen = stratified_sample(counts_RC, wanted, rng)
    if fold.times_s:
        chosen = _nearest_time(np.array([fold.times_s[name] for name in fold.train]), chosen, share, rng)
    return _with_train(fold, [name for name, taken in zip(fold.train, chosen, strict=True) if taken])


def _with_train(fold: Fold, names: list[str]) -> Fold:
    times_s = {name: fold.times_s[name] for name in names if fold.times_s}
    return replace(fold, train=names, counts={name: fold.counts[name] for name in names}, times_s=times_s)


def _nearest_time(times_R: np.ndarray, chosen: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The sample with recordings put in or taken out, the last one never, as long as that brings its time nearer to the
    share of all."""
    chosen = chosen.copy()
    wanted_s = share * times_R.sum()
    for row in rng.permutation(len(times_R)):
        changed_s = times_R[chosen].sum() + (-times_R[row] if chosen[row] else times_R[row])
        nearer = abs(changed_s - wanted_s) < abs(times_R[chosen].sum() - wanted_s)
        if nearer and not (chosen[row] and chosen.sum() == 1):
            chosen[row] = not chosen[row]
    return chosen
