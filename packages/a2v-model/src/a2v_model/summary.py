"""What a model folder holds, without loading its weights."""

import math
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from a2v_model.checkpoints import WEIGHTS, check_thresholds, description_path, read_description, weight_shapes
from a2v_model.config import AnyFrontEnd, EarConfig, ModelConfig
from a2v_model.documents import reason
from a2v_model.parts import UNLOADED
from a2v_model.pickle_values import shown
from a2v_model.registry import OwnFrontEndConfig
from a2v_model.saved_plugins import read_plugins, said_of

_PARTS = {  # own name, below student or backbone, begins with -> part
    "front_end.": "front_end",
    "projection.": "projection",
    "streams.": "streams",
    "downsampling.": "downsampling",
    "encoder.positional.": "positional_encoder",
    "encoder.alibi.": "alibi_scales",
    "encoder.prenet.": "prenet",
    "encoder.blocks.": "blocks",
    "encoder.convs.": "convolutions",
    "encoder.norms.": "convolutions",
    "upsampling.": "upsampling",
    "decoder.": "decoder",
    "head.": "head",
    "teacher.": "teacher",
}


def receptive_field(front_end: AnyFrontEnd) -> int:
    """Samples of the waveform that one frame of the front end depends on (an ear's slow level aside, which is that of
    the segment); of a plugin's those that its shortest segment has."""
    if isinstance(front_end, OwnFrontEndConfig):
        return front_end.shortest
    if isinstance(front_end, EarConfig):
        return front_end.energy_window + 2 * len(front_end.stem) * front_end.stride
    field, step = 1, 1
    sinc = ((front_end.filters, front_end.kernel, 1),) if front_end.sinc else ()
    for _, kernel, stride in (*sinc, *front_end.layers):
        field += (kernel - 1) * step
        step *= stride
    return field


def parameters_by_part(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Numbers in each part of a model folder's weights, in the order in which audio passes through them."""
    path = Path(folder) / WEIGHTS
    counts = dict.fromkeys(_PARTS.values(), 0)
    if not path.is_file():
        raise ValueError(f"{folder}: no {WEIGHTS} there; the folder is incomplete")
    for name, shape in weight_shapes(path).items():
        below = name.removeprefix("student.").removeprefix("backbone.")
        part = next((part for start, part in _PARTS.items() if below.startswith(start)), None)
        if part is None:
            raise ValueError(f"{path}: unexpected weight {shown(name)}")
        counts[part] += math.prod(shape)
    return {part: count for part, count in counts.items() if count}


def summarise(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Kind, sizes, rates (Hz), receptive field (samples, s; None for that of a plugin that is not loaded),
    classes, a detector's thresholds and what they hold for, masks, configuration and provenance.

    ValueError (one line) where `folder` is not a complete model folder.
    """
    description = read_description(folder)
    brought = read_plugins(Path(folder), description)
    try:
        check_thresholds(description.get("thresholds", {}), description["classes"])
        front_end = ModelConfig.model_validate(description["model"], context={UNLOADED: True}).front_end
        objective = description["pretrain" if description["kind"] == "pretrained" else "finetune"]
        keys = ("mask_probability", "mask_length", "mask_noise", "channel_mask_probability", "channel_mask_length")
        known = not isinstance(front_end, OwnFrontEndConfig) or front_end.kind in front_end.registry.parts
        field = receptive_field(front_end) if known else None
        stride = front_end.stride if known else round(description["sample_rate"] / description["frame_rate"])
        return {
            "kind": description["kind"],
            "sample_rate_hz": description["sample_rate"],
            "frame_rate_hz": description["frame_rate"],
            "samples_per_frame": stride,
            "receptive_field_samples": field,
            "receptive_field_s": None if field is None else field / description["sample_rate"],
            "classes": description["classes"],
            "thresholds": description.get("thresholds", {}),  # a model of before there were any has none
            "thresholds_from": description.get("thresholds_from", {}),
            "parameters": description["parameters"] | {"parts": parameters_by_part(folder)},
            "masks": {key: objective[key] for key in keys if key in objective},
            "model": description["model"],
            "objective": objective,
            "provenance": description["extra"],
            **({"plugins": {one.name: said_of(one) for one in brought}} if brought else {}),
        }
    except ValidationError as error:
        raise ValueError(f"{description_path(folder)}: no model can be built of it: {reason(error)}") from None
    except (KeyError, TypeError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"{folder}: its description is incomplete ({type(error).__name__}: {error})") from error
