"""Stratified folds of a corpus, a hold-out, and few-shot shares of them.

A fold is a list of recordings to train on and one to evaluate on; a group (recording, individual, day) never
straddles the two. Unlabelled recordings are in neither; they stay available to pretraining. Recordings that are
labelled as a whole only (`weak.py`) are split like others, each of their classes as one event. `manifests.py` writes
and reads folds.

Legend: R recordings, G groups, P parts (the evaluation recordings of each fold; or train and hold-out), C classes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from a2v_data.groups import Grouping, group_of
from a2v_data.listing import Listing, weak_of

MOST_TRIES, TRIED_GROUPS = 64, 2_000
MOST_CHANGES, CHANGES_PER_GROUP = 20_000, 60


@dataclass(frozen=True)
class Fold:
    """Names of recordings to train on and to evaluate on. `counts` has events per class of the train ones; `shares`
    those of the train ones that a given share of the labels has, by `share_name`, where somebody chose them."""

    index: int
    train: list[str]
    evaluation: list[str]
    counts: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)
    shares: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)


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
    part_G = best_split(with_sizes(balanced_counts(corpus), members), np.full(n_folds, 1 / n_folds), seed)
    folds = tuple(_fold(corpus, counts_RC, members, part_G == part, part) for part in range(n_folds))
    counts_GC = np.array([counts_RC[rows].sum(0) for rows in members])
    return Folds(folds, tuple(_notices(corpus.classes, counts_GC, n_folds, group)))


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
    sizes = with_sizes(balanced_counts(corpus), members)
    shares_P = np.array([1 - evaluation_share, evaluation_share])
    folds = tuple(
        _fold(corpus, counts_RC, members, best_split(sizes, shares_P, (seed, number)) == 1, number)
        for number in range(n_folds)
    )
    return Folds(folds, tuple(_missing(corpus, counts_RC, folds)))


def _missing(corpus: Listing, counts_RC: np.ndarray, folds: Sequence[Fold]) -> Iterator[str]:
    """One line for each class with events that a fold cannot evaluate, or not learn."""
    for part, cannot in (("evaluation", "not evaluated in"), ("train", "not learned in")):
        there_FC = np.array([counts_RC[corpus.indices(getattr(fold, part))].any(0) for fold in folds])
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
        held_G = best_split(with_sizes(balanced_counts(corpus), members), np.array([1 - held, held]), seed) == 1
    kept_C, held_C = (sum(counts_RC[members[k]].sum(0) for k in np.flatnonzero(part)) for part in (~held_G, held_G))
    notices = [
        f"{name}: {'not evaluated, no held out' if train else 'not learned, no train'} recording has it"
        for name, train, evaluation in zip(corpus.classes, kept_C, held_C, strict=True)
        if bool(train) != bool(evaluation)
    ]
    return Folds((_fold(corpus, counts_RC, members, held_G, 0),), tuple(notices))


def _fold(
    corpus: Listing, counts_RC: np.ndarray, members: list[list[int]], evaluated_G: np.ndarray, index: int
) -> Fold:
    names = [
        [corpus.recordings[row].name for row in sorted(row for k in np.flatnonzero(part) for row in members[k])]
        for part in (~evaluated_G, evaluated_G)
    ]
    assert not set(names[0]) & set(names[1])
    return Fold(index, names[0], names[1], train_counts(corpus, counts_RC, names[0]))


def train_counts(corpus: Listing, counts_RC: np.ndarray, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Events per class of each recording: `Fold.counts`."""
    return {name: tuple(counts_RC[row].tolist()) for name, row in zip(names, corpus.indices(names), strict=True)}


def with_sizes(counts_RC: np.ndarray, members: list[list[int]]) -> np.ndarray:
    """(G, C + 1): events per class of each group, and how many recordings it has."""
    return np.array([[*counts_RC[rows].sum(0), len(rows)] for rows in members])


def best_split(counts_GC: np.ndarray, shares_P: np.ndarray, seed: int | tuple[int, ...]) -> np.ndarray:
    """(G,) the part of each group, of several splits the one with the most even counts; `shares_P` of the groups.

    Iterative stratification balances in how many groups a class is; what follows balances its number of events too.
    The last column of `counts_GC` is balanced like a class, but is no stratum.
    """
    # More tries where they are cheap: few groups, which are also those that are hard to balance.
    tries = int(np.clip(TRIED_GROUPS // len(counts_GC), 1, MOST_TRIES))
    best: tuple[float, np.ndarray] | None = None
    for state in np.random.SeedSequence(seed).generate_state(tries):
        part_G = _stratified_parts(counts_GC[:, :-1], shares_P, int(state))
        uneven = _even_out(counts_GC, shares_P, part_G, np.random.default_rng(state))
        if best is None or uneven < best[0]:
            best = uneven, part_G
    assert best is not None
    return best[1]


def _stratified_parts(counts_GC: np.ndarray, shares_P: np.ndarray, state: int) -> np.ndarray:
    """(G,) parts by iterative stratification, none empty."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold, MultilabelStratifiedShuffleSplit

    groups, parts = len(counts_GC), len(shares_P)
    # Without any event there is nothing to balance but the sizes.
    strata_GS = _strata(counts_GC) if counts_GC.any() else np.ones((groups, 2), np.int64)
    part_G = np.zeros(groups, np.int64)
    if len(set(shares_P)) == 1:
        splitter = MultilabelStratifiedKFold(n_splits=parts, shuffle=True, random_state=state)
        for part, (_, evaluation) in enumerate(splitter.split(counts_GC, strata_GS)):
            part_G[evaluation] = part
    else:
        held = int(np.clip(round(shares_P[1] * groups), 1, groups - 1))
        splitter = MultilabelStratifiedShuffleSplit(1, test_size=held, train_size=groups - held, random_state=state)
        part_G[next(splitter.split(counts_GC, strata_GS))[1]] = 1
    for part in range(parts):  # stratification prefers even classes to parts of the right size
        if not (part_G == part).any():
            part_G[np.flatnonzero(part_G == np.bincount(part_G).argmax())[0]] = part
    return part_G


def _even_out(counts_GC: np.ndarray, shares_P: np.ndarray, part_G: np.ndarray, rng: np.random.Generator) -> float:
    """Exchange groups between parts, in place, where that brings counts nearer to their shares.

    Returns what is left: the sum over parts and classes of the squared relative deviation, so that 3 of 2 expected
    events weigh as much as 150 of 100. Where groups differ in size, one may also move alone.
    """
    expected_PC = np.maximum(shares_P[:, None] * counts_GC.sum(0), 1e-9)
    weight_PC = 1 / expected_PC**2
    found_PC = np.stack([counts_GC[part_G == part].sum(0) for part in range(len(shares_P))]).astype(float)
    sizes_P = np.bincount(part_G, minlength=len(shares_P))
    may_move = len(set(counts_GC[:, -1])) > 1
    proposals = min(CHANGES_PER_GROUP * len(counts_GC), MOST_CHANGES)
    firsts, seconds = rng.integers(len(counts_GC), size=(2, proposals))
    alone = rng.random(proposals) < (0.5 if may_move else 0)
    for first, second, moves in zip(firsts, seconds, alone, strict=True):
        here, there = part_G[first], part_G[second]
        if here == there or (moves and sizes_P[here] == 1):
            continue
        change_C = (0 if moves else counts_GC[second]) - counts_GC[first]
        # What the sum of squares changes by, (off + change)^2 - off^2, in the one part and in the other.
        off_here_C, off_there_C = found_PC[here] - expected_PC[here], found_PC[there] - expected_PC[there]
        worse_C = weight_PC[here] * change_C * (change_C + 2 * off_here_C)
        worse_C += weight_PC[there] * change_C * (change_C - 2 * off_there_C)
        if worse_C.sum() < -1e-12:
            found_PC[here] += change_C
            found_PC[there] -= change_C
            part_G[first] = there
            if moves:
                sizes_P[here] -= 1
                sizes_P[there] += 1
            else:
                part_G[second] = here
    return float((weight_PC * (found_PC - expected_PC) ** 2).sum())


def class_counts(corpus: Listing) -> np.ndarray:
    """Events per recording and class, (R, C) int; 1 for each class of a recording that is labelled as a whole only."""
    counts_RC = np.zeros((len(corpus.recordings), len(corpus.classes)), np.int64)
    np.add.at(counts_RC, (corpus.events["recording"], corpus.events["class"]), 1)
    weak = weak_of(corpus)
    for row, names in zip(corpus.indices(weak), weak.values(), strict=True):
        counts_RC[row] = np.isin(corpus.classes, names)
    return counts_RC


def balanced_counts(corpus: Listing) -> np.ndarray:
    """What splits balance, (R, ...) int: `class_counts`; with recordings that are labelled as a whole only, those of
    either kind apart, and which recordings are labelled by events, so that no part has one kind alone."""
    counts_RC, weak = class_counts(corpus), weak_of(corpus)
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


def _strata(counts_GC: np.ndarray) -> np.ndarray:
    """Binary labels to balance: is the class there, is it there more often than is usual where it is."""
    there = counts_GC > 0
    usual = [np.median(column[column > 0]) if (column > 0).any() else 0 for column in counts_GC.T]
    return np.concatenate([there, counts_GC > np.array(usual)], axis=1).astype(np.int64)


def _notices(classes: Sequence[str], counts_GC: np.ndarray, n_folds: int, group: Grouping) -> Iterator[str]:
    what = "recordings" if group == "recording" else "groups of recordings"
    for name, found in zip(classes, (counts_GC > 0).sum(0), strict=True):
        if found < n_folds:
            yield f"{name}: in {found} of {len(counts_GC)} {what}, fewer than {n_folds} folds; " + (
                "some folds cannot evaluate it" if found else "no fold can evaluate it"
            )


def label_share(fold: Fold, share: float, seed: int) -> Fold:
    """The fold with `share` (0 to 1) of its train recordings, class shares kept; evaluation is unchanged.

    Those of `Fold.shares` where they are given. Else drawn: at least one recording; as many classes are kept as so few
    recordings can hold, the rarest first. Shares are of recordings, the unit that was labelled. Deterministic from
    `seed`. Raises `ValueError` for another share.
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
    chosen = _keep_classes(counts_RC > 0, _stratified_sample(counts_RC, wanted, rng), rng)
    chosen = _trim(counts_RC > 0, chosen, wanted, rng)
    return _with_train(fold, [name for name, taken in zip(fold.train, chosen, strict=True) if taken])


def _with_train(fold: Fold, names: list[str]) -> Fold:
    return replace(fold, train=names, counts={name: fold.counts[name] for name in names})


def _stratified_sample(counts_RC: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """(R,) bool: about `wanted` recordings, at least that many, with alike class shares."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    rows = len(counts_RC)
    splitter = MultilabelStratifiedShuffleSplit(
        n_splits=1, train_size=wanted, test_size=rows - wanted, random_state=int(rng.integers(2**31))
    )
    taken, _ = next(splitter.split(counts_RC, _strata(counts_RC)))
    chosen = np.zeros(rows, bool)
    chosen[taken] = True
    rest = rng.permutation(np.flatnonzero(~chosen))
    chosen[rest[: max(wanted - len(taken), 0)]] = True
    return chosen


def _keep_classes(there_RC: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sample and, for every class that it lacks, a recording that has it (as few as possible)."""
    chosen = chosen.copy()
    missing_C = there_RC.any(0) & ~there_RC[chosen].any(0)
    while missing_C.any():
        gain = (there_RC & missing_C).sum(1)
        best = rng.choice(np.flatnonzero(gain == gain.max()))
        chosen[best] = True
        missing_C &= ~there_RC[best]
    return chosen


def _trim(there_RC: np.ndarray, chosen: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """The sample without as many recordings as are too many, each time one that loses the fewest classes."""
    chosen = chosen.copy()
    while chosen.sum() > wanted:
        only_C = there_RC[chosen].sum(0) == 1
        rows = np.flatnonzero(chosen)
        lost = (there_RC[rows] & only_C).sum(1)
        chosen[rng.choice(rows[lost == lost.min()])] = False
    return chosen
