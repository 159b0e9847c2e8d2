"""`a2v data import`: what is said, and the exit code."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import soundfile


def wav(seed: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(seed).normal(0, 0.05, 800), 8000, format="WAV")
    return file.getvalue()


def archive(folder: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(folder / "all.zip", "w") as file:
        for name, content in files.items():
            file.writestr(f"{name}.wav" if "birds" in name else f"{name}.csv", content)
    return folder / "all.zip"


def test_nips4bplus(a2v, tmp_path: Path) -> None:
    path = archive(tmp_path, nips4b_birds_trainfile001=wav(1), annotation_train001=b"0.01,0.02,a\n0.05,0.01,Human\n")
    said = a2v("data", "import", "nips4bplus", path, "--out", tmp_path / "out")
    assert said.code == 0
    assert said.out.splitlines() == [
        f"{tmp_path / 'out'}: 1 recordings (0.00 h)",
        "1 of them labelled, with 1 events",
        "",
        "notices:",
        "  events labelled Human, which is no class, left out: 1",
    ]
    again = a2v("data", "import", "nips4bplus", path, "--out", tmp_path / "out")
    assert again.code == 2 and "exists already" in again.only_line()


def test_what_is_left_out_makes_the_exit_code_1(a2v, tmp_path: Path) -> None:
    path = archive(tmp_path, nips4b_birds_trainfile001=wav(1), annotation_train001=b"0.01,-0.02,a\n")
    said = a2v("data", "import", "nips4bplus", path, "--out", tmp_path / "out", "--json")
    found = json.loads(said.out)
    assert said.code == 1 and found["recordings"] == 1 and found["labelled"] == 0
    assert found["problems"][0].startswith("annotation_train001.csv, row 1: offset_s -0.01 is not after onset_s 0.01")


def test_xeno_canto(a2v, tmp_path: Path) -> None:
    (tmp_path / "xc").mkdir()
    for number, rating in ((1, "A"), (2, "B"), (3, "E")):
        (tmp_path / "xc" / f"XC{number}.wav").write_bytes(wav(number))
        (tmp_path / "xc" / f"XC{number}.json").write_text(json.dumps({"id": number, "q": rating, "lic": "by/4.0"}))
    said = a2v("data", "import", "xeno-canto", tmp_path / "xc", "--out", tmp_path / "out", "--quality", "A",
               "--quality", "B", "--json")  # fmt: skip
    found = json.loads(said.out)
    assert said.code == 0 and found["recordings"] == 2 and found["notices"] == ["left out, quality not in A/B: 1"]
    shown = a2v("data", "annotations", tmp_path / "out")
    assert shown.code == 0 and "without annotations (not listened to): 2 of 2 recordings" in shown.out
