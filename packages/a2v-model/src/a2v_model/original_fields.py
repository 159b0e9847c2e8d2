"""The original's configuration keys, sorted by what they mean for this package.

A `Fields` table maps a key onto one field here. A `Values` table holds keys for which this package knows one way
only: the values that mean it, the first of them being what export writes.
"""

from typing import Any

from a2v_model.config import EncoderConfig, FrontEndConfig, ModelConfig

Fields = dict[str, str]
Values = dict[str, tuple[Any, ...]]

# cfg.model of pretraining (also below w2v_args in a finetuned file)
ENCODER: Fields = {
    "depth": "depth", "num_heads": "heads", "embed_dim": "dim", "mlp_ratio": "mlp_ratio",
    "encoder_dropout": "dropout", "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout", "layerdrop": "layerdrop",
}  # fmt: skip
OBJECTIVE: Fields = {
    "average_top_k_layers": "target_layers", "clone_batch": "clones", "ema_decay": "ema_start",
    "ema_end_decay": "ema_end", "ema_anneal_end_step": "ema_updates", "min_target_var": "min_target_variance",
    "min_pred_var": "min_prediction_variance",
}  # fmt: skip
NETWORK: Values = {
    "norm_eps": (1e-5,), "norm_affine": (True,), "layer_norm_first": (False,), "end_of_block_targets": (False,),
    "shared_decoder": (None,), "supported_modality": ("AUDIO", 1),
}  # fmt: skip
LOSS: Values = {
    "loss_beta": (0.0,), "layer_norm_target_layer": (False,), "batch_norm_target_layer": (False,),
    "instance_norm_target_layer": (True,), "instance_norm_targets": (False,), "layer_norm_targets": (False,),
    "ema_encoder_only": (False,), "skip_ema": (False,), "cls_loss": (0.0,), "recon_loss": (0.0,), "d2v_loss": (1.0,),
}  # fmt: skip
TRAINING: Values = {
    "start_drop_path_rate": (0.0,), "end_drop_path_rate": (0.0,), "dropout_input": (0.0,), "final_dropout": (0.0,),
}  # fmt: skip
BCL = ("mixup_prob", "mixing_window_length", "source_mixup", "same_mixup", "target_mixup", "gain_mode")
_LABELS_AND_SCORES = (
    "unique_labels", "with_labels", "use_focal_loss", "metric_threshold", "iou_threshold", "sigma_s", "maxfilt_s",
    "max_duration_s", "lowP", "method", "segmentation_metrics", "verbose_tensorboard_logging",
)  # fmt: skip
MEANINGLESS = (
    "_name", "log_norms", "ema_same_dtype", "max_update", "seed", "mae_init", "decoder_group", *_LABELS_AND_SCORES, *BCL
)  # fmt: skip

# cfg.model.modalities.audio
AUDIO: Fields = {
    "prenet_depth": "prenet_depth", "prenet_dropout": "prenet_dropout", "prenet_layerdrop": "prenet_layerdrop",
    "use_alibi_encoder": "alibi",
    "conv_pos_width": "positional_width", "conv_pos_groups": "positional_groups", "conv_pos_depth": "positional_depth",
}  # fmt: skip
AUDIO_NETWORK: Values = {
    "type": ("AUDIO", 1), "num_extra_tokens": (0,), "extractor_mode": ("layer_norm",), "conv_pos_pre_ln": (False,)
}  # fmt: skip
AUDIO_SINC: Values = {"apply_window_to_root": (False,), "sinc_norm": ("layer_norm",)}
AUDIO_ALIBI: Values = {
    "learned_alibi": (False,), "alibi_max_pos": (None,), "learned_alibi_scale_per_layer": (False,)
}  # fmt: skip
AUDIO_LOSS: Values = {
    "mask_prob_min": (None,), "inverse_mask": (False,), "keep_masked_pct": (0.0,), "add_masks": (False,),
    "remove_masks": (False,), "mask_dropout": (0.0,), "encoder_zero_mask": (True,), "mask_channel_prob": (0.0,),
    "ema_local_encoder": (False,),
}  # fmt: skip
AUDIO_TRAINING: Values = {
    "start_drop_path_rate": (0.0,), "end_drop_path_rate": (0.0,),
    "local_grad_mult": (1.0,), "learned_alibi_scale_per_head": (True,),
}  # fmt: skip
AUDIO_MEANINGLESS = (
    "init_extra_token_zero", "mask_prob_adjust", "mask_channel_length", "model_depth", "alibi_scale", "num_alibi_heads"
)  # fmt: skip

DECODER: Fields = {
    "decoder_dim": "dim", "decoder_groups": "groups", "decoder_kernel": "kernel", "decoder_layers": "depth",
    "input_dropout": "dropout",
}  # fmt: skip
DECODER_LOSS: Values = {
    "add_positions_masked": (False,), "add_positions_all": (False,), "decoder_residual": (True,),
    "projection_layers": (1,),
}  # fmt: skip
DECODER_MEANINGLESS = ("projection_ratio",)

# cfg.model of finetuning
FINETUNE: Fields = {
    "dropout": "dropout", "attention_dropout": "attention_dropout", "activation_dropout": "activation_dropout",
    "final_dropout": "head_dropout", "layerdrop": "layerdrop", "mask_length": "mask_length",
    "mask_channel_length": "channel_mask_length", "mask_channel_prob": "channel_mask_probability",
    "average_top_k_layers": "average_layers", "use_focal_loss": "focal", "freeze_finetune_updates": "head_only_updates",
}  # fmt: skip
FINETUNE_NETWORK: Values = {
    "normalize": (True,),
    "layer_type": ("transformer",),
    "adp_num": (-1,),
    "blank_weight": (0.0,),
}
FINETUNE_TRAINING: Values = {
    "dropout_input": (0.0,), "mask_selection": ("static",), "mask_other": (0.0,), "no_mask_overlap": (False,),
    "mask_min_space": (1,), "require_same_masks": (True,), "mask_dropout": (0.0,),
    "mask_channel_selection": ("static",), "mask_channel_other": (0.0,), "no_mask_channel_overlap": (False,),
    "mask_channel_min_space": (1,), "mask_channel_before": (False,), "drop_path": (0.0,), "update_alibi": (True,),
    "layer_decay": (1.0,), "freeze_regex": (None,),
}  # fmt: skip
FINETUNE_MEANINGLESS = (
    "_name", "w2v_path", "w2v_args", "no_pretrained_weights", "load_pretrain_weights", "load_ema", "data",
    "offload_activations", "min_params_to_wrap", "checkpoint_activations", "ddp_backend", "adp_dim", "adp_act_fn",
    "adp_trf_idx", "blank_mode", "sample_rate", "seed", "max_update", *_LABELS_AND_SCORES, *BCL,
)  # fmt: skip

# keys that older files lack, and what their absence means
ABSENT: dict[str, Any] = {
    "layerdrop": 0.0, "prenet_layerdrop": 0.0, "clone_batch": 1, "sinc_input": False, "use_pswish": False,
}  # fmt: skip


def original_kinds(model: ModelConfig) -> tuple[FrontEndConfig, EncoderConfig]:
    """Front end and encoder of a model of the original's kinds; ValueError for what the original does not have."""
    if not isinstance(model.front_end, FrontEndConfig):
        kind = model.front_end.kind
        raise ValueError(f"front_end.kind = {kind}: the original has no such front end, it begins with convolutions")
    if not isinstance(model.encoder, EncoderConfig):
        raise ValueError("encoder.kind = convolutions: the original always has a transformer")
    if model.streams:
        raise ValueError(f"streams = {', '.join(model.streams)}: the original hears sound alone")
    return model.front_end, model.encoder
