"""Labels of whole recordings: tables as people have them, what is packed, and splits that balance them."""

from pathlib import Path

import numpy as np
import pytest
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import AnnotationError
from a2v_data.check_source import check_source
from a2v_data.class_warnings import class_warnings
from a2v_data.corpus import SEGMENT_DTYPE
from a2v_data.folds import class_counts, hold_out, make_folds
from a2v_data.listing import Listing, labelled_in, labelled_times, learned_times, open_listing, weak_of
from a2v_data.pack import PackConfig, pack
from a2v_data.prepare import PrepareConfig, prepare
from a2v_data.sources import source_fingerprint
from a2v_data.stats import class_shares, corpus_statistics
from a2v_data.validation import validation_split
from a2v_data.weak import split_list
from data_sounds import tone

NAMES = ["s1/c0.wav", "s1/c1.wav", "s2/c2.wav", "s2/c3.wav"]


@pytest.fixture
def clips(make_source):  # type: ignore[no-untyped-def]
    """Makes a folder of four clips with a table of recording-level labels, and annotations.csv where rows are given."""

    def make(table: str, rows: list[str] | None = None) -> Path:
        source: Path = make_source({name: tone(440, 1, 8000) for name in NAMES}, rows or [])
        (source / "clips.csv").write_text(table, encoding="utf-8")
        if rows is None:
            (source / "annotations.csv").unlink()
        return source

    return make


def listed(source: Path, **config: str | bool) -> Listing:
    return open_listing(source, "auto", AnnotationConfig(weak="clips.csv", **config))  # type: ignore[arg-type]


def test_a_column_for_each_class(clips) -> None:
    # as AnuraSet has it: names without an ending, the longer recording beside it, times in it, a count of species
    table = "sample_name,fname,min_t,max_t,species_number,ANNA,BOBO,NEVER\nc0,r,0,3,1,1,0,0\nc1,r,1,4,2,1,1,0\n"
    listing = listed(clips(table + "c2,r,2,5,0,0,0,0\n"))
    assert weak_of(listing) == {"s1/c0.wav": ["ANNA"], "s1/c1.wav": ["ANNA", "BOBO"], "s2/c2.wav": []}
    assert listing.classes == ("ANNA", "BOBO") and not any(one.labelled for one in listing.recordings)
    assert any("fname, min_t, max_t, species_number" in notice for notice in listing.notices)


def test_a_list_in_one_column(clips) -> None:
    listing = listed(clips("file,labels\ns1/c0.wav,wren; tit\nc1.wav,\nc2.wav,nocall\nc3.wav,tit\n"))
    assert weak_of(listing) == {
        "s1/c0.wav": ["tit", "wren"], "s1/c1.wav": [], "s2/c2.wav": [], "s2/c3.wav": ["tit"],
    }  # fmt: skip


def test_rows_of_one_recording_add_up(clips) -> None:
    listing = listed(clips("filename,species\nc0.wav,wren\nc0.wav,tit\nc0.wav,nocall\nc0.wav,wren\n"))
    assert weak_of(listing) == {"s1/c0.wav": ["tit", "wren"]}


def test_xeno_canto_and_competition_tables(clips) -> None:
    xeno = "file,id,gen,sp,en,also\nc0.wav,1,Parus,major,Great Tit,Turdus merula; Parus ater\n"
    xeno += "c1.wav,2,Parus,ater,Coal Tit,\n"
    assert weak_of(listed(clips(xeno))) == {
        "s1/c0.wav": ["Parus ater", "Parus major", "Turdus merula"], "s1/c1.wav": ["Parus ater"],
    }  # fmt: skip
    assert weak_of(listed(clips(xeno), label_column="en"))["s1/c0.wav"] == ["Great Tit"]
    birdclef = "primary_label,secondary_labels,filename\nabe,\"['xyz', 'abd']\",c0.wav\nxyz,[],s2/c3.wav\n"
    assert weak_of(listed(clips(birdclef))) == {"s1/c0.wav": ["abd", "abe", "xyz"], "s2/c3.wav": ["xyz"]}


def test_cells_with_lists() -> None:
    assert split_list("a; b ;a") == ["a", "b"] and split_list("a,b") == ["a", "b"]
    assert split_list("Wren, Winter; Tit") == ["Wren, Winter", "Tit"]
    assert split_list('["a", "b, c"]') == ["a", "b, c"] and split_list("NoCall") == [] == split_list("[]")


def test_a_mark_for_each_class_and_nothing_else(clips) -> None:
    assert weak_of(listed(clips("file,a,b\nc0.wav,x,\nc1.wav,,X\nc2.wav,,\n"))) == {
        "s1/c0.wav": ["a"], "s1/c1.wav": ["b"], "s2/c2.wav": [],
    }  # fmt: skip


def test_semicolons_between(clips) -> None:
    assert weak_of(listed(clips("file;a;b\nc0.wav;1;0\nc1.wav;1;1\n"))) == {"s1/c0.wav": ["a"], "s1/c1.wav": ["a", "b"]}
    assert weak_of(listed(clips("file;labels\nc0.wav;a, b\n"))) == {"s1/c0.wav": ["a", "b"]}


def test_a_mapping_is_for_both_kinds_of_labels(clips, tmp_path: Path) -> None:
    source = clips("file,labels\nc0.wav,wren;tit\nc1.wav,noise\n", ["c3.wav,0.1,0.2,tits"])
    (source / "map.csv").write_text("label,class\nwren,bird\ntit,Parus\ntits,Parus\nnoise,\n", encoding="utf-8")
    listing = listed(source, mapping="map.csv")
    assert listing.classes == ("Parus", "bird")
    assert weak_of(listing) == {"s1/c0.wav": ["Parus", "bird"], "s1/c1.wav": []}
    (source / "map.csv").write_text("label,class\nwren,bird\ntits,bird\nnoise,\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"clips.csv, row 2: label 'tit' is not in map.csv"):
        listed(source, mapping="map.csv")


def test_patterns_and_running_numbers_are_for_both_kinds_of_labels(clips) -> None:
    source = clips("file,labels\nc0.wav,cl1;gy_a\nc1.wav,cl22\nc2.wav,odd\n", ["c3.wav,0.1,0.2,cl3"])
    (source / "map.csv").write_text("label,class\ncl,close\ngy_*,syllable\nodd,ignore\n", encoding="utf-8")
    listing = listed(source, mapping="map.csv", strip_numbers=True)
    assert listing.classes == ("close", "syllable")
    assert weak_of(listing) == {"s1/c0.wav": ["close", "syllable"], "s1/c1.wav": ["close"]}
    assert any("1 recordings hold calls of an unknown class (first: s2/c2.wav)" in line for line in listing.notices)


def test_the_column_that_names_recordings_may_be_told(clips) -> None:
    table = "name,Clip Name,labels\nc1.wav,c0.wav,x\nc0.wav,c3.wav,y\n"
    assert weak_of(listed(clips(table))) == {"s1/c0.wav": ["y"], "s1/c1.wav": ["x"]}
    assert weak_of(listed(clips(table), file_column="clip name")) == {"s1/c0.wav": ["x"], "s2/c3.wav": ["y"]}
    assert weak_of(listed(clips(table), file_column="rec"))["s1/c1.wav"] == ["x"]  # of the tables of events


def test_beside_regions(clips, tmp_path: Path) -> None:
    # c0: a part is annotated, so its events count; c1: events, but no region, so what is known is its row in clips.csv
    rows = ["c0.wav,0.1,0.2,x", "c0.wav,0.7,0.8,x", "c1.wav,0.1,0.2,x", "c2.wav,0.4,0.5,?", "c2.wav,0.1,0.2,x"]
    source = clips("file,labels\nc0.wav,x;y\nc1.wav,y\nc3.wav,z\n", rows)
    (source / "regions.csv").write_text("file,onset_s,offset_s\nc0.wav,0,0.5\nc2.wav,,\n", encoding="utf-8")
    listing = listed(source)
    assert [one.labelled for one in listing.recordings] == [True, False, True, False]
    assert weak_of(listing) == {"s1/c1.wav": ["y"], "s2/c3.wav": ["z"]} and listing.classes == ("x", "y", "z")
    assert class_counts(listing).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert labelled_times(listing).tolist() == [0.5, 0, 1, 0] and learned_times(listing).tolist() == [0.5, 1, 1, 1]
    assert "2 of 4 recordings labelled" in labelled_in(listing) and "2 more as a whole" in labelled_in(listing)
    fold = make_folds(listing, 2, seed=0)[0]
    assert fold.times_s == {name: 0.5 if name == "s1/c0.wav" else 1.0 for name in fold.train}
    config = PackConfig(sample_rate=8000, annotations=AnnotationConfig(weak="clips.csv"))
    corpus = pack(source, tmp_path / "out", config)
    targets = corpus.targets(np.array([(n, 0) for n in range(4)], SEGMENT_DTYPE), 10, 10)
    assert np.isnan(targets[[1, 3]]).all() and np.isnan(targets[0, :, 1]).tolist() == [False] * 5 + [True] * 5
    assert [len(corpus.truth(number)) for number in range(4)] == [2, 0, 2, 0]
    checked = check_source(source, annotations=AnnotationConfig(weak="clips.csv"))
    assert (checked.labelled, checked.weak, checked.as_json()["weak_recordings"]) == (2, 2, 2)
    assert "2 more as a whole" in checked.labelled_line() and not checked.problems


def test_events_count_more_and_unknown_calls_say_nothing_of_absence(clips) -> None:
    source = clips("file,labels\nc0.wav,x\nc1.wav,x;y\nc2.wav,y;?\n", ["c0.wav,0.1,0.2,x", "c1.wav,0.1,0.2,x"])
    listing = listed(source)
    assert weak_of(listing) == {} and [one.labelled for one in listing.recordings] == [True, True, False, False]
    told = next(line for line in listing.notices if "labelled by events too" in line)
    assert "2 recordings" in told and "of 1 the classes differ (first: s1/c1.wav: x, y here, x as events)" in told
    assert any("1 recordings hold calls of an unknown class (first: s2/c2.wav)" in line for line in listing.notices)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("file,onset_s,offset_s,label\nc0.wav,0,1,x\n", "has onset_s, offset_s: this is a table of events"),
        ("labels\nx\n", "no column file"),
        ("file,day\nc0.wav,monday\n", "no column of classes"),
        ("file,labels\nnowhere.wav,x\n", r"names none of the recordings in .* \(first: 'nowhere.wav'\)"),
        ("file,label\nc0.wav,1\nc1.wav,0\n", "column label holds 0 and 1 only"),
        ("file,label,a,b\nc0.wav,x,0,1\n", "column label may hold the classes, and so may 2 columns of 0 and 1"),
    ],
)
def test_what_is_no_such_table(clips, table: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        listed(clips(table))


def test_wrong_cells_and_strange_rows_are_told(clips) -> None:
    body = "".join(f"c{n % 4}.wav,{n % 2},0\n" for n in range(20))
    with pytest.raises(AnnotationError, match=r"clips.csv, row 22: a is '2'; it must be 1 .* or 0"):
        listed(clips(f"file,a,b\n{body}c0.wav,2,0\n"))
    listing = listed(clips("file,labels\nc0.wav,x\ngone.wav,x\n"))
    assert any(
        "1 of 2 rows name no recording that is there" in line and "'gone.wav'" in line for line in listing.notices
    )


def test_packed(clips, tmp_path: Path) -> None:
    source = clips("file,labels\nc0.wav,x;z\nc1.wav,\nc2.wav,z\n", ["c3.wav,0.25,0.5,x"])
    config = PackConfig(sample_rate=8000, annotations=AnnotationConfig(weak="clips.csv"), labelled="all")
    corpus = pack(source, tmp_path / "out", config)
    assert corpus.classes == ("x", "z") and [one.labelled for one in corpus.recordings] == [False] * 3 + [True]
    weak = [corpus.weak_labels(number) for number in range(4)]
    assert weak[3] is None and [row.tolist() for row in weak[:3]] == [[True, True], [False, False], [False, True]]  # type: ignore[union-attr]
    assert [corpus.present(number).tolist() for number in (0, 3)] == [[True, True], [True, False]]
    targets = corpus.targets(np.array([(0, 0), (3, 0)], SEGMENT_DTYPE), 8, 8)
    assert np.isnan(targets[0]).all() and targets[1, :, 0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    dropped = pack(source, tmp_path / "dropped", config.model_copy(update={"exclude_labels": ["z"]}))
    assert dropped.classes == ("x",) and dropped.weak == {"s1/c0.wav": ["x"], "s1/c1.wav": [], "s2/c2.wav": []}
    plain = pack(source, tmp_path / "plain", PackConfig(sample_rate=8000))
    assert "weak" not in plain.meta and "weak" not in plain.meta["config"]["annotations"]
    found = corpus_statistics(corpus)
    assert (found["weak_recordings"], found["weak_silent"], found["weak_per_class"]) == (3, 1, {"x": 1, "z": 2})


def test_the_table_is_part_of_the_fingerprint(clips) -> None:
    source = clips("file,labels\nc0.wav,x\n", ["c3.wav,0.25,0.5,x"])
    config = AnnotationConfig(weak="clips.csv")
    before = source_fingerprint(source, annotations=config)
    (source / "clips.csv").write_text("file,labels\nc0.wav,y\n", encoding="utf-8")
    assert source_fingerprint(source, annotations=config) != before


def test_a_prepared_folder_cannot_hold_them(clips, tmp_path: Path) -> None:
    source = clips("file,labels\nc0.wav,x\n")
    config = PrepareConfig(annotations=AnnotationConfig(weak="clips.csv"))
    with pytest.raises(ValueError, match=r"clips\.csv: recording-level labels do not say in which segment"):
        prepare(source, tmp_path / "out", config)


@pytest.fixture
def many(make_source) -> Listing:  # type: ignore[no-untyped-def]
    """20 clips of 10 animals, two each; a is in half of them, b in one of four, the last 8 are labelled by events."""
    names = [f"bird{n // 2}_{n % 2}.wav" for n in range(20)]
    labels = [[name for name, each in (("a", 2), ("b", 4)) if number % each == 0] for number in range(20)]
    rows = [f"{names[n]},0.1,0.2,{label}" for n in range(12, 20) for label in labels[n]]
    rows += [f"{names[n]},,," for n in range(12, 20) if not labels[n]]
    source: Path = make_source({name: tone(440, 0.3, 8000) for name in names}, rows)
    table = "".join(f"{names[n]},{';'.join(labels[n])}\n" for n in range(12))
    (source / "clips.csv").write_text(f"file,labels\n{table}", encoding="utf-8")
    return listed(source)


def test_splits_are_stratified_and_keep_groups(many: Listing) -> None:
    counts_RC, weak = class_counts(many), weak_of(many)
    assert counts_RC.sum(0).tolist() == [10, 5] and counts_RC.max() == 1
    strong = {one.name for one in many.recordings if one.labelled}
    folds = make_folds(many, 2, seed=0, group=lambda name: name.split("_")[0])
    assert sorted(name for fold in folds for name in fold.evaluation) == sorted([*weak, *strong])
    for fold in folds:
        assert not {name[:5] for name in fold.train} & {name[:5] for name in fold.evaluation}
        assert counts_RC[many.indices(fold.evaluation)].sum(0)[1] in (2, 3)
        assert len(set(fold.evaluation) & strong) == 4, "both kinds of labels are in each part"
    assert class_shares(many, folds)["a"]["events"] == 10
    held = hold_out(many, "bird[0-4]", seed=0)[0]
    assert len(held.evaluation) == 10 and all(name < "bird5" for name in held.evaluation)
    split = validation_split(many, [*folds[0].train, *folds[0].evaluation], 0.3, seed=0)
    assert split.validation and set(split.validation) & strong and set(split.validation) & weak.keys()


def test_merging_classes_moves_no_recording(many: Listing) -> None:
    source = Path(many.folder)
    plain = make_folds(many, 2, seed=0)
    (source / "map.csv").write_text("label,class\n?,bird\n*,bird\n", encoding="utf-8")
    merged = listed(source, mapping="map.csv")
    assert merged.classes == ("bird",) and class_counts(merged).sum() == 10  # every b is where an a is
    assert [fold.evaluation for fold in make_folds(merged, 2, seed=0)] == [fold.evaluation for fold in plain]
    packed = pack(source, source.parent / "packed", PackConfig(
        sample_rate=8000, annotations=AnnotationConfig(weak="clips.csv", mapping="map.csv")))  # fmt: skip
    assert [fold.evaluation for fold in make_folds(packed, 2, seed=0)] == [fold.evaluation for fold in plain]


def test_classes_that_only_one_recording_has_are_told(clips) -> None:
    table = "file,labels\n" + "".join(f"c{n}.wav,{'x;y' if n else 'x'}\n" for n in range(3))
    listing = listed(clips(table, ["c3.wav,0.1,0.2,z", "c3.wav,0.3,0.4,z"]))
    assert any("3 of 3 classes have fewer than 5 events (y 2, z 2, x 3)" in line for line in class_warnings(listing))
