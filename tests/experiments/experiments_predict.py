"""Small detectors for the prediction tests, and one whose output says which sample it hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from a2v_experiments.recipe import Recipe
from a2v_experiments.tasks import part
from a2v_model import Detector, normalise, save_model, write_thresholds
from a2v_model.config import FinetuneConfig
from experiments_world import RATE, make_recipe

CLASSES = ["cc", "sn"]
THRESHOLDS = {"cc": 0.45, "sn": 0.55}
WINDOW_S = 0.05


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
