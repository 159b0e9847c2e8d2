"""Pretraining: a student predicts, from few frames, what its slow average says about all (paper; spec 5).

Shapes: B segments, K clones, R = B * K rows (row b * K + k is clone k of segment b), N samples, T frames
of the encoder (as in all masks; see `EncoderConfig.downsampling`), U kept and M masked ones of a row, D embedding.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from a2v_model.backbone import Backbone
from a2v_model.config import ModelConfig, PretrainConfig, check_together
from a2v_model.decoder import Decoder
from a2v_model.inference import Inference
from a2v_model.masking import frame_mask, masked_indices, noise
from a2v_model.plugins import Plugin
from a2v_model.streams import Streams


@dataclass(frozen=True)
class Masks:
    """What a forward pass hides, drawn by `Pretrainer.draw`: masked frames (R, M) and kept ones (R, U).
    bands (B, F, T): an ear's bands and frames; None without one. streams (S, B): which the student hears (bool); None
    where there are none, or it hears all."""

    masked: Tensor
    kept: Tensor
    bands: Tensor | None = None
    streams: Tensor | None = None


@dataclass(frozen=True)
class PretrainOutput:
    """One forward pass: `loss_sum` / `masked_frames` is the loss to report; variances are detached."""

    loss_sum: Tensor
    masked_frames: int
    target_variance: Tensor
    prediction_variance: Tensor
    masked_share: float


def ema_decay(update: int, config: PretrainConfig) -> float:
    """tau after `update` updates: linear from `ema_start` to `ema_end` over `ema_updates`, then constant."""
    if update >= config.ema_updates:
        return config.ema_end
    remaining = 1 - update / config.ema_updates
    return config.ema_end - (config.ema_end - config.ema_start) * remaining


def average_targets(layer_results: list[Tensor]) -> Tensor:
    """Mean over layers of each result (B, T, D), brought to zero mean and unit variance over time."""
    total = torch.zeros_like(layer_results[0], dtype=torch.float32)
    for result_BTD in layer_results:
        total += functional.instance_norm(result_BTD.float().transpose(1, 2)).transpose(1, 2)
    return total / len(layer_results)


def spread(x_ND: Tensor) -> Tensor:
    """Mean over dimensions of the standard deviation over frames: 0 when a representation has collapsed."""
    return (x_ND.detach().float().var(dim=0) + 1e-6).sqrt().mean()


class Pretrainer(Inference):
    """Student backbone, decoder and EMA teacher; embeddings and attention maps are the student's.

    The teacher is in the state_dict, never in training: `requires_grad` is False, it stays in eval mode.
    """

    def __init__(self, model: ModelConfig, pretrain: PretrainConfig) -> None:
        super().__init__()
        check_together(model, pretrain)
        self.model_config, self.config = model, pretrain
        self.plugins: tuple[Plugin, ...] = ()  # as a Detector's
        self.student = Backbone(model)
        if self.student.upsampling is not None:  # what goes on behind the encoder is learned with labels
            self.student.upsampling.requires_grad_(False)
        self.decoder = Decoder(model.encoder.dim, pretrain.decoder)
        self.teacher = deepcopy(self.student.transformer).requires_grad_(False).eval()

    @property
    def inner(self) -> Backbone:
        return self.student

    @property
    def averaged(self) -> int:
        return self.config.target_layers

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self,
        waveform_BN: Tensor,
        generator: torch.Generator | None = None,
        mask_RT: Tensor | None = None,
        fill_RMD: Tensor | None = None,
        masks: Masks | None = None,
        streams: Streams | None = None,
    ) -> PretrainOutput:
        """Loss of normalised waveforms (B, N) with `streams` (B, M, C by name). Mask (or both of its indices, `masks`)
        and fill of masked frames are drawn from `generator` (CPU) where they are not given. Targets are made of all
        streams, whichever the student hears."""
        masks = masks or self.draw(len(waveform_BN), waveform_BN.shape[1], generator, mask_RT, self.training)
        device = waveform_BN.device
        masked_RM = masks.masked.to(device, non_blocking=True)
        kept_RU = masks.kept.to(device, non_blocking=True)
        sound_BTD = self.student.features(waveform_BN, generator=masks.bands)
        x_BTD, _ = self.student.encoder_input(self.student.with_streams(sound_BTD, streams, masks.streams))
        if fill_RMD is None:
            shape = (*masked_RM.shape, x_BTD.shape[2])
            fill_RMD = noise(shape, self.config.mask_noise, x_BTD.device, generator)
        predictions_RMD = self.predict(x_BTD, kept_RU, masked_RM, fill_RMD, only_masked=True)
        whole_BTD = x_BTD
        if streams and masks.streams is not None:
            with torch.no_grad():
                whole_BTD, _ = self.student.encoder_input(self.student.with_streams(sound_BTD, streams))
        return self._score(predictions_RMD, self.targets(whole_BTD), masked_RM)

    def draw(
        self,
        batch: int,
        samples: int,
        generator: torch.Generator | None,
        mask_RT: Tensor | None = None,
        training: bool = True,
    ) -> Masks:
        """The masks of a forward pass over waveforms (B, N) in train mode (or not), on the CPU. They depend on nothing
        else, so they can be drawn ahead of time; `generator` then draws what is left in that pass."""
        bands_BFT = self.student.draw_bands(batch, samples, generator) if training else None
        if mask_RT is None:
            config, rows = self.config, batch * self.config.clones
            frames = self.model_config.encoder_frames(self.model_config.front_end.frames(samples))
            mask_RT = frame_mask(rows, frames, config.mask_probability, config.mask_length, generator)
        streams_SB = self.student.draw_streams(batch, generator) if training else None
        return Masks(masked_indices(mask_RT), masked_indices(~mask_RT), bands_BFT, streams_SB)

    def predict(
        self, x_BTD: Tensor, kept_RU: Tensor, masked_RM: Tensor, fill_RMD: Tensor, only_masked: bool = False
    ) -> Tensor:
        """The student's predictions (R, T, D) from features (B, T, D), or only of masked frames, (R, M, D)."""
        x_RTD = x_BTD.repeat_interleave(len(kept_RU) // len(x_BTD), dim=0)
        context_RUD, _ = self.student.contextualise(x_RTD, kept_RU)
        return self.decoder(context_RUD, kept_RU, masked_RM, fill_RMD, only_masked)

    @torch.no_grad()
    def targets(self, x_BTD: Tensor) -> Tensor:
        """The teacher's targets (B, T, D) in float32, from unmasked features of the student's front end."""
        _, results = self.teacher(x_BTD.detach(), results=self.config.target_layers)
        return average_targets(results)

    def _score(self, predictions_RMD: Tensor, targets_BTD: Tensor, masked_RM: Tensor) -> PretrainOutput:
        (rows, _, dim), frames = predictions_RMD.shape, targets_BTD.shape[1]
        segment_R1 = torch.arange(rows, device=masked_RM.device)[:, None] // (rows // len(targets_BTD))
        target_ND = targets_BTD[segment_R1, masked_RM].flatten(0, 1)
        prediction_ND = predictions_RMD.flatten(0, 1).float()
        loss_sum = functional.mse_loss(prediction_ND, target_ND, reduction="sum") / math.sqrt(dim)
        masked = masked_RM.numel()
        return PretrainOutput(loss_sum, masked, spread(target_ND), spread(prediction_ND), masked / (rows * frames))

    @torch.no_grad()
    def update_teacher(self, update: int) -> None:
        """One EMA step after optimiser step `update`: teacher = tau * teacher + (1 - tau) * student."""
        tau = ema_decay(update, self.config)
        student = [parameter.float() for parameter in self.student.encoder.parameters()]
        torch._foreach_lerp_(list(self.teacher.parameters()), student, 1.0 - tau)

    def check_collapse(self, update: int, target_variance: float, prediction_variance: float) -> None:
        """RuntimeError when, after the first updates, targets or predictions hardly vary over frames."""
        if update <= self.config.collapse_after:
            return
        for name, value, least in (
            ("target", float(target_variance), self.config.min_target_variance),
            ("prediction", float(prediction_variance), self.config.min_prediction_variance),
        ):
            if not value >= least:  # NaN must stop training, too
                raise RuntimeError(
                    f"collapsed at update {update}: {name} variance {value:.4g} is below {least:g} "
                    f"(pretrain.min_{name}_variance); lower the learning rate or raise pretrain.ema_start"
                )
