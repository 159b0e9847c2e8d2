"""The synthetic corpus of overlapping calls: as many overlap as asked for, and the same seed gives the same."""

import csv
from itertools import combinations
from pathlib import Path

import pytest
import soundfile
from a2v_data.synth_overlaps import synthesise_overlaps

PARTS = {"train": 12, "test": 8}


def rows_of(folder: Path) -> dict[str, list[tuple[str, float, float]]]:
    of: dict[str, list[tuple[str, float, float]]] = {}
    with (folder / "annotations.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            of.setdefault(row["file"], []).append((row["label"], float(row["onset_s"]), float(row["offset_s"])))
    return of


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_so_many_calls_overlap_another_of_their_class(tmp_path: Path, share: float) -> None:
    folder = synthesise_overlaps(tmp_path / "corpus", share, PARTS, seed=1)
    rows = rows_of(folder)
    assert len(rows) == 20 and all(len(calls) == 10 for calls in rows.values())
    overlapping = 0
    for calls in rows.values():
        assert all(0 <= onset < offset <= 10 for _, onset, offset in calls)
        pairs = [(a, b) for a, b in combinations(calls, 2) if a[1] < b[2] and b[1] < a[2]]
        assert all(a[0] == b[0] for a, b in pairs) and len({call for pair in pairs for call in pair}) == 2 * len(pairs)
        overlapping += 2 * len(pairs)
    assert overlapping / 200 == pytest.approx(share, abs=0.15)
    assert share not in (0.0, 1.0) or overlapping / 200 == share


def test_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        synthesise_overlaps(tmp_path / name, 0.5, {"train": 2}, seed=3)
    for name in ("annotations.csv", "splits.csv", "audio/r0001.wav"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    info = soundfile.info(tmp_path / "a" / "audio" / "r0000.wav")
    assert (info.samplerate, info.frames, info.channels) == (8000, 80000, 1)
    with pytest.raises(ValueError, match="exists already"):
        synthesise_overlaps(tmp_path / "a", 0.5, {"train": 2}, seed=3)
    with pytest.raises(ValueError, match="share: 2 should be from 0 to 1"):
        synthesise_overlaps(tmp_path / "c", 2, {"train": 2}, seed=3)
