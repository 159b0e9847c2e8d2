"""Names: recordings, classes and cells of tables whose names hold what a terminal, a shell or a table may take for more
than text. Whatever is shown stays one line without controls, and JSON stays JSON."""

import csv
import json
import shutil
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import soundfile
from fuzz_run import Case, Family

RATE = 4000
FORGED = "FORGED"
PIECES = (
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b[2J", f"a\n{FORGED}", f"a\r{FORGED}", "\x9b31m", "\x85", "\u202egnp",
    "\u2066x\u2069", "\u200f", "\u2028x", "\u2029", "\x7f", "\x08\x08", "\t", "\x0b", "\x0c", "\x01", "\udcff",
    "\udc9b31m", "=1+1", "@SUM(A1)", '"', "'", ",", ";", "|", "<b>", "&", "%s%n", "{0}", "$HOME", "`id`", "*", "?",
    "[a-z]", "-rf", "~", "\\n", "é", "e\u0301", "鳥", "\u200d", "x" * 150, "#", ":", "all", "macro", "focal", "?",
)  # fmt: skip


def odd(rng: Random) -> str:
    return "".join(rng.choice(PIECES) for _ in range(rng.choice((1, 1, 2)))) + rng.choice(("", "b", "Wren"))


def _model(folder: Path, classes: list[str]) -> None:
    import torch
    from a2v_model import Detector, save_model, write_thresholds
    from a2v_model.config import FinetuneConfig, ModelConfig

    layers = [[8, 10, 5], [12, 3, 2], [16, 3, 2], [16, 3, 2]]
    encoder = {
        "dim": 16, "heads": 2, "depth": 1, "prenet_depth": 1, "mlp_ratio": 2.0, "positional_depth": 1,
        "positional_width": 9, "positional_groups": 4,
    }  # fmt: skip
    tree = {"front_end": {"sample_rate": RATE, "sinc_filters": 8, "layers": layers}, "encoder": encoder}
    torch.manual_seed(0)
    model = Detector(ModelConfig.model_validate(tree), FinetuneConfig(average_layers=1, channel_mask_length=4), classes)
    save_model(model, folder, {})
    thresholds_from = {"method": "avg", "window_s": 0.05, "segment_s": 1.0, "overlap_s": 0.3}
    write_thresholds(folder, dict.fromkeys(classes, 0.5), thresholds_from)


def _ready(folder: Path) -> None:
    soundfile.write(folder / "whole.wav", np.random.default_rng(0).normal(0, 0.1, RATE), RATE, subtype="PCM_16")
    rng = Random(0)
    _model(folder / "model-0", ["cc", "sn"])
    for number in range(1, 6):
        with suppress(ValueError):  # names that no model may have
            _model(folder / f"model-{number}", sorted({odd(rng), odd(rng)}))


def _make(rng: Random, ready: Path, folder: Path) -> Case:
    recordings = folder / "recordings"
    recordings.mkdir()
    names = []
    for number in range(3):
        name = f"{odd(rng)}{number}.wav" if number else "a.wav"
        try:
            (recordings / name).write_bytes(
                (ready / "whole.wav").read_bytes()[: rng.choice((30, 900, None, None, None))]
            )
        except (OSError, ValueError):
            continue
        names.append(name)
    classes = [odd(rng), rng.choice(("cc", odd(rng)))]
    _table(rng, recordings / "annotations.csv", names, classes)
    _table(rng, folder / "found.csv", names, classes)
    what = rng.choice(sorted(COMMANDS))
    (folder / "out").mkdir()
    models = sorted(ready.glob("model-*"))
    model = folder / odd(rng).replace("/", "") if rng.random() < 0.1 else folder / "model"
    with suppress(OSError, ValueError):
        shutil.copytree(rng.choice(models), model)
    argv = tuple(one.replace("MODEL", model.name) for one in COMMANDS[what])
    as_json = what not in NO_JSON and rng.random() < 0.3
    argv += ("--json",) if as_json else ()
    return Case(f"{' '.join(argv)}: {names!a} {classes!a}", argv, check=_json if as_json else _lines)


def _table(rng: Random, path: Path, names: list[str], classes: list[str]) -> None:
    rows = [[name, 0.1 * n, 0.1 * n + 0.05, rng.choice(classes), rng.random()] for name in names for n in range(3)]
    rows += [[odd(rng), rng.choice((0.1, odd(rng))), 0.3, "cc", 1]] if rng.random() < 0.3 else []
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([["file", "onset_s", "offset_s", "label", "likelihood"], *rows])


COMMANDS = {
    "check": ("data", "check", "recordings", "--jobs", "1"),
    "stats": ("data", "stats", "recordings"),
    "annotations": ("data", "annotations", "recordings"),
    "folds": ("data", "folds", "recordings", "--folds", "2", "--out", "out/folds"),
    "pack": ("data", "pack", "recordings", "--processes", "1", "--out", "out/packed"),
    "prepare": ("data", "prepare", "recordings", "--processes", "1", "--segment-s", "0.5", "--out", "out/prepared"),
    "predict": ("predict", "recordings", "--model", "MODEL", "--processes", "1", "--out", "out/calls"),
    "evaluate": ("evaluate", "found.csv", "recordings/annotations.csv"),
    "evaluate a class": ("evaluate", "found.csv", "recordings/annotations.csv", "--threshold", "0.5", "--out", "out/e"),
    "report": ("review", "report", "found.csv", "--recordings", "recordings", "--no-track", "--out", "out/report"),
    "model": ("model", "info", "MODEL"),
}
NO_JSON = ("pack",)


def _lines(folder: Path, output: str) -> str | None:
    lines = [line.removeprefix("a2v: ") for line in output.replace("\r", "\n").split("\n")]
    return next((f"a line of a name: {line[:80]!a}" for line in lines if line.startswith(FORGED)), None)


def _json(folder: Path, output: str) -> str | None:
    """What is printed on standard output is one JSON value; refusals stand before or after it."""
    lines = [line for line in output.split("\n") if not line.startswith(("a2v: ", "left out: ", "note: "))]
    text = "\n".join(lines).strip()
    if text:
        try:
            json.loads(text)
        except ValueError as error:
            return f"no JSON: {error}"
    return _lines(folder, output)


NAMES = Family("names", _make, _ready)
