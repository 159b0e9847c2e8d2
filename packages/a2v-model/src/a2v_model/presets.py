"""Named models with the settings of pretraining and finetuning that belong to them, and the source of each.

From `baseline` to `meerkat` every part that the paper ablates is one field, in the order of its ablation table:

| row | field | baseline -> meerkat |
|---|---|---|
| front-end layout | model.front_end.layers | stride 320 (25 Hz) -> stride 40 (200 Hz) |
| Sinc filterbank | model.front_end.sinc | false -> true |
| PSwish | model.front_end.sinc_activation | gelu -> pswish |
| mask probability | pretrain.mask_probability | 0.1 -> 0.75 (p * l: 0.5 -> 1.5) |
| mask length | pretrain.mask_length | 5 -> 2 |
| BCL without targets | pretrain.bcl (of the training stage) | none -> inputs mixed |
| average over all layers | finetune.average_layers | 1 -> 16 |
| focal loss | finetune.focal | false -> true |
| BCL | finetune.bcl (of the training stage) | none -> inputs and targets mixed |
| mask probability | finetune.mask_probability | 0.065 -> 0.825 / 4 (p * l: 0.65 -> 0.825) |
| mask length | finetune.mask_length | 10 -> 4 |
"""

from typing import NamedTuple

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


class Preset(NamedTuple):
    """A model, the settings of its two objectives, and where they come from."""

    model: ModelConfig
    pretrain: PretrainConfig
    finetune: FinetuneConfig
    source: str


def _stack(width: int, *layers: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    return tuple((width, kernel, stride) for kernel, stride in layers)


def meerkat() -> Preset:
    """8 kHz, 200 Hz frames, 315.8 M parameters."""
    model = ModelConfig(front_end=FrontEndConfig())  # 127 Sinc filters of 63 taps follow from 8 kHz
    source = "animal2vec paper (arXiv 2406.01253) and its published MeerKAT configuration, all labels"
    return Preset(model, PretrainConfig(), FinetuneConfig(), source)


def xeno_canto() -> Preset:
    """24 kHz, stride 80 (300 Hz frames), 220 Sinc filters of 109 taps."""
    layers = _stack(512, (10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 1), (2, 1))
    model = ModelConfig(front_end=FrontEndConfig(sample_rate=24000, layers=layers))
    source = "animal2vec paper (arXiv 2406.01253), front end for xeno-canto and NIPS4Bplus; all else as meerkat"
    return Preset(model, PretrainConfig(), FinetuneConfig(), source)


def baseline() -> Preset:
    """The speech transformer of the paper's first row: no Sinc filters, stride 320, cross entropy on the last
    layer, masks for speech (pretraining p = 0.1, l = 5; finetuning p = 0.065, l = 10)."""
    layers = _stack(512, (10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
    model = ModelConfig(front_end=FrontEndConfig(sinc=False, sinc_activation="gelu", layers=layers))
    pretrain = PretrainConfig(mask_probability=0.1, mask_length=5)
    finetune = FinetuneConfig(mask_probability=0.065, mask_length=10, average_layers=1, focal=False)
    source = "animal2vec paper (arXiv 2406.01253), first row of the ablation: data2vec 2.0 as used for speech"
    return Preset(model, pretrain, finetune, source)


def _own(stem: tuple[int, ...], encoder: EncoderConfig, decoder: DecoderConfig, clones: int, source: str) -> Preset:
    """This project's own sizes: an ear in front of a transformer, sized by measurement (docs/log.md).

    Of the ear's 100 frames a second the transformer makes 25. Masks, in pretraining, of one of these, 40 ms, and more;
    in finetuning none: the ear's masks over bands and time regularise.
    """
    encoder = encoder.model_copy(update={"downsampling": 4})
    model = ModelConfig(front_end=EarConfig(sample_rate=8000, stem=stem), encoder=encoder)
    pretrain = PretrainConfig(
        mask_probability=0.68, mask_length=1, clones=clones, target_layers=encoder.depth, decoder=decoder,
        ema_start=0.99, ema_end=0.999, ema_updates=2000,  # the teacher forgets its random start within 100 updates
    )  # fmt: skip
    finetune = FinetuneConfig(
        mask_probability=0.0, channel_mask_probability=0.0, average_layers=encoder.depth, focal=False, dropout=0.0,
        activation_dropout=0.0, attention_dropout=0.0, head_dropout=0.0, layerdrop=0.0, freeze_front_end=False,
        head_only_updates=0, head_prior=0.02,
    )  # fmt: skip
    return Preset(model, pretrain, finetune, source)


def base() -> Preset:
    """Embedding 256, 2 + 6 blocks: for one GPU."""
    encoder = EncoderConfig(dim=256, heads=8, depth=6, prenet_depth=2, init_std=0.06, attention_dropout=0.0)
    return _own((32, 64, 96, 128), encoder, DecoderConfig(dim=192), 12, "this project: an ear and 8 blocks")


def small() -> Preset:
    """Embedding 128, 4 blocks: for a workstation."""
    encoder = EncoderConfig(
        dim=128, heads=4, depth=4, prenet_depth=0, mlp_ratio=2.0, positional_depth=2, positional_width=30,
        init_std=0.1, dropout=0.0, attention_dropout=0.0, prenet_dropout=0.0,
    )  # fmt: skip
    return _own((16, 32, 48, 64), encoder, DecoderConfig(dim=96, depth=2), 8, "this project: an ear and 4 blocks")


def tiny() -> Preset:
    """Embedding 96, 2 blocks, 0.28 million parameters: for laptops without a GPU, and for minutes of labels."""
    encoder = EncoderConfig(
        dim=96, heads=4, depth=2, prenet_depth=0, mlp_ratio=2.0, positional_depth=2, positional_width=30,
        init_std=0.1, dropout=0.0, attention_dropout=0.0, prenet_dropout=0.0,
    )  # fmt: skip
    return _own((8, 16, 24, 32), encoder, DecoderConfig(dim=64, depth=2), 4, "this project: an ear and 2 blocks")


def crnn() -> Preset:
    """No transformer, no pretraining: the supervised network that one would otherwise take, to stand beside.

    Fixed bands, convolutions over bands and time, dilated convolutions over time; 0.27 million parameters.
    """
    model = ModelConfig(
        front_end=EarConfig(sample_rate=8000, learned=False, stem=(16, 32, 48, 64)), encoder=ConvolutionConfig()
    )
    own = tiny()
    finetune = own.finetune.model_copy(update={"average_layers": 1})
    return Preset(model, own.pretrain, finetune, "this project: a supervised baseline")


PRESETS: dict[str, Preset] = {
    "meerkat": meerkat(),
    "xeno-canto": xeno_canto(),
    "baseline": baseline(),
    "base": base(),
    "small": small(),
    "tiny": tiny(),
    "crnn": crnn(),
}
