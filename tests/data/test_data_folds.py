"""Folds: nothing straddles them, class shares are kept, few-shot subsets keep the rare; manifests."""

from pathlib import Path

import numpy as np
import pytest
from a2v_data.corpus import EVENT_DTYPE, Corpus, CorpusWriter
from a2v_data.folds import class_counts, label_share, make_folds, read_manifests, write_manifests
from a2v_data.storage import written_aside

CLASSES = ["common", "usual", "rare"]


def build(folder: Path, counts: np.ndarray, unlabelled: int = 0, classes: list[str] = CLASSES) -> Corpus:
    """One recording per row of `counts` (events per class), and `unlabelled` ones more."""
    with written_aside(folder) as aside:
        writer = CorpusWriter(aside, 1000, classes)
        rows = []
        for number in range(len(counts) + unlabelled):
            labelled = number < len(counts)
            length = 1000 + number
            name = f"animal{number % 7}/r{number:03d}.wav"
            writer.add(name, np.ones(length, np.int16), labelled, 2000, 2 * length, 1.0)
            for column, count in enumerate(counts[number] if labelled else ()):
                rows += [(number, column, 0.01 * k, 0.01 * k + 0.005) for k in range(count)]
        writer.finish(
            np.array(rows, EVENT_DTYPE), source={"audio_folder": "/data/audio"}, problems=[], notices=[]
        )
    return Corpus.open(folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """120 recordings, `common` in half, `usual` in a quarter, `rare` in 8 of them; 10 more without labels."""
    rng = np.random.default_rng(0)
    counts = np.stack(
        [rng.poisson(2, 120) * (rng.random(120) < 0.6), rng.random(120) < 0.25, np.zeros(120)], 1
    )
    counts[rng.choice(120, 8, replace=False), 2] = 1
    return build(tmp_path_factory.mktemp("folds") / "c", counts.astype(int), unlabelled=10)


@pytest.mark.parametrize("n_folds", [2, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_labelled_recording_is_evaluated_once(corpus: Corpus, n_folds: int, seed: int) -> None:
    folds = make_folds(corpus, n_folds, seed)
    labelled = {recording.name for recording in corpus.recordings if recording.labelled}
    evaluated = [name for fold in folds for name in fold.evaluation]
    assert len(evaluated) == len(set(evaluated)) and set(evaluated) == labelled and len(folds) == n_folds
    for fold in folds:
        assert set(fold.train) == labelled - set(fold.evaluation)
    assert folds.notices == ()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_class_shares_are_kept(corpus: Corpus, seed: int) -> None:
    counts_RC = class_counts(corpus)
    total = counts_RC.sum(0)
    for fold in make_folds(corpus, 4, seed):
        found = counts_RC[corpus.indices(fold.evaluation)].sum(0)
        assert abs(found[0] / (total[0] / 4) - 1) < 0.1
        assert abs(found[1] - total[1] / 4) < 1  # as even as whole events can be
        assert found[2] == 2  # 8 events in 8 recordings


def test_folds_follow_the_seed(corpus: Corpus) -> None:
    assert make_folds(corpus, 3, 5) == make_folds(corpus, 3, 5)
    assert make_folds(corpus, 3, 5) != make_folds(corpus, 3, 6)


@pytest.mark.parametrize("form", ["function", "mapping"])
def test_groups_never_straddle_a_fold(corpus: Corpus, form: str) -> None:
    def animal(name: str) -> str:
        return name.split("/")[0]

    names = [recording.name for recording in corpus.recordings]
    folds = make_folds(corpus, 3, 0, animal if form == "function" else {name: animal(name) for name in names})
    for fold in folds:
        assert not {animal(name) for name in fold.train} & {animal(name) for name in fold.evaluation}
    assert {animal(name) for fold in folds for name in fold.evaluation} == {f"animal{k}" for k in range(7)}
    with pytest.raises(ValueError, match="n_folds: 8, but the corpus has 7 labelled groups"):
        make_folds(corpus, 8, 0, animal)


def test_users_mistakes_and_rare_classes(corpus: Corpus, tmp_path: Path) -> None:
    few = build(tmp_path / "few", np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0]]), unlabelled=4)
    with pytest.raises(
        ValueError, match="n_folds: 4, but the corpus has 3 labelled recordings; choose at most 3"
    ):
        make_folds(few, 4, 0)
    with pytest.raises(ValueError, match="n_folds: 1; it must be at least 2"):
        make_folds(few, 1, 0)
    with pytest.raises(ValueError, match="group: 'day'; it must be 'recording'"):
        make_folds(few, 2, 0, "day")
    with pytest.raises(ValueError, match="no group is given for recording"):
        make_folds(few, 2, 0, {})
    assert make_folds(few, 3, 0).notices == (
        "usual: in 0 of 3 recordings, fewer than 3 folds; no fold can evaluate it",
        "rare: in 1 of 3 recordings, fewer than 3 folds; some folds cannot evaluate it",
    )
    with pytest.raises(ValueError, match=r"share: 0; it must be above 0"):
        label_share(make_folds(corpus, 2, 0)[0], 0, 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.5])
def test_few_shot_subsets(corpus: Corpus, share: float, seed: int) -> None:
    """The size is right, evaluation unchanged, shares kept within 2.5 recordings, no class lost."""
    fold = make_folds(corpus, 2, 0)[0]
    few = label_share(fold, share, seed)
    assert few == label_share(fold, share, seed)
    assert len(few.train) == round(share * len(fold.train)) and set(few.train) <= set(fold.train)
    assert few.evaluation == fold.evaluation and few.index == fold.index
    there = class_counts(corpus) > 0
    whole, kept = (there[corpus.indices(names)].sum(0) for names in (fold.train, few.train))
    assert (kept > 0).all()
    assert np.abs(kept - share * whole).max() <= 2.5


def test_the_smallest_subset_and_the_whole(corpus: Corpus) -> None:
    fold = make_folds(corpus, 2, 0)[0]
    assert label_share(fold, 1.0, 0) == fold
    assert len(label_share(fold, 0.001, 0).train) == 1
    assert len({tuple(label_share(fold, 0.1, seed).train) for seed in range(5)}) > 1


@pytest.mark.parametrize("seed", range(5))
def test_two_recordings_hold_all_classes_where_two_can(tmp_path: Path, seed: int) -> None:
    """One recording has the first two classes, one the third, the others only the first or none."""
    counts = np.zeros((40, 3), int)
    counts[:20, 0] = 1
    counts[[3, 23], 1] = 1
    counts[[3, 23], 0] = 1
    counts[[7, 27], 2] = 1
    counts[20:] = counts[:20]
    fold = make_folds(build(tmp_path / "c", counts), 2, 0)[0]
    assert {len(few.train) for few in [label_share(fold, 0.1, seed)]} == {2}
    kept = np.array(list(label_share(fold, 0.1, seed).counts.values())).sum(0)
    assert (kept > 0).all()


def test_manifests_round_trip(corpus: Corpus, tmp_path: Path) -> None:
    folds = make_folds(corpus, 3, 0)
    written = write_manifests(folds, corpus, tmp_path / "manifest")
    assert [path.name for path in written] == [
        f"{part}_{k}.tsv" for k in range(3) for part in ("train", "valid")
    ]
    lines = written[0].read_text().splitlines()
    name = folds[0].train[0]
    samples = corpus.recordings[corpus.indices([name])[0]].source_samples
    assert lines[0] == "/data/audio" and lines[1] == f"{name}\t{samples}"
    again = read_manifests(tmp_path / "manifest", corpus)
    assert again == folds
    assert label_share(again[1], 0.25, 3) == label_share(folds[1], 0.25, 3)


def test_wrong_manifests_are_named(corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "manifest"
    with pytest.raises(ValueError, match=r"no manifest train_0\.tsv"):
        read_manifests(folder, corpus)
    write_manifests(make_folds(corpus, 2, 0), corpus, folder)
    valid = folder / "valid_0.tsv"
    right = valid.read_text()
    cases = {
        right.replace("animal", "beast", 1): r"valid_0\.tsv, row 2: recording 'beast.*' is not in",
        right.replace("\t", "\t9", 1): r"valid_0\.tsv, row 2: '9\d+' samples; .* has \d+",
        (folder / "train_0.tsv").read_text(): "is in train and in valid of fold 0",
    }
    for text, said in cases.items():
        valid.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_manifests(folder, corpus)
    valid.unlink()
    with pytest.raises(ValueError, match=r"valid_0\.tsv: no such file"):
        read_manifests(folder, corpus)
