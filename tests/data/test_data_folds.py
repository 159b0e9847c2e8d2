"""Folds: nothing straddles them, class shares are kept, few-shot subsets keep the rare; manifests."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import EVENT_DTYPE, CorpusWriter
from a2v_data.folds import class_counts, hold_out, label_share, make_folds
from a2v_data.groups import by_pattern, by_table
from a2v_data.listing import open_listing
from a2v_data.manifests import parse_manifest, read_manifests, shares_in, write_fold_folder, write_manifests
from a2v_data.pack import PackConfig, pack
from a2v_data.stats import class_shares
from a2v_data.storage import written_aside
from a2v_data.synth import synthesise
from data_listings import listing, of_counts

pytestmark = pytest.mark.slow

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
        writer.finish(np.array(rows, EVENT_DTYPE), source={"audio_folder": "/data/audio"}, problems=[], notices=[])
    return Corpus.open(folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """120 recordings, `common` in half, `usual` in a quarter, `rare` in 8 of them; 10 more without labels."""
    rng = np.random.default_rng(0)
    counts = np.stack([rng.poisson(2, 120) * (rng.random(120) < 0.6), rng.random(120) < 0.25, np.zeros(120)], 1)
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
    with pytest.raises(ValueError, match="n_folds: 4, but the corpus has 3 labelled recordings; choose at most 3"):
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
    assert [path.name for path in written] == [f"{part}_{k}.tsv" for k in range(3) for part in ("train", "valid")]
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
        right.replace("\t", "\t9", 1): r"valid_0\.tsv, row 2: 9\d+ samples; .* has \d+",
        (folder / "train_0.tsv").read_text(): "is in train and in valid of fold 0",
    }
    for text, said in cases.items():
        valid.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_manifests(folder, corpus)
    valid.unlink()
    with pytest.raises(ValueError, match=r"valid_0\.tsv: no such file"):
        read_manifests(folder, corpus)


@pytest.mark.parametrize("seed", range(3))
def test_each_class_is_as_even_as_whole_events_allow(seed: int) -> None:
    """400 recordings, 4 to 1000 events of a class: each fold has the floor or ceiling of a fifth, or is 1 % off."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.8, size=(400, 1)) * np.array([2.5, 0.6, 0.15, 0.05, 0.02]))
    corpus = of_counts(counts)
    for name, row in class_shares(corpus, make_folds(corpus, 5, seed)).items():
        fifth = row["events"] / 5
        assert min(row["fold_events"]) >= np.floor(fifth) - 0.01 * fifth, (name, row)
        assert max(row["fold_events"]) <= np.ceil(fifth) + 0.01 * fifth, (name, row)


def test_synthetic_corpus_keeps_class_shares_within_a_tenth(tmp_path: Path) -> None:
    """Every class, but those that whole events alone take further: 8 lead calls are 1 or 2 in each of 5 folds."""
    corpus = open_listing(synthesise(tmp_path / "s", 40, 0))
    rows = class_shares(corpus, make_folds(corpus, 5, 0))
    assert (
        {name for name, row in rows.items() if row["deviation"] > 0.1}
        <= {name for name, row in rows.items() if row["at_best"] > 0.08}
        < set(rows)
    )
    assert all(row["deviation"] < row["at_best"] + 0.03 for row in rows.values())


def test_uneven_groups_are_spread_too() -> None:
    """One animal with 40 recordings and 20 with 2: the one is a fold, the others are halved."""
    names = [f"big_{k}.wav" for k in range(40)] + [f"a{k // 2:02d}_{k}.wav" for k in range(40)]
    corpus = of_counts(np.ones((80, 1), int), names)
    sizes = sorted(len(fold.evaluation) for fold in make_folds(corpus, 3, 0, by_pattern("^([a-z0-9]+)_")))
    assert sizes == [20, 20, 40]


def test_corpora_without_events_or_with_one_class_have_folds() -> None:
    for counts in (np.zeros((6, 0), int), np.zeros((6, 2), int), np.ones((6, 1), int)):
        assert sorted(len(fold.evaluation) for fold in make_folds(of_counts(counts), 3, 0)) == [2, 2, 2]


@pytest.mark.parametrize("held", [0.1, 0.2, 0.5])
def test_hold_out_of_a_share(corpus: Corpus, held: float) -> None:
    """One fold; the share of the recordings and of each class; the others are trained on; the seed decides."""
    (fold,) = hold_out(corpus, held, 3)
    labelled = {recording.name for recording in corpus.recordings if recording.labelled}
    assert fold.index == 0 and set(fold.train) | set(fold.evaluation) == labelled
    assert not set(fold.train) & set(fold.evaluation)
    assert len(fold.evaluation) == pytest.approx(held * 120, abs=2)
    counts_RC = class_counts(corpus)
    found, total = counts_RC[corpus.indices(fold.evaluation)].sum(0), counts_RC.sum(0)
    assert np.abs(found - held * total).max() <= 1
    assert hold_out(corpus, held, 3) == hold_out(corpus, held, 3) != hold_out(corpus, held, 4)


def test_hold_out_by_name_takes_whole_groups(corpus: Corpus) -> None:
    (fold,) = hold_out(corpus, "animal[25]", 0, by_pattern("^(animal[0-9])/"))
    assert {name[:7] for name in fold.evaluation} == {"animal2", "animal5"}
    assert {name[:7] for name in fold.train} == {f"animal{k}" for k in (0, 1, 3, 4, 6)}
    (fold,) = hold_out(corpus, "r007", 0)  # without groups, names are those of the recordings
    assert fold.evaluation == ["animal0/r007.wav"]
    for held, said in (("[25", "not a regular expression"), ("bird", "found in none of 120"), ("r", "found in all of")):
        with pytest.raises(ValueError, match=f"holdout: '{re.escape(held)}' is {said}"):
            hold_out(corpus, held, 0)
    for share in (0.0, 1.0, 20.0):
        with pytest.raises(ValueError, match="a share must be above 0 and below 1"):
            hold_out(corpus, share, 0)
    alone = listing([5.0], ["a"], [(0, 0, 1, 2)])
    with pytest.raises(ValueError, match=r"has 1 labelled group\(s\) of recordings; it needs 2"):
        hold_out(alone, 0.5, 0)


def test_hold_out_says_which_classes_are_on_one_side_only() -> None:
    corpus = of_counts(np.array([[1, 1, 0], [1, 0, 1], [1, 0, 0]]))
    assert hold_out(corpus, "r001", 0).notices == (
        "c1: not evaluated, no held out recording has it",
        "c2: not learned, no train recording has it",
    )


def test_few_shot_manifests(corpus: Corpus, tmp_path: Path) -> None:
    """train_K_P.tsv holds the subset that a recipe with that label share draws; valid_K.tsv is the same for all."""
    folds = make_folds(corpus, 2, 0)
    out = write_fold_folder(tmp_path / "m", folds, corpus, [0.01, 0.25, 0.005], 7, {"seed": 7})
    names = {f"{part}_{k}.tsv" for part in ("train", "valid") for k in (0, 1)}
    names |= {f"train_{k}_{share}.tsv" for k in (0, 1) for share in ("1", "25", "0.5")}
    assert {path.name for path in out.iterdir()} == names | {"pretrain.tsv", "folds.json"}
    assert json.loads((out / "folds.json").read_text()) == {"seed": 7}
    assert len(parse_manifest(out / "pretrain.tsv")[1]) == 130  # the 10 that are not labelled too
    read = read_manifests(out, corpus)
    assert shares_in(read) == [0.005, 0.01, 0.25]
    for share in (0.01, 0.25):  # of another seed than 7 they would be others, had they not been given
        assert [label_share(fold, share, 8) for fold in read] == [label_share(fold, share, 7) for fold in folds]
    assert [label_share(fold, 0.5, 8) for fold in read] == [label_share(fold, 0.5, 8) for fold in folds]
    with pytest.raises(ValueError, match="exists already"):
        write_fold_folder(out, folds, corpus, [], 0, {})


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "row 1: is ''; the first line must be the folder"),
        (b"a.wav\t100\n", "row 1: is 'a.wav.t100'; the first line must be the folder"),
        (b"/data\nanimal0/r000.wav 2000\n", "row 2: is 'animal0/r000.wav 2000'; it must be a path, a tab and"),
        (b"/data\nanimal0/r000.wav\t-5\n", "row 2: .* it must be a path, a tab and a number"),
        (b"/data\n\n\nanimal0/r\xe9.wav\t5\n", "row 4: byte 0xe9 is not UTF-8"),
    ],
)
def test_what_is_no_manifest(corpus: Corpus, tmp_path: Path, content: bytes, said: str) -> None:
    write_manifests(make_folds(corpus, 2, 0), corpus, tmp_path)
    (tmp_path / "valid_0.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"valid_0\.tsv, {said}"):
        read_manifests(tmp_path, corpus)


def test_manifests_of_other_editors_are_read(corpus: Corpus, tmp_path: Path) -> None:
    """A byte order mark and carriage returns."""
    folds = make_folds(corpus, 2, 0)
    for path in write_manifests(folds, corpus, tmp_path):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_manifests(tmp_path, corpus) == folds


def test_groups_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "meta.csv"
    table.write_text("file,individual,day\na.wav,VHMF001,1\n\n\u00e9.wav, VHMF002 ,2\na.wav,VHMF001,9\n", "utf-8")
    assert by_table(table, "individual") == {"a.wav": "VHMF001", "\u00e9.wav": "VHMF002"}
    with pytest.raises(ValueError, match=r"row 5: a\.wav is in '9' and in '1'; name one group"):
        by_table(table, "day")
    with pytest.raises(ValueError, match="row 1: needs one column 'site'; the header has file, individual, day"):
        by_table(table, "site")
    table.write_text("file,day\na.wav,\n")
    with pytest.raises(ValueError, match="row 2: day is empty"):
        by_table(table, "day")
    table.write_text("file,day\na.wav\n")
    with pytest.raises(ValueError, match="row 2: 1 fields, the header has 2"):
        by_table(table, "day")
    table.write_bytes(b"file,day\n\xff,1\n")
    with pytest.raises(ValueError, match="not readable as UTF-8 CSV"):
        by_table(table, "day")
    with pytest.raises(ValueError, match="cannot be read"):
        by_table(tmp_path, "day")


def test_groups_from_names() -> None:
    assert by_pattern("_([0-9]+)_")("bird_20190412_3.wav") == "20190412"
    for pattern, said in (("(", "not a regular expression"), ("bird", "exactly one group"), ("(a)(b)", "exactly one")):
        with pytest.raises(ValueError, match=said):
            by_pattern(pattern)
    for pattern in ("^(cat)", "^(cat)?bird"):
        with pytest.raises(ValueError, match="does not match the recording bird_1"):
            by_pattern(pattern)("bird_1.wav")


def test_a_folder_has_the_same_folds_as_when_it_is_packed(tmp_path: Path) -> None:
    source = synthesise(tmp_path / "s", 4, 1)
    (source / "lbl" / "r0002_s1.h5").unlink()  # one that is not labelled
    (source / "wav" / "bad.wav").write_bytes(b"RIFF")
    packed, folder = pack(source, tmp_path / "c", PackConfig(sample_rate=8000)), open_listing(source)
    assert open_listing(tmp_path / "c").classes == packed.classes == folder.classes
    assert [(r.name, r.labelled, r.source_samples) for r in packed.recordings] == [
        (r.name, r.labelled, r.source_samples) for r in folder.recordings
    ]
    assert np.array_equal(packed.events, folder.events)
    assert len(folder.problems) == 1 and "'bad.wav'" in folder.problems[0]
    assert make_folds(packed, 3, 0) == make_folds(folder, 3, 0)
    write_manifests(make_folds(folder, 3, 0), folder, tmp_path / "m")
    assert read_manifests(tmp_path / "m", packed) == make_folds(packed, 3, 0)
    assert sum(recording.labelled for recording in open_listing(source, "all").recordings) == 24
    with pytest.raises(ValueError, match="no recording 'x'"):
        folder.indices(["x"])
    with pytest.raises(ValueError, match="no such folder"):
        open_listing(tmp_path / "nowhere")
