"""What is written is read back, by the same names and times."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotation_writers import EventRow, annotation_csv, audacity_labels, raven_table
from a2v_data.annotations import read_annotations
from a2v_data.formats import read_table


def some_events(seed: int, files: tuple[str, ...]) -> list[EventRow]:
    rng = random.Random(seed)
    rows = []
    for file in files:
        for _ in range(20):
            onset_s = round(rng.uniform(0, 90_000), 6)
            label = rng.choice(["cc", 'say, "it"', "Grünling", "two words", "NA"])
            rows.append(EventRow(file, onset_s, round(onset_s + rng.uniform(1e-5, 3), 6), label, rng.random() < 0.5))
    return rows


def read(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_table(tmp_path / name, AnnotationConfig(), True).rows


@pytest.mark.parametrize("seed", range(3))
def test_round_trips(tmp_path: Path, seed: int) -> None:
    events = some_events(seed, ("a.wav",))
    want = [(event.onset_s, event.offset_s, event.label) for event in events]
    for name, text in (("a.txt", audacity_labels(events)), ("b.txt", raven_table(events, 4000))):
        assert [(row.onset_s, row.offset_s, row.label) for row in read(tmp_path, name, text)] == want


@pytest.mark.parametrize("seed", range(3))
def test_csv_round_trip_with_silent_recordings(tmp_path: Path, seed: int) -> None:
    events = some_events(seed, ("a.wav", "d, e/b.wav"))
    for name in ("a.wav", "d, e/b.wav", "quiet.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "t.csv").write_text(annotation_csv(events, silent=["quiet.wav"]), encoding="utf-8")
    found = read_annotations(tmp_path / "t.csv", tmp_path)
    want = [(event.file, event.onset_s, event.offset_s, event.label, event.focal) for event in events]
    assert [(row.file, row.onset_s, row.offset_s, row.label, row.focal) for row in found.rows] == want
    assert found.annotated == {"a.wav", "d, e/b.wav", "quiet.wav"}


def test_raven_sequence_of_recordings(tmp_path: Path) -> None:
    events = [EventRow("a.wav", 1.0, 2.0, "cc", likelihood=0.912345678), EventRow("b.wav", 0.5, 0.75, "sn")]
    with pytest.raises(ValueError, match="events of 2 recordings need starts_s"):
        raven_table(events, 4000)
    text = raven_table(events, 4000, starts_s={"a.wav": 0.0, "b.wav": 60.0})
    assert text.splitlines()[2].split("\t") == [
        "2", "Spectrogram 1", "1", "60.500000", "60.750000", "0.0", "4000.0", "b.wav", "0.500000", "sn", "",
    ]  # fmt: skip
    assert text.splitlines()[1].endswith("\tcc\t0.912346")
    rows = read(tmp_path, "all.txt", text)
    assert [(row.file, row.onset_s, row.offset_s) for row in rows] == [("a.wav", 1.0, 2.0), ("b.wav", 0.5, 0.75)]


def test_labels_cannot_break_rows_and_nothing_is_a_table_too(tmp_path: Path) -> None:
    events = [EventRow("a.wav", 1.0, 2.0, "two\tparts\nand more")]
    for text in (audacity_labels(events), raven_table(events, 4000)):
        assert [row.label for row in read(tmp_path, "a.txt", text)] == ["two parts and more"]
    assert read(tmp_path, "a.txt", raven_table([], 4000)) == [] and audacity_labels([]) == ""
    assert annotation_csv([]) == "file,onset_s,offset_s,label\n"
    with pytest.raises(ValueError, match="2 recordings; Audacity takes one label track for each"):
        audacity_labels(some_events(0, ("a.wav", "b.wav")))
