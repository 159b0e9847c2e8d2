"""The sections of a recipe that say how models are trained: `pretrain` and `finetune`."""

from __future__ import annotations

from typing import Any, Literal

from a2v_data.augment import AugmentConfig
from a2v_data.bcl import BclConfig
from a2v_data.registry import OwnAugmentation
from a2v_data.sampling import ActiveConfig, SamplingConfig
from a2v_model.config import FinetuneConfig, PretrainConfig
from pydantic import Field, model_validator

from .sweep import Positive, Section
from .validating import ValidationConfig


class OptimizerConfig(Section):
    """AdamW with linear warm-up from `warmup_from` and a cosine down to `final_learning_rate` (spec 5 and 7).

    weight_decay: of matrices and kernels; decay_sinc: of the edges of Sinc filters too, as in the original (spec 5).
    gradient_clip: largest norm of an update's gradient, which is scaled down to it; None: as it is.
    """

    learning_rate: float = Field(default=1e-4, gt=0)
    warmup_updates: int = Field(default=0, ge=0)
    warmup_from: float = Field(default=0.0, ge=0)
    final_learning_rate: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(default=1e-6, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    decay_sinc: bool = Field(default=False, exclude_if=lambda wanted: not wanted)
    gradient_clip: float | None = Field(default=1.0, gt=0)


class LoopConfig(Section):
    """One training stage.

    An update's global batch is `micro_batches` independent batches of `segments` segments each. They are spread
    over the workers, so the result does not depend on how many workers there are. `gradient_checkpointing` (less
    memory, about a third more time) and `compile` (torch.compile: minutes at the start, then faster on a GPU)
    change no result beyond rounding and are not part of a run's fingerprint.
    """

    updates: Positive
    segments: int = Field(default=8, ge=2)
    micro_batches: Positive = 1
    random_offset: bool = True  # draw segments at any offset of a recording, not only at multiples of segment_s
    optimizer: OptimizerConfig = OptimizerConfig()
    bcl: BclConfig | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False
    log_every: Positive = 10
    checkpoint_every: Positive = 200
    seed: int = 0


def left_out(value: Any) -> bool:
    """An option that is off is in no dump, so recipes without it keep the fingerprints that they had before it."""
    return value is None


class ProbeConfig(Section):
    """A linear classifier on the frozen features, now and then, which tells whether they get better (`probe.py`).

    every: updates between two probes (one more is before the first update, of the random start, and one at the end);
    recordings: at most so many labelled ones, half of them to fit on and half to score on, and the other way round.
    """

    every: Positive
    recordings: int = Field(default=8, ge=2)


USUAL_TEMPERATURE = 2.0


class PretrainStage(PretrainConfig, LoopConfig):
    """Self-distillation on all recordings of the corpus, labelled or not; labels are not read, but by the probe, which
    the model learns nothing from.

    sampling: prefer stretches in which something stands out; None: each segment once an epoch. probe: not part of a
    run's fingerprint; None: none. hears: `all` recordings, as in the paper, or `train`: a pretraining for each fold,
    without its evaluation and validation recordings and all others of their groups (`folds.group`), labelled or not.
    What `folds.holdout` holds out is never heard. temperature: of several corpora in `pretrain_data`, each is heard in
    proportion to weight x hours ** (1 / temperature): 1 as its hours are, more for all more alike.
    """

    hears: Literal["all", "train"] = Field(default="all", exclude_if=lambda heard: heard == "all")
    sampling: ActiveConfig | None = Field(default=None, exclude_if=left_out)
    probe: ProbeConfig | None = Field(default=None, exclude_if=left_out)
    temperature: float = Field(default=USUAL_TEMPERATURE, ge=1, exclude_if=lambda wanted: wanted == USUAL_TEMPERATURE)

    @model_validator(mode="after")
    def _offsets_agree(self) -> PretrainStage:
        _check_offset(self.sampling, self.random_offset)
        return self


def recordings_of(segments: int, recordings: int, windows: int) -> int:
    """How many whole recordings are worth so many segments, at least one, where `recordings` have so many `windows`."""
    return max(1, round(segments * recordings / windows))


class WeakConfig(Section):
    """How finetuning hears recordings that are labelled as a whole only (`data.annotations.weak`).

    share: of a micro-batch's `segments` that are such recordings, in segments' worth of sound, at least one recording,
    and of the loss; alone they are all of it; 0: they are not used. weight: factor of their loss. max_s: seconds of the
    longest that is taken; each is heard whole, and what is longer is refused.
    """

    share: float = Field(default=0.5, ge=0, lt=1)
    weight: float = Field(default=1.0, gt=0)
    max_s: float = Field(default=120.0, gt=0)


class FinetuneStage(FinetuneConfig, LoopConfig):
    """Supervised training of the detector on one fold.

    sampling: prefer stretches with events, and rare classes; None: each segment once an epoch. augment: events pasted
    into segments, backgrounds, levels; pasted classes are drawn by `sampling.class_power`, 0.5 without sampling.
    augmentations: of plugins, {kind: NAME, ...}, after backgrounds and pasted events, before the level is changed.
    weight_average: decay of an exponential moving average of the weights (0: none), shorter in the first updates;
    the average is what is validated and what becomes the model. validation: how the recordings of `folds.validation`
    choose the update whose weights become the model, by strict AP (None: there are none, and the last one does). weak:
    recordings that are labelled as a whole only, where there are some. start: a finetuned model to go on from, with all
    its weights: its folder, or its URI in MLflow (`runs:/RUN_ID`); its head's classes are kept by their names (None:
    from `pretrain`, `backbone` or random).
    """

    start: str | None = Field(default=None, exclude_if=left_out)
    sampling: SamplingConfig | None = Field(default=None, exclude_if=left_out)
    augment: AugmentConfig | None = Field(default=None, exclude_if=left_out)
    augmentations: tuple[OwnAugmentation, ...] = Field(default=(), exclude_if=lambda own: not own)
    weight_average: float = Field(default=0.0, ge=0, lt=1, exclude_if=lambda decay: decay == 0)
    validation: ValidationConfig | None = Field(default=None, exclude_if=left_out)
    weak: WeakConfig = Field(default=WeakConfig(), exclude_if=lambda weak: weak == WeakConfig())

    @model_validator(mode="after")
    def _offsets_agree(self) -> FinetuneStage:
        _check_offset(self.sampling, self.random_offset)
        return self

    def weak_segments(self, strong: bool, weak: bool) -> int:
        """Segments' worth of a micro-batch that are recordings labelled as a whole only. strong, weak: whether there
        are recordings to train on that are labelled by events, and such ones."""
        if not weak or (strong and not self.weak.share):
            return 0
        return min(max(1, round(self.weak.share * self.segments)), self.segments - 1) if strong else self.segments


def _check_offset(sampling: ActiveConfig | SamplingConfig | None, random_offset: bool) -> None:
    if sampling is not None and not random_offset:
        raise ValueError("random_offset = false: sampling draws at any offset; leave one of the two out")
