"""Folders that other programs leave behind, as `evaluate` and `data annotations` are given them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile
from a2v_data.annotation_writers import EventRow, raven_table
from a2v_experiments.predict.outputs import Predicted, write_table
from a2v_experiments.score.files import read_events

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)"
BIRDNET = f"{RAVEN}\tCommon Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)\n"
TRUE = "file,onset_s,offset_s,label\na.wav,3.5,5,Wren\nb.wav,0.5,2,Wren\n"


def birdnet(folder: Path) -> Path:
    """What BirdNET leaves behind with `combine results`: one table each, one of all, and its settings."""
    folder.mkdir(parents=True)
    a = "1\tS 1\t1\t3.0\t6.0\tWren\twren1\t0.9\t/data/a.wav\t3.0\n"
    b = "1\tS 1\t1\t{}\t{}\tWren\twren1\t0.8\t/data/b.wav\t0.0\n"
    (folder / "a.BirdNET.selection.table.txt").write_text(BIRDNET + a)
    (folder / "b.BirdNET.selection.table.txt").write_text(BIRDNET + b.format(0.0, 3.0))
    (folder / "BirdNET_SelectionTable.txt").write_text(BIRDNET + a + b.format(12.0, 15.0))  # b.wav follows a.wav
    (folder / "birdnet.analyze-params.csv").write_text("Model,Sensitivity,Overlap\nBirdNET 2.4,1.0,0.0\n")
    return folder


def micro(said) -> dict:
    assert said.code == 0, said.err
    return next(row for row in json.loads(said.out)["protocols"]["strict"]["scores"] if row["class"] == "micro")


def test_a_folder_of_birdnet_is_scored_as_it_is(a2v, tmp_path: Path) -> None:
    folder = birdnet(tmp_path / "birdnet")
    (tmp_path / "true.csv").write_text(TRUE)
    said = a2v("evaluate", folder, tmp_path / "true.csv", "--json")
    found = micro(said)
    assert (found["predictions"], found["precision"], found["recall"], found["AP"]) == (2, 1, 1, 1)
    assert json.loads(said.out)["notices"] == [
        "birdnet.analyze-params.csv is not read: settings or a log, by its name",
        "BirdNET_SelectionTable.txt and a.BirdNET.selection.table.txt, b.BirdNET.selection.table.txt: the same events "
        "stand in both, counted once: 2",
    ]


def test_tables_that_do_not_name_their_recording_are_the_same_as_those_that_do(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1\t2\tcc\n")
    (tmp_path / "all.csv").write_text("file,onset_s,offset_s,label\nday/a.wav,1,2,cc\nother/b.wav,1,2,cc\n")
    assert len(read_events(tmp_path).rows) == 2
    (tmp_path / "all.csv").write_text("file,onset_s,offset_s,label\nday/a.wav,1,2,cc\nother/a.wav,1,2,cc\n")
    assert len(read_events(tmp_path).rows) == 3  # of which one it is nobody knows


def test_channels_are_said_or_chosen(a2v, tmp_path: Path) -> None:
    table = tmp_path / "a.txt"
    table.write_text(f"{RAVEN}\tTag\n1\tS 1\t1\t1\t2\tcc\n2\tS 2\t2\t3\t4\tcc\n")
    said = a2v("evaluate", table, table, "--json")
    assert micro(said)["labels"] == 2
    notice = "events of 2 channels are taken together (1 in channel 1, 1 in channel 2); --channel takes those of one"
    assert notice in json.loads(said.out)["notices"]
    assert micro(a2v("evaluate", table, table, "--json", "--channel", 1))["labels"] == 1
    wrong = a2v("evaluate", table, table, "--channel", "left")
    assert wrong.code == 2 and wrong.only_line() == "--channel: 'left' must be a number from 0, or mix"


def test_columns_of_either_side_are_named(a2v, tmp_path: Path) -> None:
    (tmp_path / "true.csv").write_text(TRUE)
    (tmp_path / "said.csv").write_text("rec;from;to;who;score\na.wav;3600;5000;Wren;0,5\n")
    call = ["evaluate", tmp_path / "said.csv", tmp_path / "true.csv", "--json"]
    refused = a2v(*call)
    assert refused.code == 2 and "--predictions-onset-column" in refused.err
    named = {"file": "rec", "onset": "from", "offset": "to", "label": "who"}
    call += [text for name, column in named.items() for text in (f"--predictions-{name}-column", column)]
    assert micro(a2v(*call, "--predictions-time-unit", "ms"))["recall"] == 0.5
    samples = a2v(*call, "--predictions-time-unit", "samples")
    assert samples.code == 2 and "without recordings their rate is not known" in samples.err
    both = a2v(*call, "--predictions-duration-column", "to")
    assert both.code == 2 and both.only_line().startswith("--predictions-duration-column: --predictions-offset-column")


def test_annotations_without_one_event_are_not_all_right(a2v, tmp_path: Path) -> None:
    for folder in ("wav", "lbl"):
        (tmp_path / folder).mkdir()
    soundfile.write(tmp_path / "wav" / "a.wav", np.full((4000, 2), 0.1), 1000)
    (tmp_path / "lbl" / "a.xlsx").write_text("x")
    said = a2v("data", "annotations", tmp_path)
    assert said.code == 1 and "lbl/a.xlsx: a workbook" in said.out and "no event was read from lbl/a.xlsx" in said.out
    (tmp_path / "lbl" / "a.txt").write_text(f"{RAVEN}\tTag\n1\tS 2\t2\t1\t2\tcc\n")
    assert a2v("data", "annotations", tmp_path).code == 1  # it was marked in the channel that is not read
    said = a2v("data", "annotations", tmp_path, "--channel", 1)
    assert said.code == 0 and said.out.endswith("all right\n")
    (tmp_path / "channels.csv").write_text("file,channel\na.wav,1\n")
    assert a2v("data", "annotations", tmp_path, "--channels", tmp_path / "channels.csv").code == 0


def test_raven_tables_name_the_channel_that_was_heard(tmp_path: Path) -> None:
    """`--channel` counts from 0, Raven's Channel from 1; events of the mean of all stand in the first."""
    events = [EventRow("a.wav", 1.0, 2.0, "cc", likelihood=0.5)]
    for channel, written in ((0, "1"), (1, "2"), ("mix", "1")):
        assert raven_table(events, 4000, channel=channel).splitlines()[1].split("\t")[2] == written
        write_table(tmp_path / "a.txt", "raven", Predicted("a.wav", 5.0, 4000, events, channel=channel))
        assert (tmp_path / "a.txt").read_text() == raven_table(
            events, 4000, extra=("likelihood", "threshold", "model"), channel=channel
        )
        assert len(read_events(tmp_path / "a.txt", channel=channel).rows) == 1
