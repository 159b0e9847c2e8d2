"""Labels as people have them: patterns, running numbers, templates, warnings, rows outside, and folds that stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import Annotation, AnnotationError
from a2v_data.class_mapping import apply_mapping, read_mapping, without_number
from a2v_data.corpus import Corpus
from a2v_data.folds import hold_out, make_folds, shuffle_folds
from a2v_data.label_sets import Found, class_notices, suggestions, template
from a2v_data.listing import open_listing
from a2v_data.pack import PackConfig, pack
from a2v_data.prepare import PrepareConfig, prepare
from a2v_data.sources import open_source


def rows(*labels: str) -> list[Annotation]:
    return [Annotation(f"r{n % 3}.wav", n, n + 0.5, label, False, f"t, row {n}") for n, label in enumerate(labels)]


def mapped(tmp_path: Path, text: str, *labels: str, name: str = "m.csv") -> tuple[list[str], list[str], list[str]]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    kept, problems, notices = apply_mapping(rows(*labels), read_mapping(tmp_path / name), "error")
    return [row.label for row in kept], problems, notices


def test_patterns(tmp_path: Path) -> None:
    """A row for the label itself is first, then the pattern that says most of it; case counts."""
    text = "label,class\ncl*,cl\nclo*,close\ncl7,odd\n[hg]?,short\nx*,\n"
    found, problems, notices = mapped(tmp_path, text, "cl1", "cl12", "cl7", "close 1", "h1", "g2", "x9")
    assert found == ["cl", "cl", "odd", "close", "short", "short"] and problems == []
    assert "m.csv: 'cl*' is cl: 2 events of 2 labels (cl1, cl12)" in notices
    _, problems, _ = mapped(tmp_path, text, "CL1")
    assert problems[0].startswith("t, row 0: label 'CL1' is not in m.csv")


def test_patterns_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    _, problems, _ = mapped(tmp_path, "label,class\na*,x\n*b,y\n", "ab")
    assert problems == [
        "t, row 0: label 'ab' fits 'a*' (x) and '*b' (y) of m.csv alike; give it a row of its own there"
    ]
    assert mapped(tmp_path, "label,class\na*,x\n*b,x\n", "ab")[0] == ["x"]


@pytest.mark.parametrize("label", ["wren?", "A*", "[song]", "?", "*"])
def test_a_row_for_a_label_with_a_wildcard_takes_no_other_along(tmp_path: Path, label: str) -> None:
    found, problems, _ = mapped(tmp_path, f"label,class\n{label},doubtful\n", label, "wrens", "A1", "s", "x")
    assert found[0] == "doubtful" and len(problems) == 4


def test_a_question_mark_alone_is_no_pattern_and_brackets_quote(tmp_path: Path) -> None:
    assert len(mapped(tmp_path, "label,class\n?,x\n", "a")[1]) == 1
    assert mapped(tmp_path, "label,class\nA[*],x\nA*,y\n", "A*", "A1")[0] == ["x", "y"]


def test_yaml_may_begin_with_what_yaml_reserves(tmp_path: Path) -> None:
    text = "wren?: ?\n*: other\n'?': odd\n# a comment\n-h*: ?  # doubtful\n"
    found, problems, _ = mapped(tmp_path, text, "wren?", "h", "?", "-h12", name="m.yaml")
    assert found == ["?", "other", "odd", "?"] and problems == []


@pytest.mark.parametrize(
    ("label", "stem"),
    [
        ("cl17", "cl"), ("gy_03", "gy"), ("cl 4", "cl"), ("ca-17", "ca"), ("-h12", "-h"), ("h1?", "h?"), ("h1+", "h+"),
        ("12", "12"), ("-12", "-12"), ("h12a", "h12a"), ("cl", "cl"), ("ö7", "ö"), ("type 1.2", "type 1"),
    ],
)  # fmt: skip
def test_running_numbers(label: str, stem: str) -> None:
    assert without_number(label) == stem


def numbered(make_source, recordings: int = 6) -> Path:
    """Recordings of 30 s, each with calls cl1, cl2, ... and, in the first four, a call of type h or -h."""
    lines = []
    for number in range(recordings):
        name = f"r{number}.wav"
        lines += [f"{name},{2 * k},{2 * k + 1},cl{number * 5 + k}" for k in range(3 + number % 2)]
        lines += [f"{name},20,21,{'h' if number % 2 else '-h'}{number}"] if number < 4 else []
    audio = {f"r{number}.wav": np.full(240_000, 0.1) for number in range(recordings)}
    return make_source(audio, lines)


def test_numbers_are_stripped_before_the_mapping_and_it_is_told(make_source, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("label,class\n-h,h\nh,h\ncl,close\n")
    config = AnnotationConfig(strip_numbers=True, mapping=str(tmp_path / "m.csv"))
    report = open_source(numbered(make_source), config).read()
    assert {row.label for row in report.rows} == {"h", "close"} and report.problems == []
    assert report.notices[0] == (
        "strip_numbers: 25 labels became 3: cl (21 labels, 21 events), -h (2 labels, 2 events), h (2 labels, 2 events)"
    )


def test_merging_classes_moves_no_recording(make_source, tmp_path: Path) -> None:
    """Folds of the source, the store and a prepared folder are those of the labels as they were written."""
    lines = [f"r{n}.wav,{k},{k + 0.5},{'ab'[k % 2]}{(k * n) % 3}" for n in range(8) for k in range(3 + n)]
    source = make_source({f"r{n}.wav": np.full(120_000, 0.1) for n in range(8)}, lines)
    config = AnnotationConfig(strip_numbers=True)
    plain, merged = open_listing(source), open_listing(source, annotations=config)
    assert len(plain.classes) == 6 and merged.classes == ("a", "b")
    packing = PackConfig(sample_rate=8000, annotations=config)
    stored = pack(source, tmp_path / "store", packing)
    prepared = prepare(source, tmp_path / "seg", PrepareConfig(sample_rate=8000, annotations=config)).prepared
    joined = pack(prepared.folder, tmp_path / "joined", PackConfig(sample_rate=8000))
    for seed in range(2):
        wanted = every_kind(plain, seed)
        assert all(every_kind(corpus, seed) == wanted for corpus in (merged, stored, joined))


def every_kind(corpus, seed: int) -> list[list[list[str]]]:
    found = (make_folds(corpus, 2, seed), shuffle_folds(corpus, 2, 0.4, seed), hold_out(corpus, 0.4, seed))
    return [evaluated(folds) for folds in found]


def evaluated(folds) -> list[list[str]]:
    return [fold.evaluation for fold in folds]


def test_folds_that_must_change_say_so(make_source) -> None:
    """Stratification knows nothing of singletons: where a merged class would be missing, it is stratified itself."""
    lines = [f"r{n}.wav,{k},{k + 0.5},b{10 * n + k}" for n in range(8) for k in range(4)]
    lines += [f"r{n}.wav,10,11,a{n}" for n in range(2)]
    source = make_source({f"r{n}.wav": np.full(160_000, 0.1) for n in range(8)}, lines)
    merged = open_listing(source, annotations=AnnotationConfig(strip_numbers=True))
    changed = 0
    for seed in range(12):
        folds = make_folds(merged, 2, seed)
        assert all({"r0.wav", "r1.wav"} & set(fold.evaluation) for fold in folds)
        changed += any("other recordings are evaluated than without the mapping" in line for line in folds.notices)
        same = evaluated(folds) == evaluated(make_folds(open_listing(source), 2, seed))
        assert same or any("would have no event of a" in line for line in folds.notices)
    assert 0 < changed < 12


def test_a_store_without_a_mapping_is_as_it_was(make_source, tmp_path: Path) -> None:
    corpus = pack(numbered(make_source), tmp_path / "store", PackConfig(sample_rate=8000))
    assert "written" not in corpus.meta and "outside" not in corpus.meta["config"]["annotations"]


def test_a_mapping_counts_for_a_prepared_folder_too(make_source, tmp_path: Path) -> None:
    prepare(numbered(make_source), tmp_path / "seg", PrepareConfig(sample_rate=8000))
    config = PackConfig(sample_rate=8000, annotations=AnnotationConfig(strip_numbers=True))
    assert pack(tmp_path / "seg", tmp_path / "store", config).classes == ("-h", "cl", "h")


def test_rows_outside_are_cut_or_dropped_and_named(make_source, tmp_path: Path) -> None:
    lines = ["a.wav,0.5,1.5,x", "a.wav,3,4,x", "a.wav,-0.2,0.1,x", "a.wav,0.2,0.4,x"]
    source = make_source({"a.wav": np.full(8000, 0.1)}, lines)

    def packed(outside: str) -> Corpus:
        annotations = AnnotationConfig(outside=outside)
        return pack(source, tmp_path / outside, PackConfig(sample_rate=8000, annotations=annotations))

    clipped, dropped = packed("clip"), packed("drop")
    assert [(row["onset_s"], row["offset_s"]) for row in clipped.events] == [(0.0, 0.1), (0.2, 0.4), (0.5, 1.0)]
    assert [(row["onset_s"], row["offset_s"]) for row in dropped.events] == [(0.2, 0.4)]
    where = "a.wav, which is 1.000 s long"
    assert clipped.notices == [
        f"annotations.csv: 1 event left out, outside {where} (row 3: 3 to 4 s)",
        f"annotations.csv: 2 events cut at the ends of {where} (row 2: 0.5 to 1.5 s, row 4: -0.2 to 0.1 s)",
    ]
    with pytest.raises(AnnotationError, match=r"row 4: onset_s is -0\.2") as caught:
        pack(source, tmp_path / "refuse", PackConfig(sample_rate=8000), strict=True)
    assert "2 events lie outside a.wav" in str(caught.value)


def test_both_views_of_a_wrong_selection_are_named(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": np.full(8000, 0.1)})
    (source / "annotations.csv").unlink()
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tAnnotation\n"
    views = ("Waveform 1", "Spectrogram 1")
    lines = [f"{n}\t{view}\t1\t{n}\t{n + 0.5}\tx\n" for n in (0, 3) for view in views]
    (source / "audio" / "a.txt").write_text(head + "".join(lines))
    with pytest.raises(AnnotationError, match=r"audio/a\.txt, rows 4 and 5: 3 to 3\.5 s lies outside a\.wav"):
        pack(source, tmp_path / "out", PackConfig(sample_rate=8000), strict=True)


def test_classes_that_cannot_be_learned_are_told_in_few_lines() -> None:
    assert class_notices({"a": Found(5, 2), "b": Found(90, 4)}, 4) == []
    few, lone = class_notices({"a": Found(4, 2), "b": Found(90, 4), "c": Found(9, 1)}, 4)
    assert few.startswith("1 of 3 classes has fewer than 5 events (a 4): ") and "--mapping" in few
    assert lone.startswith("1 of 3 classes is in one recording only (c), ")
    (line,) = class_notices({f"cl{n}": Found(1, 1) for n in range(77)} | {n: Found(9, 3) for n in "abc"}, 4)
    assert line.startswith("77 of 80 classes have a single event (cl0, cl1, cl2 and 74 more): labels with running")
    assert "--strip-numbers" in line and len(line) < 300


def test_suggestions() -> None:
    events = {f"cl{n}": 1 for n in range(9)} | {"Wren": 3, "wren": 9, "wr en": 1, "robin": 9, "robni": 1}
    events |= {"type1": 40, "type2": 30, "type3": 9}
    found = suggestions(events)
    assert {found[f"cl{n}"].name for n in range(9)} == {"cl"} and found["Wren"].name == "wren"
    assert found["robni"].name == "robni" and found["robni"].why == "near 'robin', 9 events: the same?"
    assert found["type2"].name == "type2" and "near" not in found["type2"].why  # they tell types apart


def test_a_template_is_a_mapping(tmp_path: Path) -> None:
    labels = ["cl1", "cl2", "cl3", "A*", "wren?", "a, b", 'q"x"', "?", "ü/ö", "#3", "robin"]
    (tmp_path / "t.csv").write_text(template(rows(*labels), {"robin": ""}), encoding="utf-8")
    kept, problems, _ = apply_mapping(rows(*labels), read_mapping(tmp_path / "t.csv"), "error")
    assert problems == []
    assert [row.label for row in kept] == ["cl", "cl", "cl", "A*", "wren?", "a, b", 'q"x"', "?", "ü/ö", "#3"]
