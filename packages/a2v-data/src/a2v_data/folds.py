"""Stratified folds of a corpus, few-shot shares of them, and MeerKAT's manifests.

A fold is a list of recordings to train on and one to evaluate on; a group (recording, individual, day) never
straddles the two. Unlabelled recordings are in neither; they stay available to pretraining.

Manifests (MeerKAT's form): train_K.tsv and valid_K.tsv; the folder of the audio on line 1, then one recording
a line: its path in that folder, a tab, its number of samples in the file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from a2v_data.corpus import Corpus, Recording
from a2v_data.storage import write_text_aside

MOST_TRIES, TRIED_GROUPS = 32, 20_000
Grouping = str | Callable[[str], str] | Mapping[str, str]


@dataclass(frozen=True)
class Fold:
    """Names of recordings to train on and to evaluate on. `counts` has events per class of the train ones."""

    index: int
    train: list[str]
    evaluation: list[str]
    counts: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Folds:
    """All folds, in order, and what is worth knowing about them (one line each)."""

    folds: tuple[Fold, ...]
    notices: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    def __len__(self) -> int:
        return len(self.folds)

    def __getitem__(self, index: int) -> Fold:
        return self.folds[index]


def make_folds(corpus: Corpus, n_folds: int, seed: int, group: Grouping = "recording") -> Folds:
    """Split the labelled recordings into `n_folds` folds with alike class shares (iterative stratification).

    `group` says what must stay together: 'recording' (each by itself), or a function or mapping from
    recording name to group. Deterministic from `seed`. Classes that are in fewer groups than there are folds
    are named in `Folds.notices`, since some folds cannot evaluate them. Raises `ValueError` where there are
    fewer labelled groups than folds.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds: {n_folds}; it must be at least 2")
    counts_RC = class_counts(corpus)
    labelled = [number for number, recording in enumerate(corpus.recordings) if recording.labelled]
    members = _members(corpus, labelled, group)
    if len(members) < n_folds:
        what = "recordings" if group == "recording" else "groups of recordings"
        raise ValueError(
            f"n_folds: {n_folds}, but the corpus has {len(members)} labelled {what}; "
            f"choose at most {len(members)} folds or annotate more"
        )
    counts_GC = np.array([counts_RC[rows].sum(0) for rows in members])
    folds = []
    for index, (train, evaluation) in enumerate(_best_split(counts_GC, n_folds, seed)):
        names = [
            [corpus.recordings[row].name for row in sorted(row for number in part for row in members[number])]
            for part in (train, evaluation)
        ]
        assert not set(names[0]) & set(names[1])
        folds.append(Fold(index, names[0], names[1], _train_counts(corpus, counts_RC, names[0])))
    return Folds(tuple(folds), tuple(_notices(corpus.classes, counts_GC, n_folds)))


def _best_split(counts_GC: np.ndarray, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, evaluation) groups of each fold: of several stratified splits the one with the most even
    counts.

    Iterative stratification balances in how many groups a class is; the choice balances its number of events
    too.
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    tries = int(np.clip(TRIED_GROUPS // len(counts_GC), 1, MOST_TRIES))
    expected_C = np.maximum(counts_GC.sum(0) / n_folds, 1e-9)
    best: tuple[float, list[tuple[np.ndarray, np.ndarray]]] | None = None
    for state in np.random.SeedSequence(seed).generate_state(tries):
        splitter = MultilabelStratifiedKFold(n_splits=n_folds, shuffle=True, random_state=int(state))
        split = list(splitter.split(counts_GC, _strata(counts_GC)))
        found_FC = np.array([counts_GC[evaluation].sum(0) for _, evaluation in split])
        uneven = float(((found_FC - expected_C) ** 2 / expected_C).sum())  # chi square
        if min(len(evaluation) for _, evaluation in split) and (best is None or uneven < best[0]):
            best = uneven, split
    assert best is not None, f"no split of {len(counts_GC)} groups into {n_folds} folds"
    return best[1]


def class_counts(corpus: Corpus) -> np.ndarray:
    """Events per recording and class, (R, C) int."""
    counts_RC = np.zeros((len(corpus.recordings), len(corpus.classes)), np.int64)
    np.add.at(counts_RC, (corpus.events["recording"], corpus.events["class"]), 1)
    return counts_RC


def _members(corpus: Corpus, labelled: list[int], group: Grouping) -> list[list[int]]:
    """Positions of the labelled recordings of each group, in the order of first appearance."""
    members: dict[str, list[int]] = {}
    for row in labelled:
        name = corpus.recordings[row].name
        members.setdefault(_group_of(name, group), []).append(row)
    return list(members.values())


def _group_of(name: str, group: Grouping) -> str:
    if isinstance(group, str):
        if group != "recording":
            raise ValueError(f"group: {group!r}; it must be 'recording', a function or a mapping from names")
        return name
    if callable(group):
        return group(name)
    if name not in group:
        raise ValueError(f"group: no group is given for recording {name!r}; name one for every recording")
    return group[name]


def _strata(counts_GC: np.ndarray) -> np.ndarray:
    """Binary labels to balance: is the class there, is it there more often than is usual where it is."""
    there = counts_GC > 0
    usual = [np.median(column[column > 0]) if (column > 0).any() else 0 for column in counts_GC.T]
    return np.concatenate([there, counts_GC > np.array(usual)], axis=1).astype(np.int64)


def _notices(classes: Sequence[str], counts_GC: np.ndarray, n_folds: int) -> Iterator[str]:
    for name, found in zip(classes, (counts_GC > 0).sum(0), strict=True):
        if found < n_folds:
            yield f"{name}: in {found} of {len(counts_GC)} recordings, fewer than {n_folds} folds; " + (
                "some folds cannot evaluate it" if found else "no fold can evaluate it"
            )


def _train_counts(corpus: Corpus, counts_RC: np.ndarray, names: list[str]) -> dict[str, tuple[int, ...]]:
    rows = corpus.indices(names)
    return dict(zip(names, map(tuple, counts_RC[rows].tolist()), strict=True))


def label_share(fold: Fold, share: float, seed: int) -> Fold:
    """The fold with `share` (0 to 1) of its train recordings, class shares kept; evaluation is unchanged.

    At least one recording; as many classes are kept as so few recordings can hold, the rarest first. Shares
    are of recordings, the unit that was labelled. Deterministic from `seed`. Raises `ValueError` for another
    share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: {share}; it must be above 0 and at most 1")
    wanted = max(1, round(share * len(fold.train)))
    if wanted >= len(fold.train):
        return fold
    rng = np.random.default_rng([seed, fold.index])
    counts_RC = np.array([fold.counts[name] for name in fold.train])
    chosen = _keep_classes(counts_RC > 0, _stratified_sample(counts_RC, wanted, rng), rng)
    chosen = _trim(counts_RC > 0, chosen, wanted, rng)
    names = [name for name, taken in zip(fold.train, chosen, strict=True) if taken]
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


def write_manifests(folds: Folds, corpus: Corpus, folder: Path) -> list[Path]:
    """Write train_K.tsv and valid_K.tsv for each fold; returns their paths. Each is whole or not there."""
    root = corpus.meta["source"]["audio_folder"]
    written = []
    for fold in folds:
        for part, names in (("train", fold.train), ("valid", fold.evaluation)):
            rows = [corpus.recordings[number] for number in corpus.indices(names)]
            lines = [root, *(f"{row.name}\t{row.source_samples}" for row in rows)]
            path = Path(folder) / f"{part}_{fold.index}.tsv"
            write_text_aside(path, "\n".join(lines) + "\n")
            written.append(path)
    return written


def read_manifests(folder: Path, corpus: Corpus) -> Folds:
    """Read folds back. Raises `ValueError` naming file and row for what does not fit the corpus."""
    folder = Path(folder)
    counts_RC = class_counts(corpus)
    indices = sorted(int(path.stem[6:]) for path in folder.glob("train_*.tsv") if path.stem[6:].isdigit())
    if not indices:
        raise ValueError(f"{folder}: no manifest train_0.tsv; `a2v_data.folds.write_manifests` writes them")
    folds = []
    for index in indices:
        train = _read_manifest(folder / f"train_{index}.tsv", corpus)
        evaluation = _read_manifest(folder / f"valid_{index}.tsv", corpus)
        both = sorted(set(train) & set(evaluation))
        if both:
            raise ValueError(
                f"{folder}: {both[0]!r} is in train and in valid of fold {index}; keep it in one"
            )
        folds.append(Fold(index, train, evaluation, _train_counts(corpus, counts_RC, train)))
    return Folds(tuple(folds))


def _read_manifest(path: Path, corpus: Corpus) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; each train_K.tsv needs its valid_K.tsv")
    by_name: dict[str, Recording] = {recording.name: recording for recording in corpus.recordings}
    lines = path.read_text(encoding="utf-8").split("\n")
    names = []
    for row, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        name, _, samples = line.partition("\t")
        if name not in by_name:
            raise ValueError(f"{path}, row {row}: recording {name!r} is not in {corpus.folder}")
        if samples != str(expected := by_name[name].source_samples):
            raise ValueError(f"{path}, row {row}: {samples!r} samples; {name} has {expected}")
        names.append(name)
    return names
