"""Configurations of the built-in front ends; `config.py` has all others."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_LAYERS, WIDEST = 1000, 1 << 16  # far above any real model: nothing larger is begun, whatever a file says
HIGHEST_RATE, LONGEST_KERNEL, LONGEST_FRAME = 10_000_000, 10_001, 10_000_000  # Hz, taps, samples
Size = Annotated[int, Field(gt=0, le=WIDEST)]
Layers = Annotated[int, Field(ge=0, le=MOST_LAYERS)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Config(BaseModel):
    """Base of all configurations: unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def is_none(value: Any) -> bool:
    """An option that is off is in no dump, so what does without it keeps the fingerprint that it had before it."""
    return value is None


class FrontEndConfig(Config):
    """Waveform -> frames: an optional Sinc filterbank, then convolutions given as (filters, kernel, stride).

    `sinc_kernel` and `sinc_filters` are derived from the sample rate where they are None: the kernel is the
    largest odd integer up to sqrt(sr / 2) and there are round(sr / kernel) filters (paper, front end; 63 and
    127 at 8 kHz). `start`: what the weights of a new front end are, `random` as in the paper or a `filterbank` of
    smoothed band energies in the first 2 * filters channels (filterbank_start.py).
    """

    kind: Literal["waveform"] = Field(default="waveform", exclude=True)  # the default, in no dump
    sample_rate: int = Field(default=8000, gt=0, le=HIGHEST_RATE)
    sinc: bool = True
    sinc_filters: int | None = Field(default=None, gt=0, le=WIDEST)
    sinc_kernel: int | None = Field(default=None, gt=2, le=LONGEST_KERNEL)
    sinc_activation: Literal["pswish", "gelu"] = "pswish"
    layers: tuple[tuple[int, int, int], ...] = (
        (512, 10, 5), (512, 3, 2), (512, 3, 2), (512, 3, 2), (512, 3, 1), (512, 2, 1), (512, 2, 1),
    )  # fmt: skip
    start: Literal["random", "filterbank"] = Field(default="random", exclude_if=lambda start: start == "random")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.layers:
            raise ValueError("front_end.layers is empty: at least one (filters, kernel, stride) is needed")
        for layer in self.layers:
            _, kernel, stride = layer
            if min(layer) < 1 or kernel < stride:
                raise ValueError(f"front_end.layers has {layer}: all must be positive and kernel >= stride")
            if max(layer) > WIDEST:
                raise ValueError(f"front_end.layers has {layer}: at most {WIDEST}")
        if len(self.layers) > MOST_LAYERS or self.stride > LONGEST_FRAME:
            raise ValueError(
                f"front_end.layers: {len(self.layers)} layers; at most {MOST_LAYERS}, whose strides are a frame of at "
                f"most {LONGEST_FRAME} samples"
            )
        if self.sinc and self.kernel % 2 == 0:
            raise ValueError(f"front_end.sinc_kernel = {self.kernel}: must be odd, e.g. {self.kernel + 1}")
        if self.sinc and self.sample_rate / 2 <= 2 * (50 + self.minimum_band_hz):
            raise ValueError(
                f"front_end.sample_rate = {self.sample_rate}: too low for filters of {self.kernel} taps; "
                "raise sinc_kernel or set sinc: false"
            )
        if self.start == "filterbank":
            self._check_filterbank()
        return self

    def _check_filterbank(self) -> None:
        if not self.sinc:
            raise ValueError("front_end.start = filterbank: needs Sinc filters (front_end.sinc: true)")
        narrow = min(width for width, _, _ in self.layers)
        if narrow < 2 * self.filters:
            raise ValueError(
                f"front_end.start = filterbank: each of the {self.filters} Sinc filters needs 2 channels in every "
                f"layer, but front_end.layers has one of {narrow}; at least {2 * self.filters}, or at most "
                f"sinc_filters: {narrow // 2}"
            )

    @property
    def kernel(self) -> int:
        """Taps of a Sinc filter."""
        if self.sinc_kernel is not None:
            return self.sinc_kernel
        floor = math.isqrt(self.sample_rate // 2)
        return max(3, floor if floor % 2 else floor - 1)

    @property
    def filters(self) -> int:
        """Number of Sinc filters."""
        return self.sinc_filters if self.sinc_filters is not None else round(self.sample_rate / self.kernel)

    @property
    def minimum_band_hz(self) -> int:
        """Smallest bandwidth of a Sinc filter, Hz: the spectral resolution sr / kernel, rounded up."""
        return math.ceil(self.sample_rate / self.kernel)

    @property
    def width(self) -> int:
        """Channels of a frame before the projection."""
        return self.layers[-1][0]

    @property
    def stride(self) -> int:
        """Samples per frame."""
        return math.prod(stride for _, _, stride in self.layers)

    @property
    def frame_rate(self) -> float:
        """Frames per second, Hz."""
        return self.sample_rate / self.stride

    @property
    def shortest(self) -> int:
        """Samples that give one frame (and, with Sinc filters, enough to reflect at both ends)."""
        samples = 1
        for _, kernel, stride in reversed(self.layers):
            if stride > 1:
                samples = max(1, (samples - 1) * stride + kernel - 2 * math.ceil(stride / 2))
        return max(samples, self.kernel // 2 + 1) if self.sinc else samples

    def frames(self, n_samples: int) -> int:
        """Number of frames that `n_samples` samples give; ValueError where there is none."""
        frames = n_samples
        for _, kernel, stride in self.layers:
            if stride > 1:
                frames = (frames + 2 * math.ceil(stride / 2) - kernel) // stride + 1
        if n_samples < self.shortest:
            raise ValueError(f"a segment of {n_samples} samples is too short: one frame needs {self.shortest} samples")
        return frames


class EarConfig(Config):
    """Waveform -> frames, starting as an ear: energies of Sinc bands, their logarithm over a slow level of each band,
    and a small convolutional stem over bands and time.

    filters: Sinc bands between `minimum_hz` and half the sample rate, at first on the mel scale, each as wide as two
    mel steps; `learned` lets training move their edges. kernel: taps of a band's impulse response (None: 16 ms, odd).
    hop: samples of a frame (None: 10 ms); window: samples over which a band's energy is summed (None: two frames). A
    band's level is the `level_quantile` of its log energies in a segment. stem: channels of the 3 x 3 convolutions,
    after each of which neighbouring bands are pooled in pairs. Masks on the bands, in training: up to `band_masks` of
    up to an eighth of the bands each; with probability `time_mask_probability` one of at most 60 ms.
    any_rate: recordings are heard at their own rate (`at`), with the bands up to half of it; a second input of the stem
    says which these are, and in training every other segment loses up to half of its bands, the highest.
    """

    kind: Literal["ear"] = "ear"
    sample_rate: int = Field(default=16000, gt=0, le=HIGHEST_RATE)
    filters: int = Field(default=64, gt=0, le=WIDEST)
    kernel: int | None = Field(default=None, gt=2, le=LONGEST_FRAME)
    learned: bool = True
    minimum_hz: float = Field(default=150.0, gt=0)
    hop: int | None = Field(default=None, gt=0, le=LONGEST_FRAME)
    window: int | None = Field(default=None, gt=0, le=LONGEST_FRAME)
    level_quantile: Probability = 0.3
    stem: tuple[int, ...] = (8, 16, 24, 32)
    band_masks: int = Field(default=2, ge=0)
    time_mask_probability: Probability = 0.3
    any_rate: bool = Field(default=False, exclude_if=lambda any_rate: not any_rate)  # off is in no dump

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.stem) > 16 or max(self.stem, default=0) > WIDEST:
            raise ValueError(f"front_end.stem: at most 16 layers of at most {WIDEST} channels")
        if not self.stem or min(self.stem) < 1 or self.filters % 2 ** len(self.stem):
            raise ValueError(
                f"front_end.filters = {self.filters}: must be a multiple of {2 ** len(self.stem)}, since each of the "
                f"{len(self.stem)} layers of front_end.stem halves the bands"
            )
        if self.taps % 2 == 0:
            raise ValueError(f"front_end.kernel = {self.taps}: must be odd, e.g. {self.taps + 1}")
        if self.minimum_hz >= self.sample_rate / 4:
            raise ValueError(
                f"front_end.minimum_hz = {self.minimum_hz:g}: must be below a quarter of the sample rate, "
                f"{self.sample_rate / 4:g} Hz"
            )
        if self.any_rate and self.sample_rate % self.stride:
            raise ValueError(
                f"front_end.any_rate: needs a whole number of frames a second, {self.sample_rate} Hz / {self.stride} "
                f"samples are {self.frame_rate:g}; e.g. sample_rate: {round(self.frame_rate) * self.stride}"
            )
        if self.energy_window < self.stride:
            raise ValueError(
                f"front_end.window = {self.energy_window}: must be at least a frame ({self.stride} samples), or sound "
                "between frames would be missed"
            )
        return self

    def at(self, sample_rate: int) -> Self:
        """What hears recordings of `sample_rate` Hz, at that rate or, so that frames stay as long, the nearest of whole
        samples a frame (22 000 for 22 050 Hz): kernel and window as long in seconds, to a sample. Itself without
        `any_rate`, and of a rate that leaves no band. What it hears, its `sample_rate`, is for others to give it."""
        hop = round(sample_rate / self.frame_rate)
        rate, rest = divmod(hop * self.sample_rate, self.stride)
        if not self.any_rate or rest or rate == self.sample_rate or self.minimum_hz >= rate / 4:
            return self
        times = rate / self.sample_rate
        sizes = {
            "kernel": max(3, 2 * round(times * (self.taps + 1) / 2) - 1), "hop": hop,
            "window": max(hop, round(times * self.energy_window)),
        }  # fmt: skip
        return self.model_copy(update={"sample_rate": rate, **sizes})

    def hears(self, sample_rate: int) -> bool:
        """Whether recordings of that rate are heard as they are."""
        return self.at(sample_rate).sample_rate == sample_rate

    @property
    def taps(self) -> int:
        """Taps of a band's impulse response."""
        return self.kernel if self.kernel is not None else 2 * round(self.sample_rate * 0.008) - 1

    @property
    def stride(self) -> int:
        """Samples per frame."""
        return self.hop if self.hop is not None else max(1, round(self.sample_rate / 100))

    @property
    def energy_window(self) -> int:
        """Samples over which a band's energy is summed."""
        return self.window if self.window is not None else 2 * self.stride

    @property
    def transform(self) -> int:
        """Points of the Fourier transform in which bands and window are multiplied."""
        return 1 << (max(self.energy_window, self.taps) - 1).bit_length()

    @property
    def width(self) -> int:
        """Channels of a frame before the projection."""
        return self.stem[-1] * (self.filters >> len(self.stem))

    @property
    def frame_rate(self) -> float:
        """Frames per second, Hz."""
        return self.sample_rate / self.stride

    @property
    def shortest(self) -> int:
        """Samples that give one frame."""
        return self.stride

    def frames(self, n_samples: int) -> int:
        """Number of whole frames in `n_samples` samples; ValueError where there is none."""
        if n_samples < self.shortest:
            raise ValueError(f"a segment of {n_samples} samples is too short: one frame needs {self.shortest} samples")
        return n_samples // self.stride
