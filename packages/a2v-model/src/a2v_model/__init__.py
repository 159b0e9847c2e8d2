"""animal2vec: a self-supervised transformer on raw waveforms (arXiv 2406.01253)."""

from a2v_model.backbone import Backbone
from a2v_model.checkpoints import load_model, save_model, write_thresholds
from a2v_model.config import (
    ConvolutionConfig,
    DecoderConfig,
    EarConfig,
    EncoderConfig,
    FinetuneConfig,
    FrontEndConfig,
    ModelConfig,
    PretrainConfig,
)
from a2v_model.execution import autocast, compile_model, in_bfloat16, own_threads, threads
from a2v_model.finetuning import Detector
from a2v_model.layers import settle_batch_norms
from a2v_model.losses import focal_loss, linear_softmax
from a2v_model.masking import channel_mask, frame_mask
from a2v_model.normalise import normalise, padded_lengths
from a2v_model.parameter_groups import weight_decay_groups
from a2v_model.presets import PRESETS
from a2v_model.pretraining import Masks, Pretrainer, PretrainOutput, ema_decay
from a2v_model.recomputation import set_gradient_checkpointing

__all__ = [
    "PRESETS",
    "Backbone",
    "ConvolutionConfig",
    "DecoderConfig",
    "Detector",
    "EarConfig",
    "EncoderConfig",
    "FinetuneConfig",
    "FrontEndConfig",
    "Masks",
    "ModelConfig",
    "PretrainConfig",
    "PretrainOutput",
    "Pretrainer",
    "autocast",
    "channel_mask",
    "compile_model",
    "ema_decay",
    "focal_loss",
    "frame_mask",
    "in_bfloat16",
    "linear_softmax",
    "load_model",
    "normalise",
    "own_threads",
    "padded_lengths",
    "save_model",
    "set_gradient_checkpointing",
    "settle_batch_norms",
    "threads",
    "weight_decay_groups",
    "write_thresholds",
]
