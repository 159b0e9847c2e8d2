"""Named sizes: name -> (ModelConfig, PretrainConfig)."""

from a2v_model.config import DecoderConfig, EncoderConfig, FrontEndConfig, ModelConfig, PretrainConfig

Preset = tuple[ModelConfig, PretrainConfig]


def _stack(width: int, *layers: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    return tuple((width, kernel, stride) for kernel, stride in layers)


def meerkat() -> Preset:
    """The paper's model: 8 kHz, 200 Hz frames, 315.8 M parameters."""
    return ModelConfig(front_end=FrontEndConfig(sinc_filters=127, sinc_kernel=63)), PretrainConfig()


def xeno_canto() -> Preset:
    """The paper's layout for xeno-canto and NIPS4Bplus: stride 80, 24 kHz -> 300 Hz frames."""
    layers = _stack(512, (10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 1), (2, 1))
    return ModelConfig(front_end=FrontEndConfig(sample_rate=24000, layers=layers)), PretrainConfig()


def baseline() -> Preset:
    """The speech transformer of the paper's first row: no Sinc, stride 320, masks p = 0.065, l = 10."""
    layers = _stack(512, (10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
    front_end = FrontEndConfig(sinc=False, layers=layers)
    return ModelConfig(front_end=front_end), PretrainConfig(mask_probability=0.065, mask_length=10)


def base() -> Preset:
    """Embedding 256, 2 + 6 blocks, convolutions of 128: for one GPU."""
    layers = _stack(128, (10, 5), (3, 2), (3, 2), (3, 2), (3, 1), (2, 1), (2, 1))
    encoder = EncoderConfig(dim=256, heads=8, depth=6, prenet_depth=2)
    pretrain = PretrainConfig(target_layers=6, decoder=DecoderConfig(dim=192))
    return ModelConfig(front_end=FrontEndConfig(layers=layers), encoder=encoder), pretrain


def small() -> Preset:
    """Embedding 128, 1 + 4 blocks: for a workstation."""
    layers = _stack(64, (10, 5), (3, 2), (3, 2), (3, 2), (3, 1), (2, 1))
    encoder = EncoderConfig(dim=128, heads=4, depth=4, prenet_depth=1)
    pretrain = PretrainConfig(target_layers=4, clones=8, decoder=DecoderConfig(dim=96))
    return ModelConfig(front_end=FrontEndConfig(sinc_filters=64, layers=layers), encoder=encoder), pretrain


def tiny() -> Preset:
    """Under half a million parameters: for tests, quickstarts and laptops without a GPU."""
    layers = ((32, 10, 5), (48, 3, 2), (64, 3, 2), (64, 3, 2), (64, 2, 1))
    encoder = EncoderConfig(
        dim=96, heads=4, depth=3, prenet_depth=1, mlp_ratio=2.0, positional_depth=2, positional_width=30, init_std=0.12
    )
    pretrain = PretrainConfig(target_layers=3, clones=4, decoder=DecoderConfig(dim=64, depth=2))
    return ModelConfig(front_end=FrontEndConfig(sinc_filters=32, layers=layers), encoder=encoder), pretrain


PRESETS: dict[str, Preset] = {
    "meerkat": meerkat(),
    "xeno-canto": xeno_canto(),
    "baseline": baseline(),
    "base": base(),
    "small": small(),
    "tiny": tiny(),
}
