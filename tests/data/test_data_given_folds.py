"""Folds that are no partition: shuffle splits, and those that somebody else made, as manifests."""

from pathlib import Path

import numpy as np
import pytest
from a2v_data.folds import class_counts, label_share, make_folds, shuffle_folds
from a2v_data.manifests import manifests_digest, read_manifests, shares_in, write_manifests
from a2v_data.stats import class_shares, fold_statistics
from data_listings import listing, of_counts

pytestmark = pytest.mark.slow

ANIMALS = 20


@pytest.fixture(scope="module")
def corpus():
    """200 recordings of 20 animals: one class in most, one in a tenth, one in 10 recordings of as many animals."""
    rng = np.random.default_rng(3)
    counts = np.stack([rng.poisson(3, 200), rng.random(200) < 0.1, np.arange(200) % 20 == 0], 1).astype(int)
    return of_counts(counts)


@pytest.mark.parametrize(("seed", "share"), [(0, 0.2), (1, 0.35), (2, 0.2)])
def test_each_shuffle_split_is_a_split_of_its_own(corpus, seed, share):
    folds = shuffle_folds(corpus, 5, share, seed)
    names = {recording.name for recording in corpus.recordings}
    total_C = class_counts(corpus).sum(0)
    for fold in folds:
        assert {*fold.train, *fold.evaluation} == names and not {*fold.train} & {*fold.evaluation}
        assert len(fold.evaluation) == pytest.approx(share * 200, abs=2)
        found_C = class_counts(corpus)[corpus.indices(fold.evaluation)].sum(0)
        assert np.abs(found_C - share * total_C).max() <= np.maximum(0.05 * share * total_C, 1).max()
    evaluated = [name for fold in folds for name in fold.evaluation]
    assert folds.overlap and len(set(evaluated)) < len(evaluated)
    assert len({tuple(fold.evaluation) for fold in folds}) == 5
    # independent draws: about (1 - share)^5 of the recordings are evaluated in no fold
    assert 1 - len(set(evaluated)) / 200 == pytest.approx((1 - share) ** 5, abs=0.1)
    assert not make_folds(corpus, 5, seed).overlap


def test_a_shuffle_split_depends_on_its_number_and_the_seed_alone(corpus):
    five, three = shuffle_folds(corpus, 5, 0.2, 4), shuffle_folds(corpus, 3, 0.2, 4)
    assert tuple(five)[:3] == tuple(three)
    assert shuffle_folds(corpus, 3, 0.2, 5) != three


@pytest.mark.parametrize("seed", range(3))
def test_groups_never_straddle_a_shuffle_split(corpus, seed):
    animal = {recording.name: str(n % ANIMALS) for n, recording in enumerate(corpus.recordings)}
    for fold in shuffle_folds(corpus, 4, 0.2, seed, animal):
        assert not {animal[name] for name in fold.train} & {animal[name] for name in fold.evaluation}
        assert len({animal[name] for name in fold.evaluation}) == 4


def test_what_a_shuffle_split_lacks_is_said():
    """Only the first recording has the second class: a split learns it or evaluates it."""
    folds = shuffle_folds(of_counts(np.array([[1, 1], [1, 0], [1, 0], [1, 0], [1, 0]])), 3, 0.2, 0)
    evaluates = {number for number in range(3) if "r000.wav" in folds[number].evaluation}
    said = set()
    for cannot, numbers in (("not evaluated in", {0, 1, 2} - evaluates), ("not learned in", evaluates)):
        if numbers:
            said.add(f"c1: {cannot} fold{'s' if len(numbers) > 1 else ''} {', '.join(map(str, sorted(numbers)))}")
    assert set(folds.notices) == said


def test_splits_that_cannot_be():
    for wrong in (0.0, 1.0):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            shuffle_folds(of_counts(np.ones((5, 1), int)), 3, wrong, 0)
    with pytest.raises(ValueError, match="1 labelled group"):
        shuffle_folds(of_counts(np.ones((1, 1), int)), 3, 0.2, 0)
    with pytest.raises(ValueError, match="1 labelled group"):
        shuffle_folds(listing([1.0, 1.0, 1.0], ["a"], [(0, 0, 0.1, 0.2)], unlabelled=[1, 2]), 2, 0.2, 0)


def test_deviation_of_splits_is_held_against_what_each_could_have(corpus):
    """10 events in 10 recordings, a fifth evaluated: 2 are possible in every split, so 0 % is the least."""
    rows = class_shares(corpus, shuffle_folds(corpus, 5, 0.2, 0))
    rare = list(rows.values())[2]
    assert rare["events"] == 10 and rare["at_best"] < 0.2
    assert all(row["deviation"] < 0.25 for row in rows.values())


def test_sample_sizes_of_given_subsets(corpus, tmp_path):
    folds = shuffle_folds(corpus, 2, 0.2, 0)
    write_manifests(folds, corpus, tmp_path, [0.25], 9)
    read = read_manifests(tmp_path, corpus)
    sizes = fold_statistics(corpus, read, shares_in(read), seed=1)
    counts_RC = class_counts(corpus)
    for fold, row in zip(folds, sizes, strict=True):
        drawn = label_share(fold, 0.25, 9).train
        assert list(row["train"]["0.25"]["events"].values()) == counts_RC[corpus.indices(drawn)].sum(0).tolist()
        assert row["train"]["1"]["recordings"] == 160 and row["evaluation"]["recordings"] == 40


def test_published_names_of_a_hold_out(corpus, tmp_path):
    """train_lof, valid_lof with a subset; rows below another root, or with wav/ before them."""
    names = [recording.name for recording in corpus.recordings]
    samples = {recording.name: recording.source_samples for recording in corpus.recordings}

    def write(stem, chosen, root="/some/where/wav", before=""):
        rows = "".join(f"{before}{name}\t{samples[name]}\n" for name in chosen)
        (tmp_path / f"{stem}.tsv").write_text(f"{root}\n{rows}", "utf-8")

    write("train_0", names[:100])
    write("valid_0", names[100:120])
    write("train_lof", names[:150], before="wav/")
    write("train_lof_25", names[10:50], root="/x", before="/x/")
    write("valid_lof", names[150:180])
    write("pretrain", names)
    (fold,) = read_manifests(tmp_path, corpus, holdout=True)
    assert fold.train == names[:150] and fold.evaluation == names[150:180] and fold.index == 0
    assert label_share(fold, 0.25, 3).train == names[10:50]
    assert read_manifests(tmp_path, corpus, holdout=True).pretrain == (*names[:150], *names[180:])
    assert read_manifests(tmp_path, corpus)[0].train == names[:100]  # the folds beside it
    assert read_manifests(tmp_path, corpus).pretrain == tuple(names)
    before = manifests_digest(tmp_path)
    write("pretrain_lof", names[:100])
    assert read_manifests(tmp_path, corpus, holdout=True).pretrain == tuple(names[:100])
    assert manifests_digest(tmp_path) != before
    write("train_lof_25", names[140:155])
    with pytest.raises(ValueError, match=r"is in train_lof_25\.tsv and not in train_lof\.tsv"):
        read_manifests(tmp_path, corpus, holdout=True)


def test_a_hold_out_of_ones_own_is_the_only_fold(corpus, tmp_path):
    write_manifests(shuffle_folds(corpus, 1, 0.2, 0), corpus, tmp_path / "one")
    write_manifests(shuffle_folds(corpus, 2, 0.2, 0), corpus, tmp_path / "two")
    assert read_manifests(tmp_path / "one", corpus, holdout=True) == shuffle_folds(corpus, 1, 0.2, 0)
    with pytest.raises(ValueError, match=r"no manifest train_lof\.tsv of a hold-out, and its folds are 0, 1"):
        read_manifests(tmp_path / "two", corpus, holdout=True)
    with pytest.raises(ValueError, match="no such folder"):
        manifests_digest(tmp_path / "none")


def test_a_recording_in_two_rows_is_refused(corpus, tmp_path):
    write_manifests(shuffle_folds(corpus, 1, 0.2, 0), corpus, tmp_path)
    path: Path = tmp_path / "train_0.tsv"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n", "utf-8")
    with pytest.raises(ValueError, match=r"train_0\.tsv, row 162: .* is in row 2 already"):
        read_manifests(tmp_path, corpus)
