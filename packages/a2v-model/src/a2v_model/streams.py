"""What a recorder writes down beside sound, fused with it behind the front end.

A small encoder for each stream, at the stream's own rate: values that were brought to zero mean and unit variance, a
mark for those that are missing, and how strongly each column swings at which rhythm; a layer to the encoder's width,
residual convolutions over time. It is interpolated to the frames and added to their features; where the stream is not
there it adds exactly nothing, so that a recording without it is heard as by a model that has no streams.

Shapes: B segments, M values of C columns, F rhythms, T frames, W the width of a stream's encoder, D embedding,
S streams.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from a2v_model.config import StreamConfig
from a2v_model.sizes import placed

KERNEL, DILATIONS = 5, (1, 2, 4)  # of 50 Hz they see 0.58 s
TAPS = 15  # of a rhythm's filters, which lie rate / TAPS Hz apart
FAINTEST = 0.01  # power that counts as none, of values with unit variance
FARTHEST = 1000.0  # deviations from the mean; what is farther is a fault of the sensor
Streams = Mapping[str, Tensor]
Statistics = Mapping[str, tuple[Sequence[float], Sequence[float]]]


class Rhythms(nn.Module):
    """Values (B, C, M) -> log power at F frequencies below half their rate (B, C * F, M).

    Filters are pairs of a cosine and a sine under a Hann window, without what they would have of the mean, and are
    learned from there on: convolutions that begin at random had not found a swing after 1 000 updates (docs/log.md).
    """

    def __init__(self, columns: int) -> None:
        super().__init__()
        time_K = torch.arange(TAPS, device="cpu") - TAPS // 2
        window_K = torch.hann_window(TAPS + 2, periodic=False, device="cpu")[1:-1]
        frequency_F1 = torch.arange(1, TAPS // 2 + 1, device="cpu")[:, None] / TAPS
        phase_FK = 2 * torch.pi * frequency_F1 * time_K
        pairs_FPK = torch.stack([phase_FK.cos(), phase_FK.sin()], dim=1) * window_K * (2 / window_K.sum())
        pairs_FPK = pairs_FPK - pairs_FPK.mean(-1, keepdim=True)
        self.count = len(frequency_F1)
        self.filters = nn.Parameter(placed(pairs_FPK.flatten(0, 1)[:, None].repeat(columns, 1, 1)))

    def forward(self, x_BCM: Tensor) -> Tensor:
        # The ends are drawn out: a step down to 0 would swing at every rhythm.
        padded_BCM = functional.pad(x_BCM, (TAPS // 2, TAPS // 2), mode="replicate")
        swing_BFM = functional.conv1d(padded_BCM, self.filters, groups=x_BCM.shape[1])
        power_BFM = swing_BFM.unflatten(1, (-1, 2)).square().sum(2)
        return (power_BFM + FAINTEST).log()


class StreamEncoder(nn.Module):
    """One stream (B, M, C), NaN where it is missing -> what it adds to frames (B, T, D), at first 0.

    mean, scale (C,): what values are normalised with, of the recordings that were trained on.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: StreamConfig, width: int, dim: int) -> None:
        super().__init__()
        self.config = config
        columns = len(config.columns)
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("scale", torch.ones(columns))
        self.rhythms = Rhythms(columns)
        self.begin = nn.Linear((2 + self.rhythms.count) * columns, width)
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, KERNEL, padding=dilation * (KERNEL // 2), dilation=dilation)
            for dilation in DILATIONS
        )
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, values_BMC: Tensor, frames: int, frame_rate: float) -> Tensor:
        """frame_rate: Hz; values and frames begin at the same time."""
        there_BMC = torch.isfinite(values_BMC)
        x_BMC = ((values_BMC - self.mean) / self.scale).clamp(-FARTHEST, FARTHEST)
        x_BMC = torch.where(there_BMC, x_BMC, 0.0)
        rhythms_BMF = self.rhythms(x_BMC.transpose(1, 2)).transpose(1, 2)
        h_BWM = self.begin(torch.cat([x_BMC, there_BMC.to(x_BMC.dtype), rhythms_BMF], dim=2)).transpose(1, 2)
        for conv in self.convs:
            h_BWM = h_BWM + conv(functional.gelu(h_BWM))
        before_T, share_T, nearest_T = self._places(frames, frame_rate, values_BMC.shape[1], values_BMC.device)
        after_T = (before_T + 1).clamp(max=values_BMC.shape[1] - 1)
        h_BMW = self.norm(h_BWM.transpose(1, 2))
        h_BTW = torch.lerp(h_BMW[:, before_T], h_BMW[:, after_T], share_T.to(h_BMW.dtype)[None, :, None])
        known_T = nearest_T < values_BMC.shape[1]  # fewer values than the frames last: the rest is not known
        there_BT = there_BMC.any(2)[:, nearest_T.clamp(max=values_BMC.shape[1] - 1)] & known_T
        return self.project(h_BTW) * there_BT[:, :, None]

    def _places(self, frames: int, rate: float, length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Of each frame's centre (T,): the value before it, by which share the next one counts, and the one that it
        lies in."""
        place_T = (torch.arange(frames, dtype=torch.float64) + 0.5) * (self.config.rate / rate)
        nearest_T = place_T.floor().long()
        between_T = (place_T - 0.5).clamp(0, length - 1)
        before_T = between_T.floor()
        share_T = (between_T - before_T).float()
        return (
            before_T.long().to(device, non_blocking=True),
            share_T.to(device, non_blocking=True),
            nearest_T.to(device, non_blocking=True),
        )


class StreamEncoders(nn.Module):
    """The streams' encoders, by name."""

    def __init__(self, streams: Mapping[str, StreamConfig], width: int, dim: int) -> None:
        super().__init__()
        self.names = tuple(streams)  # keys have a prefix, as a module has attributes of its own
        self.encoders = nn.ModuleDict({f"of_{name}": StreamEncoder(one, width, dim) for name, one in streams.items()})

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> StreamEncoder:
        encoder = self.encoders[f"of_{name}"]
        assert isinstance(encoder, StreamEncoder)
        return encoder

    def items(self) -> Iterator[tuple[str, StreamEncoder]]:
        """(name, encoder), in order."""
        return ((name, self[name]) for name in self.names)

    def added(self, x_BTD: Tensor, streams: Streams, frame_rate: float, kept_SB: Tensor | None = None) -> Tensor:
        """Features (B, T, D) with what streams, by name, add; those that are not given add nothing. kept (S, B), bool:
        which of each segment are heard, None: all."""
        for number, (name, encoder) in enumerate(self.items()):
            if name not in streams:
                continue
            values_BMC = streams[name].to(x_BTD.device)
            if kept_SB is not None:
                kept_B = kept_SB[number].to(x_BTD.device, non_blocking=True)
                values_BMC = torch.where(kept_B[:, None, None], values_BMC, torch.nan)
            x_BTD = x_BTD + encoder(values_BMC, x_BTD.shape[1], frame_rate)
        return x_BTD

    def set_statistics(self, statistics: Statistics) -> None:
        """Normalise with these means and deviations, (C,) each, by name; streams that have some already keep them."""
        for name, (mean, scale) in statistics.items():
            encoder = self[name]
            if bool((encoder.mean == 0).all() and (encoder.scale == 1).all()):
                encoder.mean.copy_(torch.tensor(mean))
                encoder.scale.copy_(torch.tensor(scale))


def check_streams(given: Streams, configs: Mapping[str, StreamConfig], segments: int) -> None:
    """ValueError where streams do not fit: unknown ones, other columns, other segments."""
    for name, values in given.items():
        if name not in configs:
            known = ", ".join(configs) or "none"
            raise ValueError(f"streams: {name!r} is none that this model hears ({known})")
        columns = configs[name].columns
        if values.ndim != 3 or values.shape[0] != segments or not values.shape[1] or values.shape[2] != len(columns):
            raise ValueError(
                f"streams: {name} has the shape {tuple(values.shape)}; must be ({segments}, values, {len(columns)}):"
                f" for each segment at {configs[name].rate:g} Hz the columns {', '.join(columns)}"
            )
