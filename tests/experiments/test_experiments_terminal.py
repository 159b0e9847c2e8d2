"""What names hold that a terminal would obey is shown as an escape, wherever commands print; files, JSON are exact."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_experiments.basics.errors import UserError
from a2v_experiments.basics.tables import text_table
from a2v_experiments.basics.terminal import one_line, printable
from a2v_experiments.commands.say import say, say_text
from experiments_predict import make_detector, save_detector
from experiments_world import Said

A2v = Callable[..., Said]
# as they are given, and how they are shown
ODD = {
    "\x1b[31m": r"\u001b[31m",
    "\x1b]0;title\x07": r"\u001b]0;title\u0007",
    "\x9b2J": r"\u009b2J",
    "a\rb": r"a\u000db",
    "\u202egpj": r"\u202egpj",
    "\u2066x\u2069": r"\u2066x\u2069",
    "\u2028": r"\u2028",
    "\x7f": r"\u007f",
    "\udcff": r"\udcff",
}
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
RATE = 4000


@pytest.mark.parametrize("given", ODD, ids=ascii)
def test_controls_are_shown_as_escapes(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"{given}.wav: no", err=True)
    say(f"{given}.wav: yes")
    say_text(f"{given}\n\tnext")
    assert capsys.readouterr() == (f"{ODD[given]}.wav: yes\n{ODD[given]}\n\tnext\n", f"{ODD[given]}.wav: no\n")
    assert json.loads(printable(json.dumps([given], ensure_ascii=False))) == [given]


@pytest.mark.parametrize("text", ["Zaunkönig", "鳥.wav", "e\u0301", "a  b\tc", "🐦\u200d⬛", "\\n"])
def test_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text


def test_a_name_is_one_line_of_a_message_and_of_a_table() -> None:
    assert one_line("a\nb") == r"a\nb"
    assert text_table(["class", "events"], [["a\nb", "1"], ["c", "12"]]) == (
        "class  events\n" r"a\nb        1" "\n" "c          12"
    )
    assert UserError("a\x1b.wav: one\ntwo")._render_traceback_() == [r"a2v: a\u001b.wav: one", "a2v: two"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    made = make_detector(folder)
    made.classes = ["\x1b[31mcc", "s\nn"]
    made.thresholds = dict.fromkeys(made.classes, 0.5)
    return save_detector(made, folder / "finch")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    rows = []
    for number, given in enumerate([*ODD, "a\nb"]):
        name = f"{given}{number}.wav"
        soundfile.write(os.fsencode(folder / name), np.zeros(RATE), RATE, format="WAV", subtype="PCM_16")
        if "\udcff" not in name:  # no table is UTF-8 with it
            rows.append([name, 0.1, 0.2, f"c{given}", 0.7])
    with (folder / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "onset_s", "offset_s", "label", "likelihood"], *rows])
    return folder


COMMANDS = [
    ("data", "check", "{recordings}", "--jobs", "1"),
    ("data", "annotations", "{recordings}"),
    ("data", "stats", "{recordings}"),
    ("data", "folds", "{recordings}", "--folds", "2", "--out", "{out}"),
    ("data", "pack", "{recordings}", "--processes", "1", "--out", "{out}"),
    ("predict", "{recordings}", "--model", "{model}", "--processes", "1", "--out", "{out}"),
    ("evaluate", "{recordings}/annotations.csv", "{recordings}/annotations.csv"),
    ("review", "report", "{recordings}/annotations.csv", "--recordings", "{recordings}", "--no-track"),
    ("search", "\x1b.wav", "--in", "{recordings}/annotations.csv", "--recordings", "{recordings}"),
    ("model", "info", "{model}"),
    ("experiment", "list", "--work", "\x1b[31m"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_no_command_prints_a_control(
    command: tuple[str, ...], a2v: A2v, recordings: Path, model: Path, tmp_path: Path
) -> None:
    places = {"recordings": recordings, "model": model, "out": tmp_path / "out"}
    said = a2v(*(one.format(**places) for one in command))
    text = said.out + said.err
    assert text.strip() and not CONTROL.findall(text) and "Traceback" not in text
    assert not any(line.startswith(("b9.wav", "a2v: b9.wav", "n  ")) for line in text.split("\n")), text


def test_files_and_json_are_exact(a2v: A2v, recordings: Path, model: Path, tmp_path: Path) -> None:
    said = a2v("predict", recordings, "--model", model, "--processes", "1", "--out", tmp_path / "out", "--json")
    assert said.code == 1, said
    assert list(json.loads(said.out)["events"]) == ["\x1b[31mcc", "s\nn"]
    with (tmp_path / "out" / "recordings.csv").open(newline="", encoding="utf-8") as file:
        names = {row["file"] for row in csv.DictReader(file)}
    assert {"\u202egpj4.wav", "\u2066x\u20695.wav", "\x9b2J2.wav", r"\udcff8.wav"} <= names
    known = json.loads((tmp_path / "out" / "predict.json").read_text(encoding="utf-8"))
    assert {"\udcff8.wav", "a\nb9.wav"} <= {one["file"] for one in known["left_out"]}


def test_a_word_that_no_name_is_as_long_as_is_cut() -> None:
    assert one_line(f"a {'x' * 999} b") == f"a {'x' * 999} b"
    assert one_line(f"a {'x' * 5000} b") == f"a {'x' * 400}... b"
