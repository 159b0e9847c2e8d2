"""`a2v explain`: models and recordings brought together, as arrays and as figures.

N samples, T frames, C classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import read_annotations
from a2v_data.audio import AUDIO_SUFFIXES, AudioError, read_info
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import META
from a2v_data.meerkat import MEERKAT_CLASSES
from a2v_data.stretch import mean_spectrum, read_stretch
from a2v_eval import EVENT, LABEL, EventConfig, find_events
from a2v_eval.events import frame_likelihoods
from a2v_eval.figures import Level, attention_figure, filters_figure, within
from a2v_model import Detector, Pretrainer
from a2v_model.explain import attention_bytes, cumulative_response, mean_attention
from numpy.typing import NDArray

from ..basics.errors import UserError
from ..basics.terminal import one_line
from ..models import check_event_method, usual_method

DEAF_DB = -30.0  # of a filterbank's response, relative to its maximum
STRETCH_S = 10.0  # of the recordings whose mean spectrum is taken
SHORTEST_S = 0.1  # what is left of a recording after whole stretches, unless it is all there is
Model = Pretrainer | Detector
Array = NDArray[Any]


@dataclass(frozen=True)
class Filters:
    """Sinc filters against mel and the recordings: `response` and `mel` are sums of |H(f)| over the filters, divided by
    their maximum, at `frequency_hz`; `spectrum` is the mean power density at `spectrum_hz`, None without recordings.
    """

    frequency_hz: Array
    response: Array
    mel: Array
    spectrum_hz: Array | None = None
    spectrum: Array | None = None

    def arrays(self) -> dict[str, Array]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def largest_change(self) -> tuple[float, float]:
        """dB by which the learned response differs most from mel's, each relative to its maximum; and where, in Hz.
        Not where both are as good as deaf."""
        response_db, mel_db = _amplitude_db(self.response), _amplitude_db(self.mel)
        change_db = np.where(np.maximum(response_db, mel_db) > DEAF_DB, response_db - mel_db, 0.0)
        place = int(np.argmax(np.abs(change_db)))
        return float(change_db[place]), float(self.frequency_hz[place])

    def figure(self, title: str) -> Any:
        lines = {
            "learned Sinc filters": Level(self.frequency_hz, _amplitude_db(self.response)),
            "mel initialisation": Level(self.frequency_hz, _amplitude_db(self.mel)),
        }
        if self.spectrum_hz is not None and self.spectrum is not None:
            power_db = 10 * np.log10(np.maximum(self.spectrum, 1e-20))
            lines["mean spectrum of the recordings"] = Level(self.spectrum_hz, power_db)
        return filters_figure(lines, title)


def explain_filters(model: Model, stretches: Iterator[Array] | None) -> Filters:
    """The filters' cumulative response, and the mean spectrum of `stretches` at the model's sample rate."""
    found = cumulative_response(model)
    heard = (None, None) if stretches is None else mean_spectrum(stretches, model.sample_rate)
    return Filters(found.frequency_hz.numpy(), found.learned.numpy(), found.initial.numpy(), *heard)


class Recordings:
    """Stretches of about 10 s, evenly spread over corpora, folders and files, at most `minutes` of them altogether.

    problems: one line per recording that cannot be used. Raises UserError where a path is missing, nothing is good,
    or a packed corpus has another sample rate.
    """

    def __init__(self, paths: Sequence[Path], sample_rate: int, channel: int, minutes: float) -> None:
        self.sample_rate, self.channel = sample_rate, channel
        self.problems: list[str] = []
        places: list[Callable[[], Array]] = []
        for path in paths:
            places += self._of_corpus(path) if (path / META).is_file() else self._of_files(path)
        if not places:
            raise UserError(
                "\n".join([*map(one_line, self.problems), f"{paths[0]}: no recording there that can be read"])
            )
        self.found = len(places)
        wanted = max(1, min(len(places), round(minutes * 60 / STRETCH_S)))
        self._chosen = [places[index] for index in np.linspace(0, len(places) - 1, wanted).round().astype(int)]

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Array]:
        for read in self._chosen:
            try:
                yield read()
            except AudioError as error:
                self.problems.append(str(error))

    def _of_corpus(self, path: Path) -> list[Callable[[], Array]]:
        corpus = Corpus.open(path)
        if corpus.sample_rate != self.sample_rate:
            raise UserError(
                f"{path}: packed at {corpus.sample_rate} Hz, this model hears {self.sample_rate} Hz; name the"
                " recordings themselves"
            )
        if set(corpus.rates.tolist()) - {self.sample_rate}:
            raise UserError(f"{path}: its recordings have several sample rates; name the recordings themselves")
        samples = corpus.segment_samples(STRETCH_S)

        def reader(segment: Any) -> Callable[[], Array]:
            def read() -> Array:
                waveform_BN, lengths_B = corpus.waveforms(segment, samples)
                return waveform_BN[0, : lengths_B[0]]

            return read

        segments = corpus.segments(STRETCH_S)
        return [reader(segments[place : place + 1]) for place in range(len(segments))]

    def _of_files(self, path: Path) -> list[Callable[[], Array]]:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        readers: list[Callable[[], Array]] = []
        for file in audio_files(path) if path.is_dir() else [path]:
            try:
                duration_s = read_info(file, self.channel).duration_s
            except AudioError as error:
                self.problems.append(f"{file}: {error}")
                continue
            starts = np.arange(0, max(duration_s - SHORTEST_S, SHORTEST_S), STRETCH_S)
            readers += [self._reader(file, float(start_s), duration_s) for start_s in starts]
        return readers

    def _reader(self, file: Path, start_s: float, duration_s: float) -> Callable[[], Array]:
        def read() -> Array:
            try:
                end_s = min(start_s + STRETCH_S, duration_s)
                return read_stretch(file, start_s, end_s, self.sample_rate, self.channel)
            except AudioError as error:
                raise AudioError(f"{file}: {error}") from None

        return read


def audio_files(folder: Path) -> list[Path]:
    """Recordings in a folder and below it, sorted; what starts with a point is left alone."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent) / name for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in AUDIO_SUFFIXES)


@dataclass(frozen=True)
class Attention:
    """What a model does with a stretch of a recording. Times are seconds from the recording's start.

    attention (S, S), rows sum to 1, at `attention_rate` Hz; likelihood (T, C) at `frame_rate`, C = 0 for a model that
    knows no classes; labels LABEL and predictions EVENT, with `class` an index into `classes`, which holds those of the
    model and of the labels.
    """

    attention: Array
    likelihood: Array
    waveform: Array
    sample_rate: int
    frame_rate: float
    attention_rate: float
    start_s: float
    classes: list[str]
    labels: Array
    predictions: Array

    def arrays(self) -> dict[str, Array]:
        """For an npz file; no Python objects."""
        return {
            **{name: np.asarray(getattr(self, name)) for name in ("attention", "likelihood", "waveform")},
            **{name: np.asarray(getattr(self, name)) for name in ("sample_rate", "frame_rate", "attention_rate")},
            "start_s": np.asarray(self.start_s),
            "classes": np.array(self.classes, dtype=str),
            "labels": self.labels,
            "predictions": self.predictions,
        }

    def figure(self, title: str) -> Any:
        return attention_figure(
            self.attention,
            self.attention_rate,
            self.waveform,
            self.sample_rate,
            self.labels,
            self.predictions,
            self.classes,
            self.start_s,
            title,
        )


def explain_attention(
    model: Model,
    file: Path,
    start_s: float,
    end_s: float,
    layer: int | None = None,
    head: int | None = None,
    annotations: Path | None = None,
    channel: int = 0,
    events: EventConfig | None = None,
    reading: AnnotationConfig | None = None,
) -> Attention:
    """Mean attention over a stretch of a recording, one segment to the model (None: all layers, all heads), with what
    it predicts there.

    events: how likelihoods become events; None: as `event_config` reads it from the model. reading: how the annotations
    are read. Raises UserError, or
    ValueError, naming the file where it or the annotations cannot be used, and where memory is too small.
    """
    needed, free = attention_bytes(model, end_s - start_s), psutil.virtual_memory().available
    if needed > free:
        longest_s = (end_s - start_s) * (free / needed) ** 0.5
        raise UserError(
            f"{end_s - start_s:g} s: maps of attention need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free;"
            f" choose a stretch of at most {longest_s:.0f} s"
        )
    try:
        model = model.for_rate(read_info(file, channel).rate)
        waveform_N = read_stretch(file, start_s, end_s, model.sample_rate, channel)
    except AudioError as error:
        raise UserError(f"{file}: {error}") from None
    start_s = round(start_s * model.sample_rate) / model.sample_rate
    names = list(model.classes) if isinstance(model, Detector) else []
    labels, classes = _labels(annotations, file, names, reading, channel)
    labels = within(labels, start_s, end_s)
    attention_SS = mean_attention(model, waveform_N, model.sample_rate, layer, head).numpy()
    likelihood_TC = np.zeros((model.model_config.front_end.frames(len(waveform_N)), 0), np.float32)
    predictions = np.zeros(0, EVENT)
    if isinstance(model, Detector):
        likelihood_TC = model.likelihoods(waveform_N, model.sample_rate).numpy()
        settings = events or event_config(model)
        predictions = find_events(likelihood_TC, model.frame_rate, settings, classes=names)
        likelihood_TC = frame_likelihoods(likelihood_TC, model.frame_rate, settings)
        predictions["onset_s"] += start_s
        predictions["offset_s"] += start_s
    return Attention(
        attention_SS, likelihood_TC, waveform_N, model.sample_rate, model.frame_rate, model.attention_rate, start_s,
        classes, labels, predictions,
    )  # fmt: skip


def event_config(model: Detector) -> EventConfig:
    """The event settings that the model's thresholds were chosen with, and those thresholds; the defaults where it has
    none, and for classes for which none was chosen."""
    settings = {key: value for key, value in model.thresholds_from.items() if key in EventConfig.model_fields}
    settings.setdefault("method", usual_method(model))
    check_event_method(model, settings["method"])
    base = EventConfig.model_validate(settings)
    if not model.thresholds:
        return base
    default = base.threshold if isinstance(base.threshold, float) else EventConfig().threshold
    return base.model_copy(update={"threshold": {name: default for name in model.classes} | model.thresholds})


def _labels(
    annotations: Path | None, file: Path, names: list[str], reading: AnnotationConfig | None, channel: int
) -> tuple[Array, list[str]]:
    """The labels of the recording as LABEL, and the classes: the model's, then those that only the labels have."""
    if annotations is None:
        return np.zeros(0, LABEL), names
    folder = audio_folder(annotations, file)
    wanted = Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    found = read_annotations(annotations, folder, wanted, MEERKAT_CLASSES, reading, channel)
    rows = [row for row in found.rows if row.file == wanted]
    classes = [*names, *sorted({row.label for row in rows} - set(names))]
    table = [(classes.index(row.label), row.onset_s, row.offset_s) for row in rows]
    return np.array(table, dtype=LABEL), classes


def audio_folder(annotations: Path, file: Path) -> Path:
    """The folder that names in the annotations are relative to: audio/ beside them if the recording is in it, their
    own folder if it is in that, else the recording's."""
    beside = annotations.resolve().parent
    return next((p for p in (beside / "audio", beside) if file.resolve().is_relative_to(p)), file.parent)


def _amplitude_db(values: Array) -> Array:
    return 20 * np.log10(np.maximum(values, 1e-10))
