"""Tables find their recordings, a mapping changes classes, and a source says what it used and what it did not."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotation_tables import overlapping_events
from a2v_data.annotations import Annotation, AnnotationError
from a2v_data.class_mapping import read_mapping
from a2v_data.formats.side_files import NO_TIMES
from a2v_data.meerkat import write_labels
from a2v_data.outside import within
from a2v_data.pack import PackConfig, pack
from a2v_data.sources import open_source, source_fingerprint

AUDACITY = "0.25\t0.5\tcc\n1\t2\tsn\n"
RAVEN = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tAnnotation\n"


def make(folder: Path, recordings: list[str], tables: dict[str, str]) -> Path:
    for name in recordings:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(4000, 0.1), 1000)
    for name, text in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def events(folder: Path, **options) -> list[tuple]:
    found = open_source(folder, AnnotationConfig(**options)).annotations()
    return sorted((row.file, row.onset_s, row.offset_s, row.label) for row in found.rows)


def problems(folder: Path, **options) -> list[str]:
    return open_source(folder, AnnotationConfig(**options)).read().problems


@pytest.mark.parametrize(
    "table",
    [
        "audio/day1/monday.txt",
        "audio/day1/monday.wav.txt",
        "audio/day1/monday.Table.1.selections.txt",
        "annotations/day1/monday.txt",
        "annotations/monday.labels.txt",
    ],
)
def test_a_table_belongs_to_the_recording_that_it_is_named_like(tmp_path: Path, table: str) -> None:
    folder = make(tmp_path, ["audio/day1/monday.wav", "audio/day1/sunday.wav"], {table: AUDACITY})
    source = open_source(folder)
    found = source.annotations()
    assert source.form == "tables" and found.annotated == {"day1/monday.wav"}
    assert events(folder) == [("day1/monday.wav", 0.25, 0.5, "cc"), ("day1/monday.wav", 1.0, 2.0, "sn")]
    assert found.rows[1].where == f"{table}, row 2"


def test_names_with_points_and_accents_match(tmp_path: Path) -> None:
    decomposed, composed = (unicodedata.normalize(form, "grün.0721.20144") for form in ("NFD", "NFC"))
    recordings = [f"{decomposed}.wav", "grün.wav"]
    folder = make(tmp_path, recordings, {f"{composed}.txt": AUDACITY})
    assert {event[0] for event in events(folder)} == {f"{decomposed}.wav"}


def test_a_table_is_not_guessed_into_another_folder(tmp_path: Path) -> None:
    folder = make(tmp_path, ["audio/day1/a.wav"], {"annotations/day2/a.txt": AUDACITY})
    assert problems(folder) == [
        "annotations/day2/a.txt: does not say to which recording it belongs; "
        "name it like the recording (monday.wav: monday.txt)"
    ]


def test_a_table_that_fits_two_recordings_is_told(tmp_path: Path) -> None:
    folder = make(tmp_path, ["audio/a.wav", "audio/a.flac"], {"audio/a.txt": AUDACITY})
    assert problems(folder) == ["audio/a.txt: its name fits a.flac, a.wav; it must fit one recording"]


def test_one_table_for_several_recordings_beside_the_audio(tmp_path: Path) -> None:
    rows = "1\tS 1\t0.5\t1\ta.wav\t0.5\tcc\n2\tS 1\t4.5\t5\tb.wav\t0.5\tcc\n"
    folder = make(tmp_path, ["a.wav", "b.wav", "c.wav"], {"selections.txt": RAVEN + rows, "README.txt": "Hello"})
    source = open_source(folder)
    assert events(folder) == [("a.wav", 0.5, 1.0, "cc"), ("b.wav", 0.5, 1.0, "cc")]
    assert source.annotations().annotated == {"a.wav", "b.wav"}
    assert source.found.ignored == (("README.txt", "a description"),)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("day1/a.wav", "day1/a.wav"),
        ("day1\\a.wav", "day1/a.wav"),
        ("audio/day1/a.wav", "day1/a.wav"),
        ("rec/audio/day1/a.wav", "day1/a.wav"),  # the end of the recording's own path
        ("C:\\Users\\me\\field\\day1\\a.wav", "day1/a.wav"),  # a path on the computer where it was annotated
        ("/home/me/field/day2/a.wav", "day2/a.wav"),
        ("b.wav", "day2/b.wav"),  # one recording has this name
        ("a.wav", None),  # two have
        ("/home/me/day3/a.wav", None),
        ("day3/b.wav", None),
        ("C:\\field\\b.wav", None),  # is it day2's?
        ("../rec2/b.wav", None),
    ],
)
def test_the_recording_that_a_row_names(tmp_path: Path, written: str, found: str | None) -> None:
    recordings = ["audio/day1/a.wav", "audio/day2/a.wav", "audio/day2/b.wav"]
    table = f"file,onset_s,offset_s,label\n{written},0.5,1,cc\n"
    folder = make(tmp_path / "rec", recordings, {"annotations.csv": table})
    report = open_source(folder).read()
    if found:
        assert report.problems == [] and [row.file for row in report.rows] == [found]
    else:
        (problem,) = report.problems
        assert problem.startswith(f"annotations.csv, row 2: file {written!r} does not exist in ")


def test_a_row_with_a_file_alone_is_a_recording_without_calls(tmp_path: Path) -> None:
    table = "file,onset_s,offset_s,label,focal\na.wav,1,2,cc,0\nb.wav,,,,\n"
    folder = make(tmp_path, ["audio/a.wav", "audio/b.wav", "audio/c.wav"], {"annotations.csv": table})
    found = open_source(folder).annotations()
    assert found.annotated == {"a.wav", "b.wav"} and len(found.rows) == 1
    corpus = pack(folder, tmp_path / "corpus", PackConfig(sample_rate=1000))
    assert [recording.labelled for recording in corpus.recordings] == [True, True, False]


def test_a_silent_table_marks_its_recording_as_listened_to(tmp_path: Path) -> None:
    header = RAVEN.replace("Begin File\tFile Offset (s)\t", "")
    folder = make(tmp_path, ["a.wav", "b.wav"], {"a.txt": header + "1\tS 1\t0.5\t1\tcc\n", "b.txt": header})
    found = open_source(folder).annotations()
    assert found.annotated == {"a.wav", "b.wav"} and found.notices == ("b.txt: no event",)


def test_annotations_csv_goes_before_other_tables_as_ever(tmp_path: Path) -> None:
    tables = {"annotations.csv": "file,onset_s,offset_s,label\na.wav,0,1,x\n", "audio/a.txt": AUDACITY}
    folder = make(tmp_path, ["audio/a.wav"], tables)
    assert open_source(folder).form == "csv" and events(folder) == [("a.wav", 0.0, 1.0, "x")]
    make(folder, [], {"annotations/a.txt": AUDACITY})
    assert events(folder) == [("a.wav", 0.0, 1.0, "x")]
    assert open_source(folder).found.ignored[0][0] == "annotations/"
    assert len(events(folder, tables=["audio/*.txt"])) == 2
    assert len(events(folder, tables=["audio"])) == 2
    assert len(events(folder, tables=[str(folder / "audio" / "a.txt")])) == 2
    with pytest.raises(ValueError, match=r"audio/\*.TextGrid: no such table; name a file, a folder or a pattern"):
        open_source(folder, AnnotationConfig(tables=["audio/*.TextGrid"]))


def test_two_tables_of_one_recording_are_put_together_with_a_notice(tmp_path: Path) -> None:
    tables = {"annotations/a.txt": AUDACITY, "annotations/a.birds.txt": "3\t3.5\tcc\n"}
    folder = make(tmp_path, ["audio/a.wav"], tables)
    found = open_source(folder).annotations()
    assert len(found.rows) == 3
    names = "annotations/a.birds.txt, annotations/a.txt"
    assert found.notices == (f"a.wav: events of 2 tables put together ({names})",)


def test_a_wrong_table_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    tables = {
        "annotations/a.txt": AUDACITY,
        "annotations/b.txt": "0.5;1;cc\n",
        "annotations/c.TextGrid": 'File type = "ooTextFile"\n"TextGrid',
        "annotations/d.txt": "1\t0.5\tcc\n-1\t1\tcc\n1\t2\n",
        "annotations/e.txt": "",
        "annotations/f.pkl": "x",
        "annotations/splits.csv": "file,split\n",
    }
    folder = make(tmp_path, [f"audio/{name}.wav" for name in "abcdef"], tables)
    (folder / "annotations" / "x.txt").mkdir()
    source = open_source(folder)
    report = source.read()
    assert [row.where for row in report.rows] == ["annotations/a.txt, row 1", "annotations/a.txt, row 2"]
    assert source.found.ignored == (("annotations/splits.csv", NO_TIMES),)
    starts = [
        "annotations/b.txt, row 1 is '0.5;1;cc'; the separator must be",
        "annotations/c.TextGrid, line 2: a quote is not closed",
        "annotations/d.txt, row 1: offset_s 0.5 is not after onset_s 1",
        "annotations/d.txt, row 2: onset_s is -1; it must not be negative",
        "annotations/d.txt, row 3: label is empty",
        "annotations/e.txt: is empty; export it again",
        "annotations/f.pkl: a pickle can run code and is never opened",
        "annotations/x.txt: is a folder, not a table",
    ]
    assert len(report.problems) == len(starts)
    assert all(map(str.startswith, sorted(report.problems), starts))
    of_recordings = {name: len(lines) for name, lines in report.wrong.items()}
    assert of_recordings == {"b.wav": 1, "c.wav": 1, "d.wav": 3, "e.wav": 1, "f.wav": 1}
    with pytest.raises(AnnotationError, match="1 wrong annotation\n"):  # what belongs to no recording
        open_source(folder).annotations()


def test_files_beside_recordings_that_are_no_tables_are_listed_and_do_no_harm(tmp_path: Path) -> None:
    tables = {"audio/a.txt": AUDACITY, "audio/b.csv": "weather,wind\n", "splits.csv": "file,split\n"}
    tables |= {"audio/old.txt": AUDACITY}
    folder = make(tmp_path, ["audio/a.wav"], tables)
    source = open_source(folder)
    assert len(source.annotations().rows) == 2
    assert dict(source.found.ignored) == {
        "audio/b.csv": "not named like a recording, and no known table",
        "audio/old.txt": "not named like a recording, and it does not say to which it belongs",
        "splits.csv": "not named like a recording, and no known table",
    }


def test_without_any_table_the_folder_is_refused_and_says_what_it_saw(tmp_path: Path) -> None:
    folder = make(tmp_path, ["audio/a.wav"], {"audio/old.txt": AUDACITY})
    with pytest.raises(ValueError, match=r"annotations.csv .* is missing, and no other .* \(audio/old.txt is not"):
        open_source(folder)


def test_birdnets_last_window_ends_with_the_recording(tmp_path: Path) -> None:
    header = "Start (s),End (s),Scientific name,Common name,Confidence\n"
    rows = "0,3,T t,Wren,0.9\n3,6,T t,Wren,0.9\n6,9,T t,Wren,0.9\n"
    folder = make(tmp_path, ["a.wav"], {"a.BirdNET.results.csv": header + rows})
    found = open_source(folder).annotations()
    assert [(row.onset_s, row.offset_s) for row in found.rows] == [(0, 3), (3, 4), (6, 9)]  # 6 s is after its end
    (notice,) = found.notices
    assert notice == "a.BirdNET.results.csv: analysis windows that pass the end of their recording, cut there: 1"
    with pytest.raises(ValueError, match=r"row 4: 6 to 9 s lies outside a.wav, which is 4.000 s long"):
        pack(folder, tmp_path / "corpus", PackConfig(sample_rate=1000))


def test_points_get_a_length_where_one_is_given(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a.wav"], {"a.txt": "0.01\t0.01\tcc\n2\t2\tcc\n"})
    assert problems(folder)[0].endswith("an event ends after it starts; to give points a length, set point_duration_s")
    assert events(folder, point_duration_s=0.5) == [("a.wav", 0.0, 0.5, "cc"), ("a.wav", 1.75, 2.25, "cc")]


def test_events_without_a_class_get_the_default_where_one_is_given(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a.wav"], {"a.txt": "Begin Time (s)\tEnd Time (s)\n1\t2\n"})
    assert "no column that holds the class" in problems(folder)[0]
    assert events(folder, default_label="call") == [("a.wav", 1.0, 2.0, "call")]


def test_overlapping_events_of_a_class_are_counted() -> None:
    spans = [("a", 0, 2, "x"), ("a", 1, 1.5, "x"), ("a", 1.8, 3, "x"), ("a", 1, 2, "y"), ("b", 1, 2, "x"),
             ("a", 3, 4, "x")]  # fmt: skip
    assert overlapping_events([Annotation(*span, False, "") for span in reversed(spans)]) == {"x": 2}


# Mapping


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.csv", "label,class\ncc,call\nsn,call\nnoise,\n"),
        ("classes.yaml", "# comment\ncc: call\nsn: call\nnoise:\n"),
        ("classes.yml", "{cc: call, 'sn': \"call\", noise: null}\n"),
    ],
)
def test_a_mapping_renames_merges_and_drops(tmp_path: Path, name: str, text: str) -> None:
    folder = make(tmp_path, ["a.wav"], {"a.txt": AUDACITY + "3\t3.5\tnoise\n", name: text})
    assert events(folder, mapping=name) == [("a.wav", 0.25, 0.5, "call"), ("a.wav", 1.0, 2.0, "call")]
    found = open_source(folder, AnnotationConfig(mapping=name)).annotations()
    assert found.notices == (f"{name}: events of 'noise' dropped: 1",)
    assert open_source(folder, AnnotationConfig(mapping=name)).found.ignored == ()
    assert found.rows[0].where == "a.txt, row 1"


def test_labels_that_the_mapping_does_not_name(tmp_path: Path) -> None:
    text = "label,class\ncc,call\nsnn,call\n"
    folder = make(tmp_path, ["a.wav"], {"a.txt": AUDACITY + "3\t3.5\tsn\n", "m.csv": text})
    (problem,) = problems(folder, mapping="m.csv")
    assert problem == (
        "a.txt, row 2 (and 1 more): label 'sn' is not in m.csv; did you mean 'snn'? else add it there "
        "(an empty class drops it), or set unmapped to keep or drop"
    )
    assert [event[3] for event in events(folder, mapping="m.csv", unmapped="keep")] == ["call", "sn", "sn"]
    assert [event[3] for event in events(folder, mapping="m.csv", unmapped="drop")] == ["call"]
    notices = open_source(folder, AnnotationConfig(mapping="m.csv", unmapped="drop")).annotations().notices
    assert notices == ("m.csv: events of 'sn' dropped: 2", "m.csv: no event is labelled 'snn'")


def test_yaml_labels_are_text(tmp_path: Path) -> None:
    """YAML's own reading of `no`, `1.0` and `null` would change labels."""
    (tmp_path / "m.yaml").write_text("no: yes\n1.0: 01\n'null': \"null\"\nempty: ~\n")
    assert read_mapping(tmp_path / "m.yaml").classes == {"no": "yes", "1.0": "01", "null": "null", "empty": None}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.csv", "", "row 1: no column label (the header has nothing); it must have label,class"),
        ("m.csv", "label|class\ncc|x", "row 1: no column label (the header has label|class)"),
        ("m.csv", "label,class\n", "names no label"),
        ("m.csv", "label,class\n,x", "row 2: label is empty"),
        ("m.csv", "label,class\ncc,x,y", "row 2: 3 fields, the header has 2"),
        ("m.csv", "label,class\ncc,x\ncc,y", "row 3: 'cc' has another class already"),
        ("m.csv", "label,label,class\ncc,x,y", "row 1: column label twice"),
        ("m.yaml", "cc: x\ncc: y", "row 2: 'cc' has another class already"),
        ("m.yaml", "cc: [x, y]", "row 1: a label has one class"),
        ("m.yaml", "- cc", "must hold one 'label: class' a line"),
        ("m.yaml", "cc: 'x", "not readable as YAML"),
        ("m.yaml", "", "must hold one 'label: class' a line"),
    ],
)
def test_a_wrong_mapping_is_told(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as caught:
        read_mapping(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name)) and said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_mapping_is_told(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a.wav"], {"a.txt": AUDACITY})
    with pytest.raises(ValueError, match=r"none.csv: no such mapping file"):
        open_source(folder, AnnotationConfig(mapping="none.csv")).annotations()


def test_a_mapping_changes_meerkats_labels_too(tmp_path: Path) -> None:
    folder = make(tmp_path, ["wav/a.wav"], {"m.csv": "label,class\ncc,call\nsn,\n"})
    (folder / "lbl").mkdir()
    write_labels(folder / "lbl" / "a.h5", [("cc", 500, 1000, True), ("sn", 2000, 2500, False)], 1000)
    assert events(folder, mapping="m.csv") == [("a.wav", 0.5, 1.0, "call")]
    assert open_source(folder).form == "meerkat"


def test_tables_serve_a_wav_folder_without_labels(tmp_path: Path) -> None:
    folder = make(tmp_path, ["wav/a.wav"], {"annotations/a.txt": AUDACITY})
    assert len(events(folder)) == 2 and open_source(folder).form == "tables"
    (folder / "annotations" / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"lbl/ with one HDF5 label file per segment is missing, and there is no ann"):
        open_source(folder)


# Preparing


def test_prepare_reads_the_tables_that_it_is_told_and_keeps_the_notices(tmp_path: Path) -> None:
    tables = {"a.txt": AUDACITY, "m.csv": "label,class\ncc,call\nsn,\n"}
    folder = make(tmp_path / "s", ["a.wav", "b.wav"], tables)
    config = PackConfig(sample_rate=1000, annotations=AnnotationConfig(mapping="m.csv"))
    corpus = pack(folder, tmp_path / "corpus", config)
    assert corpus.classes == ("call",) and len(corpus.events) == 1
    assert list(corpus.notices) == ["m.csv: events of 'sn' dropped: 1"]
    assert [recording.labelled for recording in corpus.recordings] == [True, False]


def test_the_fingerprint_follows_the_tables_and_the_mapping(tmp_path: Path) -> None:
    tables = {"audio/a.txt": AUDACITY, "m.csv": "label,class\ncc,call\nsn,\n", "notes.txt": "x"}
    folder = make(tmp_path / "s", ["audio/a.wav"], tables)
    outside = tmp_path / "other.txt"
    outside.write_text(AUDACITY)
    config = AnnotationConfig(mapping="m.csv")
    first = source_fingerprint(folder, annotations=config)
    (folder / "notes.txt").write_text("y")  # not a table
    assert source_fingerprint(folder, annotations=config) == first
    assert source_fingerprint(folder) != first
    (folder / "m.csv").write_text("label,class\ncc,call\nsn,call\n")
    second = source_fingerprint(folder, annotations=config)
    (folder / "audio" / "a.txt").write_text("0\t1\tcc\n")
    third = source_fingerprint(folder, annotations=config)
    named = source_fingerprint(folder, annotations=AnnotationConfig(tables=[str(outside)]))
    assert len({first, second, third, named}) == 4


def test_a_length_without_a_unit_is_told(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 1000)
    (tmp_path / "a.csv").write_text("start_ms,length,label\n1000,500,cc\n")
    report = open_source(tmp_path).read()
    assert [(row.onset_s, row.offset_s) for row in report.rows] == [(1.0, 1.5)]
    assert any("times in length are taken as ms, as those in start_ms" in line for line in report.notices)


def test_rows_that_are_refused_stay_as_they_are(tmp_path):
    rows = [Annotation("a.wav", 9.0, 12.0, "cc", False, "a.csv, row 2")]
    found = within(rows, {"a.wav": 5.0})
    assert found.rows == rows and "9 to 12 s lies outside" in found.wrong["a.wav"][0]
