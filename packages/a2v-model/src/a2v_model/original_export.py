"""The configuration of a model here in the original's form, for export."""

import math
from typing import Any

from pydantic import BaseModel

from a2v_model import original_fields as fields
from a2v_model.config import FinetuneConfig, ModelConfig, PretrainConfig
from a2v_model.finetuning import Detector
from a2v_model.original_config import read_config
from a2v_model.original_fields import Fields, Values
from a2v_model.original_layers import write_layers
from a2v_model.pretraining import Pretrainer

Tree = dict[str, Any]
# fields that the original has as constants, or that do not change what a trained network computes
_CARRIED = {
    "model.encoder.init_std",
    "model.encoder.gradient_checkpointing",
    "model.encoder.learned_alibi_scale",
    "model.front_end.sinc_filters",
    "model.front_end.sinc_kernel",
    "model.front_end.start",
    "pretrain.collapse_after",
    "finetune.focal_gamma",
    "finetune.head_prior",
    "finetune.focal_alpha",
    "finetune.mask_probability",
    "finetune.mask_noise",
    "model.encoder.mlp_output_dropout",
    "finetune.mlp_output_dropout",
    "finetune.prenet_layerdrop",
}


def write_config(model: Pretrainer | Detector) -> tuple[Tree, Tree, list[str]]:
    """The original's `cfg`; what the original has no key for, for `read_config` to put on top; the names of those.

    ValueError with one line for each field whose value the original cannot express.
    """
    if isinstance(model, Detector) and model.config.head != "linear":
        head = model.config.head if isinstance(model.config.head, str) else model.config.head.kind
        raise ValueError(f"finetune.head = {head}: only models with a linear head can be exported")
    if isinstance(model, Detector) and model.config.loss is not None:
        raise ValueError(f"finetune.loss = {model.config.loss.kind}: the original has no losses of plugins")
    config = model.model_config
    _, encoder = fields.original_kinds(config)
    if encoder.positional_depth == 0:
        raise ValueError("encoder.positional_depth = 0: the original always has a relative positional encoder")
    if isinstance(model, Detector):
        kind, objective = "finetune", _own_part(model.config, FinetuneConfig)
        cfg = _finetuned(config, objective, model.classes)
    else:
        kind, objective = "pretrain", _own_part(model.config, PretrainConfig)
        cfg = _pretrained(config, objective)
    read = read_config(cfg)
    known = {"model": _complete(read.model), kind: _complete(read.objective)}
    wanted = {"model": _complete(config), kind: _complete(objective)}
    overrides = _difference(wanted, known)
    told = _leaves(overrides, known)
    refused = [f"{name} = {value}: the original cannot express it" for name, value in told if name not in _CARRIED]
    if refused:
        raise ValueError("\n".join(refused))
    return cfg, overrides, [f"{name} = {value}" for name, value in told]


def _own_part(config: Any, kind: type[Any]) -> Any:
    """`config` without what a subclass adds to it."""
    return kind(**{name: getattr(config, name) for name in kind.model_fields})


def _complete(config: BaseModel) -> Tree:
    """All fields in JSON, also those that a dump leaves out where they are off."""
    tree = config.model_dump(mode="json")
    for name in type(config).model_fields:
        value = getattr(config, name)
        tree[name] = _complete(value) if isinstance(value, BaseModel) else tree.get(name, value)
    return tree


def _difference(wanted: Tree, known: Tree) -> Tree:
    found: Tree = {}
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(known.get(key), dict):
            if inner := _difference(value, known[key]):
                found[key] = inner
        elif value != known.get(key):
            found[key] = value
    return found


def _leaves(overrides: Tree, known: Tree, prefix: str = "") -> list[tuple[str, Any]]:
    """(name, value) of overrides that say something other than rounding, or than 'derived' of what is derived."""
    found: list[tuple[str, Any]] = []
    for key, value in overrides.items():
        if isinstance(value, dict):
            found += _leaves(value, known.get(key, {}), f"{prefix}{key}.")
        elif value is not None and not (isinstance(value, float) and math.isclose(value, known.get(key) or 0.0)):
            found.append((f"{prefix}{key}", value))
    return found


def _given(table: Fields, config: Any) -> Tree:
    return {key: getattr(config, own) for key, own in table.items()}


def _first(table: Values) -> Tree:
    return {key: allowed[0] for key, allowed in table.items()}


def _layers(config: ModelConfig) -> str:
    front_end, _ = fields.original_kinds(config)
    sinc = ((front_end.filters, front_end.kernel, 1),) if front_end.sinc else ()
    return write_layers((*sinc, *front_end.layers))


def _network(config: ModelConfig) -> tuple[Tree, Tree]:
    """Section model and section modalities.audio, as far as the network goes."""
    front_end, encoder = fields.original_kinds(config)
    rate, layers = front_end.sample_rate, _layers(config)
    model = {"_name": "data2vec_multi", **_given(fields.ENCODER, encoder), "post_mlp_drop": encoder.dropout}
    model |= {"sample_rate": rate, "conv_feature_layers": layers, **_first(fields.NETWORK)}
    audio = {**_given(fields.AUDIO, encoder), **_first(fields.AUDIO_NETWORK), **_first(fields.AUDIO_SINC)}
    audio |= {**_first(fields.AUDIO_ALIBI), "learned_alibi_scale": encoder.learned_alibi_scale, "alibi_scale": 1.0}
    audio |= {"learned_alibi_scale_per_head": True, "num_alibi_heads": encoder.heads, "model_depth": encoder.depth}
    audio |= {"sinc_input": front_end.sinc, "use_pswish": front_end.sinc_activation == "pswish"}
    return model, audio | {"sample_rate": rate, "conv_feature_layers": layers}


def _pretrained(config: ModelConfig, pretrain: PretrainConfig) -> Tree:
    model, audio = _network(config)
    model |= {
        **_given(fields.OBJECTIVE, pretrain),
        **_first(fields.LOSS),
        **_first(fields.TRAINING),
        "loss_scale": None,
    }
    audio |= {**_first(fields.AUDIO_LOSS), **_first(fields.AUDIO_TRAINING), "mask_noise_std": pretrain.mask_noise}
    audio |= {"mask_prob": pretrain.mask_probability * pretrain.mask_length, "mask_length": pretrain.mask_length}
    audio["decoder"] = {**_given(fields.DECODER, pretrain.decoder), **_first(fields.DECODER_LOSS)}
    model["modalities"] = {"_name": None, "audio": audio}
    criterion = {"_name": "expanded_model", "loss_weights": {}, "can_sum": True}
    return {"_name": None, "model": model, "task": _task(config, "pretrain"), "criterion": criterion}


def _finetuned(config: ModelConfig, finetune: FinetuneConfig, classes: list[str]) -> Tree:
    nested, audio = _network(config)
    probability = finetune.mask_probability * finetune.mask_length
    audio |= {"mask_noise_std": finetune.mask_noise, "mask_prob": probability, "mask_length": finetune.mask_length}
    audio |= {"encoder_zero_mask": False, "mask_channel_prob": finetune.channel_mask_probability}
    audio |= {"mask_channel_length": finetune.channel_mask_length}
    nested["modalities"] = {"_name": None, "audio": audio}
    labels = repr(classes)
    model = {
        "_name": "wav2vec_ccas_finetune",
        **_given(fields.FINETUNE, finetune),
        **_first(fields.FINETUNE_NETWORK),
        **_first(fields.FINETUNE_TRAINING),
        "apply_mask": True,
        "mask_prob": probability,
        "zero_mask": False,
        "feature_grad_mult": 0.0 if finetune.freeze_front_end else 1.0,
        "unique_labels": labels,
        "sample_rate": config.front_end.sample_rate,
        "w2v_args": {"_name": None, "model": nested, "task": _task(config, "pretrain")},
    }
    criterion = {"_name": "finetunecriterion", "use_focal_loss": finetune.focal, "unique_labels": labels}
    task = _task(config, "train_0") | {"unique_labels": labels, "with_labels": True}
    return {"_name": None, "model": model, "task": task, "criterion": criterion}


def _task(config: ModelConfig, subset: str) -> Tree:
    return {
        "_name": "audio_ccas",
        "data": None,
        "sample_rate": config.front_end.sample_rate,
        "normalize": True,
        "conv_feature_layers": _layers(config),
        "train_subset": subset,
    }
