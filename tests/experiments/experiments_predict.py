"""Small detectors for the prediction tests, and one whose output says which sample it hears."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile
import torch
from a2v_experiments.recipe.files import Recipe
from a2v_experiments.score.files import read_events
from a2v_experiments.training.spec import part
from a2v_model import Detector, normalise, save_model, write_thresholds
from a2v_model.config import FinetuneConfig
from experiments_world import RATE, make_recipe

CLASSES = ["cc", "sn"]
THRESHOLDS = {"cc": 0.45, "sn": 0.55}
WINDOW_S = 0.05
FLOAT = ("--precision", "float32", "--processes", "1")
SECONDS = {"a.wav": 12.0, "day1/b.wav": 2.3, "day1/b.flac": 1.7, "day2/c.wav": 9.1}


def make_detector(folder: Path) -> Detector:
    """A detector of random weights, whose likelihoods cross its thresholds many times a second."""
    recipe: Recipe = make_recipe(folder)
    torch.manual_seed(0)
    model = Detector(recipe.model, part(recipe.finetune, FinetuneConfig), CLASSES)
    model.eval()
    with torch.no_grad():
        segments = torch.from_numpy(sound(6.0)).view(6, -1)
        logits_BTC = model(normalise(segments))
        scale_C = 2 / logits_BTC.std((0, 1))
        model.head.weight.mul_(scale_C[:, None])
        model.head.bias.copy_((model.head.bias - logits_BTC.mean((0, 1))) * scale_C)
    model.thresholds = dict(THRESHOLDS)
    model.thresholds_from = {"method": "avg", "window_s": WINDOW_S, "segment_s": 1.0, "overlap_s": 0.3}
    return model


def save_detector(model: Detector, folder: Path) -> Path:
    save_model(model, folder, {})
    write_thresholds(folder, model.thresholds, model.thresholds_from)
    return folder


def sound(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Noise whose loudness and pitch change, so that likelihoods do."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (500 + 300 * np.sin(2 * np.pi * 0.7 * time + seed)) * time)
    wave = rng.normal(0, 0.02, len(time)) + 0.3 * tone * (np.sin(2 * np.pi * 1.3 * time) > 0)
    return wave.astype(np.float32)


def write_sound(path: Path, seconds: float, seed: int = 0, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(seconds, seed, rate), rate, subtype="PCM_16")
    return path


def write_recordings(folder: Path) -> Path:
    """The recordings of SECONDS, each with a seed of its own."""
    for seed, (name, seconds) in enumerate(SECONDS.items()):
        write_sound(folder / name, seconds, seed)
    return folder


def files_of(folder: Path, hidden: bool = False) -> dict[str, bytes]:
    """Content of all files but those that say how long the work took."""
    timed = ("recordings.csv", "predict.json", ".predict/state.jsonl")
    return {
        name: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (name := path.relative_to(folder).as_posix()) not in timed
    }


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def status_of(out: Path) -> dict[str, str]:
    return {row["file"]: row["status"] for row in rows_of(out / "recordings.csv")}


def events_in(path: Path, digits: int = 6) -> list[tuple[str, str, float, float, float]]:
    found = read_events(path)
    assert found.likelihood is not None
    rows = [
        (r.file, r.label, round(r.onset_s, 4), round(r.offset_s, 4), round(r.likelihood, digits)) for r in found.rows
    ]
    return sorted(rows)
