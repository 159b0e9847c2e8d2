"""`check`: each kind of fault in a copy of MeerKAT is found, named, and harms no neighbour."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.check import check
from a2v_data.check_problem import Expected, shown
from a2v_data.folds import make_folds
from a2v_data.listing import open_listing
from a2v_data.manifests import write_fold_folder
from a2v_data.meerkat import write_labels
from data_meerkat_copy import (
    EVENTS,
    NAMES,
    SAMPLES,
    folder_instead,
    make_copy,
    no_bytes,
    only_text,
    rows_of,
    the_problem,
    write_manifest,
    write_wav,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_copy(tmp_path / "copy")


def test_a_whole_copy_has_no_problems(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check(root, progress=lambda done, total: seen.append((done, total)), labelled="annotated")
    assert report.problems == [] and seen[-1] == (6, 6)
    assert (report.files, report.labelled, report.with_events, report.events) == (6, 5, 4, 8)
    assert report.seconds == pytest.approx(60) and report.labelled_seconds == pytest.approx(50)
    assert report.notices == ["1 recordings have no label file: they count as not labelled"]
    assert report.summary() == "6 recordings, 0.02 h; labelled 5, 0.01 h, 8 events; no problems"


def test_a_synthetic_corpus_and_its_folds_are_right(tmp_path: Path) -> None:
    from a2v_data.synth import synthesise

    folder = synthesise(tmp_path / "s", 2, 0)
    assert check(folder).problems == []
    listing = open_listing(folder)
    write_fold_folder(tmp_path / "m", make_folds(listing, 3, 0), listing, [0.25], 0, {})
    report = check(folder, manifests=tmp_path / "m")
    assert report.problems == [] and report.notices == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flac_inside(path: Path) -> None:
    soundfile.write(path, np.zeros(SAMPLES, np.int16), 8000, format="FLAC", subtype="PCM_16")


def wrong_rate(path: Path) -> None:
    write_wav(path, SAMPLES, 16000)


def too_short(path: Path) -> None:
    write_wav(path, SAMPLES - 1)


def float_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(SAMPLES), 8000, subtype="FLOAT")


def stereo(path: Path) -> None:
    soundfile.write(path, np.zeros((SAMPLES, 2), np.int16), 8000, subtype="PCM_16")


def no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0, np.int16), 8000, subtype="PCM_16")


def broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.wav")


@pytest.mark.parametrize(
    "damage, kind, said",
    [
        (no_bytes, "recording", "is empty (0 bytes)"),
        (cut, "recording", "is truncated: 159944 of 160044 bytes are there"),
        (folder_instead, "recording", "is a folder, not a file"),
        (no_samples, "recording", "holds no samples"),
        (only_text, "recording", "is not readable as audio"),
        (broken_link, "recording", "is a link to a file that is not there"),
        (flac_inside, "format", "is not a WAV, whatever its name says"),
        (wrong_rate, "rate", "is at 16000 Hz, not 8000"),
        (too_short, "length", "has 79999 samples, not 80000"),
        (float_samples, "bit depth", "is FLOAT, not 16 bit"),
        (stereo, "channels", "has 2 channels, not 1"),
    ],
)
def test_a_bad_wav(root: Path, damage: Callable[[Path], None], kind: str, said: str) -> None:
    """One problem for it, and one for every manifest row that gives another number of frames where it has one."""
    damage(root / "wav" / "r2.wav")
    report = check(root)
    assert {problem.kind for problem in report.problems} <= {kind, "frame count"}
    (problem,) = [problem for problem in report.problems if problem.kind == kind]
    assert problem.file == "wav/r2.wav" and said in problem.message and "\n" not in problem.message
    assert report.files == 6 and report.events == 8  # its neighbours, and its own labels, are looked at
    counted = [problem for problem in report.problems if problem.kind == "frame count"]
    assert len(counted) == (2 if kind == "length" else 0)


@pytest.mark.parametrize(
    "rows, kind, where, said",
    [
        ([*rows_of(NAMES[:3]), "gone.wav\t80000"], "missing file", "row 5", "gone.wav does not exist"),
        (["r0.wav\t79999"], "frame count", "row 2", "79999 frames, r0.wav has 80000"),
        (["r0.wav\t80000", "./r0.wav\t80000"], "listed twice", "row 3", "./r0.wav is in row 2 already"),
        (["r0.wav 80000", "r1.wav\t80000"], "manifest", "row 2", "it must be a path, a tab and a number of samples"),
        (["r0.wav\tmany", "r1.wav\t80000"], "manifest", "row 2", "it must be a path, a tab and a number"),
        (rows_of(["r0", "r4"]), "train and valid", "row 3", "r4.wav is in valid_0.tsv too"),
        ([], "manifest", "", "lists no recording"),
    ],
)
def test_bad_manifests(root: Path, rows: list[str], kind: str, where: str, said: str) -> None:
    (root / "manifest" / "train_0_25.tsv").unlink()
    write_manifest(root / "manifest" / "train_0.tsv", rows)
    problem = the_problem(check(root))
    assert (problem.kind, problem.file, problem.where) == (kind, "manifest/train_0.tsv", where)
    assert said in problem.message


def test_manifests_in_another_encoding_or_unreadable(root: Path) -> None:
    (root / "manifest" / "train_0.tsv").write_bytes(b"/data\nr0.wav\t80000\nr\xe9.wav\t80000\n")
    (root / "manifest" / "valid_0.tsv").unlink()
    (root / "manifest" / "valid_0.tsv").mkdir()
    bad, folder = check(root).problems
    assert (bad.kind, bad.where) == ("manifest", "row 3") and "byte 0xe9 is not UTF-8" in bad.message
    assert folder.file == "manifest/valid_0.tsv" and "cannot be read" in folder.message


def test_the_few_shot_subset_is_held_against_its_fold(root: Path) -> None:
    """Whether the share stands after the fold or before it."""
    for name in ("train_0_25", "train_25_0"):
        (root / "manifest" / "train_0_25.tsv").unlink(missing_ok=True)
        write_manifest(root / "manifest" / f"{name}.tsv", rows_of(["r0", "r3"]))
        problem = the_problem(check(root))
        assert problem.kind == "train and valid" and problem.file == f"manifest/{name}.tsv"
        (root / "manifest" / f"{name}.tsv").unlink()


def test_what_is_worth_knowing_but_not_wrong(root: Path) -> None:
    """A copy that was moved, a manifest without its counterpart, stray files, hidden ones."""
    write_manifest(root / "manifest" / "pretrain.tsv", [f"wav/{row}" for row in rows_of(NAMES[:4])], "/old/place")
    write_manifest(root / "manifest" / "train_1.tsv", rows_of(NAMES[:2]))
    (root / "wav" / "notes.txt").write_text("hello")
    (root / "wav" / "._r0.wav").write_bytes(b"left by another system")
    (root / "manifest" / "._train_0.tsv").write_bytes(b"\xff")
    report = check(root, labelled="annotated")
    assert report.problems == []
    assert report.notices == [
        "1 files in wav/ are no WAV, the first is notes.txt",
        "1 recordings have no label file: they count as not labelled",
        "manifest/train_1.tsv has no counterpart of its fold",
        f"1 manifests name another audio folder than {root / 'wav'} (the first is manifest/pretrain.tsv); "
        "a2v goes by the names below it",
        "1 recordings are in no manifest",
    ]


def test_names_of_all_scripts(root: Path) -> None:
    """Accents, Chinese, spaces, 200 characters, and a name that is no UTF-8."""
    names = ["Erdmännchen", "狐獴", "two words", "n" * 200, "a.b.c"]
    for name in names:
        write_wav(root / "wav" / f"{name}.wav")
        write_labels(root / "lbl" / f"{name}.h5", EVENTS, 8000)
    write_manifest(root / "manifest" / "pretrain.tsv", rows_of([*NAMES, *names]))
    report = check(root)
    assert report.problems == [] and (report.label_files, report.labelled) == (10, 9)  # r1 holds no event
    (root / "wav" / "狐獴.wav").unlink()
    assert {problem.file for problem in check(root).problems} == {"lbl/狐獴.h5", "manifest/pretrain.tsv"}
    decomposed = "Erdma\u0308nnchen"
    write_manifest(root / "manifest" / "pretrain.tsv", rows_of([decomposed]))
    missing = next(problem for problem in check(root).problems if problem.kind == "missing file")
    assert missing.message.endswith("Erdmännchen.wav is there, its accents are stored differently")
    broken = b"bad\xff.wav"
    with open(bytes(root / "wav") + b"/" + broken, "wb") as file:
        file.write(b"")
    (problem,) = [problem for problem in check(root).problems if problem.kind == "recording"]
    assert problem.file == r"wav/bad\xff.wav" and shown("a\nb") == r"a\nb"


def test_a_name_that_no_manifest_can_hold(root: Path) -> None:
    write_wav(root / "wav" / "a\tb.wav")
    problem = the_problem(check(root))
    assert problem.kind == "name" and problem.file == r"wav/a\tb.wav"


def test_missing_parts(root: Path, tmp_path: Path) -> None:
    (root / "manifest").rename(tmp_path / "away")
    assert the_problem(check(root)).message == "is no folder; a copy as published has manifests there"
    assert check(root, manifests=tmp_path / "away").problems == []
    (root / "manifest").mkdir()
    assert "has no manifest" in the_problem(check(root)).message
    (root / "lbl").rename(tmp_path / "lbl")
    kinds = {problem.kind for problem in check(root, manifests=tmp_path / "away").problems}
    assert kinds == {"layout", "not labelled"}
    with pytest.raises(ValueError, match="no folder wav/"):
        check(tmp_path)
    (tmp_path / "wav").mkdir()
    with pytest.raises(ValueError, match="no WAV in it"):
        check(tmp_path)


def test_another_corpus_in_this_layout(root: Path) -> None:
    """Other rate, length and classes, when they are expected."""
    assert {problem.kind for problem in check(root, Expected(16000, 160_000)).problems} == {
        "rate", "length", "times and frames", "beyond the end",
    }  # fmt: skip
    found = check(root, Expected(classes=("sn", "cc"))).problems
    assert {(problem.kind, problem.message.partition(";")[0][:12]) for problem in found} == {
        ("class number", "lbl_cat is 3")
    }
    published = [problem.message for problem in check(root, published=True).problems]
    assert published == [
        "has 6 recordings, 384592 were published",
        "has 5 label files, 4 with events; 66398 were published",
    ]


@pytest.mark.slow
def test_processes_find_what_one_finds(tmp_path: Path) -> None:
    """700 recordings in several processes: the same problems in the same order."""
    root = tmp_path / "many"
    for name in ("wav", "lbl", "manifest"):
        (root / name).mkdir(parents=True)
    head = b"RIFF" + struct.pack("<I", 36 + 160_000) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16) + b"data" + struct.pack("<I", 160_000)
    for number in range(700):
        with (root / "wav" / f"r{number:03d}.wav").open("wb") as file:
            file.write(head)
            file.truncate(160_044 - 2 * (number % 50 == 3))  # sparse, and some lack their last sample
    names = [f"r{number:03d}" for number in range(700)]
    write_manifest(root / "manifest" / "pretrain.tsv", rows_of(names))
    alone, together = check(root), check(root, jobs=2)
    assert alone == together and alone.by_kind == {"length": 14, "frame count": 14}
    assert alone.problems[0].file == "wav/r003.wav" and alone.as_json()["problems_by_kind"] == alone.by_kind
