"""`a2v data annotations`: what a biologist sees before anything is made from the tables."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "field"
    (folder / "audio").mkdir(parents=True)
    for name in ("monday", "tuesday", "sunday"):
        soundfile.write(folder / "audio" / f"{name}.wav", np.full(4000, 0.1), 1000)
    (folder / "audio" / "monday.txt").write_text("0.5\t1.0\tcc\n2\t2.25\tsn\n")
    (folder / "audio" / "tuesday.txt").write_text("0.5\t1.5\tcc\n")
    (folder / "weather.csv").write_text("day,rain\n")
    return folder


def test_what_was_found_is_shown(a2v, source: Path) -> None:
    said = a2v("data", "annotations", source)
    assert said.code == 0
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0] == f"{source}: 3 events (1.8 s), 3 recordings"
    for line in (
        "audio/monday.txt audacity 2 1",
        "cc 2 1.5 2",
        "sn 1 0.2 1",
        "without annotations (not listened to): 1 of 3 recordings",
        "sunday.wav",
        "weather.csv: not named like a recording, and no known table",
        "2 of 2 classes have fewer than 5 events (sn 1, cc 2): too few to learn or to score; merge them (--mapping, "
        "annotations.mapping), label more, or leave them out (exclude_labels)",
        "all can be read; see the warnings before you train on it",
    ):
        assert line in lines


def test_json_holds_the_same_and_nothing_else_is_printed(a2v, source: Path) -> None:
    said = a2v("data", "annotations", source, "--json")
    found = json.loads(said.out)
    assert said.code == 0 and found["problems"] == [] and found["events"] == 3
    assert found["not_annotated"] == ["sunday.wav"] and found["annotated"] == 2
    assert found["classes"][0] == {"class": "cc", "events": 2, "seconds": 1.5, "recordings": 2}
    assert found["tables"][0] == {
        "table": "audio/monday.txt", "format": "audacity", "events": 2, "recordings": ["monday.wav"],
    }  # fmt: skip
    assert found["not_used"][0]["file"] == "weather.csv"


def test_problems_are_listed_and_the_exit_code_says_so(a2v, source: Path) -> None:
    (source / "audio" / "sunday.txt").write_text("1\t0.5\tcc\n3\t4.5\tcc\n1,5\t2\tcc\n")
    (source / "audio" / "tuesday.wav").write_bytes(b"RIFF")
    said = a2v("data", "annotations", source)
    assert said.code == 1
    assert "sunday.txt, row 1: offset_s 0.5 is not after onset_s 1" in said.out
    assert "sunday.txt, row 2: 3 to 4.5 s lies outside sunday.wav, which is 4.000 s long" in said.out
    assert "sunday.txt, row 3: start is '1,5'; decimals need a point" in said.out
    assert "tuesday.wav: is not readable as audio" in said.out
    assert said.out.endswith("4 problems: put them right, or take them out\n")
    assert len(json.loads(a2v("data", "annotations", source, "--json").out)["problems"]) == 4


def test_overlaps_and_names_that_are_no_text_are_shown(a2v, source: Path) -> None:
    (source / "audio" / "tuesday.txt").write_text("0.5\t1.5\tcc\n1\t2\tcc\n")
    (source / "audio" / "sunday.wav").rename(source / "audio" / os.fsdecode(b"s\xfcnday.wav"))
    said = a2v("data", "annotations", source)
    assert said.code == 0 and "cc: events that overlap an earlier one, with which `prepare` merges them: 1" in said.out
    assert "s\\udcfcnday.wav" in said.out
    found = json.loads(a2v("data", "annotations", source, "--json").out)
    assert os.fsencode(found["not_annotated"][0]) == b"s\xfcnday.wav"
    (source / "audio" / os.fsdecode(b"s\xfcnday.txt")).write_text("0.5\t1.5\tcc\n")
    said = a2v("data", "annotations", source)
    assert said.code == 1 and "s\\udcfcnday.wav: has a name that is not UTF-8; rename it" in said.out


def test_options_reach_the_readers(a2v, source: Path) -> None:
    (source / "classes.csv").write_text("label,class\ncc,call\nsn,\n")
    said = a2v("data", "annotations", source, "--mapping", "classes.csv", "--tables", "audio/m*.txt", "--json")
    found = json.loads(said.out)
    assert [row["class"] for row in found["classes"]] == ["call"] and found["events"] == 1
    assert found["not_annotated"] == ["sunday.wav", "tuesday.wav"]
    said = a2v("data", "annotations", source, "--mapping", "none.csv")
    assert said.code == 2 and said.only_line().startswith("none.csv: no such mapping file")


def test_a_recipe_chooses_tables(a2v, source: Path, tmp_path: Path) -> None:
    """The same options stand under data.annotations, and a wrong one is told with its key."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"extends: many_calls\ndata:\n  source: {source}\n")
    said = a2v("experiment", "run", recipe, "--set", "data.annotations.tables=[none.txt]", "--work", tmp_path / "w")
    assert said.code == 2 and "none.txt: no such table" in said.only_line()
    said = a2v("experiment", "run", recipe, "--set", "data.annotations.teir=x", "--work", tmp_path / "w")
    assert said.code == 2 and "data.annotations.teir" in said.only_line() and "tier" in said.only_line()


def test_sound_that_is_not_read_is_counted_and_named(a2v, source: Path) -> None:
    """With a table or without one: neither the recording nor its events vanish."""
    for name in ("phone.m4a", "logger.wac"):
        (source / "audio" / name).write_bytes(bytes(64))
    (source / "audio" / "phone.txt").write_text("0.5\t1.5\tcc\n")
    said = a2v("data", "annotations", source)
    reason = "phone.m4a: is not read (m4a); convert it: ffmpeg -i phone.m4a phone.wav"
    assert said.code == 1 and "5 recordings" in said.out and "left out (2):\n  logger.wac: is not read" in said.out
    assert f"wrong:\n  {reason}" in said.out and "does not say to which recording" not in said.out
    found = json.loads(a2v("data", "annotations", source, "--json").out)
    assert [row["file"] for row in found["left_out"]] == ["logger.wac", "phone.m4a"] and found["problems"] == [reason]


def test_regions_go_out_with_the_events(a2v, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    soundfile.write(folder / "a.wav", np.zeros(10_000), 1000)
    (folder / "annotations.csv").write_text("file,onset_s,offset_s,label\na.wav,1,2,cc\na.wav,0,4,all\na.wav,7,8,cc\n")
    out = tmp_path / "out" / "annotations.csv"
    out.parent.mkdir()
    said = a2v("data", "annotations", folder, "--region-label", "all", "--out", out)
    assert said.code == 0 and "regions.csv" in said.out
    assert out.with_name("regions.csv").read_text() == "file,onset_s,offset_s\na.wav,0.0,4.0\n"


def test_no_class_left_is_a_problem(a2v, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(10_000), 1000)
    (tmp_path / "annotations.csv").write_text("file,onset_s,offset_s,label\na.wav,1,2,cc\n")
    (tmp_path / "mapping.csv").write_text("label,class\n*?,?\n")
    said = a2v("data", "annotations", tmp_path, "--mapping", "mapping.csv")
    assert said.code == 1 and "there is none to learn or to score" in said.out
