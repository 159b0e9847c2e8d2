"""Configuration of the model and of its two objectives.

Every part that the paper ablates is one field. Masks are given as in the paper: start probability p and
length l in frames (published configuration files write mask_prob = p * l).
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from a2v_model.front_end_config import Config as Config
from a2v_model.front_end_config import EarConfig as EarConfig
from a2v_model.front_end_config import FrontEndConfig as FrontEndConfig
from a2v_model.front_end_config import Layers, Size, is_none
from a2v_model.front_end_config import Probability as Probability
from a2v_model.parts import Registry
from a2v_model.registry import FRONT_ENDS, OwnFrontEndConfig, OwnHead, OwnLoss

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]  # dropout rates
STREAM_WIDTH, STREAM_DROPOUT = 32, 0.3
Downsampling = Annotated[int, Field(ge=1, le=8, exclude_if=lambda factor: factor == 1)]  # 1 is in no dump
RateIfAny = Annotated[float, Field(ge=0.0, lt=1.0, exclude_if=lambda rate: rate == 0)]  # 0 is in no dump: see is_none


class EncoderConfig(Config):
    """The transformer: relative positional encoder, ALiBi, prenet (context encoder) and main blocks.

    `positional_width` is shared by the `positional_depth` convolutions: each has max(3, width // depth) taps.
    `downsampling`: how many frames of the front end are one of the encoder's (1: each); of 100 a second, 4 make 25.
    Heads, targets and events keep the front end's rate (downsampling.py); attention, its slopes, the positional
    convolutions and pretraining's masks count the encoder's frames.
    The dropout rates are those of pretraining; `FinetuneConfig` replaces them. `activation_dropout` stands after the
    MLP's GELU, `mlp_output_dropout` after its second layer, so in the layer result too. `layerdrop` skips main blocks,
    `prenet_layerdrop` those of the prenet. `learned_alibi_scale` = False keeps the scales at 1 (the paper learns them).
    """

    kind: Literal["transformer"] = Field(default="transformer", exclude=True)  # the default, in no dump
    dim: Size = 1024
    heads: Size = 16
    depth: Layers = Field(default=16, gt=0)
    prenet_depth: Layers = 8
    mlp_ratio: float = Field(default=4.0, gt=0, le=1000)
    downsampling: Downsampling = 1
    positional_depth: Layers = 5
    positional_width: Size = 95
    positional_groups: Size = 16
    alibi: bool = True
    learned_alibi_scale: bool = True
    init_std: float = Field(default=0.02, gt=0)
    attention_dropout: Rate = 0.1
    dropout: Rate = 0.1
    activation_dropout: Rate = 0.0
    mlp_output_dropout: RateIfAny = 0.0
    prenet_dropout: Rate = 0.1
    layerdrop: Rate = 0.0
    prenet_layerdrop: RateIfAny = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, parts in (("heads", self.heads), ("positional_groups", self.positional_groups)):
            if self.dim % parts:
                raise ValueError(f"encoder.dim = {self.dim} is not divisible by encoder.{name} = {parts}")
        return self

    @property
    def positional_kernel(self) -> int:
        """Taps of one positional convolution (spec: max(3, 95 // 5) = 19)."""
        return max(3, self.positional_width // max(1, self.positional_depth))

    @property
    def hidden(self) -> int:
        """Width inside the MLP."""
        return int(self.dim * self.mlp_ratio)


class ConvolutionConfig(Config):
    """In place of the transformer, for a supervised baseline: residual dilated convolutions of 3 taps over time.

    Layer i has a dilation of 2^i frames: `depth` layers look 2^depth - 1 frames to both sides.
    """

    kind: Literal["convolutions"] = "convolutions"
    dim: Size = 96
    depth: int = Field(default=7, gt=0, le=12)
    dropout: Rate = 0.1


def _kind(default: str, own: Registry | None = None) -> Any:
    """Which configuration of a union is meant; without `kind` the paper's.

    Its tag stands in an error's place; brackets mark it as no key. own: the registry of
    plugins' kinds, which have one tag.
    """

    def tag(value: Any) -> str:
        kind = value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", default)
        is_own = own is not None and kind not in own.built_in
        return "[own]" if is_own else f"[{kind}]"

    return Discriminator(tag)


AnyFrontEnd = Annotated[
    Annotated[FrontEndConfig, Tag("[waveform]")]
    | Annotated[EarConfig, Tag("[ear]")]
    | Annotated[OwnFrontEndConfig, Tag("[own]")],
    _kind("waveform", FRONT_ENDS),
]
AnyEncoder = Annotated[
    Annotated[EncoderConfig, Tag("[transformer]")] | Annotated[ConvolutionConfig, Tag("[convolutions]")],
    _kind("transformer"),
]


class StreamConfig(Config):
    """What is recorded beside sound and heard with it. columns: names of its values; rate: Hz at which the model takes
    them; gap_s: for who reads tables: longest time without a value that is interpolated, seconds (None: by what lies
    between two usually)."""

    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    rate: float = Field(gt=0, le=1000)
    gap_s: float | None = Field(default=None, gt=0)


class ModelConfig(Config):
    """Front end and encoder: what pretraining and finetuning share.

    streams: what is heard beside sound, by name (streams.py). stream_width: of the encoder of each. stream_dropout: the
    probability that a segment's stream is dropped as a whole in training, so that the model knows recordings without
    it.
    """

    front_end: AnyFrontEnd = FrontEndConfig()
    encoder: AnyEncoder = EncoderConfig()
    streams: dict[str, StreamConfig] = Field(default={}, exclude_if=lambda streams: not streams)
    stream_width: int = Field(default=STREAM_WIDTH, gt=0, le=1024, exclude_if=lambda width: width == STREAM_WIDTH)
    stream_dropout: Rate = Field(default=STREAM_DROPOUT, exclude_if=lambda rate: rate == STREAM_DROPOUT)

    @property
    def downsampling(self) -> int:
        """Frames of the front end that are one of the encoder's."""
        return self.encoder.downsampling if isinstance(self.encoder, EncoderConfig) else 1

    @property
    def encoder_frame_rate(self) -> float:
        """Frames of the encoder per second, Hz."""
        return self.front_end.frame_rate / self.downsampling

    def encoder_frames(self, frames: int) -> int:
        """Frames of the encoder that so many of the front end are; a begun one counts."""
        return -(-frames // self.downsampling)


class DecoderConfig(Config):
    """Convolutional decoder of pretraining; dropped afterwards."""

    dim: Size = 768
    kernel: Size = 7
    groups: Size = 16
    depth: Layers = Field(default=4, gt=0)
    dropout: Rate = 0.1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.dim % self.groups:
            raise ValueError(f"decoder.dim = {self.dim} is not divisible by decoder.groups = {self.groups}")
        return self


class PretrainConfig(Config):
    """Self-distillation on masked frames (paper, pretraining).

    `ema_start` -> `ema_end` linearly over `ema_updates` updates. `target_layers`: how many of the last main
    blocks are averaged into the target. After `collapse_after` updates the variances must exceed the minima.
    """

    mask_probability: Probability = 0.75
    mask_length: int = Field(default=2, gt=0)
    mask_noise: float = Field(default=0.01, ge=0)
    clones: int = Field(default=12, gt=0)
    target_layers: int = Field(default=16, gt=0)
    decoder: DecoderConfig = DecoderConfig()
    ema_start: Probability = 0.9997
    ema_end: Probability = 1.0
    ema_updates: int = Field(default=300_000, gt=0)
    collapse_after: int = Field(default=5000, ge=0)
    min_target_variance: float = Field(default=0.1, ge=0)
    min_prediction_variance: float = Field(default=0.01, ge=0)


class FinetuneConfig(Config):
    """Frame-wise detection with a pretrained backbone (paper, finetuning).

    `channel_mask_probability` is the share of channels drawn before overlaps, as published (0.5 with length
    64); a length of 0 switches a mask off. `average_layers` = 1 uses the last block only. `focal` = False is
    binary cross entropy. For the first `head_only_updates` updates only the head learns; with
    `freeze_front_end` the convolutions before the projection never do. `head_prior` is the likelihood that a new
    head gives every class at first (its bias starts at the logit of it; None: at 0, as in the paper): with rare calls
    a small one, such as 0.01, spares the first updates (Lin et al. 2017, arXiv 1708.02002, section 4.1).
    `head`: linear, as in the paper, temporal, a small stack of convolutions that sees neighbouring frames too, boxes,
    which is temporal and gives onsets, offsets and durations, so that calls of one class may overlap, and has a loss
    of its own, of which `focal_gamma` alone is a parameter (`boxes.py`), or
    {kind: NAME, ...}, that of a plugin. `loss`: {kind: NAME, ...}, that of a plugin in place of `focal`.
    Dropout is as in `EncoderConfig`, `head_dropout` in front of the head; what the paper has, its recipes say.
    """

    mask_probability: Probability = 0.825 / 4
    mask_length: int = Field(default=4, ge=0)
    mask_noise: float = Field(default=0.01, ge=0)
    channel_mask_probability: Probability = 0.5
    channel_mask_length: int = Field(default=64, ge=0)
    average_layers: int = Field(default=16, gt=0)
    focal: bool = True
    focal_gamma: float = Field(default=2.0, ge=0)
    focal_alpha: Probability = 0.25
    dropout: Rate = 0.1
    activation_dropout: Rate = 0.1
    mlp_output_dropout: RateIfAny = 0.0
    attention_dropout: Rate = 0.2
    head_dropout: Rate = 0.1
    layerdrop: Rate = 0.1
    prenet_layerdrop: RateIfAny = 0.0
    freeze_front_end: bool = True
    head_only_updates: int = Field(default=10_000, ge=0)
    head_prior: float | None = Field(default=None, gt=0, lt=1, exclude_if=is_none)
    head: Annotated[
        Annotated[Literal["linear", "temporal", "boxes"], Tag("[built-in]")] | Annotated[OwnHead, Tag("[own]")],
        Discriminator(lambda head: "[own]" if isinstance(head, dict | OwnHead) else "[built-in]"),
    ] = Field(default="linear", exclude_if=lambda kind: kind == "linear")
    loss: OwnLoss | None = Field(default=None, exclude_if=is_none)

    @model_validator(mode="after")
    def _box_loss(self) -> Self:
        if self.head == "boxes" and self.loss is not None:
            raise ValueError(
                "loss: has no effect with head boxes, which has a loss of its own; leave one of the two out"
            )
        return self

    @property
    def columns(self) -> int:
        """What a head gives of each class in each frame."""
        return 4 if self.head == "boxes" else 1


def check_together(model: ModelConfig, objective: PretrainConfig | FinetuneConfig) -> None:
    """Raise ValueError where an objective asks for more than the model has."""
    depth, dim = model.encoder.depth, model.encoder.dim
    if isinstance(model.encoder, ConvolutionConfig):
        if isinstance(objective, PretrainConfig):
            raise ValueError(
                "pretrain needs a transformer (encoder.kind = transformer): the supervised baseline has none; "
                "pretrain: null trains it on the labels alone"
            )
        depth = 1  # its one result
    if isinstance(objective, PretrainConfig):
        name, layers = "pretrain.target_layers", objective.target_layers
        if dim % objective.decoder.groups:
            raise ValueError(f"encoder.dim = {dim} is not divisible by decoder.groups = {objective.decoder.groups}")
    else:
        name, layers = "finetune.average_layers", objective.average_layers
        if objective.channel_mask_length and objective.channel_mask_length >= dim:
            raise ValueError(
                f"finetune.channel_mask_length = {objective.channel_mask_length}: must be below encoder.dim = {dim}"
            )
    if layers > depth:
        raise ValueError(f"{name} = {layers}: the encoder has only encoder.depth = {depth} main blocks")
