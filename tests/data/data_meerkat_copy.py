"""A small copy in MeerKAT's layout, and what can be done to its files."""

from pathlib import Path

import h5py
import numpy as np
import soundfile
from a2v_data.check import CheckReport
from a2v_data.check_problem import Problem
from a2v_data.meerkat import write_labels

SAMPLES = 80_000
NAMES = [f"r{number}" for number in range(6)]
EVENTS = [("cc", 100, 900, True), ("sn", 50_000, 50_400, False)]


def write_wav(path: Path, samples: int = SAMPLES, rate: int = 8000) -> None:
    soundfile.write(path, np.zeros(samples, np.int16), rate, subtype="PCM_16")


def write_manifest(path: Path, rows: list[str], root: str | None = None) -> None:
    path.write_text("\n".join([root or str(path.parent.parent / "wav"), *rows]) + "\n", encoding="utf-8")


def rows_of(names: list[str]) -> list[str]:
    return [f"{name}.wav\t{SAMPLES}" for name in names]


def make_copy(folder: Path) -> Path:
    """Six segments, the last without labels; manifests of one fold and of pretraining."""
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


def no_bytes(path: Path) -> None:
    path.write_bytes(b"")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def only_text(path: Path) -> None:
    path.write_text("this is no audio")
