"""`a2v evaluate` and `a2v bench eval`: what a user gives, what is printed, what is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.score.files import RecordingMatcher, read_events

LABELS = """file,onset_s,offset_s,label
audio/mon.wav,1.0,2.0,cc
audio/mon.wav,5.0,6.0,cc
audio/tue.wav,1.0,2.0,cc
audio/tue.wav,3.0,3.5,sn
"""
PREDICTIONS = """file,onset_s,offset_s,label,likelihood
audio/mon.wav,1.1,2.0,cc,0.9
audio/mon.wav,5.8,6.8,cc,0.8
audio/tue.wav,7.0,8.0,cc,0.7
audio/tue.wav,3.0,3.4,sn,0.2
"""


@pytest.fixture
def put(tmp_path: Path):
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def both(put):
    return put("said.csv", PREDICTIONS), put("true.csv", LABELS)


def scores(said, protocol="strict"):
    found = json.loads(said.out)
    return {row["class"]: row for row in found["protocols"][protocol]["scores"]}, found


def test_both_protocols_are_named_with_every_number(a2v, both):
    said = a2v("evaluate", *both)
    assert said.code == 0 and said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == f"predictions  {both[0]}: 4 events, ranked by the column likelihood"
    assert lines[1] == f"labels       {both[1]}: 4 events" and lines[2] == "recordings   2"
    paper, strict = (
        next(n for n, line in enumerate(lines) if line.startswith(f"{p} protocol")) for p in ("paper", "strict")
    )
    assert "IoU) above 0;" in lines[paper] and "enters the ranking with 0" in lines[paper + 1]
    assert "IoU) above 0.3;" in lines[strict]
    assert strict < paper  # what is honest leads
    assert lines[strict + 1].split()[:6] == ["class", "labels", "predicted", "found", "AP", "mAP"]
    by_class = {line.split()[0]: line.split()[1:] for line in lines[strict + 3 : paper] if line}
    # by hand: of three labels of cc one is found, by the likeliest of three predictions; sn is found.
    # mAP of cc: two are found above 0.1 (the second has 0.2 / 1.8), one above 0.2 to 0.8, none above 0.9
    map_cc = f"{(2 / 3 + 7 / 3) / 9:.3f}"
    assert by_class["cc"] == ["3", "3", "1", "0.333", map_cc, "0.333", "0.333", "0.333", "0", "0"]
    assert by_class["sn"][:3] == ["1", "1", "1"] and by_class["sn"][5:8] == ["1.000"] * 3
    assert by_class["micro"][:4] == ["4", "4", "2", "0.375"]  # 1/4 + 1/4 * 2/4
    assert max(map(len, lines[strict + 1 : strict + 8])) < 100 and "flatters" not in said.out
    assert "macro: mean over 2 of 2 classes, those with labels" in lines


def test_json_is_all_of_standard_output_and_says_null_where_undefined(a2v, both, put):
    more = put("more.csv", PREDICTIONS + "audio/tue.wav,9,9.5,wren,0.4\n")
    by_class, found = scores(a2v("evaluate", more, both[1], "--json"))
    assert by_class["cc"]["AP"] == pytest.approx(1 / 3) and by_class["wren"]["AP"] is None
    assert (by_class["wren"]["precision"], by_class["wren"]["F1"]) == (0, None)
    assert found["protocols"]["strict"]["macro_classes"] == 2
    assert found["protocols"]["strict"]["without_labels"] == ["wren"]
    assert by_class["macro"]["AP"] == pytest.approx((1 / 3 + 1) / 2)
    assert any("not in the labels: wren (1 predictions)" in notice for notice in found["notices"])
    paper, _ = scores(a2v("evaluate", both[0], both[1], "--json", "--protocol", "paper"), "paper")
    assert paper["cc"]["recall"] == pytest.approx(2 / 3)


def test_where_paper_flatters_is_said_in_words(a2v, put):
    labels = put("true.csv", "file,onset_s,offset_s,label\na.wav,1,2,cc\na.wav,5,6,sn\n")
    header = PREDICTIONS.splitlines()[0]
    said = a2v("evaluate", put("said.csv", f"{header}\na.wav,1.9,9,cc,0.9\na.wav,5,6,sn,0.8\n"), labels)
    # 0.1 of 8 s overlap: nothing is found, and paper counts it; micro: one of two is found, so strict AP is 1/4
    assert said.out.splitlines()[-1].startswith("paper flatters cc, of which strict AP is below 0.2: any overlap")
    assert "paper flatters" not in a2v("evaluate", labels.parent / "said.csv", labels, "--protocol", "strict").out


def test_threshold_and_iou(a2v, both):
    by_class, _ = scores(a2v("evaluate", *both, "--json", "--threshold", 0.75, "--protocol", "strict"))
    assert (by_class["micro"]["predictions"], by_class["micro"]["precision"]) == (2, 0.5)
    assert by_class["micro"]["AP"] == pytest.approx(0.375)  # still of all predictions
    by_class, found = scores(a2v("evaluate", *both, "--json", "--iou", 0.85))
    assert by_class["sn"]["AP"] == 0 and found["protocols"]["paper"]["iou_threshold"] == 0.85


def test_any_class_and_timesteps(a2v, put, both):
    classes = {"cc": "sn,0.5", "sn": "cc,0.4"}
    header, *rows = LABELS.splitlines()
    swapped = [f"{times},{classes[label]}" for times, _, label in (row.rpartition(",") for row in rows)]
    wrong_class = put("wrong.csv", "\n".join([f"{header},score", *swapped]))
    durations = put("durations.csv", "file,duration_s\nmon.wav,10\ntue.wav,20\nother.wav,5\n")
    by_class, _ = scores(a2v("evaluate", wrong_class, both[1], "--json"))
    assert by_class["micro"]["recall"] == 0
    by_class, found = scores(a2v("evaluate", wrong_class, both[1], "--json", "--any-class", "--durations", durations))
    assert list(by_class) == ["any", "micro", "macro"] and by_class["any"]["AP"] == 1
    assert found["timesteps"] == {
        "precision": 1, "recall": 1, "F1": 1, "labelled_s": 3.5, "predicted_s": 3.5, "total_s": 30,
    }  # fmt: skip
    said = a2v("evaluate", *both, "--durations", durations)
    # 0.9 + 0.2 + 0.4 s of 3.3 s predicted and of 3.5 s labelled
    assert f"precision {1.5 / 3.3:.3f}  recall {1.5 / 3.5:.3f}" in said.out


def test_without_likelihoods_ap_is_undefined_and_said_so(a2v, both):
    said = a2v("evaluate", both[1], both[1], "--protocol", "strict")
    assert said.code == 0 and "so AP is undefined" in said.out and "AP needs likelihoods" in said.out
    row = next(line for line in said.out.splitlines() if line.startswith("cc")).split()
    assert row[1:] == ["3", "3", "3", "–", "–", "1.000", "1.000", "1.000", "0", "0"]
    said = a2v("evaluate", both[1], both[1], "--threshold", 0.5)
    assert said.code == 2 and "--threshold 0.5" in said.only_line()


def test_what_was_listened_to(a2v, both, put):
    more = put("more.csv", PREDICTIONS + "audio/wed.wav,1,2,cc,0.95\n")
    by_class, found = scores(a2v("evaluate", more, both[1], "--json"))
    assert by_class["micro"]["predictions"] == 5 and found["recordings"][-1] == "audio/wed.wav"
    assert any("1 recording with predictions and no row in the labels: 1 event" in n for n in found["notices"])
    listed = put("list.txt", "audio/mon.wav\n\naudio/thu.wav\n")
    by_class, found = scores(a2v("evaluate", more, both[1], "--json", "--recordings", listed))
    assert (by_class["micro"]["labels"], by_class["micro"]["predictions"]) == (2, 2)
    assert found["recordings"] == ["audio/mon.wav", "audio/thu.wav"]
    assert any("labels left out: 2 events" in n for n in found["notices"])
    assert any("1 recording without a prediction: audio/thu.wav" in n for n in found["notices"])
    # a row with a name alone says the same for one recording
    silent = put("silent.csv", LABELS + "audio/wed.wav,,,\n")
    _, found = scores(a2v("evaluate", more, silent, "--json"))
    assert not any("no row in the labels" in n for n in found["notices"])


def test_tables_and_confidence_intervals(a2v, both, tmp_path):
    said = a2v("evaluate", *both, "--out", tmp_path / "tables", "--bootstrap", 200)
    assert said.code == 0 and "AP 95 %" in said.out
    folder = tmp_path / "tables"
    assert {path.name for path in folder.iterdir()} == {
        "evaluation.json", "scores_paper.csv", "scores_strict.csv", "ap_over_iou.csv", "matches_strict.csv",
    }  # fmt: skip
    matches = list(csv.DictReader((folder / "matches_strict.csv").open(encoding="utf-8")))
    assert [(row["file"], row["outcome"], row["class"]) for row in matches] == [
        ("audio/mon.wav", "hit", "cc"), ("audio/mon.wav", "missed", "cc"), ("audio/mon.wav", "false", "cc"),
        ("audio/tue.wav", "missed", "cc"), ("audio/tue.wav", "hit", "sn"), ("audio/tue.wav", "false", "cc"),
    ]  # fmt: skip
    assert float(matches[0]["iou"]) == pytest.approx(0.9) and float(matches[0]["likelihood"]) == 0.9
    assert (matches[1]["label_onset_s"], matches[1]["prediction_onset_s"]) == ("5.0", "")
    record = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    interval = record["protocols"]["strict"]["confidence_intervals"]["F1"]["micro"]
    assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1
    said = a2v("evaluate", *both, "--out", tmp_path / "tables")
    assert said.code == 2 and "exists already" in said.only_line()


RAVEN = """Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tSpecies\tScore
1\tWaveform 1\t1\t1.1\t2.0\tD:\\field\\mon.WAV\t1.1\tcc\t0.9
1\tSpectrogram 1\t1\t1.1\t2.0\tD:\\field\\mon.WAV\t1.1\tcc\t0.9
2\tSpectrogram 1\t1\t65.8\t66.8\tD:\\field\\mon.WAV\t5.8\tcc\t0.8
3\tSpectrogram 1\t1\t127.0\t128.0\tD:\\field\\tue.WAV\t7.0\tcc\t0.7
4\tSpectrogram 1\t1\t123.0\t123.4\tD:\\field\\tue.WAV\t3.0\tsn\t0.2
"""
BIRDNET = """Start (s),End (s),Scientific name,Common name,Confidence
"""


def test_raven_and_birdnet_tables_score_as_the_same_events_in_csv(a2v, both, put):
    wanted, _ = scores(a2v("evaluate", *both, "--json"))
    raven = put("one/selections.txt", RAVEN)
    assert scores(a2v("evaluate", raven, both[1], "--json"))[0] == wanted
    # BirdNET: a table for each recording, which is named like it
    put("birdnet/mon.BirdNET.results.csv", BIRDNET + "1.1,2.0,Suricata,cc,0.9\n5.8,6.8,Suricata,cc,0.8\n")
    put("birdnet/tue.BirdNET.results.csv", BIRDNET + "7.0,8.0,Suricata,cc,0.7\n3.0,3.4,Suricata,sn,0.2\n")
    assert scores(a2v("evaluate", raven.parent.parent / "birdnet", both[1], "--json"))[0] == wanted


def test_tables_of_labels_may_be_named_like_the_recordings_too(put):
    put("labels/mon.Table.1.selections.txt", "Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\n1\t1\t2\tcc\n")
    folder = put("labels/day2/tue.wav.txt", "Begin Time (s)\tEnd Time (s)\tAnnotation\n1\t2\tcc\n").parent.parent
    found = read_events(folder)
    assert [row.file for row in found.rows] == ["day2/tue.wav", "mon"] and found.tables == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,onset_s,offset_s,label\na.wav,3,2,x\n", "row 2: offset_s 2 is not after onset_s 3"),
        ("file,onset_s,offset_s,label\na.wav,-1,2,x\n", "row 2: onset_s is -1; it must not be negative"),
        ("file,onset_s,offset_s,label\na.wav,1,two,x\n", "row 2: offset_s is 'two'; it must be a number"),
        ("file,onset_s,offset_s,label\na.wav,1,2,\n", "row 2: label is empty; name the class"),
        ("file,onset_s,offset_s,label\n,1,2,x\n", "row 2: file is empty; name a recording"),
        ("file,onset_s,offset_s,label\na.wav,1,2\n", "row 2: 3 fields, the header has 4"),
        ("file,onset_s,offset_s,label,score\na.wav,1,2,x,-3\n", "row 2: score -3 is negative"),
        ("file,onset_s,offset_s,label,score\na.wav,1,2,x,\n", "row 2: score is ''"),
        ("file,onset_s,label\na.wav,1,x\n", "row 1: no column offset_s (the header has file, onset_s, label)"),
        ("a,b\n1,2\n", "row 1 is 'a,b', the header of no known format"),
        ("", "wrong.csv: is empty; export it again"),
        (
            "Begin Time (s)\tEnd Time (s)\tBegin File\tAnnotation\n1\t2\ta.wav\tx\n71\t72\tb.wav\tx\n",
            "row 1: 2 recordings but no column File Offset (s)",
        ),
    ],
)
def test_a_wrong_row_is_named(a2v, both, put, text, told):
    said = a2v("evaluate", put("wrong.csv", text), both[1])
    assert said.code == 2 and said.out == "" and told in said.err and "wrong.csv: 1 problem" in said.err


def test_other_mistakes(a2v, both, put, tmp_path):
    for arguments, told in (
        (["nowhere.csv", both[1]], "nowhere.csv: no such file or folder"),
        ([tmp_path / "empty", both[1]], "no table in it"),
        ([*both, "--durations", put("d.csv", "file,seconds\n")], "it must have the columns file,duration_s"),
        ([*both, "--durations", put("d2.csv", "file,duration_s\nmon.wav,9\n")], "no duration of 1 scored recordings"),
        ([*both, "--durations", put("d3.csv", "file,duration_s\nmon.wav,x\n")], "d3.csv, row 2"),
        ([*both, "--durations", put("d4.csv", "file,duration_s\nmon.wav,9\ntue.wav,5\n")], "start after the end"),
        ([*both, "--bootstrap", 1], "at least 2 draws"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        said = a2v("evaluate", *arguments)
        assert said.code == 2 and told in said.only_line(), told
    mixed = put("mixed/a.csv", PREDICTIONS).parent
    put("mixed/b.csv", LABELS)
    said = a2v("evaluate", mixed, both[1])
    assert said.code == 2 and "some tables have a column likelihood and some have none" in said.err


def test_recordings_are_found_by_path_end_of_path_name_and_stem():
    matcher = RecordingMatcher(["audio/day1/a.wav", "audio/day2/a.wav", "audio/b.flac"])
    assert matcher.find("./audio/day1/a.wav") == "audio/day1/a.wav"
    assert matcher.find(r"C:\field\audio\day2\a.wav") == "audio/day2/a.wav"
    assert matcher.find("day2/a.wav") == "audio/day2/a.wav"
    assert matcher.find("elsewhere/b.wav") == "audio/b.flac" and matcher.find("b") == "audio/b.flac"
    assert matcher.find("c.wav") is None
    with pytest.raises(UserError, match=r"'a.wav' may be audio/day1/a.wav or audio/day2/a.wav"):
        matcher.find("a.wav")


def test_bench_measures_both_protocols(a2v):
    said = a2v("bench", "eval", "--segments", 20, "--classes", 3, "--frames", 400, "--block", 8, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["segments"] == 20 and 60 < found["labels"] < 160 and 0 < found["AP_strict"] <= 1
    assert found["events_cpu_s"] > 0 and found["peak_memory_mb"] > 10
    assert "AP_paper" in a2v("bench", "eval", "--segments", 5, "--frames", 400, "--method", "canny").out
    said = a2v("bench", "eval", "--method", "median")
    assert said.code == 2 and "'--method'" in said.only_line()


TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
10
<exists>
1
"IntervalTier"
"calls"
0
10
3
0
1
""
1
2
"cc"
2
10
""
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_every_format_of_annotations_can_be_either_side(a2v, tmp_path, encoding):
    """The same two calls as Audacity labels, a TextGrid, Parquet and CSV: found one by one, whatever the format."""
    import pandas as pd

    for folder in ("said", "true"):
        (tmp_path / folder).mkdir()
    (tmp_path / "said" / "mon.TextGrid").write_text(TEXTGRID, encoding=encoding)
    (tmp_path / "said" / "tue.txt").write_text("3.0\t3.5\tsn\n")
    (tmp_path / "true" / "mon.txt").write_text("1.0\t2.0\tcc\n")
    fields = {"start_time_lbl": [3.0], "end_time_lbl": [3.5], "lbl": ["sn"], "foc": [0]}
    pd.DataFrame(fields).to_parquet(tmp_path / "true" / "tue.parquet")
    said = a2v("evaluate", tmp_path / "said", tmp_path / "true", "--protocol", "strict", "--json")
    assert said.code == 0, said.err
    rows = read_events(tmp_path / "said").rows
    assert [(row.file, row.onset_s, row.offset_s, row.label) for row in rows] == [
        ("mon", 1.0, 2.0, "cc"), ("tue", 3.0, 3.5, "sn"),
    ]  # fmt: skip
    assert [row.file for row in read_events(tmp_path / "true").rows] == ["mon", "tue"]
    assert '"F1": 1.0' in said.out


def test_likelihoods_survive_another_encoding(tmp_path):
    (tmp_path / "said.csv").write_text(PREDICTIONS, encoding="utf-16")
    found = read_events(tmp_path / "said.csv")
    assert found.likelihood == "likelihood" and [row.likelihood for row in found.rows] == [0.9, 0.8, 0.7, 0.2]


def test_regions_say_what_is_scored(a2v, both, put):
    """Of mon.wav the first 4 s were annotated: there one call of two is left, and one prediction of two. Of tue.wav
    nothing was, so its calls and predictions are no part of it."""
    regions = put("annotated.csv", "file,onset_s,offset_s\naudio/mon.wav,0,4\n")
    rows, found = scores(a2v("evaluate", *both, "--regions", regions, "--json"))
    assert (rows["cc"]["labels"], rows["cc"]["predictions"], rows["cc"]["found"]) == (1, 1, 1)
    assert "sn" not in rows
    told = " ".join(found["notices"])
    assert "in recordings that are not in the regions" in told
    assert "events outside of regions or in ignored time, not used: 1 (1 cc)" in told


def test_regions_csv_beside_the_labels_is_read(a2v, both, put):
    put("regions.csv", "file,onset_s,offset_s\naudio/mon.wav,,\n")
    rows, _ = scores(a2v("evaluate", *both, "--json"))
    assert (rows["cc"]["labels"], rows["cc"]["predictions"], rows["cc"]["found"]) == (2, 2, 1)


def test_a_label_marks_regions_and_others_are_unsure(a2v, both, put):
    more = "audio/mon.wav,0,7,all\naudio/tue.wav,0,9,all\naudio/tue.wav,6.9,8.1,what\naudio/mon.wav,5.1,5.9,car\n"
    true = put("marked.csv", LABELS + more)
    mapping = put("mapping.csv", "label,class\ncc,cc\nsn,sn\nwhat,?\ncar,ignore\n")
    rows, _ = scores(a2v("evaluate", both[0], true, "--region-label", "all", "--mapping", mapping, "--json"))
    # the prediction on `what` counts neither way, nor does the call whose middle the car hides
    assert (rows["cc"]["labels"], rows["cc"]["predictions"], rows["cc"]["found"]) == (2, 2, 1)
    any_class, _ = scores(
        a2v("evaluate", both[0], true, "--region-label", "all", "--mapping", mapping, "--any-class", "--json")
    )
    assert any_class["any"]["labels"] == 4  # with `what`


@pytest.mark.parametrize("row", ["audio/mon.wav,3,2", "audio/mon.wav,a,2"])
def test_a_wrong_region_is_told(a2v, both, put, row):
    regions = put("annotated.csv", f"file,onset_s,offset_s\n{row}\n")
    said = a2v("evaluate", *both, "--regions", regions)
    assert said.code == 2 and "annotated.csv, row 2" in said.err


def test_predictions_of_no_class_are_left_out(a2v, both, put):
    said = put("said2.csv", PREDICTIONS + "audio/mon.wav,8,9,odd,0.9\naudio/mon.wav,9,9.5,car,0.9\n")
    mapping = put("mapping.csv", "label,class\ncc,cc\nsn,sn\nodd,?\ncar,ignore\n")
    rows, found = scores(a2v("evaluate", said, both[1], "--predictions-mapping", mapping, "--json"))
    assert set(rows) == {"cc", "sn", "micro", "macro"}
    assert "predictions of '?' are of no class and left out: 1" in found["notices"]


def test_sides_of_different_channels_are_told(a2v, put):
    header = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tSpecies"
    row = "1\tSpectrogram 1\t{}\t1\t2\tcc"
    true, said = (put(f"{name}/mon.txt", f"{header}\n{row.format(at)}\n") for name, at in (("true", 1), ("said", 2)))
    _, found = scores(a2v("evaluate", said, true, "--json"))
    assert any("labels are of channel 1, predictions of channel 2" in line for line in found["notices"])
    _, found = scores(a2v("evaluate", true, true, "--json"))
    assert not any("channel" in line for line in found["notices"])


def test_a_region_of_a_recording_that_nobody_names_is_told(a2v, both, put):
    put("regions.csv", "file,onset_s,offset_s\naudio/mon.wav,,\naudio/mn.wav,0,4\n")
    _, found = scores(a2v("evaluate", *both, "--json"))
    assert any(
        "regions of recordings that neither side names" in line and "mn.wav" in line for line in found["notices"]
    )


def test_a_folder_of_predict_says_which_channel_it_heard(a2v, put):
    header = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tSpecies"
    true = put("true/mon.txt", f"{header}\n1\tSpectrogram 1\t1\t1\t2\tcc\n")
    said = put("out/events.csv", "file,onset_s,offset_s,label,likelihood\nmon.wav,1,2,cc,0.9\n").parent
    for channel, told in (("0", False), ("1", True), ("mix", False)):
        put("out/predict.json", json.dumps({"options": {"channel": channel}}))
        _, found = scores(a2v("evaluate", said, true, "--json"))
        assert any("predictions of channel 2" in line for line in found["notices"]) == told


@pytest.mark.parametrize("outside", ["refuse", "clip", "drop"])
def test_the_last_window_of_birdnet_ends_with_its_recording(a2v, put, outside):
    header = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tCommon Name\tConfidence\n"
    said = put("said/a.BirdNET.selection.table.txt", f"{header}1\tSpectrogram 1\t1\t9\t12\tWren\t0.9\n")
    true = put("true.csv", "file,onset_s,offset_s,label\na.wav,10.2,11,Wren\n")
    durations = put("d.csv", "file,duration_s\na.wav,11\n")
    got = a2v(
        "evaluate",
        said.parent,
        true,
        "--durations",
        durations,
        "--predictions-outside",
        outside,
        "--json",
        "--iou",
        "0.39",
    )
    by_class, found = scores(got)
    assert by_class["Wren"]["found"] == 1  # IoU 0.8 / 2 with 9 to 11 s, 0.8 / 3 with all of the window
    assert [line for line in found["notices"] if "cut there: 1" in line]
    assert not [line for line in found["notices"] if "left out" in line]


def test_a_quote_that_is_not_closed_in_durations_is_one_line(a2v, both, put):
    cut = put("durations.csv", 'file,duration_s\n"' + "audio/mon.wav,10\n" * 10_000)  # csv takes 131 072 characters
    said = a2v("evaluate", *both, "--durations", cut)
    assert said.code == 2 and "field larger than field limit" in said.err
    assert len(said.err.strip().splitlines()) == 1 and "Traceback" not in said.err
