"""The smallest detector, what it hears, and `a2v predict` with them."""

from pathlib import Path

import numpy as np
import soundfile
import torch
from a2v_experiments.recipe.files import load_recipe
from a2v_model import Detector, normalise, save_model, write_thresholds

RATE = 8000
CLASSES = ["cc", "sn"]
SMALL = (
    "model.front_end={kind: waveform, sinc_filters: 8, layers: [[8, 10, 5], [8, 8, 4], [8, 4, 2]]}",
    "model.encoder.dim=16", "model.encoder.heads=2", "model.encoder.depth=1", "model.encoder.prenet_depth=1",
    "model.encoder.positional_depth=1", "model.encoder.positional_groups=2", "finetune.average_layers=1",
    "finetune.channel_mask_length=0", "pretrain.target_layers=1", "pretrain.decoder.groups=2",
    "pretrain.decoder.dim=16", "folds.run=[0]",
)  # fmt: skip


def sound() -> np.ndarray:
    """A second of noise that gets louder and softer, float32."""
    time_N = np.arange(RATE) / RATE
    noise_N = np.random.default_rng(0).normal(0, 0.1, RATE) * (1 + np.sin(20 * time_N))
    return noise_N.astype(np.float32)


def ready_recording(path: Path) -> None:
    soundfile.write(path, sound(), RATE)


def ready_model(folder: Path) -> None:
    """`model`, a detector, and `a.wav`, a second."""
    from a2v_experiments.training.spec import part
    from a2v_model.config import FinetuneConfig

    torch.manual_seed(0)
    recipe = load_recipe("quickstart", list(SMALL))
    model = Detector(recipe.model, part(recipe.finetune, FinetuneConfig), CLASSES).eval()
    sound_BN = torch.from_numpy(sound())[None]
    with torch.no_grad():  # so that likelihoods cross thresholds
        logits_TC = model(normalise(sound_BN))[0]
        scale_C = 2 / logits_TC.std(0)
        model.head.weight.mul_(scale_C[:, None])
        model.head.bias.copy_((model.head.bias - logits_TC.mean(0)) * scale_C)
    save_model(model, folder / "model", {"run_id": "0" * 32})
    about = {"method": "avg", "window_s": 0.05, "segment_s": 1.0, "overlap_s": 0.3}
    write_thresholds(folder / "model", {"cc": 0.45, "sn": 0.55}, about)
    ready_recording(folder / "a.wav")


def predict(ready: Path, model: str | None = None, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The arguments of `a2v` for it."""
    model = model or str(ready / "model")
    cheap = ("--processes", "1", "--device", "cpu", "--precision", "float32")
    return ("predict", str(ready / "a.wav"), "--model", model, "--out", "out/calls", *cheap, *more)
