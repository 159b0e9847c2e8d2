"""What one does with a trained model: embeddings, likelihoods, attention maps of a waveform.

Shapes: N samples, T frames, L layers, H heads, D embedding, C classes. Layers are the transformer's blocks, counted
from 0 through the prenet and then the main blocks; negative numbers count from the end.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from numbers import Real
from operator import index
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from a2v_model.backbone import Backbone
from a2v_model.config import AnyFrontEnd, ModelConfig
from a2v_model.encoder import Encoder
from a2v_model.normalise import normalise
from a2v_model.streams import Streams

Waveform = Any  # a torch tensor or numpy array, (N,) or (1, N)


def checked_waveform(waveform: Waveform, front_end: AnyFrontEnd, sample_rate: float | None = None) -> Tensor:
    """The waveform as float32 (N,), or ValueError saying what was expected: one channel, the model's sample rate,
    finite numbers, at least as many samples as one frame needs."""
    x = _tensor(waveform)
    if sample_rate is not None and not isinstance(sample_rate, Real):
        raise ValueError(f"sample_rate = {sample_rate!r}: expected a number, Hz")
    if sample_rate is not None and sample_rate != front_end.sample_rate:
        raise ValueError(
            f"sample_rate = {sample_rate:g} Hz: this model hears {front_end.sample_rate} Hz; resample the whole "
            f"recording, e.g. torchaudio.functional.resample(waveform, {sample_rate:g}, {front_end.sample_rate})"
        )
    if x.ndim == 2 and len(x) == 1:
        x = x[0]
    if x.ndim != 1:
        raise ValueError(
            f"waveform of shape {tuple(x.shape)}: expected one channel, (samples,) or (1, samples); take a channel, "
            "e.g. waveform[0], and give several waveforms as a list"
        )
    if x.is_complex() or x.dtype == torch.bool:
        raise ValueError(f"waveform of {x.dtype}: expected real numbers, float or integer samples")
    x = x.detach().float()
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"waveform has {bad} of {len(x)} samples that are NaN or infinite: expected finite numbers")
    shortest = front_end.shortest
    if len(x) < shortest:
        raise ValueError(
            f"waveform of {len(x)} samples: expected at least {shortest} ({shortest / front_end.sample_rate:.4f} s at "
            f"{front_end.sample_rate} Hz), one frame's worth"
        )
    return x


def _tensor(waveform: Waveform) -> Tensor:
    if isinstance(waveform, Tensor):
        return waveform
    if not isinstance(waveform, list | tuple):
        given = np.asarray(waveform)
        if given.dtype.kind in "biufc":
            # a copy in the machine's byte order: torch takes no reversed, read-only or foreign-endian array
            return torch.from_numpy(np.array(given, dtype=given.dtype.newbyteorder("="), order="C"))
    raise ValueError(f"waveform is a {type(waveform).__name__}: expected a tensor or numpy array of samples")


class Inference(nn.Module, ABC):
    """Methods that Pretrainer and Detector share. Every waveform is one channel at the model's `sample_rate` (Hz), or
    with `front_end.any_rate` at any that is given; it is normalised here, as one segment, to zero mean and unit
    variance. Nothing is masked, dropout is off.

    Models were trained on segments of about 10 s; longer waveforms work, with costs that grow with the square of their
    length. ValueError, in one line, for a wrong sample rate, more than one channel, NaN, or too short a waveform.
    """

    model_config: ModelConfig
    of_rate = False
    """Whether it is what `for_rate` gave, which is not to be saved."""

    @property
    @abstractmethod
    def inner(self) -> Backbone:
        """Front end and transformer."""

    @property
    @abstractmethod
    def averaged(self) -> int:
        """How many of the last main blocks' results are averaged into the features that a head sees."""

    def for_rate(self, sample_rate: float) -> Self:
        """This model for recordings of `sample_rate` Hz, sharing its weights: with `front_end.any_rate` one that hears
        them as they are. Else itself; its `sample_rate` says what they are to be resampled to."""
        own = self.inner.for_rate(int(sample_rate)) if sample_rate == int(sample_rate) else self.inner
        if own is self.inner:
            return self
        view = copy(self)
        view.of_rate = True
        view.model_config = self.model_config.model_copy(update={"front_end": own.config.front_end})
        view._modules = {name: own if part is self.inner else part for name, part in self._modules.items()}
        return view

    def _for(self, sample_rate: float | None) -> Self:
        """`for_rate`, of what a caller says of a waveform, which is checked elsewhere."""
        known = isinstance(sample_rate, Real) and np.isfinite(float(sample_rate))
        return self.for_rate(float(sample_rate)) if known and sample_rate is not None else self

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.model_config.front_end.sample_rate

    @property
    def frame_rate(self) -> float:
        """Frames per second, Hz; frame t covers t / frame_rate to (t + 1) / frame_rate seconds."""
        return self.model_config.front_end.frame_rate

    @property
    def attention_rate(self) -> float:
        """Frames per second of attention maps, Hz: `frame_rate` over `encoder.downsampling`."""
        return self.model_config.encoder_frame_rate

    @property
    def layer_count(self) -> int:
        """Number of transformer blocks, prenet and main ones. ValueError for a model without a transformer."""
        return len(self.inner.prenet.blocks) + len(self.inner.blocks)

    def embed(
        self,
        waveform: Waveform | Sequence[Waveform],
        sample_rate: float | None = None,
        layers: int | Sequence[int] | None = None,
        streams: Any = None,
    ) -> Any:
        """Frame embeddings of a waveform (N,) at the model's sample rate: float32 (T, D) at `frame_rate` Hz.

        layers: None for the features that finetuning uses, the mean of the last main blocks' layer results (a layer
        result is the MLP output before its residual and norm: paper, targets); a number for that layer's result; a
        sequence of them for (L, T, D), where an encoder that downsamples gives each frame several times.
        sample_rate, Hz: what the waveform has, to be checked against the model's.
        A list of waveforms, of any lengths, gives a list of results, each as if it had been alone.
        streams: what was recorded beside it, by name (M, C): M values from its start on at the stream's rate, NaN where
        they are missing; of a list of waveforms a list. Without, sound alone is heard.
        Raises ValueError as said above, where a layer does not exist, for any layer of a model without a transformer,
        and for streams that the model does not hear.
        """
        model = self._for(sample_rate)
        if model is not self:
            return model.embed(waveform, sample_rate, layers, streams)
        if layers is None and not isinstance(self.inner.encoder, Encoder):  # convolutions: one result, which heads see
            return self._each(waveform, sample_rate, self._convolved, streams)
        chosen = None if layers is None else self._chosen(layers)

        def results(x_BN: Tensor, own: Streams | None) -> Tensor:
            first = self.layer_count - self.averaged
            wanted = range(first, self.layer_count) if chosen is None else chosen
            found: dict[int, Tensor] = {}
            features_BTD = self.inner.features(x_BN, streams=own)
            for number, step in enumerate(self.inner.transformer.walk(self.inner.encoder_input(features_BTD)[0])):
                if number in wanted:
                    found[number] = step.result[0].float()
                if number == max(wanted):
                    break
            stacked_LSD = torch.stack([found[number] for number in wanted])
            if chosen is None:
                return self.inner.at_frame_rate(stacked_LSD.mean(0, keepdim=True), features_BTD)[0].float()
            repeated_LTD = stacked_LSD.repeat_interleave(self.model_config.downsampling, dim=1)
            stacked_LTD = repeated_LTD[:, : features_BTD.shape[1]]
            return stacked_LTD if isinstance(layers, Iterable) else stacked_LTD[0]

        return self._each(waveform, sample_rate, results, streams)

    def _convolved(self, x_BN: Tensor, streams: Streams | None) -> Tensor:
        return self.inner.contextualise(self.inner.features(x_BN, streams=streams))[0][0].float()

    def likelihoods(
        self, waveform: Waveform | Sequence[Waveform], sample_rate: float | None = None, streams: Any = None
    ) -> Any:
        """Likelihoods in [0, 1] of every frame and class, (T, C); see Detector. ValueError: there are no classes."""
        raise ValueError("this model is pretrained only and knows no classes: finetune it, or load a detector")

    def attention_maps(
        self,
        waveform: Waveform,
        sample_rate: float | None = None,
        layers: int | Sequence[int] | None = None,
        heads: int | Sequence[int] | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Attention of a waveform (N,) at the model's sample rate: yields (layer, weights (H, T, T) float32), a layer
        at a time so that not all are in memory: 10 s at 200 Hz and 16 heads are 256 MB a layer. Frames are those of the
        encoder, at `attention_rate`.

        Row i holds the weights, which sum to 1, with which frame i looks at every frame. layers, heads: numbers to
        keep (None: all). Raises ValueError as `embed`, when the first map is asked for.
        """
        model = self._for(sample_rate)
        if model is not self:
            yield from model.attention_maps(waveform, sample_rate, layers, heads)
            return
        wanted = range(self.layer_count) if layers is None else self._chosen(layers)
        kept = None if heads is None else _numbers("head", heads, self.inner.transformer.config.heads)
        x_N = checked_waveform(waveform, self.model_config.front_end, sample_rate)
        with self._evaluating(), torch.no_grad():
            x_BTD, _ = self.inner.encoder_input(self.inner.features(self._normalised(x_N)))
            for number, step in enumerate(self.inner.transformer.walk(x_BTD)):
                if number in wanted:
                    yield number, step.block.attention.weights(step.input, step.bias, kept)[0]
                if number == max(wanted):
                    return

    def _each(self, waveform: Any, sample_rate: float | None, function: Any, streams: Any) -> Any:
        """function(normalised waveform (1, N), its streams (1, M, C)) of a waveform, or of every one of a list."""
        front_end = self.model_config.front_end
        several = isinstance(waveform, list | tuple)
        checked = [checked_waveform(x, front_end, sample_rate) for x in (waveform if several else [waveform])]
        beside = streams if several and streams is not None else [streams] * len(checked)
        if len(beside) != len(checked):
            raise ValueError(f"streams: {len(beside)} for {len(checked)} waveforms; must be as many, None for none")
        with self._evaluating(), torch.no_grad():
            results = [
                function(self._normalised(x_N), own and {name: _one(values) for name, values in own.items()})
                for x_N, own in zip(checked, beside, strict=True)
            ]
        return results if several else results[0]

    def _normalised(self, x_N: Tensor) -> Tensor:
        return normalise(x_N[None].to(next(self.parameters()).device))

    def _chosen(self, layers: int | Sequence[int]) -> list[int]:
        return _numbers("layer", layers, self.layer_count)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)


def _one(values_MC: Any) -> Tensor:
    """A stream of one waveform as a batch."""
    return torch.as_tensor(np.asarray(values_MC, np.float32))[None]


def _numbers(kind: str, given: int | Sequence[int], count: int) -> list[int]:
    """Numbers from 0; negative ones count from the end. ValueError for one that does not exist."""
    try:
        numbers = [index(number) for number in (given if isinstance(given, Iterable) else [given])]
    except TypeError:
        raise ValueError(f"{kind}s = {given!r}: expected whole numbers, 0 to {count - 1}") from None
    for number in numbers:
        if not -count <= number < count:
            raise ValueError(f"{kind} {number}: this model has {kind}s 0 to {count - 1}")
    if not numbers:
        raise ValueError(f"{kind}s: at least one is needed, 0 to {count - 1}")
    return [number % count for number in numbers]
