"""`check`: faults of label files in a copy of MeerKAT."""

import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from a2v_data.check import check
from a2v_data.check_labels import check_labels
from a2v_data.check_problem import Expected
from a2v_data.meerkat import LABEL_FIELDS, MEERKAT_CLASSES, read_labels
from data_meerkat_copy import (
    SAMPLES,
    edit,
    folder_instead,
    make_copy,
    no_bytes,
    only_text,
    the_problem,
    write_wav,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_copy(tmp_path / "copy")


F = np.array


@pytest.mark.parametrize(
    "fields, kind, where, said",
    [
        ({"foc": None}, "fields", "", "lacks foc"),
        ({"lbl": None, "lbl_cat": None}, "fields", "", "lacks lbl, lbl_cat"),
        ({"foc": F([1])}, "unequal fields", "", "lbl 2, lbl_cat 2, foc 1"),
        ({"foc": F([b"yes", b"no"])}, "fields", "", "foc holds |S3, not numbers"),
        ({"foc": F([1, 3])}, "focal", "event 2", "foc is 3; it must be 1 or 0"),
        ({"start_time_lbl": F([np.nan, 6.25])}, "not finite", "event 1", "nan to 0.1125 s"),
        ({"end_time_lbl": F([0.1125, np.inf])}, "not finite", "event 2", "6.25 to inf s"),
        (
            {"start_time_lbl": F([-0.0125, 6.25]), "start_frame_lbl": F([-100, 50000])},
            "negative", "event 1", "-0.0125 to 0.1125 s, frames -100 to 900: starts before the recording",
        ),
        (
            {"end_time_lbl": F([0.1125, 6.0]), "end_frame_lbl": F([900, 48000])},
            "reversed", "event 2", "6.25 to 6 s, frames 50000 to 48000: does not end after it starts",
        ),
        (
            {"end_time_lbl": F([0.0125, 6.25]), "end_frame_lbl": F([100, 50000])},
            "reversed", "event 1", "0.0125 to 0.0125 s, frames 100 to 100: does not end after it starts (and 1 more)",
        ),
        (
            {"end_time_lbl": F([0.1125, 10.001]), "end_frame_lbl": F([900, 80008])},
            "beyond the end", "event 2", "frames 50000 to 80008: the recording has 80000 frames, 10 s",
        ),
        ({"end_frame_lbl": F([950, 50400])}, "times and frames", "event 1", "50 frames apart at 8000 Hz"),
        ({"start_time_lbl": F([0.0125, 6.2])}, "times and frames", "event 2", "400 frames apart"),
        ({"lbl": F([b"cc", b"snn"])}, "class", "event 2", "'snn' is no class (beep, synch, sn,"),
        ({"lbl": F([b"", b"sn"])}, "class", "event 1", "has no class"),
        ({"lbl": F([b"\xff", b"sn"])}, "class", "", "not UTF-8"),
        ({"lbl_cat": F([4, 2])}, "class number", "event 1", "lbl_cat is 4, cc is number 3"),
    ],
)  # fmt: skip
def test_bad_labels(root: Path, fields: dict[str, object], kind: str, where: str, said: str) -> None:
    edit(root / "lbl" / "r2.h5", **fields)
    problem = the_problem(check(root))
    assert (problem.kind, problem.file, problem.where) == (kind, "lbl/r2.h5", where) and said in problem.message


def test_rounded_frames_and_the_last_frame_are_right(root: Path) -> None:
    """Times and frames may each have been rounded, up or down; an event may end with the file."""
    edit(
        root / "lbl" / "r2.h5",
        start_time_lbl=F([0.01256, 9.0]), start_frame_lbl=F([100, 72000]),
        end_time_lbl=F([0.11243, 10.0]), end_frame_lbl=F([900, 80000]),
        lbl=F(["cc", "sn"], h5py.string_dtype()), foc=F([True, False]), lbl_cat=F([3.0, 2.0]),
    )  # fmt: skip
    assert check(root).problems == []


def test_labels_are_held_against_their_own_recording(root: Path) -> None:
    """A recording of 5 s: its labels beyond that are wrong too."""
    write_wav(root / "wav" / "r2.wav", 40_000)
    kinds = sorted(problem.kind for problem in check(root).problems)
    assert kinds == ["beyond the end", "frame count", "frame count", "length"]


@pytest.mark.parametrize("damage", [no_bytes, folder_instead, only_text])
def test_unreadable_labels(root: Path, damage: Callable[[Path], None]) -> None:
    damage(root / "lbl" / "r2.h5")
    problem = the_problem(check(root))
    assert problem.kind == "labels" and problem.file == "lbl/r2.h5" and "\n" not in problem.message


@pytest.mark.parametrize("seed", range(3))
def test_damaged_labels_never_stop_the_check(root: Path, seed: int) -> None:
    """Bytes changed at random: HDF5 fails in many ways, and none of them is an exception, in `read_labels` too."""
    path = root / "lbl" / "r2.h5"
    whole, rng, wrong = path.read_bytes(), random.Random(seed), 0
    for _ in range(100):
        content = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.2 else whole)
        for _ in range(rng.choice([1, 20, 200])):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        events, problems = check_labels(path, "x", SAMPLES, Expected())
        wrong += bool(problems)
        assert len(events) == 2 or problems
        read_labels(path, "r2.wav", "x")
    assert wrong > 30


def test_label_files_without_recording_and_two_for_one(root: Path) -> None:
    (root / "lbl" / "gone.h5").write_bytes((root / "lbl" / "r0.h5").read_bytes())
    (root / "lbl" / "r0.hdf5").write_bytes((root / "lbl" / "r0.h5").read_bytes())
    found = [(problem.kind, problem.file, problem.message) for problem in check(root).problems]
    assert found == [
        ("two label files", "lbl/r0.hdf5", "besides r0.h5"),
        ("no recording", "lbl/gone.h5", "its recording wav/gone.wav does not exist"),
    ]


def test_a_recording_without_labels_is_wrong_only_where_a_fold_lists_it(root: Path) -> None:
    (root / "lbl" / "r0.h5").unlink()
    report = check(root)
    assert [(problem.kind, problem.file, problem.where) for problem in report.problems] == [
        ("not labelled", "manifest/train_0.tsv", "row 2"),
        ("not labelled", "manifest/train_0_25.tsv", "row 2"),
    ]
    assert "2 recordings have no label file" in report.notices[0]


def test_the_fields_are_those_that_are_written(root: Path) -> None:
    with h5py.File(root / "lbl" / "r0.h5") as file:
        assert tuple(sorted(file)) == tuple(sorted(LABEL_FIELDS))
        assert [MEERKAT_CLASSES[number] for number in file["lbl_cat"]] == ["cc", "sn"]
