"""A small world for the experiments tests: two kinds of tone in noise, and recipes that train in seconds.

The recordings exist in both forms that a source can have, with the same sounds and labels: `audio/` with
`annotations.csv`, and MeerKAT's `wav/` and `lbl/`.
"""

from __future__ import annotations

import copy
import csv
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml
from a2v_data.meerkat import write_labels
from a2v_experiments.recipe.files import Recipe, load_recipe
from a2v_experiments.training.spec import TrainingSpec

RATE = 4000
STRIDE = 40  # samples per frame: 100 Hz
SEGMENT_S = 1.0
CLASSES = ["sn", "cc"]  # MeerKAT's order
TONES = {"cc": 500.0, "sn": 1300.0}
RECORDINGS = 12

RECIPE: dict[str, Any] = {
    "name": "tones",
    "data": {
        "source": "set by the test", "sample_rate": RATE, "segment_s": SEGMENT_S, "labelled": "all",
        "focal_class": False,
    },
    "folds": {"count": 3, "run": [0, 1]},
    "model": {
        "front_end": {
            "sample_rate": RATE, "sinc_filters": 8, "layers": [[8, 10, 5], [12, 3, 2], [16, 3, 2], [16, 3, 2]],
        },
        "encoder": {
            "dim": 16, "heads": 2, "depth": 2, "prenet_depth": 1, "mlp_ratio": 2.0, "positional_depth": 1,
            "positional_width": 9, "positional_groups": 4,
        },
    },
    "pretrain": {
        "mask_probability": 0.5, "mask_length": 4, "clones": 2, "target_layers": 2, "ema_start": 0.99,
        "ema_updates": 50, "decoder": {"dim": 16, "kernel": 5, "groups": 4, "depth": 1},
        "updates": 6, "segments": 3, "micro_batches": 2, "bcl": {}, "precision": "float32",
        "log_every": 1, "checkpoint_every": 2, "optimizer": {"learning_rate": 0.001, "warmup_updates": 2},
    },
    "finetune": {
        "average_layers": 2, "channel_mask_length": 4, "head_only_updates": 2, "layerdrop": 0.3,
        "updates": 6, "segments": 3, "micro_batches": 2, "bcl": {}, "precision": "float32",
        "log_every": 1, "checkpoint_every": 2, "optimizer": {"learning_rate": 0.003, "warmup_updates": 2},
    },
    "evaluate": {"events": {"window_s": 0.03}, "overlap_s": 0.3},
}  # fmt: skip


def calls(recording: int) -> list[tuple[str, int, int]]:
    """(label, first sample, sample after the last) of one recording, by onset; both classes in each."""
    rng = np.random.default_rng([7, recording])
    starts = (np.arange(4) * 0.7 + 0.15 + rng.uniform(0, 0.3, 4)) * RATE
    labels = rng.permutation(["cc", "sn", "cc", "sn"])
    return [
        (str(label), int(start), int(start) + 600 + 40 * recording) for label, start in zip(labels, starts, strict=True)
    ]


def waveform(recording: int) -> np.ndarray:
    """About 3.1 s of noise with its calls; the lengths are no multiples of a frame."""
    samples = 12400 + 37 * recording
    sound = np.random.default_rng([8, recording]).normal(0, 0.02, samples)
    for label, start, end in calls(recording):
        sound[start:end] += 0.4 * np.sin(2 * np.pi * TONES[label] * np.arange(end - start) / RATE)
    return sound


def make_csv_source(folder: Path) -> Path:
    """audio/rec00.wav ... and annotations.csv."""
    (folder / "audio").mkdir(parents=True)
    with (folder / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "onset_s", "offset_s", "label"])
        for number in range(RECORDINGS):
            soundfile.write(folder / "audio" / f"rec{number:02d}.wav", waveform(number), RATE, subtype="PCM_16")
            for label, start, end in calls(number):
                table.writerow([f"rec{number:02d}.wav", start / RATE, end / RATE, label])
    return folder


def make_meerkat_source(folder: Path) -> Path:
    """wav/rec00.wav ... and lbl/rec00.h5 ..., the same sounds and labels."""
    for name in ("wav", "lbl"):
        (folder / name).mkdir(parents=True)
    for number in range(RECORDINGS):
        soundfile.write(folder / "wav" / f"rec{number:02d}.wav", waveform(number), RATE, subtype="PCM_16")
        events = [(label, start, end, False) for label, start, end in calls(number)]
        write_labels(folder / "lbl" / f"rec{number:02d}.h5", events, RATE)
    return folder


def recipe_tree(**changes: Any) -> dict[str, Any]:
    """The small recipe as plain data; keyword `a__b=value` sets key a.b."""
    tree = copy.deepcopy(RECIPE)
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


def write_recipe(path: Path, tree: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def make_recipe(folder: Path, overrides: Sequence[str] = (), **changes: Any) -> Recipe:
    """The small recipe, validated the way that the command does it."""
    return load_recipe(str(write_recipe(folder / "small.yaml", recipe_tree(**changes))), list(overrides))


def training_spec(recipe: Recipe, stage: str, corpus: Path, names: list[str] | None = None) -> TrainingSpec:
    """What the workers of one stage get, over all recordings unless named."""
    return TrainingSpec(
        corpus=str(corpus), recordings=names or [f"rec{n:02d}.wav" for n in range(RECORDINGS)],
        segment_s=recipe.data.segment_s, model=recipe.model,
        pretrain=recipe.pretrain if stage == "pretrain" else None,
        finetune=recipe.finetune if stage == "finetune" else None, classes=CLASSES,
    )  # fmt: skip


def call_command(arguments: list[str]) -> int:
    """Run `a2v ARGUMENTS` in this process; returns its exit code."""
    from a2v_experiments import cli

    os.environ.pop("MLFLOW_TRACKING_URI", None)  # a store that was opened in this process left it there
    arguments_before, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["a2v", *arguments]
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = arguments_before
        signal.signal(signal.SIGTERM, handler)
    return 0


def call_quietly(*arguments: object) -> Said:
    """The same, keeping what it says; for fixtures of more than one test."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = call_command([str(argument) for argument in arguments])
    return Said(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Said:
    """What one call of the command ended with."""

    code: int
    out: str
    err: str

    def lines(self) -> list[str]:
        """The lines of standard error as a terminal shows them in the end, without the bars that passed."""
        return [line.rpartition("\r")[2] for line in self.err.split("\n") if line]

    def only_line(self) -> str:
        """The one line that explains a mistake; fails where there is more, or a traceback."""
        lines = self.lines()
        assert len(lines) == 1 and lines[0].startswith("a2v: "), self.err
        return lines[0].removeprefix("a2v: ")
