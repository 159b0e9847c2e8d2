"""The two training tasks: self-distillation (pretrain) and the supervised detector (finetune)."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from a2v_data.augment import Augmenter
from a2v_data.bcl import draw, mix, mixed_streams
from a2v_data.corpus import Corpus
from a2v_data.registry import augmented
from a2v_data.sampling import SamplingConfig
from a2v_data.training_part import TrainingPart
from a2v_model import Detector, Pretrainer, ema_decay, load_model, normalise, padded_lengths
from a2v_model.config import FinetuneConfig, PretrainConfig
from numpy.typing import NDArray
from torch import Tensor

from ..inference import front_end_for, heard_streams
from ..recipe.trainings import FinetuneStage, PretrainStage
from ..recipe.validating import ValidationConfig
from .ahead import on_device
from .batches import FinetuneBatch, Heard, LabelledBatch, PretrainBatch, WeakBatch
from .box_targets import box_targets
from .loop import Step, TrainingStopped
from .probe import Probe
from .segments import DrawnSampler, SegmentSampler
from .spec import HeardCorpus, TrainingSpec, part
from .turns import Same, TaskOfTurns
from .validation import Look, Validation, score_validation
from .weak_bags import Bags, BagSampler


class _TaskBase:
    """Reads micro-batches: waveforms of equal length."""

    sum_names: tuple[str, ...] = ()
    weight_average = 0.0
    validation: Validation | None = None
    probe: Probe | None = None

    def __init__(self, spec: TrainingSpec, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.segment_s = spec.segment_s
        front_end = spec.model.front_end
        self.samples = round(spec.segment_s * front_end.sample_rate)
        self.frames = front_end.frames(self.samples)
        self.corpus = Corpus.open(spec.corpus).at(front_end.sample_rate)
        names = {recording.name: index for index, recording in enumerate(self.corpus.recordings)}
        recordings = [names[name] for name in spec.recordings]
        self._draw_from(recordings, spec.loop.segments)

    def _draw_from(self, recordings: list[int], segments: int) -> None:
        """Micro-batches are so many segments of these recordings."""
        loop, stride = self.spec.loop, self.spec.model.front_end.stride
        self.part = TrainingPart(self.corpus, recordings)
        self.sampler: SegmentSampler | DrawnSampler
        sampling = loop.sampling if isinstance(loop, PretrainStage | FinetuneStage) else None
        if sampling is not None:
            self.sampler = DrawnSampler(self.part, self.samples, stride, segments, loop.seed, sampling)
        else:
            self.sampler = SegmentSampler(
                self.corpus, recordings, self.samples, stride, segments, loop.micro_batches, loop.seed,
                loop.random_offset, labelled_only=isinstance(loop, FinetuneStage),
            )  # fmt: skip

    def read(self, update: int, micro: int) -> tuple[NDArray[np.void], NDArray[np.float32], NDArray[np.int64]]:
        """Segments, waveforms (B, N) and how many samples of each are recording rather than padding (B,)."""
        segments = self.sampler.draw(update, micro)
        return segments, *self.corpus.waveforms(segments, self.samples)

    def streams(self, segments: NDArray[np.void]) -> dict[str, NDArray[np.float32]]:
        """What was recorded beside segments and the model hears (B, M, C), by name."""
        return heard_streams(self.spec.model, self.corpus, segments, self.segment_s)

    def normalised(self, heard: Heard) -> Tensor:
        """Waveforms (B, N), each normalised over its recording, at their levels."""
        waveform_BN = normalise(heard.waveform, heard.samples)
        return waveform_BN if heard.gain is None else waveform_BN * heard.gain[:, None]


class PretrainTask(_TaskBase):
    """Predict the teacher's targets at masked frames (spec 5).

    A recording shorter than a segment is normalised over its own samples, then zeros, which are its mean, follow up
    to the segment's end: padding changes nothing of its level. With between-classes mixing a partner is heard there.
    The model takes the padding for a silence that was recorded: its frames are masked and predicted like any others.
    """

    sum_names = ("target_variance", "prediction_variance", "masked_share")

    def __init__(self, spec: TrainingSpec, device: torch.device, model: Pretrainer | None = None) -> None:
        super().__init__(spec, device)
        assert spec.pretrain is not None
        self.config = spec.pretrain
        self.model = model or self.new_model(spec)
        if spec.probe is not None:
            self.probe = Probe(spec.probe, self.config.precision)

    @staticmethod
    def new_model(spec: TrainingSpec) -> Pretrainer:
        """The model that training begins with."""
        assert spec.pretrain is not None
        torch.manual_seed(spec.pretrain.seed)
        model = Pretrainer(spec.model, part(spec.pretrain, PretrainConfig))
        if model.student.streams is not None:
            model.student.streams.set_statistics(_stream_statistics(spec))
        return model

    def begin_update(self, update: int) -> None:
        """Nothing changes between updates but the teacher."""

    def prepare(self, update: int, micro: int, generator: torch.Generator) -> PretrainBatch:
        """What `step` hears and hides, on the CPU: a pure function of the seed, the update and the micro-batch."""
        segments, read_BN, samples_B = self.read(update, micro)
        streams = _tensors(self.streams(segments))
        heard = Heard(torch.from_numpy(read_BN), torch.from_numpy(samples_B), streams=streams)
        mixing = draw(len(read_BN), self.config.bcl, generator) if self.config.bcl else None
        return PretrainBatch(heard, mixing, self.model.draw(len(read_BN), self.samples, generator))

    def step(self, update: int, micro: int, generator: torch.Generator, batch: PretrainBatch | None = None) -> Step:
        batch = on_device(batch or self.prepare(update, micro, generator), self.device)
        waveform_BN, streams = self.normalised(batch.heard), batch.heard.streams
        if self.config.bcl and batch.mixing is not None:
            waveform_BN, _ = mix(waveform_BN, None, self.corpus.sample_rate, self.config.bcl, batch.mixing)
            streams = mixed_streams(streams, batch.mixing)
        out = self.model(waveform_BN, generator, masks=batch.masks, streams=streams)
        frames = float(out.masked_frames)
        sums = {
            "target_variance": out.target_variance.double() * frames,
            "prediction_variance": out.prediction_variance.double() * frames,
            "masked_share": out.masked_share * frames,
        }
        return Step(out.loss_sum, frames, sums)

    def end_update(self, update: int, metrics: dict[str, float]) -> dict[str, float]:
        self.model.update_teacher(update)
        try:
            self.model.check_collapse(update, metrics["target_variance"], metrics["prediction_variance"])
        except RuntimeError as error:
            raise TrainingStopped(str(error)) from None
        return {**metrics, "ema_decay": ema_decay(update, self.config)}


class FinetuneTask(_TaskBase):
    """Classify every frame (spec 7).

    Recordings that are labelled as a whole only (`Corpus.weak`) are heard whole, in each micro-batch beside segments of
    the others, or alone: `finetune.weak.share` of the loss is theirs, each recording's alike. Nothing is pasted into
    them or taken from them, and they are not mixed: what sounds in them when is not known.
    """

    def __init__(self, spec: TrainingSpec, device: torch.device, model: Detector | None = None) -> None:
        super().__init__(spec, device)
        assert spec.finetune is not None
        self.config = spec.finetune
        self.model = model or self.new_model(spec)
        self.weight_average = self.config.weight_average
        if spec.validation:
            settings = self.config.validation or ValidationConfig()
            of_presence = all(name in self.corpus.weak for name in spec.validation)
            self.validation = Validation(self.score, settings.every, settings.patience, of_presence=of_presence)
        self.augmenter: Augmenter | None = None
        if self.config.augment is not None and self.strong_segments:
            power = (self.config.sampling or SamplingConfig()).class_power
            stride, heard = spec.model.front_end.stride, spec.model.streams
            self.augmenter = Augmenter(self.part, stride, self.config.augment, power, heard)

    @staticmethod
    def new_model(spec: TrainingSpec) -> Detector:
        """The model that training begins with. Raises ValueError for a backbone that does not fit."""
        assert spec.finetune is not None
        torch.manual_seed(spec.finetune.seed)
        model = Detector(spec.model, part(spec.finetune, FinetuneConfig), spec.classes)
        if spec.backbone:
            start = load_model(spec.backbone, spec.allow_plugins)
            model.load_backbone(start.state_dict())
            if spec.keep_head:
                if not isinstance(start, Detector):
                    raise ValueError(f"{spec.backbone}: a pretrained model has no head to keep; it must be a detector")
                model.load_head(start)
        if model.backbone.streams is not None:  # after the backbone's, which may have been pretrained without
            model.backbone.streams.set_statistics(_stream_statistics(spec))
        return model

    def _draw_from(self, recordings: list[int], segments: int) -> None:
        """The share of the recordings that are labelled as a whole only is theirs."""
        weak = [number for number in recordings if self.corpus.recordings[number].name in self.corpus.weak]
        strong = [number for number in recordings if number not in set(weak)]
        if self.corpus.weak and self.spec.finetune is not None and self.spec.finetune.head == "boxes":
            raise ValueError(
                f"{min(self.corpus.weak)}: has labels of the whole recording only, and head boxes learns"
                " from events; leave such recordings out, or take head temporal"
            )
        assert self.spec.finetune is not None
        weak_segments = self.spec.finetune.weak_segments(bool(strong), bool(weak))
        self.strong_segments = segments - weak_segments if strong else 0
        self.bags: BagSampler | None = None
        if weak_segments:
            loop, stride = self.spec.loop, self.spec.model.front_end.stride
            self.bags = BagSampler(
                self.corpus, weak, self.samples, stride, self.frames, weak_segments, loop.micro_batches, loop.seed
            )
        self.weak_segments = weak_segments
        super()._draw_from(strong or recordings, self.strong_segments or segments)

    def score(self, model: Detector) -> Look:
        """On the validation recordings."""
        spec, recordings = self.spec, self.corpus.indices(self.spec.validation)
        precision = self.config.precision
        return score_validation(model, self.corpus, recordings, spec.segment_s, spec.overlap_s, spec.scoring, precision)

    def begin_update(self, update: int) -> None:
        self.model.set_trainable(update)

    def examples(self, update: int, micro: int) -> tuple[Heard, Tensor]:
        """Segments (B, N), augmented, and targets (B, T, C), on the CPU.

        A pure function of the seed, the update and the micro-batch.
        """
        segments, read_BN, samples_B = self.read(update, micro)
        target_BTC = self.corpus.targets(segments, self.spec.model.front_end.frame_rate, self.frames)
        if self.config.head == "boxes":
            target_BTC = box_targets(self.corpus, segments, self.spec.model.front_end.frame_rate, target_BTC)
        gain_B: Tensor | None = None
        streams = self.streams(segments)
        if self.augmenter is not None:
            rng = np.random.default_rng([self.config.seed, 3, update, micro])
            read_BN, target_BTC = self.augmenter(read_BN, samples_B, target_BTC, rng, streams)
            gain_B = torch.from_numpy(self.augmenter.gains(len(segments), rng))
        if self.config.augmentations:  # with chance of their own, so that they change nothing else
            read_BN, target_BTC = augmented(
                self.config.augmentations, read_BN, samples_B, target_BTC, self.spec.model.front_end.stride,
                self.corpus.sample_rate, (self.config.seed, 9, update, micro),
            )  # fmt: skip
        heard = Heard(torch.from_numpy(read_BN), torch.from_numpy(samples_B), gain_B, _tensors(streams))
        return heard, torch.from_numpy(target_BTC)

    def weak_examples(self, bags: Bags, update: int, micro: int) -> Heard:
        """Recordings' windows (B, N), at changed levels, on the CPU."""
        read_BN, samples_B = self.corpus.waveforms(bags.segments, self.samples)
        gain_B: Tensor | None = None
        if self.config.augment is not None:
            rng = np.random.default_rng([self.config.seed, 8, update, micro])
            largest = self.config.augment.gain_db
            gain_R = 10 ** (rng.uniform(-largest, largest, len(bags.presence)) / 20)
            gain_B = torch.from_numpy(gain_R[bags.recording].astype(np.float32))
        streams = _tensors(self.streams(bags.segments))
        return Heard(torch.from_numpy(read_BN), torch.from_numpy(samples_B), gain_B, streams)

    def prepare(self, update: int, micro: int, generator: torch.Generator) -> FinetuneBatch:
        """What `step` hears, on the CPU: a pure function of the seed, the update and the micro-batch."""
        labelled = self._labelled(update, micro, generator) if self.strong_segments else None
        return FinetuneBatch(labelled, None if self.bags is None else self._weak(self.bags, update, micro))

    def _labelled(self, update: int, micro: int, generator: torch.Generator) -> LabelledBatch:
        heard, targets_BTC = self.examples(update, micro)
        lengths_B, mixing = heard.samples, None
        if self.config.bcl and len(lengths_B) > 1:
            lengths_B = lengths_B.max().expand_as(lengths_B)  # what stands in the padding is the partner's audio
            mixing = draw(len(lengths_B), self.config.bcl, generator)
        return LabelledBatch(heard, targets_BTC, self._inside(lengths_B), self._padded(lengths_B), mixing)

    def _weak(self, sampler: BagSampler, update: int, micro: int) -> WeakBatch:
        bags = sampler.draw(update, micro)
        heard = self.weak_examples(bags, update, micro)
        counted_BT = torch.from_numpy(bags.counted) & self._inside(heard.samples)
        recording_B, presence_RC = torch.from_numpy(bags.recording), torch.from_numpy(bags.presence)
        return WeakBatch(heard, counted_BT, recording_B, presence_RC, self._padded(heard.samples))

    def _inside(self, lengths_B: Tensor) -> Tensor:
        """bool (B, T): frames that begin within so many samples."""
        return torch.arange(self.frames) < torch.ceil(lengths_B / self.spec.model.front_end.stride)[:, None]

    def _padded(self, lengths_B: Tensor) -> NDArray[np.int64] | None:
        padded_B = padded_lengths(lengths_B, self.samples, self.spec.model.front_end)
        return None if padded_B is None else padded_B.numpy()

    def step(self, update: int, micro: int, generator: torch.Generator, batch: FinetuneBatch | None = None) -> Step:
        batch = on_device(batch or self.prepare(update, micro, generator), self.device)
        steps = [] if batch.labelled is None else [self._labelled_step(batch.labelled, generator)]
        if batch.weak is not None:
            steps.append(self._weak_step(batch.weak, generator))
        total, frames = (
            reduce(add, parts) for parts in zip(*((one.loss_sum, one.frames) for one in steps), strict=True)
        )
        return Step(total, frames, {})

    def _logits(
        self,
        waveform_BN: Tensor,
        lengths_B: NDArray[np.int64] | None,
        generator: torch.Generator,
        streams: dict[str, Tensor],
    ) -> Tensor:
        lengths = None if lengths_B is None else torch.from_numpy(lengths_B)
        logits_BTC: Tensor = self.model(waveform_BN, generator, lengths=lengths, streams=streams)
        return logits_BTC

    def _weak_step(self, batch: WeakBatch, generator: torch.Generator) -> Step:
        """Counts as many frames as its segments' worth would have, which its recordings share alike."""
        logits_BTC = self._logits(self.normalised(batch.heard), batch.lengths, generator, batch.heard.streams)
        loss_R = self.model.presence_loss(logits_BTC, batch.counted, batch.recording, batch.presence)
        frames = self.weak_segments * self.frames
        return Step(self.config.weak.weight * frames * loss_R.mean(), float(frames), {})

    def _labelled_step(self, batch: LabelledBatch, generator: torch.Generator) -> Step:
        waveform_BN, targets_BTC, streams = self.normalised(batch.heard), batch.targets, batch.heard.streams
        if self.config.bcl and batch.mixing is not None:
            waveform_BN, mixed = mix(waveform_BN, targets_BTC, self.corpus.sample_rate, self.config.bcl, batch.mixing)
            assert mixed is not None
            targets_BTC, streams = mixed, mixed_streams(streams, batch.mixing)
        logits_BTC = self._logits(waveform_BN, batch.lengths, generator, streams)
        loss_sum, frames = self.model.loss(logits_BTC, targets_BTC, batch.valid)
        return Step(loss_sum, frames.double(), {})

    def end_update(self, update: int, metrics: dict[str, float]) -> dict[str, float]:
        return metrics


def _tensors(streams: dict[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in streams.items()}


def _stream_statistics(spec: TrainingSpec) -> dict[str, tuple[list[float], list[float]]]:
    """Means and deviations of the streams' values, by name, over the recordings to train on: of several corpora those
    of the first that has the stream."""
    heard = spec.corpora or (HeardCorpus(corpus=spec.corpus, recordings=spec.recordings, share=0),)
    found: dict[str, tuple[list[float], list[float]]] = {}
    for one in heard:
        corpus = Corpus.open(one.corpus)
        recordings = corpus.indices(one.recordings)
        for name in spec.model.streams.keys() & corpus.streams.keys() - found.keys():
            if (statistics := corpus.streams[name].statistics(recordings)) is not None:
                found[name] = statistics
    return found


def build_task(spec: TrainingSpec, device: torch.device) -> Any:
    """The task of a training: one, or where it hears several corpora or sample rates, one for each."""
    kind: Any = PretrainTask if spec.pretrain else FinetuneTask
    parts = _parts(spec)
    if len(parts) == 1 and parts[0].rate == spec.model.front_end.sample_rate:
        return kind(spec, device)
    weak = set(Corpus.open(spec.corpus).weak) & set(spec.recordings) if spec.finetune is not None else ()
    if weak:
        raise ValueError(
            f"{min(weak)}: labels of whole recordings need recordings of one sample rate, and there are "
            f"{', '.join(str(part.rate) for part in parts)} Hz; leave data.keep_rates and front_end.any_rate out"
        )
    return TaskOfTurns(kind, spec, device, parts)


def _parts(spec: TrainingSpec) -> list[Same]:
    """What takes turns: the rates of a corpus share its turns by their seconds. Raises ValueError for a rate that the
    model does not hear."""
    parts = []
    for heard in spec.corpora or (HeardCorpus(corpus=spec.corpus, recordings=spec.recordings, share=0),):
        corpus = Corpus.open(heard.corpus)
        by_rate: dict[int, list[int]] = {}
        for number in corpus.indices(heard.recordings):
            front_end_for(corpus, number, spec.model.front_end)
            by_rate.setdefault(corpus.rate(number), []).append(number)
        seconds = {rate: corpus.seconds(by_rate[rate]) for rate in sorted(by_rate)}
        times = heard.share / sum(seconds.values()) if spec.corpora else 1.0
        parts += [
            Same(heard.corpus, rate, [corpus.recordings[number].name for number in by_rate[rate]], times * own_s)
            for rate, own_s in seconds.items()
        ]
    return parts
