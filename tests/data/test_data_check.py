"""`check`: each kind of fault in a copy of MeerKAT is found, named, and harms no neighbour."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from a2v_data.check import CheckReport, check
from a2v_data.check_labels import check_labels
from a2v_data.check_problem import Expected, Problem, shown
from a2v_data.folds import make_folds
from a2v_data.listing import open_listing
from a2v_data.manifests import write_fold_folder
from a2v_data.meerkat import LABEL_FIELDS, MEERKAT_CLASSES, read_labels, write_labels

SAMPLES = 80_000
NAMES = [f"r{number}" for number in range(6)]
EVENTS = [("cc", 100, 900, True), ("sn", 50_000, 50_400, False)]


def write_wav(path: Path, samples: int = SAMPLES, rate: int = 8000) -> None:
    soundfile.write(path, np.zeros(samples, np.int16), rate, subtype="PCM_16")


def write_manifest(path: Path, rows: list[str], root: str | None = None) -> None:
    path.write_text("\n".join([root or str(path.parent.parent / "wav"), *rows]) + "\n", encoding="utf-8")


def rows_of(names: list[str]) -> list[str]:
    return [f"{name}.wav\t{SAMPLES}" for name in names]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six segments, the last without labels; manifests of one fold and of pretraining."""
    folder = tmp_path / "copy"
    for name in ("wav", "lbl", "manifest"):
        (folder / name).mkdir(parents=True)
    for name in NAMES:
        write_wav(folder / "wav" / f"{name}.wav")
    for name in NAMES[:-1]:
        write_labels(folder / "lbl" / f"{name}.h5", EVENTS if name != "r1" else [], 8000)
    write_manifest(folder / "manifest" / "pretrain.tsv", rows_of(NAMES))
    write_manifest(folder / "manifest" / "train_0.tsv", rows_of(NAMES[:3]))
    write_manifest(folder / "manifest" / "train_0_25.tsv", rows_of(NAMES[:1]))
    write_manifest(folder / "manifest" / "valid_0.tsv", rows_of(NAMES[3:5]))
    return folder


def the_problem(report: CheckReport) -> Problem:
    assert len(report.problems) == 1, report.problems
    return report.problems[0]


def edit(path: Path, **fields: object) -> None:
    """Replace fields of a label file; None removes one."""
    with h5py.File(path, "a") as file:
        for name, value in fields.items():
            del file[name]
            if value is not None:
                file[name] = value


def test_a_whole_copy_has_no_problems(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check(root, progress=lambda done, total: seen.append((done, total)))
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


def no_bytes(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


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


def only_text(path: Path) -> None:
    path.write_text("this is no audio")


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
        (broken_link, "recording", "No such file"),
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
        assert events == 2 or problems
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
    report = check(root)
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
    assert report.problems == [] and report.labelled == 10
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
            file.truncate(160_044 - 2 * (number % 50 == 3))  # sparse, and some are cut
    names = [f"r{number:03d}" for number in range(700)]
    write_manifest(root / "manifest" / "pretrain.tsv", rows_of(names))
    alone, together = check(root), check(root, jobs=2)
    assert alone == together and alone.by_kind == {"recording": 14}
    assert alone.problems[0].file == "wav/r003.wav" and alone.as_json()["problems_by_kind"] == {"recording": 14}


def test_the_fields_are_those_that_are_written(root: Path) -> None:
    with h5py.File(root / "lbl" / "r0.h5") as file:
        assert tuple(sorted(file)) == tuple(sorted(LABEL_FIELDS))
        assert [MEERKAT_CLASSES[number] for number in file["lbl_cat"]] == ["cc", "sn"]
