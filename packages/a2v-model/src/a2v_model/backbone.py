"""Front end, projection and encoder together.

Shapes: B segments, N samples, T frames, S frames of the encoder (T where it does not downsample), U kept ones, D.
"""

from collections.abc import Iterator
from copy import copy

import torch
from torch import Tensor, nn

from a2v_model.config import AnyFrontEnd, ConvolutionConfig, EarConfig, ModelConfig
from a2v_model.convolutions import DilatedConvolutions
from a2v_model.downsampling import Downsampling, Upsampling
from a2v_model.ear import Ear
from a2v_model.encoder import Encoder, Prenet
from a2v_model.front_end import FrontEnd
from a2v_model.layers import LayerNorm
from a2v_model.registry import OwnFrontEndConfig
from a2v_model.streams import StreamEncoders, Streams, check_streams


def _equal_lengths(lengths: list[int]) -> Iterator[tuple[int, list[int]]]:
    """(length, items of that length), shortest first."""
    for length in sorted(set(lengths)):
        yield length, [item for item, own in enumerate(lengths) if own == length]


def new_front_end(config: AnyFrontEnd) -> nn.Module:
    """The front end of a configuration, with new weights."""
    if isinstance(config, OwnFrontEndConfig):
        made: nn.Module = config.part.make(config.config)
        return made
    return Ear(config) if isinstance(config, EarConfig) else FrontEnd(config)


class Backbone(nn.Module):
    """animal2vec without its objectives: waveform (B, N) -> contextualised frames (B, T, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = new_front_end(config.front_end)
        self.projection = nn.Sequential(
            LayerNorm(config.front_end.width), nn.Linear(config.front_end.width, config.encoder.dim)
        )
        self.encoder: Encoder | DilatedConvolutions = (
            DilatedConvolutions(config.encoder)
            if isinstance(config.encoder, ConvolutionConfig)
            else Encoder(config.encoder)
        )
        factor, dim = config.downsampling, config.encoder.dim
        self.downsampling = Downsampling(dim, factor) if factor > 1 else None
        self.upsampling = Upsampling(dim, factor) if factor > 1 else None
        self.streams = StreamEncoders(config.streams, config.stream_width, dim) if config.streams else None

    def for_rate(self, sample_rate: int) -> "Backbone":
        """What hears recordings of `sample_rate` Hz, with the same weights: see `EarConfig.at`. Itself where that is no
        other, so for all models without `any_rate`."""
        if not isinstance(self.front_end, Ear):
            return self
        own = self.front_end.config.at(sample_rate)
        if own is self.front_end.config:
            return self
        view = copy(self)
        view.config = self.config.model_copy(update={"front_end": own})
        view._modules = {**self._modules, "front_end": self.front_end.at(own)}
        return view

    @property
    def transformer(self) -> Encoder:
        """The encoder; ValueError for the supervised baseline, which has convolutions in its place."""
        if not isinstance(self.encoder, Encoder):
            raise ValueError("this model has no transformer (encoder.kind = convolutions): no attention, no layers")
        return self.encoder

    @property
    def prenet(self) -> Prenet:
        return self.transformer.prenet

    @property
    def blocks(self) -> nn.ModuleList:
        return self.transformer.blocks

    def local_features(
        self, waveform_BN: Tensor, lengths: Tensor | None = None, generator: torch.Generator | Tensor | None = None
    ) -> Tensor:
        """Front end output (B, T, C). With `lengths` (B, samples) no item ever sees its padding. generator (CPU): of
        the masks that an ear draws in train mode, or what `draw_bands` drew. Of lengths on the CPU no device waits."""
        if lengths is not None:
            self._check_lengths(lengths, waveform_BN.shape)
        if isinstance(self.front_end, Ear):
            return self.front_end(waveform_BN, lengths, generator)
        if lengths is None:
            whole_BTC: Tensor = self.front_end(waveform_BN)
            return whole_BTC
        frames = self.config.front_end.frames(waveform_BN.shape[1])
        x_BTC = waveform_BN.new_zeros(len(waveform_BN), frames, self.config.front_end.width)
        for length, items in _equal_lengths([int(n) for n in lengths]):
            rows = torch.tensor(items).to(x_BTC.device, non_blocking=True)
            x_BTC[rows, : self.config.front_end.frames(length)] = self.front_end(waveform_BN[rows, :length]).float()
        return x_BTC

    def features(
        self,
        waveform_BN: Tensor,
        lengths: Tensor | None = None,
        generator: torch.Generator | Tensor | None = None,
        streams: Streams | None = None,
    ) -> Tensor:
        """Front end and projection: normalised waveforms (B, N) -> features (B, T, D), with those `streams` (B, M, C by
        name, NaN where one is not there) that are given; generator as above."""
        return self.with_streams(self.projection(self.local_features(waveform_BN, lengths, generator)), streams)

    def with_streams(self, x_BTD: Tensor, streams: Streams | None, kept_SB: Tensor | None = None) -> Tensor:
        """Features of sound alone with what streams add: see `StreamEncoders.added`. ValueError for streams that do not
        fit."""
        if not streams:
            return x_BTD
        check_streams(streams, self.config.streams, len(x_BTD))
        assert self.streams is not None
        return self.streams.added(x_BTD, streams, self.config.front_end.frame_rate, kept_SB)

    def draw_streams(self, batch: int, generator: torch.Generator | None) -> Tensor | None:
        """Which streams of each segment are heard in training (S, B), bool; None where there are none. Drawn from
        `generator` (CPU)."""
        if self.streams is None:
            return None
        return torch.rand(len(self.streams), batch, generator=generator) >= self.config.stream_dropout

    def encoder_input(self, x_BTD: Tensor, valid_BT: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the encoder sees (B, S, D) of features (B, T, D), and which of its frames hold any valid one."""
        return (x_BTD, valid_BT) if self.downsampling is None else self.downsampling(x_BTD, valid_BT)

    def at_frame_rate(self, x_BSD: Tensor, features_BTD: Tensor) -> Tensor:
        """What the encoder gives (B, S, D) at the front end's rate (B, T, D), with what the features have beside it."""
        return x_BSD if self.upsampling is None else self.upsampling(x_BSD, features_BTD)

    def contextualise(
        self,
        x_BSD: Tensor,
        kept_BU: Tensor | None = None,
        valid_BS: Tensor | None = None,
        results: int = 0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """`encoder_input` (B, S, D) -> last block's output and layer results: see `Encoder.forward`."""
        return self.encoder(x_BSD, kept_BU, valid_BS, results, generator)

    def draw_bands(self, batch: int, samples: int, generator: torch.Generator | None) -> Tensor | None:
        """The masks that an ear's forward pass over waveforms (B, N) draws from `generator` (CPU) in train mode; None
        where there is no ear or no generator."""
        if not isinstance(self.front_end, Ear) or generator is None:
            return None
        return self.front_end.draw_mask(batch, self.config.front_end.frames(samples), generator)

    def valid_frames(self, lengths: Tensor, frames: int, device: torch.device | None = None) -> Tensor:
        """bool (B, T) on `device` (None: that of `lengths`): the frames inside each item of `lengths` samples. Of
        lengths on the CPU no device waits."""
        own = torch.tensor([self.config.front_end.frames(int(n)) for n in lengths.tolist()])
        valid_BT = torch.arange(frames)[None] < own[:, None]
        return valid_BT.to(device or lengths.device, non_blocking=True)

    def _check_lengths(self, lengths: Tensor, shape: torch.Size) -> None:
        if lengths.shape != shape[:1] or int(lengths.max()) > shape[1]:
            raise ValueError(
                f"lengths: expected {shape[0]} values of at most {shape[1]} samples, "
                f"got {lengths.numel()} of at most {int(lengths.max())}"
            )

    def forward(self, waveform_BN: Tensor, lengths: Tensor | None = None, streams: Streams | None = None) -> Tensor:
        """Contextualised frames (B, T, D): the last block's output, nothing masked."""
        x_BTD = self.features(waveform_BN, lengths, streams=streams)
        valid_BT = None
        if lengths is not None:
            valid_BT = self.valid_frames(lengths, x_BTD.shape[1], x_BTD.device)
        x_BSD, valid_BS = self.encoder_input(x_BTD, valid_BT)
        return self.at_frame_rate(self.contextualise(x_BSD, valid_BS=valid_BS)[0], x_BTD)
