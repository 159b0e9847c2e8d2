"""Which recordings count as labelled: in MeerKAT's published layout those with events, elsewhere those with labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.check import check
from a2v_data.corpus import Corpus
from a2v_data.folds import make_folds
from a2v_data.labelled import labelled_rule
from a2v_data.listing import Listing, labelled_in, labelled_notices, open_listing
from a2v_data.meerkat import write_labels
from a2v_data.pack import PackConfig, pack
from a2v_data.prepare import PrepareConfig, prepare
from a2v_data.stats import corpus_statistics
from a2v_data.synth import synthesise
from data_sounds import tone

RATE = 8000
CALLED = ["s00.wav", "s03.wav", "s07.wav", "s10.wav"]  # of 12
HINT = "8 of 12 label files hold no event: if nobody listened to those segments, say labelled: with_events"


def published(folder: Path, without: Sequence[int] = (), manifest: Sequence[str] = ()) -> Path:
    """Twelve segments of 1 s; each but `without` has a label file, most of them with fields of length 0."""
    for name in ("wav", "lbl", "manifest"):
        (folder / name).mkdir(parents=True)
    for number in range(12):
        name = f"s{number:02d}.wav"
        soundfile.write(folder / "wav" / name, tone(300 + 50 * number, 1, RATE), RATE, subtype="PCM_16")
        calls = [("cc" if number % 2 else "sn", 800, 2400, False)] if name in CALLED else []
        if number not in without:
            write_labels((folder / "lbl" / name).with_suffix(".h5"), calls, RATE)
    rows = "".join(f"{name}\t{RATE}\n" for name in manifest or CALLED)
    (folder / "manifest" / "train_0.tsv").write_text(f"{folder / 'wav'}\n{rows}")
    return folder


def labelled(listing: Listing) -> list[str]:
    return [recording.name for recording in listing.recordings if recording.labelled]


def packed(source: Path, **options: object) -> Corpus:
    out = source.parent / f"packed{len(list(source.parent.iterdir()))}"
    return pack(source, out, PackConfig.model_validate({"sample_rate": RATE, **options}))


def test_where_every_segment_has_a_label_file_only_those_with_events_are_labelled(tmp_path: Path) -> None:
    source = published(tmp_path / "m")
    corpus, listing = packed(source), open_listing(source)
    assert labelled(corpus) == labelled(listing) == labelled(open_listing(corpus.folder)) == CALLED
    for one in (corpus, listing):
        assert labelled_in(one).partition(": ")[2] == "those with events (labelled: with_events)"
        assert labelled_in(one).startswith("4 of 12 recordings labelled") and labelled_notices(one) == []
        assert set().union(*(fold.evaluation for fold in make_folds(one, 2, 0))) == set(CALLED)
        found = corpus_statistics(one)
        assert (found["labelled_recordings"], found["labelled_rule"]) == (4, "with_events")
        assert found["labelled_hours"] == pytest.approx(4 / 3600) and found["share_any"] == pytest.approx(0.2)
    assert corpus.notices == [] and corpus.meta["config"]["labelled"] == "with_events"
    # what is not labelled is heard in pretraining all the same
    assert len(corpus.recordings) == 12 and len(corpus.audio) == 12 * RATE
    assert len(corpus.segments(1.0)) == 12 and len(corpus.segments(1.0, labelled_only=True)) == 4


def test_check_says_how_many_segments_are_labelled_and_by_which_rule(tmp_path: Path) -> None:
    report = check(published(tmp_path / "m"), labelled="auto")
    assert (report.files, report.label_files, report.with_events, report.labelled) == (12, 12, 4, 4)
    assert report.labelled_line() == "4 of 12 segments labelled: those with events (labelled: with_events)"
    assert report.labelled_seconds == pytest.approx(4)
    assert report.as_json()["labelled_rule"] == "with_events" and HINT not in report.notices
    assert not any(problem.kind == "not labelled" for problem in report.problems)
    present = check(tmp_path / "m", labelled="annotated")
    assert (present.labelled, present.rule) == (12, "annotated") and HINT in present.notices
    listed = check(published(tmp_path / "n", manifest=["s00.wav", "s01.wav", "s02.wav"]))
    said = "manifest/train_0.tsv: 2 of its recordings hold no event; folds.manifests takes them as silence"
    assert said in listed.notices
    assert not any(problem.kind == "not labelled" for problem in listed.problems)


def test_the_other_rules(tmp_path: Path) -> None:
    source = published(tmp_path / "m", without=[1, 2])
    names = [f"s{number:02d}.wav" for number in range(12)]
    assert labelled(packed(source, labelled="all")) == labelled(open_listing(source, "all")) == names
    present = [name for name in names if name not in ("s01.wav", "s02.wav")]
    assert labelled(packed(source, labelled="annotated")) == labelled(open_listing(source, "annotated")) == present
    assert check(source, labelled="all").labelled == 12


def test_presence_where_most_label_files_are_empty_is_told(tmp_path: Path) -> None:
    source = published(tmp_path / "m")
    corpus, listing = packed(source, labelled="annotated"), open_listing(source, "annotated")
    assert HINT in corpus.notices and labelled_notices(corpus) == labelled_notices(listing) == [HINT]
    few = published(tmp_path / "few", without=[1, 2, 4, 5, 6])  # 3 of 7 are empty
    assert labelled_notices(open_listing(few, "annotated")) == []


def test_events_where_presence_looks_meaningful_are_told(tmp_path: Path) -> None:
    source = published(tmp_path / "m", without=[1, 2])
    told = (
        "10 of 12 segments have a label file, and 6 of these files hold no event: if somebody listened to these, say "
        "labelled: annotated"
    )
    corpus = packed(source)
    assert labelled(corpus) == CALLED and labelled_notices(corpus) == [told] and told in corpus.notices
    assert labelled_notices(open_listing(source)) == [told] and told in check(source).notices
    only = published(tmp_path / "only", without=[n for n in range(12) if f"s{n:02d}.wav" not in CALLED])
    assert labelled_notices(open_listing(only)) == [] and labelled(open_listing(only)) == CALLED


def test_an_event_that_is_not_used_says_that_somebody_listened(tmp_path: Path) -> None:
    source = published(tmp_path / "m")
    (source / "map.csv").write_text("label,class\nsn,\ncc,call\n")
    mapped = packed(source, annotations=AnnotationConfig(mapping="map.csv"))
    assert mapped.classes == ("call",) and labelled(mapped) == CALLED
    without = packed(source, exclude_labels=["sn"])
    assert without.classes == ("cc",) and labelled(without) == CALLED and len(without.events) == 2


def test_in_tables_a_row_without_a_call_says_that_somebody_listened(make_source) -> None:
    audio = {name: np.full(RATE, 0.1) for name in ("a.wav", "b.wav", "c.wav")}
    source = make_source(audio, ["a.wav,0.1,0.3,x", "b.wav,,,"])
    assert labelled(packed(source)) == ["a.wav", "b.wav"]
    assert labelled_in(open_listing(source)) == (
        "2 of 3 recordings labelled: those with an annotation (labelled: annotated)"
    )
    assert labelled(packed(source, labelled="with_events")) == ["a.wav"]
    assert labelled_in(open_listing(source, "all")) == "3 of 3 recordings labelled: all of them (labelled: all)"


def test_a_prepared_folder_says_who_listened(make_source, tmp_path: Path) -> None:
    """It has label files for labelled recordings alone, so that an empty one is silence: no other rule is meant."""
    audio = {name: np.full(3 * RATE, 0.1) for name in ("a.wav", "b.wav", "c.wav", "d.wav")}
    source = make_source(audio, ["a.wav,0.1,0.3,x", "b.wav,,,", "c.wav,,,"])
    made = prepare(source, tmp_path / "seg", PrepareConfig(sample_rate=RATE, segment_s=1)).prepared
    assert made.meta["config"]["labelled"] == "annotated"
    corpus = packed(tmp_path / "seg")
    assert labelled(corpus) == ["a.wav", "b.wav", "c.wav"] and corpus.notices == []
    report = check(tmp_path / "seg")
    assert (report.rule, report.labelled) == ("annotated", 9) and not any("hold no" in line for line in report.notices)
    assert labelled(packed(tmp_path / "seg", labelled="with_events")) == ["a.wav"]
    assert check(tmp_path / "seg", labelled="with_events").labelled == 3  # all segments of the recording


def test_preparing_what_was_published_keeps_what_is_labelled(tmp_path: Path) -> None:
    """At another rate: segments without events get no label file, and the rule of the new folder is presence."""
    prepare(published(tmp_path / "m"), tmp_path / "seg", PrepareConfig(sample_rate=4000, segment_s=1))
    assert len(list((tmp_path / "seg" / "lbl").rglob("*.h5"))) == 4
    corpus = pack(tmp_path / "seg", tmp_path / "c", PackConfig())
    assert labelled(corpus) == CALLED and corpus.meta["config"]["labelled"] == "annotated"


def test_the_rule_that_auto_means(make_source, tmp_path: Path) -> None:
    tables = make_source({"a.wav": np.full(RATE, 0.1)}, ["a.wav,0.1,0.3,x"])
    prepare(tables, tmp_path / "seg", PrepareConfig(sample_rate=RATE, segment_s=1))
    copy, synthetic = published(tmp_path / "m"), synthesise(tmp_path / "s", 0.5, 0)
    plain = AnnotationConfig()
    assert [labelled_rule("auto", folder, plain) for folder in (tables, tmp_path / "seg", copy, synthetic)] == [
        "annotated", "annotated", "with_events", "annotated",
    ]  # fmt: skip
    assert labelled_rule("annotated", copy, plain) == "annotated" and labelled_rule("all", copy, plain) == "all"
    assert labelled_rule("auto", copy, AnnotationConfig(tables=["t.csv"])) == "annotated"  # its lbl/ is not read
