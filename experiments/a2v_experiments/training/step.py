"""One step of training on noise of the right size: nothing in its time and memory depends on what the audio holds.

`a2v bench train` measures it for a preset, `a2v experiment plan` for a recipe's own model and settings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from a2v_data.bcl import BclConfig, mix
from a2v_model import (
    Detector,
    Pretrainer,
    autocast,
    compile_model,
    normalise,
    set_gradient_checkpointing,
    weight_decay_groups,
)
from a2v_model.config import FinetuneConfig, ModelConfig, PretrainConfig
from torch import Tensor, nn

from .loop import seeded

CLASSES = 12  # as MeerKAT has


@dataclass(frozen=True)
class StepSettings:
    """What a step's cost depends on. segments: of `segment_s` seconds, in one micro-batch; classes: of a detector."""

    model: ModelConfig
    stage: PretrainConfig | FinetuneConfig
    segments: int
    segment_s: float
    classes: int = CLASSES
    precision: str = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    bcl: BclConfig | None = None


def new_model(
    model: ModelConfig, stage: PretrainConfig | FinetuneConfig, classes: int = CLASSES
) -> Pretrainer | Detector:
    """What a stage trains, with its first weights; a detector of so many classes."""
    if isinstance(stage, PretrainConfig):
        return Pretrainer(model, stage)
    return Detector(model, stage, [f"class {n}" for n in range(classes)])


class TrainingStep:
    """A model with its optimiser; calling it makes one update of one micro-batch, and returns the loss.

    `micro_batch` is the part that an update repeats for each micro-batch (mixing, forward, backward), `update` the one
    that it does once (clipping, AdamW, the teacher).
    """

    def __init__(self, settings: StepSettings, device: torch.device) -> None:
        torch.manual_seed(0)
        model = new_model(settings.model, settings.stage, settings.classes)
        if isinstance(model, Detector) and isinstance(settings.stage, FinetuneConfig):
            model.set_trainable(settings.stage.head_only_updates)  # everything learns that ever does
        self.model, self.settings, self.device = model.to(device).train(), settings, device
        set_gradient_checkpointing(model, settings.gradient_checkpointing)
        if settings.compile:
            compile_model(model)
        self.optimizer = torch.optim.AdamW(weight_decay_groups(model, 0.01), lr=1e-5)
        samples = round(settings.segment_s * settings.model.front_end.sample_rate)
        self.wave_BN = normalise(torch.randn(settings.segments, samples, device=device))

    def __call__(self, number: int) -> float:
        loss = self.micro_batch(number)
        self.update(number)
        return float(loss)

    def micro_batch(self, number: int) -> Tensor:
        generator = seeded(0, number, 0)
        wave_BN = self.wave_BN
        if self.settings.bcl is not None:
            wave_BN, _ = mix(wave_BN, None, self.settings.model.front_end.sample_rate, self.settings.bcl, generator)
        with autocast(self.settings.precision, self.device):
            if isinstance(self.model, Pretrainer):
                out = self.model(wave_BN, generator)
                loss = out.loss_sum / out.masked_frames
            else:
                logits_BTC = self.model(wave_BN, generator)
                summed, frames = self.model.loss(logits_BTC, torch.zeros_like(logits_BTC))
                loss = summed / frames
        loss.backward()
        return loss.detach()

    def update(self, number: int) -> None:
        nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if isinstance(self.model, Pretrainer):
            self.model.update_teacher(number)


def wait_for(device: torch.device) -> None:
    """Until the accelerator has done what it was given, so that a clock shows it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
