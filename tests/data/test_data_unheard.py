"""Labels above half of the sample rate at which a model hears, by the frequencies that tables have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.check_source import check_source, is_source
from a2v_data.listing import list_source, open_listing
from a2v_data.pack import PackConfig, pack
from a2v_data.synth import synthesise

HEADER = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tAnnotation\n"
LINE = (
    "3 of 4 labels with frequencies reach above 4000 Hz (cc 2, sn 1), and at 8000 Hz a model hears nothing there;"
    " wholly above it: 1 (sn 1); they reach up to 9500 Hz, which a sample_rate of 22050 hears"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """2 s at 24 kHz; the selection in the waveform's view and the point of view of another table say nothing."""
    folder = tmp_path / "source"
    (folder / "annotations").mkdir(parents=True)
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", np.random.default_rng(0).normal(0, 0.1, 48_000), 24_000)
    bands = [("500", "3900", "cc"), ("500", "4001", "cc"), ("1000.5", "6000", "cc"), ("4000", "9500", "sn"),
             ("0", "12000", "all"), ("", "", "none"), ("9", "8", "odd")]  # fmt: skip
    rows = [
        f"{n}\t{view} 1\t1\t{n / 5}\t{n / 5 + 0.1}\t{low}\t{high}\t{label}\n"
        for n, (low, high, label) in enumerate(bands)
        for view in ("Waveform", "Spectrogram")
    ]
    (folder / "annotations" / "a.Table.1.selections.txt").write_text(HEADER + "".join(rows))
    (folder / "annotations" / "b.txt").write_text("0.5\t1.0\taudacity\n\\\t100\t3000\n")
    return folder


def line_for(rate: int, source: Path) -> str | None:
    found: str | None = list_source(source, PackConfig(sample_rate=rate)).meta["unheard"]
    return found


def test_what_lies_above_is_told(source: Path) -> None:
    assert line_for(8000, source) == LINE.replace("of 4", "of 5")  # with Audacity's own
    assert line_for(19_000, source) is None
    assert str(line_for(16_000, source)).startswith("1 of 5 labels with frequencies reach above 8000 Hz (sn 1)")
    (source / "annotations" / "b.txt").write_text("0.5\t1.0\taudacity\n")
    assert line_for(8000, source) == LINE


def test_it_is_kept_with_the_store_and_no_concern_of_a_listing(source: Path, tmp_path: Path) -> None:
    (source / "annotations" / "b.txt").unlink()
    corpus = pack(source, tmp_path / "store", PackConfig(sample_rate=8000))
    assert corpus.meta["unheard"] == LINE and LINE in corpus.notices
    assert "unheard" not in pack(source, tmp_path / "high", PackConfig(sample_rate=24_000)).meta
    assert open_listing(source).meta["unheard"] is None


def test_a_folder_as_a_user_has_it_is_checked(source: Path) -> None:
    (source / "annotations" / "b.txt").unlink()
    assert is_source(source)
    report = check_source(source)
    assert (report.files, report.labelled, report.events, report.problems) == (2, 1, 7, [])
    assert LINE in report.notices and LINE not in check_source(source, sample_rate=24_000).notices
    assert report.labelled_line() == "1 of 2 recordings labelled: those with an annotation (labelled: annotated)"

    (source / "c.wav").write_bytes(b"RIFF")
    (source / "annotations" / "b.txt").write_text("1.0\t0.5\tx\n1.5\t2.5\tx\n")
    problems = {(one.kind, one.file, one.where) for one in check_source(source).problems}
    table = "annotations/b.txt"
    assert problems == {("recording", "c.wav", ""), ("annotation", table, "row 1"), ("annotation", table, "row 2")}


def test_recordings_alone_are_checked_too(tmp_path: Path) -> None:
    for name, rate in (("a.wav", 8000), ("deep/b.flac", 16_000)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros(rate), rate)
    report = check_source(tmp_path)
    assert (report.files, report.labelled, report.problems) == (2, 0, []) and report.seconds == 2
    assert "the recordings have several sample rates: 1 at 8000 Hz, 1 at 16000 Hz" in report.notices
    assert any(line.startswith("nothing is labelled: annotations.csv") for line in report.notices)


def test_meerkats_layout_is_no_such_folder(tmp_path: Path) -> None:
    assert not is_source(synthesise(tmp_path / "s", 1, 0))
    (tmp_path / "copied" / "wav").mkdir(parents=True)  # where lbl/ is still to come
    soundfile.write(tmp_path / "copied" / "wav" / "a.wav", np.zeros(8000), 8000)
    assert not is_source(tmp_path / "copied") and not is_source(tmp_path / "gone") and not is_source(tmp_path / "s")
