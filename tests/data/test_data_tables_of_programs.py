"""Tables as other programs and people write them: what is in them is read as it was meant, or it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotation_tables import AnnotationReport
from a2v_data.formats.side_files import NO_TIMES
from a2v_data.heard_channels import Heard
from a2v_data.meerkat import write_labels
from a2v_data.pack import PackConfig, pack
from a2v_data.sources import open_source
from pydantic import ValidationError

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"
BIRDNET_R = "filepath,start,end,scientific_name,common_name,confidence"


def make(folder: Path, tables: dict[str, str], recordings: dict[str, int] | None = None, seconds: int = 12) -> Path:
    """Recordings at 1000 Hz (name -> channels) and tables."""
    for name, channels in (recordings or {"audio/a.wav": 1, "audio/b.wav": 1}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full((seconds * 1000, channels), 0.1), 1000)
    for name, text in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, heard: Heard | None = None, **options) -> AnnotationReport:
    return open_source(folder, AnnotationConfig(**options)).read(heard=heard or Heard())


def events(report: AnnotationReport) -> list[tuple]:
    assert report.problems == []
    return [(row.file, row.onset_s, row.offset_s, row.label) for row in report.rows]


TOLD: dict[str, tuple[str, str, list[tuple]]] = {
    "whisperseg": ("a.csv", "onset,offset,cluster,species\n1.0,1.5,z_0,finch\n", [("a.wav", 1, 1.5, "z_0")]),
    "cornell": (
        "all.csv", "Filename,Start Time (s),End Time (s),Low Freq (Hz),High Freq (Hz),Species eBird Code\n"
        "a.wav,1,2.5,1,2,bcnher\n", [("a.wav", 1, 2.5, "bcnher")],
    ),
    "crowsetta": (
        "all.csv", "label,onset_s,offset_s,onset_sample,notated_path,annotation\nx,1.0,1.5,9,./a.wav,0\n",
        [("a.wav", 1, 1.5, "x")],
    ),
    "birdnet for R": ("a.BirdNET.results.r.csv", f"{BIRDNET_R}\na.wav,0,3,T t,Wren,0.9\n", [("a.wav", 0, 3, "Wren")]),
    "birdnet for kaleidoscope": (
        "BirdNET_Kaleidoscope.csv", "INDIR,FOLDER,IN FILE,OFFSET,DURATION,scientific_name,common_name,confidence\n"
        "C:\\field,day,b.wav,4.5,3.0,T t,Wren,0.9\n", [("b.wav", 4.5, 7.5, "Wren")],
    ),
    "R's names": (
        "a.txt", "Selection\tView\tBegin.Time..s.\tEnd.Time..s.\tAnnotation\n1\tS 1\t1\t1.5\tcc\n",
        [("a.wav", 1, 1.5, "cc")],
    ),
    "R's row names": (
        "a.txt", '"Selection"\t"Begin.Time..s."\t"End.Time..s."\t"Annotation"\n"7"\t1\t1\t1.5\t"cc"\n',
        [("a.wav", 1, 1.5, "cc")],
    ),
    "warbleR": ("x.csv", "sound.files,channel,selec,start,end,type\na.wav,1,1,1,2,cc\n", [("a.wav", 1, 2, "cc")]),
    "opensoundscape": (
        "all.csv", "audio_file,annotation_file,annotation,start_time,end_time\n/x/a.wav,/t.txt,cc,1,2\n",
        [("a.wav", 1, 2, "cc")],
    ),
    "DCASE": ("all.tsv", "filename\tonset\toffset\tevent_label\na.wav\t1\t2\tcc\n", [("a.wav", 1, 2, "cc")]),
    "DAS": ("a.csv", "name,start_seconds,stop_seconds\ncc,1,2\n", [("a.wav", 1, 2, "cc")]),
    "camels": ("x.csv", "fileName,startTime,endTime,callType\na.wav,1,2,cc\n", [("a.wav", 1, 2, "cc")]),
    "a European spreadsheet": ("a.csv", "start;end;label\n0,5;1,25;cc\n", [("a.wav", 0.5, 1.25, "cc")]),
    "milliseconds": ("a.csv", "start_ms,duration_ms,label\n1500,250,cc\n", [("a.wav", 1.5, 1.75, "cc")]),
    "samples": ("a.csv", "onset_sample,offset_sample,label\n1500,1750,cc\n", [("a.wav", 1.5, 1.75, "cc")]),
}  # fmt: skip


@pytest.mark.parametrize("program", TOLD)
def test_columns_are_told_by_what_programs_call_them(tmp_path: Path, program: str) -> None:
    name, text, want = TOLD[program]
    assert events(read(make(tmp_path, {f"annotations/{name}": text}))) == want


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("rec;from;to;who\na.wav;1000;1500;cc\n", {"offset_column": "to", "time_unit": "ms"}),
        ("rec,from,to,who\na.wav,1,1.5,cc\n", {"offset_column": "to"}),
        ("rec\tfrom\tlong\twho\na.wav\t1000\t500\tcc\n", {"duration_column": "long", "time_unit": "samples"}),
    ],
)
def test_columns_are_named_by_hand(tmp_path: Path, text: str, options: dict) -> None:
    folder = make(tmp_path, {"annotations/t.csv": text})
    (problem,) = read(folder).problems  # these may be events, so that they are never passed over
    for option in ("file_column", "onset_column", "offset_column", "duration_column", "label_column"):
        assert option in problem
    named = {"file_column": "rec", "onset_column": "from", "label_column": "who"}
    assert events(read(folder, **named, **options)) == [("a.wav", 1.0, 1.5, "cc")]


def test_a_unit_that_contradicts_a_columns_name_is_told(tmp_path: Path) -> None:
    folder = make(tmp_path, {"annotations.csv": "file,onset_s,offset_s,label\na.wav,1000,1500,cc\n"})
    (problem,) = read(folder, time_unit="ms").problems
    assert "its times are seconds, as it is csv, but time_unit is ms" in problem
    named = {"onset_column": "onset_s", "offset_column": "offset_s"}
    assert events(read(folder, time_unit="ms", **named)) == [("a.wav", 1.0, 1.5, "cc")]
    with pytest.raises(ValidationError, match="offset_column says where events end, too; give one of the two"):
        AnnotationConfig(offset_column="a", duration_column="b")


def test_seconds_that_are_taken_for_granted_are_said(tmp_path: Path) -> None:
    report = read(make(tmp_path, {"annotations/a.csv": "start,end,label\n1,2,cc\n"}))
    assert [line for line in report.notices if "taken as seconds" in line and "time_unit" in line]


def test_columns_that_may_all_be_meant_are_told(tmp_path: Path) -> None:
    folder = make(tmp_path, {"annotations/a.csv": "start,begin,end,label\n1,1,2,cc\n"})
    assert "columns start and begin may all say where events start; choose one with onset_column" in str(
        read(folder).problems
    )


# Windows


@pytest.mark.parametrize("columns", ["Common Name\tScore", "Scientific Name\tConfidence", "Species Code\tConfidence"])
def test_birdnets_dialects_have_windows_and_nocall(tmp_path: Path, columns: str) -> None:
    row = "1\tSpectrogram 1\t1\t{}\t{}\t0\t400\t{}\t0.5"
    rows = [row.format(9, 12, "Wren"), row.format(10.5, 13.5, "Wren"), row.format(0, 3, "nocall")]
    table = "\n".join([f"{RAVEN}\t{columns}", *rows]) + "\n"
    report = read(make(tmp_path, {"annotations/a.selections.txt": table, "annotations/b.txt": "0\t3\tnocall\n"}))
    assert events(report) == [("a.wav", 9, 12, "Wren"), ("a.wav", 10.5, 12, "Wren")]
    assert report.annotated == {"a.wav", "b.wav"}
    assert any(
        line.endswith("analysis windows that pass the end of their recording, cut there: 1") for line in report.notices
    )


def test_hand_made_selections_are_no_windows_whatever_their_lengths(tmp_path: Path) -> None:
    table = f"{RAVEN}\tAnnotation\n1\tS 1\t1\t1\t1.5\t0\t1\tcc\n2\tS 1\t1\t11.8\t12.3\t0\t1\tcc\n"
    folder = make(tmp_path, {"annotations/a.txt": table, "annotations/b.txt": "1\t2\tcc\n"})
    corpus = pack(folder, tmp_path / "corpus", PackConfig(sample_rate=1000))
    assert "'a.wav' has a wrong annotation: annotations/a.txt, row 3: 11.8 to 12.3 s lies outside" in corpus.problems[0]


def test_windows_of_any_program_are_told_by_their_lengths(tmp_path: Path) -> None:
    report = read(
        make(tmp_path, {"annotations/a.csv": "start_s,end_s,label,score\n0,5,x,0.5\n10,15,x,0.4\n20,25,x,0.4\n"})
    )
    assert events(report) == [("a.wav", 0, 5, "x"), ("a.wav", 10, 12, "x"), ("a.wav", 20, 25, "x")]  # 20 s: not cut


def test_what_begins_5_ms_early_begins_with_its_recording(tmp_path: Path) -> None:
    report = read(make(tmp_path, {"annotations/a.txt": "-0.004\t1\tcc\n", "annotations/b.txt": "-0.006\t1\tcc\n"}))
    assert [(row.file, row.onset_s) for row in report.rows] == [("a.wav", 0.0)]
    assert report.notices[0].endswith("events that start up to 5 ms before their recording, begin with it: 1")
    assert "onset_s is -0.006; it must not be negative" in report.problems[0]


# Channels


def channel_table(*rows: tuple[int, float, str]) -> str:
    lines = [f"{n}\tSpectrogram {ch}\t{ch}\t{on}\t{on + 0.5}\t1\t2\t{name}" for n, (ch, on, name) in enumerate(rows)]
    return "\n".join([f"{RAVEN}\tAnnotation", *lines]) + "\n"


def test_selections_of_another_channel_are_no_labels_of_this_one(tmp_path: Path) -> None:
    folder = make(
        tmp_path, {"annotations/a.txt": channel_table((1, 1, "left"), (2, 4, "right"), (2, 6, "right"))},
        {"audio/a.wav": 2},
    )  # fmt: skip
    labels = {channel: [row.label for row in read(folder, Heard(channel)).rows] for channel in (0, 1, "mix")}
    assert labels == {0: ["left"], 1: ["right", "right"], "mix": ["left", "right", "right"]}
    (notice,) = read(folder).notices
    assert notice.startswith("annotations/a.txt: events marked in channel 2 are not taken, since channel 1 is read: 2;")
    assert "--channel 1 (in recipes data.channel; both count from 0) reads that one" in notice
    for options, classes in (({}, ("left",)), ({"channel": 1}, ("right",)), ({"channels": {"a.wav": 1}}, ("right",))):
        corpus = pack(folder, tmp_path / f"packed{len(options)}{list(options)}", PackConfig(**options))
        assert corpus.classes == classes


def test_a_selection_that_two_channels_show_is_of_both(tmp_path: Path) -> None:
    row = "1\tSpectrogram {0}\t{0}\t1\t2\t0\t1\tcc"
    table = "\n".join([f"{RAVEN}\tAnnotation", row.format(1), row.format(2)]) + "\n"
    folder = make(tmp_path, {"annotations/a.txt": table}, {"audio/a.wav": 2})
    assert [len(read(folder, Heard(channel)).rows) for channel in (0, 1)] == [1, 1]


def test_a_second_channel_of_a_recording_with_one(tmp_path: Path) -> None:
    folder = make(tmp_path, {"annotations/a.txt": channel_table((2, 1, "x"))})
    report = read(folder)
    assert report.rows == [] and report.annotated == set()  # nobody says that this sound was listened to
    assert "a.wav has only 1: --channel mix (in recipes data.channel) takes all" in report.notices[0]
    assert len(read(folder, Heard("mix")).rows) == 1


def test_columns_of_channels_that_count_from_0(tmp_path: Path) -> None:
    table = "file,onset_s,offset_s,label,channel\na.wav,1,2,x,0\na.wav,3,4,y,1\n"
    folder = make(tmp_path, {"annotations.csv": table}, {"audio/a.wav": 2})
    assert [row.label for row in read(folder, Heard(1)).rows] == ["y"]


def test_birdnets_channel_says_nothing(tmp_path: Path) -> None:
    table = f"{RAVEN}\tCommon Name\tConfidence\n1\tS\t1\t0\t3\t0\t1\tWren\t0.9\n"
    folder = make(tmp_path, {"annotations/a.txt": table}, {"audio/a.wav": 2})
    assert [len(read(folder, Heard(channel)).rows) for channel in (0, 1)] == [1, 1]


# The same event twice


def test_an_event_in_two_tables_counts_once(tmp_path: Path) -> None:
    tables = {
        "annotations/BirdNET_RTable.csv": f"{BIRDNET_R}\n/d/a.wav,0,3,T,Wren,0.9\n/d/b.wav,3,6,T,Wren,0.8\n",
        "annotations/a.BirdNET.results.r.csv": f"{BIRDNET_R}\n/d/a.wav,0,3,T,Wren,0.9\n",
        "annotations/b.BirdNET.results.r.csv": f"{BIRDNET_R}\n/d/b.wav,3,6,T,Wren,0.7\n",  # another likelihood
    }
    report = read(make(tmp_path, tables))
    assert [(row.file, row.likelihood) for row in report.rows] == [("a.wav", 0.9), ("b.wav", 0.8), ("b.wav", 0.7)]
    assert (
        "annotations/BirdNET_RTable.csv and annotations/a.BirdNET.results.r.csv: the same events stand in both, "
        "counted once: 1" in report.notices
    )


def test_formats_that_predict_writes_side_by_side_count_once(tmp_path: Path) -> None:
    raven = f"{RAVEN}\tBegin File\tFile Offset (s)\tAnnotation\tLikelihood\n"
    tables = {
        "annotations/events.csv": "file,onset_s,offset_s,label,likelihood\na.wav,1.123456,2.0,cc,0.873123\n",
        "annotations/raven/a.wav.selections.txt": f"{raven}1\tS\t1\t1.123456\t2\t0\t1\ta.wav\t1.123456\tcc\t0.8731\n",
        "annotations/audacity/a.wav.txt": "1.123456\t2.000000\tcc 0.8731\n",
        "annotations/recordings.csv": "file,status,reason,duration_s\na.wav,done,,12\n",
        "annotations/predict.json": "{}",
    }
    source = open_source(make(tmp_path, tables))
    report = source.read()
    assert events(report) == [("a.wav", 1.123456, 2.0, "cc")] and "counted once: 2" in report.notices[0]
    assert [name for name, _ in source.not_used()] == ["annotations/recordings.csv", "annotations/predict.json"]


def test_equal_rows_of_one_table_count_once(tmp_path: Path) -> None:
    report = read(make(tmp_path, {"annotations/a.txt": "1\t2\tcc\n1\t2\tcc\n1\t2\tsn\n1\t2.5\tcc\n"}))
    assert len(report.rows) == 3
    assert report.notices == ["annotations/a.txt: rows that repeat an earlier one, counted once: 1"]


# What is no table


def test_settings_and_lists_among_tables_are_named_and_left_alone(tmp_path: Path) -> None:
    none = {
        "BirdNET_analysis_params.csv": "Model,Sensitivity\nBirdNET 2.4,1.0\n",
        "birdnet.analyze-params.csv": "Start,End\n0,1\n",
        "run.csv": "Parameter,Value\nstart,0\n",
        "info.csv": "model,date,overlap\nBirdNET,2024-05-01,0.5\n",
        "error_log.txt": "",
        "notes.txt": "Start of the analysis of a.wav, end at noon of the same day",
        "species_list.txt": "Troglodytes_Wren\nErithacus_Robin\n",
        "classes.csv": "label,class\ncc,call\n",
        "readme.txt": "Hello",
        "sheet.xlsx": "x",
        "predict.json": "{}",
    }
    folder = make(
        tmp_path, {f"annotations/{name}": text for name, text in none.items()} | {"annotations/a.txt": "1\t2\tcc\n"}
    )
    source = open_source(folder)
    assert len(events(source.read())) == 1
    told = dict(source.not_used())
    assert sorted(told) == sorted(f"annotations/{name}" for name in none)
    assert told["annotations/info.csv"] == NO_TIMES and "save its sheet as CSV" in told["annotations/sheet.xlsx"]
    assert len([line for line in source.annotations().notices if " is not read: " in line]) == len(none)


@pytest.mark.parametrize(
    "text",
    [
        "onset,label\n1,x\n", "file,label\na.wav,x\n", "onset offset label\n1 2 x\n", "0.5 1.0 cc\n", "",
        "Begin Time (s),Label\n1,cc\n", "who,from,to\ncc,1,2\ncc,3,4\n", "rec,from,to\na.wav,1,2\n",
    ],
)  # fmt: skip
def test_what_may_be_meant_as_events_is_wrong_if_it_cannot_be_read(tmp_path: Path, text: str) -> None:
    report = read(make(tmp_path, {"annotations/a.txt": "1\t2\tcc\n", "annotations/odd.csv": text}))
    assert len(report.problems) == 1 and report.problems[0].startswith("annotations/odd.csv")


# wav/ and lbl/


def test_tables_in_lbl_are_read_and_label_files_make_meerkats_layout(tmp_path: Path) -> None:
    wav = {"wav/a.wav": 1, "wav/b.wav": 1}
    folder = make(tmp_path, {"lbl/a.Table.1.selections.txt": channel_table((1, 1, "cl1")), "lbl/b.doc": "x"}, wav)
    source = open_source(folder)
    assert source.form == "tables" and events(source.read()) == [("a.wav", 1.0, 1.5, "cl1")]
    assert source.not_used() == [("lbl/b.doc", "no table (.doc)")]
    write_labels(folder / "lbl" / "b.h5", [("cc", 500, 1000, False)], 1000)
    source = open_source(folder)
    assert source.form == "meerkat" and events(source.read()) == [("b.wav", 0.5, 1.0, "cc")]
    told = dict(source.not_used())
    assert "read instead; name what to read with tables" in told["lbl/a.Table.1.selections.txt"]
