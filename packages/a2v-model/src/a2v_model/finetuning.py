"""Finetuning: likelihoods of classes in every frame (paper, finetuning; spec 7).

Shapes: B segments, N samples, T frames, D embedding, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from a2v_model.backbone import Backbone
from a2v_model.boxes import box_loss, box_maps
from a2v_model.config import EarConfig, FinetuneConfig, ModelConfig, check_together
from a2v_model.heads import apply_head, last_layer, last_prefix, new_head
from a2v_model.inference import Inference, Waveform
from a2v_model.layers import Dropout
from a2v_model.losses import focal_loss, linear_softmax, logit_of, own_loss
from a2v_model.masking import channel_mask, frame_mask, noise
from a2v_model.pickle_values import shown
from a2v_model.plugins import Plugin
from a2v_model.streams import Streams


def _finetune_dropouts(model: ModelConfig, finetune: FinetuneConfig) -> ModelConfig:
    """The model with the dropout rates of finetuning in its encoder."""
    names = (
        "dropout", "activation_dropout", "mlp_output_dropout", "attention_dropout", "layerdrop", "prenet_layerdrop"
    )  # fmt: skip
    given = type(model.encoder).model_fields
    encoder = model.encoder.model_copy(update={name: getattr(finetune, name) for name in names if name in given})
    return model.model_copy(update={"encoder": encoder})


class Detector(Inference):
    """A pretrained backbone with a head (`heads.py`), on the mean of its last layer results.

    Under DistributedDataParallel, blocks that layerdrop skips have no gradient (find_unused_parameters=True),
    and `set_trainable` changes which parameters need one (wrap again when it returns True).
    """

    def __init__(self, model: ModelConfig, finetune: FinetuneConfig, classes: list[str]) -> None:
        super().__init__()
        check_together(model, finetune)
        if not classes or len(set(classes)) != len(classes):
            raise ValueError(f"classes = {classes}: at least one is needed and each may occur only once")
        self.model_config, self.config, self.classes = model, finetune, list(classes)
        self.backbone = Backbone(_finetune_dropouts(model, finetune))
        self.dropout = Dropout(finetune.head_dropout)
        self.head = new_head(model.encoder.dim, len(classes), finetune)
        for name, parameter in self.backbone.named_parameters():
            if name.startswith("front_end."):
                parameter.requires_grad_(not self._frozen(name))
        self.plugins: tuple[Plugin, ...] = ()
        """Plugins that it came with, loaded or not (`checkpoints.load_model`)."""
        self.thresholds: dict[str, float] = {}
        """Class -> threshold on the pooled likelihood above which there is an event; classes without one have none
        that was chosen for them (`checkpoints.write_thresholds`)."""
        self.thresholds_from: dict[str, Any] = {}
        """How and on what the thresholds were chosen: they hold for those event settings only."""

    @property
    def inner(self) -> Backbone:
        return self.backbone

    @property
    def averaged(self) -> int:
        return self.config.average_layers

    def likelihoods(
        self,
        waveform: Waveform | Sequence[Waveform],
        sample_rate: float | None = None,
        streams: Any = None,
    ) -> Any:
        """Likelihoods in [0, 1] of a waveform (N,) at the model's sample rate: float32 (T, C), a row per frame at
        `frame_rate` Hz, a column per class in the order of `classes`.

        sample_rate, Hz: what the waveform has, to be checked against the model's. A list of waveforms, of any lengths,
        gives a list of results, each as if it had been alone. Of a detector with head `boxes`, its maps (T, 4 C), see
        `outputs`. streams and what is raised: as `embed`.
        """
        model = self._for(sample_rate)
        return model._each(waveform, sample_rate, lambda x_BN, own: model.outputs(model(x_BN, streams=own)[0]), streams)

    def outputs(self, logits: Tensor) -> Tensor:
        """What logits (..., C) mean: likelihoods in [0, 1]. With head `boxes` (..., 4 C): likelihoods of an onset and
        of an offset, durations in seconds of what starts and of what ends there (`boxes.py`)."""
        return box_maps(logits) if self.config.head == "boxes" else logits.sigmoid()

    @property
    def columns(self) -> int:
        """Columns of `outputs`."""
        return len(self.classes) * self.config.columns

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Take the backbone from the state_dict of a Pretrainer (its student), Detector or Backbone. Of one that heard
        sound alone the streams' encoders stay as they are.

        ValueError naming the tensors that are missing, unexpected or of another shape.
        """
        for prefix in ("student.", "backbone."):
            if any(name.startswith(prefix) for name in state):
                state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if not any(name.startswith("streams.") for name in state):
            own = self.backbone.state_dict()
            state = {**state, **{name: value for name, value in own.items() if name.startswith("streams.")}}
        load_exactly(self.backbone, state)

    def load_head(self, other: "Detector") -> None:
        """Take the head of another detector: of its last layer the rows of classes that both know, by their names; rows
        of other classes stay as they are. ValueError where kind or size of head differ, or no class is the same."""
        both = [name for name in self.classes if name in other.classes]
        if not both or other.config.head != self.config.head:
            raise ValueError(
                f"head: that of the other model is {other.config.head} for {', '.join(other.classes)}, here it is "
                f"{self.config.head} for {', '.join(self.classes)}; kind and some classes must be equal"
            )
        state = dict(other.head.state_dict())
        here, there = _rows(both, self), _rows(both, other)
        prefix = last_prefix(self.head)
        for name, own in last_layer(self.head).state_dict().items():
            rows = state[f"{prefix}{name}"]
            if own.shape[1:] == rows.shape[1:]:  # else it is told below
                state[f"{prefix}{name}"] = own.index_copy(0, here, rows[there])
        load_exactly(self.head, state)

    def _frozen(self, name: str) -> bool:
        """Whether a parameter of the backbone never learns: a frozen front end's, or the edges of fixed bands."""
        front_end = self.model_config.front_end
        fixed_bands = isinstance(front_end, EarConfig) and not front_end.learned
        if fixed_bands and name.startswith("front_end.energies.filters."):
            return True
        return self.config.freeze_front_end and name.startswith("front_end.")

    def set_trainable(self, update: int) -> bool:
        """Freeze all but the head before `head_only_updates`, then all but a frozen front end.

        Returns whether anything changed.
        """
        training = update >= self.config.head_only_updates
        changed = False
        for name, parameter in self.backbone.named_parameters():
            wanted = training and not self._frozen(name)
            changed |= parameter.requires_grad != wanted
            parameter.requires_grad_(wanted)
        return changed

    def forward(
        self,
        waveform_BN: Tensor,
        generator: torch.Generator | None = None,
        lengths: Tensor | None = None,
        streams: Streams | None = None,
    ) -> Tensor:
        """Logits (B, T, C) of normalised waveforms (B, N) with `streams` (B, M, C by name, as `Backbone.features`).

        In train mode masks, layerdrop, dropout and the streams' are active; all but dropout are drawn from `generator`
        (CPU).
        `lengths` (B, samples) excludes padding: frames beyond an item's end have meaningless logits and
        change nothing before it.
        """
        return self.classify(self.features(waveform_BN, generator, lengths, streams), lengths)

    def features(
        self,
        waveform_BN: Tensor,
        generator: torch.Generator | None = None,
        lengths: Tensor | None = None,
        streams: Streams | None = None,
    ) -> Tensor:
        """What the head sees (B, T, D): the mean of the last layer results, at the front end's rate; else as
        `forward`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_front_end):
            x_BTC = self.backbone.local_features(waveform_BN, lengths, generator)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._backbone_learns()):
            return self._pooled(x_BTC, generator, lengths, streams)

    def classify(self, features_BTD: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (B, T, C) of `features`, with the `lengths` that they were made with."""
        return apply_head(self.head, self.dropout(features_BTD), self._valid(lengths, features_BTD))

    def _valid(self, lengths: Tensor | None, x_BTD: Tensor) -> Tensor | None:
        """bool (B, T): the frames within `lengths` (B, samples); None where all are."""
        return None if lengths is None else self.backbone.valid_frames(lengths, x_BTD.shape[1], x_BTD.device)

    def _backbone_learns(self) -> bool:
        return any(parameter.requires_grad for parameter in self.backbone.projection.parameters())

    def _pooled(
        self,
        x_BTC: Tensor,
        generator: torch.Generator | None,
        lengths: Tensor | None,
        streams: Streams | None,
    ) -> Tensor:
        """Mean of the last `average_layers` layer results, at the front end's rate (B, T, D)."""
        kept_SB = self.backbone.draw_streams(len(x_BTC), generator) if self.training else None
        x_BTD = self.backbone.with_streams(self.backbone.projection(x_BTC), streams, kept_SB)
        if self.training:
            x_BTD = self._mask(x_BTD, generator)
        x_BSD, valid_BS = self.backbone.encoder_input(x_BTD, self._valid(lengths, x_BTD))
        _, results = self.backbone.contextualise(
            x_BSD, valid_BS=valid_BS, results=self.config.average_layers, generator=generator
        )
        return self.backbone.at_frame_rate(torch.stack([result.float() for result in results]).mean(0), x_BTD)

    def _mask(self, x_BTD: Tensor, generator: torch.Generator | None) -> Tensor:
        """Masks as a regulariser: noise in masked frames, 0 in masked channels; no frame is dropped."""
        config, (batch, frames, dim), device = self.config, x_BTD.shape, x_BTD.device
        if config.mask_length and config.mask_probability:
            mask_BT = frame_mask(batch, frames, config.mask_probability, config.mask_length, generator)
            fill_BTD = noise(tuple(x_BTD.shape), config.mask_noise, device, generator).to(x_BTD.dtype)
            x_BTD = torch.where(mask_BT.to(device, non_blocking=True)[:, :, None], fill_BTD, x_BTD)
        if config.channel_mask_length and config.channel_mask_probability:
            share, length = config.channel_mask_probability, config.channel_mask_length
            mask_BD = channel_mask(batch, dim, share, length, generator).to(device, non_blocking=True)
            x_BTD = x_BTD.masked_fill(mask_BD[:, None], 0.0)
        return x_BTD

    def loss(self, logits_BTC: Tensor, targets_BTC: Tensor, valid_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Loss summed over classes and (valid) frames, and the number of those frames to divide by, int64 on the same
        device: nobody waits for it.

        A target that is NaN is not known and has no loss; frames without any known target are not counted. With head
        `boxes` there are its targets, (B, T, 4 C) as in `boxes.py`.
        """
        if self.config.head == "boxes":
            return box_loss(logits_BTC, targets_BTC, valid_BT, self.config.focal_gamma)
        known_BTC = ~targets_BTC.isnan()
        loss_BTC = self._elementwise(logits_BTC, torch.where(known_BTC, targets_BTC, 0.0))
        counted_BT = known_BTC.any(-1) if valid_BT is None else known_BTC.any(-1) & valid_BT
        loss_BTC = torch.where(known_BTC, loss_BTC, 0.0)
        if loss_BTC.device.type == "cpu":  # an index of truth values, which an accelerator would make the host wait for
            return loss_BTC[counted_BT].sum(), counted_BT.sum()
        return torch.where(counted_BT[:, :, None], loss_BTC, 0.0).sum(), counted_BT.sum()

    def presence_loss(self, logits_BTC: Tensor, counted_BT: Tensor, recording_B: Tensor, presence_RC: Tensor) -> Tensor:
        """Loss (R,) of recordings of which only the classes are known, summed over classes: that of the frames (focal
        or binary cross entropy) on the frames' likelihoods pooled by `linear_softmax`, whose arguments these are.

        presence_RC: 0 or 1; NaN where it is not known, which adds nothing.
        """
        pooled_RC = linear_softmax(logits_BTC.float().sigmoid(), counted_BT, recording_B, len(presence_RC))
        loss_RC = self._elementwise(logit_of(pooled_RC), torch.nan_to_num(presence_RC, 0.0))
        return torch.where(torch.isnan(presence_RC), 0.0, loss_RC).sum(1)

    def _elementwise(self, logits: Tensor, targets: Tensor) -> Tensor:
        own = self.config.loss
        if own is not None:
            return own_loss(own, logits, targets)
        if self.config.focal:
            return focal_loss(logits, targets, self.config.focal_gamma, self.config.focal_alpha)
        return functional.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")


def _rows(names: list[str], detector: Detector) -> Tensor:
    """The rows of a head's last layer that are these classes', map by map."""
    of_names = torch.tensor([detector.classes.index(name) for name in names])
    maps = torch.arange(detector.config.columns)[:, None] * len(detector.classes)
    return (maps + of_names).flatten()


def load_exactly(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """load_state_dict that needs every name and shape to fit; ValueError listing what does not."""
    shapes = [{name: list(tensor.shape) for name, tensor in one.items()} for one in (module.state_dict(), state)]
    check_shapes(*shapes)
    module.load_state_dict(dict(state))


def check_shapes(own: Mapping[str, list[int]], found: Mapping[str, list[int]]) -> None:
    """ValueError listing what does not fit of the weights `found` for a model with `own`."""
    problems = [f"missing {name}" for name in own if name not in found]
    problems += [f"unexpected {shown(name)}" for name in found if name not in own]
    problems += [
        f"{name} is {found[name]}, should be {own[name]}" for name in own if name in found and found[name] != own[name]
    ]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(f"weights do not fit the model: {'; '.join(problems[:8])}{more}")
