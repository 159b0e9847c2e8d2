"""Training's own step on a corpus of noise: its time and memory depend on sizes, hardly on what the audio holds.

`a2v bench train` measures it for a preset, `a2v experiment plan` for a recipe's own model and settings.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from a2v_data.corpus_files import EVENT_DTYPE, CorpusWriter
from a2v_model.config import ModelConfig

from ..recipe.trainings import FinetuneStage, PretrainStage
from .group import Group
from .loop import TrainingStep
from .spec import TrainingSpec
from .tasks import build_task

CLASSES = [f"class {number}" for number in range(12)]  # as many as MeerKAT has
CALL_S, EVERY_S = 0.2, 2.0  # length of a call, and from one to the next
NAME = "noise"


def step_on_noise(
    model: ModelConfig, stage: PretrainStage | FinetuneStage, segments: int, segment_s: float, device: torch.device
) -> TrainingStep:
    """A stage's updates of one micro-batch of so many segments. Noise teaches nothing, so no collapse stops it."""
    changed = {"segments": segments, "micro_batches": 1}
    if isinstance(stage, PretrainStage):
        changed["collapse_after"] = stage.updates
    stage = stage.model_copy(update=changed)
    pretrain, finetune = (stage, None) if isinstance(stage, PretrainStage) else (None, stage)
    with tempfile.TemporaryDirectory(prefix="a2v-noise-") as folder:  # a corpus that is open is mapped, and stays
        rate = model.front_end.sample_rate
        _write(Path(folder), rate, segments * round(segment_s * rate))
        spec = TrainingSpec(
            corpus=folder, recordings=[NAME], segment_s=segment_s, model=model, classes=CLASSES, pretrain=pretrain,
            finetune=finetune,
        )  # fmt: skip
        task = build_task(spec, device)
    return TrainingStep(task, stage, Group(device=device))


def _write(folder: Path, sample_rate: int, samples: int) -> None:
    """A corpus of one recording, in which the classes call in turn."""
    writer = CorpusWriter(folder, sample_rate, CLASSES)
    noise_N = 3000 * np.random.default_rng(0).standard_normal(samples, np.float32)
    writer.add(NAME, noise_N.astype(np.int16), True, sample_rate, samples, 1.0)
    starts_s = np.arange(0, samples / sample_rate - CALL_S, EVERY_S)
    rows = [(0, number % len(CLASSES), start_s, start_s + CALL_S) for number, start_s in enumerate(starts_s)]
    writer.finish(np.array(rows, EVENT_DTYPE))


def wait_for(device: torch.device) -> None:
    """Until the accelerator has done what it was given, so that a clock shows it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
