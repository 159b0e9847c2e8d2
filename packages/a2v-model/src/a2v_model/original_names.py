"""Parameter names of the original animal2vec release, mapped onto this package's.

Covers the student and the teacher ('_ema') of a pretraining checkpoint and, with the prefix
'w2v_encoder.', a finetuned one. Names only: reading foreign files is done elsewhere.
"""

import re
from collections.abc import Mapping

from torch import Tensor

_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}
_SINC = {
    "0.low_hz_": "sinc.filters.low_hz",
    "0.band_hz_": "sinc.filters.band_hz",
    "2.1.weight": "sinc.norm.weight",
    "2.1.bias": "sinc.norm.bias",
    "3.p_swish_alpha": "sinc.activation.alpha",
    "3.p_swish_beta": "sinc.activation.beta",
}
_MODALITY = "modality_encoders.AUDIO."


def _block_name(rest: str) -> str | None:
    match = re.fullmatch(r"(\d+)\.(.+)\.(weight|bias)", rest)
    if match is None or match[2] not in _BLOCK:
        return None
    return f"{match[1]}.{_BLOCK[match[2]]}.{match[3]}"


def _front_end_name(rest: str, sinc: bool) -> str | None:
    """`rest` after 'conv_layers.': with Sinc the original counts the Sinc layer as layer 0."""
    index, _, tail = rest.partition(".")
    if sinc and index == "0":
        return _SINC.get(tail)
    part = {"0.weight": "conv.weight", "2.1.weight": "norm.weight", "2.1.bias": "norm.bias"}.get(tail)
    return None if part is None else f"layers.{int(index) - int(sinc)}.{part}"


def own_name(original: str, sinc: bool = True) -> str:
    """This package's name, below a Pretrainer, of a student tensor of the original; ValueError when unknown.

    Tensors of the encoder are 'student.encoder.*'; those of a finetuned model's backbone have the same names
    after its 'w2v_encoder.w2v_model.' is removed.
    """
    name = _encoder_name(original)
    if name is not None:
        return f"student.encoder.{name}"
    rest = original.removeprefix(_MODALITY)
    if rest.startswith("local_encoder.conv_layers."):
        front = _front_end_name(rest.removeprefix("local_encoder.conv_layers."), sinc)
        if front is not None:
            return f"student.front_end.{front}"
    if match := re.fullmatch(r"project_features\.([12])\.(weight|bias)", rest):
        return f"student.projection.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"decoder\.blocks\.(\d+)\.0\.(weight|bias)", rest):
        return f"decoder.convs.{match[1]}.{match[2]}"
    if match := re.fullmatch(r"decoder\.proj\.(weight|bias)", rest):
        return f"decoder.out.{match[1]}"
    raise ValueError(f"unknown parameter of the original model: {original}")


def _encoder_name(original: str) -> str | None:
    """Name below `Encoder`, or None where the tensor is not the encoder's."""
    rest = original.removeprefix(_MODALITY)
    if original.startswith("blocks."):
        block = _block_name(original.removeprefix("blocks."))
        return None if block is None else f"blocks.{block}"
    if rest == "alibi_scale":
        return "alibi.scale"
    if rest.startswith("context_encoder.norm."):
        return "prenet." + rest.removeprefix("context_encoder.")
    if rest.startswith("context_encoder.blocks."):
        block = _block_name(rest.removeprefix("context_encoder.blocks."))
        return None if block is None else f"prenet.blocks.{block}"
    if match := re.fullmatch(r"relative_positional_encoder\.(\d+)\.0\.(weight|bias)", rest):
        return f"positional.convs.{int(match[1]) - 1}.{match[2]}"
    return None


def own_tensor(name: str, tensor: Tensor) -> Tensor:
    """The tensor in this package's shape: vectors over filters, channels or heads lose their axes of 1."""
    vector = ("low_hz", "band_hz", "alpha", "beta", "alibi.scale")
    return tensor.flatten() if name.endswith(vector) else tensor


def own_state(original: Mapping[str, Tensor], sinc: bool = True) -> dict[str, Tensor]:
    """A Pretrainer's 'student.*' and 'decoder.*' tensors from the original's student tensors."""
    names = {own_name(key, sinc): tensor for key, tensor in original.items()}
    return {name: own_tensor(name, tensor) for name, tensor in names.items()}


def own_teacher_state(original: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Pretrainer's 'teacher.*' tensors from the original's '_ema' tensors."""
    state = own_state(original)
    return {"teacher." + name.removeprefix("student.encoder."): tensor for name, tensor in state.items()}
