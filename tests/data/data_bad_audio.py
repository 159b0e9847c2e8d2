"""Everything that goes wrong with recordings in the field, beside good neighbours."""

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data import audio as audio_module
from a2v_data.headers import LengthFound
from data_sounds import tone

LONG_NAME = "Mönchsgrasmücke " + "long" * 55 + ".wav"  # 241 bytes
GOOD = ["good.wav", LONG_NAME, "flac.wav", "stream.wav", "tail.wav"]


def make_good(audio: Path) -> None:
    """The neighbours, each one second: plain, with a long name and accents, and three that are odd but whole."""
    audio.mkdir(parents=True, exist_ok=True)
    for name in GOOD:
        soundfile.write(audio / name, tone(440, 1, 8000), 8000, subtype="PCM_16", format="WAV")
    soundfile.write(audio / "flac.wav", tone(440, 1, 8000), 8000, format="FLAC")  # wrong extension: content decides
    content = (audio / "good.wav").read_bytes()
    open_length = struct.pack("<I", 0xFFFFFFFF)
    (audio / "stream.wav").write_bytes(content[:4] + open_length + content[8:40] + open_length + content[44:])
    (audio / "tail.wav").write_bytes(content + b"LIST" + struct.pack("<I4s", 4, b"INFO"))


def make_bad(audio: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Bad recordings; how the name begins -> what must be said about it."""
    content = (audio / "good.wav").read_bytes()
    (audio / "empty.wav").touch()
    (audio / "cut.wav").write_bytes(content[: len(content) // 2])
    (audio / "header_only.wav").write_bytes(content[:44])
    (audio / "unfinished.wav").write_bytes(content[:40] + bytes(4) + content[44:])
    (audio / "lies.wav").write_bytes(content[:40] + struct.pack("<I", 8000) + content[44:])
    (audio / "text.wav").write_text("this is no audio")
    (audio / "table.mp3").write_text("file,onset_s\n")
    (audio / "folder.wav").mkdir()
    (audio / "dangling.wav").symlink_to(audio / "nowhere.wav")
    soundfile.write(audio / "silent.wav", np.zeros(0), 8000)
    for name, value in (("nan.wav", np.nan), ("infinite.wav", -np.inf)):
        sound = tone(440, 1, 8000)
        sound[4000] = value
        soundfile.write(audio / name, sound, 8000, subtype="FLOAT")
    for name, form in (("cut.w64", "W64"), ("cut.rf64", "RF64"), ("cut.aiff", "AIFF")):
        soundfile.write(audio / name, tone(440, 1, 8000), 8000, format=form)
        (audio / name).write_bytes((audio / name).read_bytes()[:9000])
    soundfile.write(audio / "cut.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 80_000), 8000)
    flac = bytearray((audio / "cut.flac").read_bytes())
    (audio / "cut.flac").write_bytes(flac[: len(flac) // 2])
    flac[len(flac) // 2 : len(flac) // 2 + 200] = bytes(200)
    (audio / "damaged.flac").write_bytes(flac)
    shutil.copy(audio / "good.wav", audio / "tab\there.wav")
    shutil.copy(audio / "good.wav", os.fsencode(audio) + b"/latin\xe9.wav")
    soundfile.write(audio / "odd_rate.wav", tone(440, 0.1, 999_983), 999_983)
    shutil.copy(audio / "good.wav", audio / "locked.wav")
    _lock(audio / "locked.wav", monkeypatch)
    return {
        "empty.wav": "is empty (0 bytes)",
        "cut.wav": "is truncated: 8022 of 16044 bytes are there",
        "header_only.wav": "is truncated",
        "unfinished.wav": "promises 0 bytes of samples, 16000 more follow (1.0 s); repair its header",
        "lies.wav": "promises 8000 bytes of samples (0.5 s), 8000 more follow (0.5 s); repair its header",
        "text.wav": "is not readable as audio",
        "table.mp3": "is not readable as audio",
        "folder.wav": "is a folder",
        "dangling.wav": "is a link to a file that is not there",
        "silent.wav": "holds no samples",
        "nan.wav": "holds NaN or infinity, first at 0.500 s",
        "infinite.wav": "holds NaN or infinity, first at 0.500 s",
        "cut.w64": "is truncated",
        "cut.rf64": "is truncated",
        "cut.aiff": "is truncated",
        "cut.flac": "is damaged",
        "damaged.flac": "is damaged",
        "tab\\there.wav": "tab or line break",
        "latin": "not UTF-8",
        "odd_rate.wav": "choose a rounder sample rate",
        "locked.wav": "is not readable as audio (Permission denied)",
    }


def _lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode 000, which does not stop root: for root, opening this one file fails as it does for others."""
    path.chmod(0)
    checked = audio_module.length_found

    def refuse(opened: Path) -> LengthFound:
        if opened == path:
            raise PermissionError(13, "Permission denied", str(path))
        return checked(opened)

    monkeypatch.setattr(audio_module, "length_found", refuse)


def assert_told(problems: list[str], expected: dict[str, str]) -> None:
    """Each bad recording has its line, and nothing else has one."""
    assert len(problems) == len(expected), problems
    for name, said in expected.items():
        (problem,) = [line for line in problems if line.startswith(f"'{name}")]
        assert said in problem and "(left out" in problem and "\n" not in problem, problem
