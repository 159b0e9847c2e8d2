"""Named models with the settings of pretraining and finetuning that belong to them, and the source of each.

From `baseline` to `meerkat` every part that the paper ablates is one field, in the order of its ablation table:

| row | field | baseline -> meerkat |
|---|---|---|
| front-end layout | model.front_end.layers | stride 320 (25 Hz) -> stride 40 (200 Hz) |
| Sinc filterbank | model.front_end.sinc | false -> true |
| PSwish | model.front_end.sinc_activation | gelu -> pswish |
| mask probability | pretrain.mask_probability | 0.1 -> 0.75 |
| mask length | pretrain.mask_length | 5 -> 2 |
| BCL without targets | pretrain.bcl (of the training stage) | none -> inputs mixed |
| average over all layers | finetune.average_layers | 1 -> 16 |
| focal loss | finetune.focal | false -> true |
| BCL | finetune.bcl (of the training stage) | none -> inputs and targets mixed |
| mask probability | finetune.mask_probability | 0.065 -> 0.825 / 4 |
| mask length | finetune.mask_length | 10 -> 4 |
"""

from typing import NamedTuple

from a2v_model.config import DecoderConfig, EncoderConfig, FinetuneConfig, FrontEndConfig, ModelConfig, PretrainConfig


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


def base() -> Preset:
    """Embedding 256, 2 + 6 blocks, convolutions of 128: for one GPU."""
    layers = _stack(128, (10, 5), (3, 2), (3, 2), (3, 2), (3, 1), (2, 1), (2, 1))
    encoder = EncoderConfig(dim=256, heads=8, depth=6, prenet_depth=2)
    pretrain = PretrainConfig(target_layers=6, decoder=DecoderConfig(dim=192))
    model = ModelConfig(front_end=FrontEndConfig(layers=layers), encoder=encoder)
    return Preset(model, pretrain, FinetuneConfig(average_layers=6), "this project: meerkat at a quarter of its width")


def small() -> Preset:
    """Embedding 128, 1 + 4 blocks: for a workstation."""
    layers = _stack(64, (10, 5), (3, 2), (3, 2), (3, 2), (3, 1), (2, 1))
    encoder = EncoderConfig(dim=128, heads=4, depth=4, prenet_depth=1)
    pretrain = PretrainConfig(target_layers=4, clones=8, decoder=DecoderConfig(dim=96))
    model = ModelConfig(front_end=FrontEndConfig(sinc_filters=64, layers=layers), encoder=encoder)
    return Preset(model, pretrain, FinetuneConfig(average_layers=4), "this project: meerkat at an eighth of its width")


def tiny() -> Preset:
    """Under half a million parameters: for tests, quickstarts and laptops without a GPU."""
    layers = ((32, 10, 5), (48, 3, 2), (64, 3, 2), (64, 3, 2), (64, 2, 1))
    encoder = EncoderConfig(
        dim=96, heads=4, depth=3, prenet_depth=1, mlp_ratio=2.0, positional_depth=2, positional_width=30, init_std=0.12
    )
    pretrain = PretrainConfig(target_layers=3, clones=4, decoder=DecoderConfig(dim=64, depth=2))
    model = ModelConfig(front_end=FrontEndConfig(sinc_filters=32, layers=layers), encoder=encoder)
    finetune = FinetuneConfig(average_layers=3, channel_mask_probability=0.0)
    return Preset(model, pretrain, finetune, "this project: the smallest that learns the synthetic corpus in minutes")


PRESETS: dict[str, Preset] = {
    "meerkat": meerkat(),
    "xeno-canto": xeno_canto(),
    "baseline": baseline(),
    "base": base(),
    "small": small(),
    "tiny": tiny(),
}
