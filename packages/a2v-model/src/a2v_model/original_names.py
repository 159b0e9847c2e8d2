"""Parameter names of the original animal2vec release, mapped onto this package's, and back.

Covers the student and the teacher ('_ema') of a pretraining checkpoint and, with a prefix, a finetuned one. Names
and shapes only: `torch_archive` reads the files.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from torch import Tensor

FINETUNED_BACKBONE, FINETUNED_HEAD = "w2v_encoder.w2v_model.", "w2v_encoder.proj."
_AUDIO = "modality_encoders.AUDIO."
_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}
_SINC = {
    "0.low_hz_": "filters.low_hz",
    "0.band_hz_": "filters.band_hz",
    "2.1.weight": "norm.weight",
    "2.1.bias": "norm.bias",
    "3.p_swish_alpha": "activation.alpha",
    "3.p_swish_beta": "activation.beta",
}
_CONV = {"0.weight": "conv.weight", "2.1.weight": "norm.weight", "2.1.bias": "norm.bias"}
# vectors over filters, channels or heads have axes of 1 in the original: where its vector stands
_SHAPES = {"low_hz": (-1, 1), "band_hz": (-1, 1), "alpha": (1, -1, 1), "beta": (1, -1, 1), "scale": (1, 1, -1, 1, 1)}


def _rules(sinc: bool) -> Iterator[tuple[str, str, int]]:
    """(original, own, original index - own index); '#' stands for an index, 'weight' for weight or bias.

    Own names are those below a Pretrainer. With Sinc the original counts the Sinc layer as convolution 0.
    """
    encoder = "student.encoder."
    for part, own in _BLOCK.items():
        yield f"blocks.#.{part}.weight", f"{encoder}blocks.#.{own}.weight", 0
        yield f"{_AUDIO}context_encoder.blocks.#.{part}.weight", f"{encoder}prenet.blocks.#.{own}.weight", 0
    yield f"{_AUDIO}context_encoder.norm.weight", f"{encoder}prenet.norm.weight", 0
    yield f"{_AUDIO}relative_positional_encoder.#.0.weight", f"{encoder}positional.convs.#.weight", 1
    yield f"{_AUDIO}alibi_scale", f"{encoder}alibi.scale", 0
    if sinc:
        for part, own in _SINC.items():
            yield f"{_AUDIO}local_encoder.conv_layers.0.{part}", f"student.front_end.sinc.{own}", 0
    for part, own in _CONV.items():
        yield f"{_AUDIO}local_encoder.conv_layers.#.{part}", f"student.front_end.layers.#.{own}", int(sinc)
    yield f"{_AUDIO}project_features.#.weight", "student.projection.#.weight", 1
    yield f"{_AUDIO}decoder.blocks.#.0.weight", "decoder.convs.#.weight", 0
    yield f"{_AUDIO}decoder.proj.weight", "decoder.out.weight", 0


def _pattern(name: str) -> re.Pattern[str]:
    name = re.escape(name).replace(r"\#", r"(?P<index>\d{1,6})")
    return re.compile(re.sub(r"\.(weight|bias)$", r".(?P<kind>weight|bias)", name), re.ASCII)


@lru_cache
def _compiled(sinc: bool, back: bool) -> list[tuple[re.Pattern[str], str, int]]:
    rules = ((own, original, -step) if back else (original, own, step) for original, own, step in _rules(sinc))
    return [(_pattern(source), target, step) for source, target, step in rules]


def _translate(name: str, sinc: bool, back: bool) -> str | None:
    for pattern, target, step in _compiled(sinc, back):
        if (match := pattern.fullmatch(name)) is None:
            continue
        found = match.groupdict()
        if "index" in found:
            index = int(found["index"]) - step
            if index < 0:
                continue
            target = target.replace("#", str(index))
        return re.sub(r"\.(weight|bias)$", f".{found['kind']}", target) if "kind" in found else target
    return None


def own_name(original: str, sinc: bool = True) -> str:
    """This package's name, below a Pretrainer, of a student tensor of the original; ValueError when unknown.

    Tensors of the encoder are 'student.encoder.*'; those of a finetuned model's backbone have the same names
    after its 'w2v_encoder.w2v_model.' is removed.
    """
    name = _translate(original, sinc, back=False)
    if name is None:
        raise ValueError(f"unknown parameter of the original model: {original}")
    return name


def original_name(own: str, sinc: bool = True) -> str:
    """The original's name of one of a Pretrainer's 'student.*' or 'decoder.*' tensors; ValueError when unknown."""
    name = _translate(own, sinc, back=True)
    if name is None:
        raise ValueError(f"the original model has no parameter {own}")
    return name


def own_tensor(name: str, tensor: Tensor) -> Tensor:
    """The tensor in this package's shape: vectors over filters, channels or heads lose their axes of 1."""
    return tensor.flatten() if name.rsplit(".", 1)[-1] in _SHAPES else tensor


def original_tensor(name: str, tensor: Tensor) -> Tensor:
    """The tensor of own name `name` in the original's shape: `own_tensor` backwards."""
    shape = _SHAPES.get(name.rsplit(".", 1)[-1])
    return tensor if shape is None else tensor.reshape(shape)


def own_state(original: Mapping[str, Tensor], sinc: bool = True) -> dict[str, Tensor]:
    """A Pretrainer's 'student.*' and 'decoder.*' tensors from the original's student tensors."""
    names = {own_name(key, sinc): tensor for key, tensor in original.items()}
    return {name: own_tensor(name, tensor) for name, tensor in names.items()}


def own_teacher_state(original: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Pretrainer's 'teacher.*' tensors from the original's '_ema' tensors."""
    state = own_state(original)
    return {"teacher." + name.removeprefix("student.encoder."): tensor for name, tensor in state.items()}
