"""Calls in recordings, from Python:

    from a2v_experiments.predict import predict

    events = predict("monday.flac", "runs:/RUN_ID")      # or a folder's path, several, or a waveform with its rate
    events[events.likelihood > 0.5].to_csv("calls.csv")

`a2v predict` finds the same events (run.py), and so does the model that MLflow serves.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from a2v_data.audio import HIGHEST_RATE, LOUDEST, LOWEST_RATE, AudioError, Channel, read_blocks, read_info
from a2v_data.resampling import resampled_length
from a2v_data.streams.tables import StreamError
from a2v_eval.event_stream import find_events_in_blocks
from a2v_model import Detector
from a2v_model.inference import Waveform, checked_waveform
from a2v_model.streams import check_streams
from numpy.typing import NDArray

from ..basics.errors import UserError
from ..inference import at_once
from ..models import load_model
from .settings import PredictSettings, not_learned_notice, not_written, postprocess, settings_for
from .stream import Sound, piece_bounds, piece_outputs, piece_size, windows_of

if TYPE_CHECKING:
    import pandas

PathLike = str | os.PathLike[str]


def predict(
    recordings: PathLike | Sequence[PathLike] | Waveform,
    model: PathLike | Detector,
    sample_rate: float | None = None,
    channel: Channel = 0,
    streams: PathLike | Mapping[str, Any] | None = None,
    **settings: Any,
) -> pandas.DataFrame:
    """The calls in recordings, as a table with the columns file, onset_s, offset_s, label, likelihood, threshold.

    recordings: what `a2v predict` takes (files, folders, patterns, lists), or a waveform (N,) of `sample_rate` Hz,
    whose table has no `file`. model: a detector, or where it lies (`load_model`). channel: of a file, from 0, or 'mix'.
    streams: the folder with what was recorded beside files (None: that of the files), or beside a waveform, by name
    (M, C) from its start on at the stream's rate. settings: as in `settings_for` (threshold=0.3, classes=["cc"],
    merge_gap_s=0.1, ...); the default is the model's.
    Classes that the model has not learned have no events unless asked for (classes=, threshold={...},
    all_classes=True): a warning names them. What else should be known is with it in the table's `attrs["notices"]`.

    One recording after another, in this process: months of recordings are for `a2v predict`. Raises UserError for a
    recording that cannot be used, ValueError for a wrong setting or waveform.
    """
    detector = as_detector(load_model(model) if not isinstance(model, Detector) else model, model)
    chosen, notices = settings_for(detector, **settings)
    not_learned = not_learned_notice(not_written(detector, **settings), "all_classes=True")
    for notice in not_learned:
        warnings.warn(notice, stacklevel=2)
    odd: list[str] = []
    table = _predicted(recordings, detector, sample_rate, channel, chosen, odd, streams)
    table.attrs["notices"] = [*not_learned, *notices, *odd]
    return table


def _predicted(
    recordings: PathLike | Sequence[PathLike] | Waveform,
    detector: Detector,
    sample_rate: float | None,
    channel: Channel,
    chosen: PredictSettings,
    odd: list[str],
    streams: PathLike | Mapping[str, Any] | None,
) -> pandas.DataFrame:
    """The table; `odd` is given what is odd about recordings though all of them was read."""
    if not is_path(recordings):
        rate = detector.sample_rate if sample_rate is None else sample_rate
        if isinstance(streams, str | os.PathLike):
            raise ValueError("streams: those of a waveform are arrays, {name: (values, columns)}, not files")
        events = events_of_waveform(detector, recordings, rate, chosen, streams)
        return event_table(detector, chosen, [(None, events)])
    from .beside import find_tables
    from .plan import find_recordings

    if isinstance(streams, Mapping):
        raise ValueError("streams: those of files lie in a folder, whose path is wanted, not arrays")
    paths = [recordings] if isinstance(recordings, str | os.PathLike) else recordings
    found = []
    named = find_recordings([str(path) for path in paths])
    tables, told = find_tables(named, detector.model_config, None if streams is None else str(streams))
    odd += told
    for name, path in named.items():
        try:
            sound = open_sound(path, channel)
            if table := tables.get(name):
                sound = replace(sound, streams=table.grids(sound.duration_s))
            found.append((name, events_of_sound(detector, sound, chosen)))
            odd += [f"{path}: {notice}"] if (notice := read_info(path, channel).notice) else []
        except AudioError as error:
            raise UserError(f"{path}: {error}") from None
        except StreamError as error:
            raise UserError(str(error)) from None
    return event_table(detector, chosen, found)


def events_of_waveform(
    model: Detector,
    waveform: Waveform,
    sample_rate: float,
    settings: PredictSettings | None = None,
    streams: Mapping[str, Any] | None = None,
    longest_s: float = math.inf,
) -> NDArray[np.void]:
    """The calls in a waveform (N,) of any length and rate, as an array of dtype EVENT, by onset: `class` counts in
    `model.classes`, `onset_s` and `offset_s` are seconds from its start, `likelihood` is in [0, 1].

    Full scale is 1, or the largest number of an integer type. sample_rate: Hz, whole; another one than the model's is
    resampled, where the model does not hear it as it is. settings: `settings_for(model)` by default. streams: as
    `predict`. longest_s: seconds that the waveform may last. Raises ValueError, in one line, for a wrong rate, several
    channels, NaN, less than one frame of sound, more than `longest_s`, or streams that do not fit.
    """
    number = isinstance(sample_rate, Real) and not isinstance(sample_rate, bool)
    if not number or not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise ValueError(f"sample_rate = {repr(sample_rate)[:40]}: expected Hz, from {LOWEST_RATE} to {HIGHEST_RATE}")
    if float(sample_rate) != int(sample_rate):
        raise ValueError(f"sample_rate = {float(sample_rate):g} Hz: expected a whole number")
    front_end = model.for_rate(sample_rate).model_config.front_end
    samples_N = _full_scale(waveform, checked_waveform(waveform, front_end).cpu().numpy())
    if resampled_length(len(samples_N), int(sample_rate), front_end.sample_rate) < front_end.shortest:
        least_s = front_end.shortest / front_end.sample_rate
        raise ValueError(
            f"waveform of {len(samples_N)} samples at {sample_rate:g} Hz: expected at least {least_s:.4f} s"
        )
    if len(samples_N) > longest_s * sample_rate:
        raise ValueError(
            f"waveform of {len(samples_N)} samples at {sample_rate:g} Hz: expected at most {longest_s:g} s; give it in "
            "parts"
        )
    if (peak := float(np.abs(samples_N).max())) > LOUDEST:
        raise ValueError(f"waveform has a sample of {peak:.3g}: full scale is 1")
    grids = {name: np.asarray(values, np.float32) for name, values in (streams or {}).items()}
    check_streams({name: torch.from_numpy(grid[None]) for name, grid in grids.items()}, model.model_config.streams, 1)
    return events_of_sound(model, replace(Sound.of_waveform(samples_N, int(sample_rate)), streams=grids), settings)


def _full_scale(given: Waveform, samples_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whole numbers as a file's: their type's largest is 1. Normalisation leaves silence alone, so scale matters."""
    kind = np.dtype(str(given.dtype).removeprefix("torch.")) if torch.is_tensor(given) else np.asarray(given).dtype
    if kind.kind not in "iu":
        return samples_N
    return (samples_N - (128 if kind == np.uint8 else 0)) / np.float32(2.0 ** (8 * kind.itemsize - 1))


def events_of_sound(model: Detector, sound: Sound, settings: PredictSettings | None = None) -> NDArray[np.void]:
    """As `events_of_waveform`, of samples from anywhere. Raises AudioError where they cannot be read."""
    settings = settings or settings_for(model)[0]
    model.eval()
    windows = windows_of(sound, model, settings)
    device = next(model.parameters()).device.type
    parts = [
        likelihood_TC
        for piece in piece_bounds(windows, piece_size(settings, device))
        for likelihood_TC, _ in piece_outputs(model, sound, windows, piece, settings, at_once(windows, device))
    ]
    return events_of_likelihoods(lambda: parts, model.for_rate(sound.rate).frame_rate, model.classes, settings)


def events_of_likelihoods(
    blocks: Any, frame_rate: float, classes: list[str], settings: PredictSettings
) -> NDArray[np.void]:
    """What the settings make of likelihoods that come in blocks (T, C): see `find_events_in_blocks`."""
    found = find_events_in_blocks(blocks, frame_rate, settings.events, classes)
    return postprocess(found, settings, classes)


def event_table(
    model: Detector, settings: PredictSettings, found: Iterable[tuple[str | None, NDArray[np.void]]]
) -> pandas.DataFrame:
    """Events of recordings as a table: file (where recordings have names), onset_s, offset_s, label, likelihood,
    threshold."""
    import pandas as pd

    tables = []
    for name, events in found:
        labels = [model.classes[number] for number in events["class"]]
        table = pd.DataFrame(
            {
                "onset_s": events["onset_s"],
                "offset_s": events["offset_s"],
                "label": np.array(labels, dtype=object),
                "likelihood": events["likelihood"],
                "threshold": np.array([settings.threshold(label) for label in labels], dtype=np.float64),
            }
        )
        if name is not None:
            table.insert(0, "file", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def open_sound(path: Path, channel: Channel = 0) -> Sound:
    """A recording's samples. Raises AudioError for what is not a whole recording with that channel."""
    info = read_info(path, channel)
    return Sound(info.samples, info.rate, partial(read_blocks, path, info, channel))


def as_detector(model: Any, source: object) -> Detector:
    """UserError for a model that knows no classes."""
    if not isinstance(model, Detector):
        raise UserError(
            f"{source}: this model is pretrained only and knows no classes; finetune it, or name a detector"
        )
    return model


def is_path(recordings: object) -> bool:
    """Whether it names recordings; else it is a waveform."""
    if isinstance(recordings, str | os.PathLike):
        return True
    return isinstance(recordings, list | tuple) and all(isinstance(one, str | os.PathLike) for one in recordings)
