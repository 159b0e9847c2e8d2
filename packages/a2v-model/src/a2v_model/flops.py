"""Model FLOP in closed form: what a forward pass, or a training step, needs by the model's definition.

A multiplication with its addition is 2 FLOP. Counted are matrix products, convolutions and attention, not what is done
element by element (norms, activations, softmax, the optimiser, the teacher's average). Backward, a layer costs its
forward pass once more for the gradient of its weights, where they learn, and once for that of its input, where
anything before it learns: 3 times in all, 2 times for the first layer, once for what is frozen with all before it.

Attention is counted dense, every query with every key, backward once for each of the two factors of its two products,
and convolutions with the zeros that pad them and frames that are masked. What is skipped because it cannot matter
(keys that ALiBi rules out, hidden frames) therefore shows as higher utilisation, what is computed twice (gradient
checkpointing) as lower: 'model FLOP utilisation' as in PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).

An ear's Fourier transforms count 2.5 N log2 N each, the usual count of the radix-2 algorithm for N real numbers, half
of a complex one's 5 N log2 N. Front ends and heads of plugins are not counted: nobody but they knows what they do.

Shapes: B segments, N samples, K clones, R = B K rows, T frames, U kept frames, D embedding, C classes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from a2v_model.config import (
    AnyFrontEnd,
    ConvolutionConfig,
    DecoderConfig,
    EarConfig,
    EncoderConfig,
    FinetuneConfig,
    FrontEndConfig,
    ModelConfig,
    PretrainConfig,
)
from a2v_model.heads import DEPTH, HIDDEN, KERNEL

PARTS = {
    "front_end": "front end",
    "projection": "projection",
    "resampling": "down to the encoder's frame rate, up again, skip",
    "positional": "positional convolutions",
    "attention_linear": "attention, its four linear layers",
    "attention": "attention, scores and weighted sum",
    "mlp": "MLP",
    "convolutions": "dilated convolutions",
    "decoder": "decoder",
    "head": "head",
    "teacher": "teacher, forward only",
}
"""Parts in the order in which sound passes through them, and what to call them; a count has those that the model has.
`teacher` is all of the teacher's pass: it has no gradient."""


def inference_flop(
    model: ModelConfig, finetune: FinetuneConfig, segments: int, samples: int, classes: int
) -> dict[str, int]:
    """FLOP by part of a detector's forward pass on (B, N) waveforms, nothing masked. ValueError for N too short."""
    frames = model.front_end.frames(samples)
    layers = [*_backbone(model, segments, samples), *_head(model.encoder.dim, finetune, segments * frames, classes)]
    return _by_part(layers, backward=False)


def finetuning_flop(
    model: ModelConfig, finetune: FinetuneConfig, segments: int, samples: int, classes: int
) -> dict[str, int]:
    """FLOP by part of a finetuning step, all but a frozen front end learning, on (B, N) waveforms. Of blocks that
    layerdrop skips, the mean is counted. ValueError for N too short."""
    frames = model.front_end.frames(samples)
    names = ("layerdrop", "prenet_layerdrop")
    if isinstance(model.encoder, EncoderConfig):
        rates = {name: getattr(finetune, name) for name in names}
        model = model.model_copy(update={"encoder": model.encoder.model_copy(update=rates)})
    layers = [
        replace(layer, learns=False) if layer.part == "front_end" and finetune.freeze_front_end else layer
        for layer in _backbone(model, segments, samples, training=True)
    ]
    return _by_part([*layers, *_head(model.encoder.dim, finetune, segments * frames, classes)], backward=True)


def pretraining_flop(
    model: ModelConfig, pretrain: PretrainConfig, segments: int, samples: int, kept: int
) -> dict[str, int]:
    """FLOP by part of a pretraining step on (B, N) waveforms: features of B segments, a student that sees U = `kept`
    frames of each of R rows, the decoder on all frames of R rows, and the teacher on B segments, without gradient.

    U is what the masks leave (they are drawn at random). ValueError for N too short, a U that is not 1 to T, or a model
    without a transformer.
    """
    encoder, frames = model.encoder, model.encoder_frames(model.front_end.frames(samples))
    if not isinstance(encoder, EncoderConfig):
        raise ValueError("only a transformer is pretrained; this model has convolutions in its place")
    if not 0 < kept <= frames:
        raise ValueError(f"kept = {kept}: must be 1 to {frames}, the frames that there are")
    rows = segments * pretrain.clones
    layers = [
        *_features(model, segments, samples),
        *_down(model, segments * frames),
        *_transformer(encoder, rows, frames, kept, training=True),
        *_decoder(encoder.dim, pretrain.decoder, rows * frames),
    ]
    teacher = sum(layer.flop for layer in _transformer(encoder, segments, frames, frames, training=False))
    return _by_part(layers, backward=True) | {"teacher": round(teacher)}


@dataclass(frozen=True)
class _Layer:
    """Forward FLOP of a layer; whether weights of its own learn (one may have weights and no FLOP: a norm's). products:
    how many of its factors come from the layer before: 1, or 2 in attention, which has no weights."""

    part: str
    flop: float
    learns: bool = True
    products: int = 1


def _by_part(layers: Sequence[_Layer], backward: bool) -> dict[str, int]:
    """Layers one behind the other, forward or forward and backward."""
    found: dict[str, float] = {}
    before = False  # whether anything before this layer learns
    for layer in layers:
        times = 1 + (layer.learns + before * layer.products if backward else 0)
        found[layer.part] = found.get(layer.part, 0) + times * layer.flop
        before |= layer.learns
    return {part: round(found[part]) for part in PARTS if found.get(part)}


def _linear(part: str, frames: int, before: int, after: int) -> _Layer:
    return _Layer(part, 2 * frames * before * after)


def _backbone(model: ModelConfig, segments: int, samples: int, training: bool = False) -> Iterator[_Layer]:
    encoder, frames = model.encoder, model.front_end.frames(samples)
    yield from _features(model, segments, samples)
    if isinstance(encoder, ConvolutionConfig):
        for _ in range(encoder.depth):
            yield _linear("convolutions", segments * frames, 3 * encoder.dim, encoder.dim)
        return
    inner = model.encoder_frames(frames)
    yield from _down(model, segments * inner)
    yield from _transformer(encoder, segments, inner, inner, training)
    if model.downsampling > 1:  # up, and the skip
        yield _linear("resampling", segments * inner, encoder.dim, model.downsampling * encoder.dim)
        yield _linear("resampling", segments * frames, encoder.dim, encoder.dim)


def _down(model: ModelConfig, frames: int) -> Iterator[_Layer]:
    """`frames`: the encoder's, of all segments together."""
    if model.downsampling > 1:
        yield _linear("resampling", frames, model.downsampling * model.encoder.dim, model.encoder.dim)


def _features(model: ModelConfig, segments: int, samples: int) -> Iterator[_Layer]:
    """Front end and projection."""
    front_end = model.front_end
    yield from _front_end(front_end, segments, samples)
    yield _Layer("projection", 0)  # its norm, which learns
    yield _linear("projection", segments * front_end.frames(samples), front_end.width, model.encoder.dim)


def _front_end(config: AnyFrontEnd, segments: int, samples: int) -> Iterator[_Layer]:
    if isinstance(config, EarConfig):
        yield from _ear(config, segments * config.frames(samples))
    elif isinstance(config, FrontEndConfig):
        yield from _waveform(config, segments, samples)
    else:
        yield _Layer("front_end", 0)  # a plugin's, which may learn


def _waveform(config: FrontEndConfig, segments: int, samples: int) -> Iterator[_Layer]:
    channels, frames = 1, samples
    if config.sinc:
        yield _linear("front_end", segments * samples, config.kernel, config.filters)
        channels = config.filters
    for filters, kernel, stride in config.layers:
        if stride > 1:
            frames = (frames + 2 * math.ceil(stride / 2) - kernel) // stride + 1
        yield _linear("front_end", segments * frames, kernel * channels, filters)
        yield _Layer("front_end", 0)  # norm
        channels = filters


def _ear(config: EarConfig, frames: int) -> Iterator[_Layer]:
    """`frames`: of all segments together."""
    points, bands, channels = config.transform, config.filters, 2 if config.any_rate else 1
    yield _Layer("front_end", 2.5 * points * math.log2(points) * frames, learns=False)
    yield replace(_linear("front_end", frames, points // 2 + 1, bands), learns=config.learned)
    for filters in config.stem:
        yield _linear("front_end", frames * bands, 9 * channels, filters)
        bands, channels = bands // 2, filters


def _transformer(config: EncoderConfig, rows: int, frames: int, kept: int, training: bool) -> Iterator[_Layer]:
    """Positional convolutions on all frames of each row, blocks on the kept ones."""
    dim = config.dim
    for _ in range(config.positional_depth):
        taps = config.positional_kernel * dim // config.positional_groups
        yield _linear("positional", rows * frames, taps, dim)
    blocks = float(config.prenet_depth + config.depth)
    if training:  # main blocks: the last one stays where all are drawn
        rate = config.layerdrop
        blocks = config.prenet_depth * (1 - config.prenet_layerdrop) + config.depth * (1 - rate) + rate**config.depth
    for layer in _block(config, rows, kept):
        yield replace(layer, flop=blocks * layer.flop)


def _block(config: EncoderConfig, rows: int, frames: int) -> Iterator[_Layer]:
    dim = config.dim
    yield _linear("attention_linear", rows * frames, dim, 4 * dim)  # queries, keys, values; out
    yield _Layer("attention", 2 * 2 * rows * frames**2 * dim, learns=False, products=2)
    yield _linear("mlp", rows * frames, dim, 2 * config.hidden)


def _decoder(dim: int, config: DecoderConfig, frames: int) -> Iterator[_Layer]:
    """`frames`: of all rows together."""
    channels = dim
    for _ in range(config.depth):
        yield _linear("decoder", frames, config.kernel * channels // config.groups, config.dim)
        channels = config.dim
    yield _linear("decoder", frames, config.dim, dim)


def _head(dim: int, config: FinetuneConfig, frames: int, classes: int) -> Iterator[_Layer]:
    """`frames`: of all segments together."""
    if config.head == "linear":
        yield _linear("head", frames, dim, classes)
    elif config.head in ("temporal", "boxes"):
        yield _linear("head", frames, dim, HIDDEN)
        for _ in range(DEPTH):
            yield _linear("head", frames, KERNEL * HIDDEN, HIDDEN)
        yield _linear("head", frames, HIDDEN, classes * config.columns)
