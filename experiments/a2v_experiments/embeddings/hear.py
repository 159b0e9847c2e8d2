"""Makes the units of recordings (`units.py`): one pass of the model over what was not heard yet.

A recording is a task, worked on in windows as `a2v predict` does, so its length costs no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from a2v_data.audio import AudioError, AudioInfo, Channel, read_blocks, read_info
from a2v_data.resampling import resampled_length
from a2v_data.scheduling import Advance, Crash, on_cores
from a2v_data.storage import file_digest, require_free_space, rows_aside
from a2v_model import Detector, FinetuneConfig, Pretrainer, load_model, threads
from a2v_model.checkpoints import WEIGHTS
from a2v_model.plugins import loaded_digests
from numpy.typing import NDArray

from ..basics.errors import UserError, naming_full_disk
from ..inference import Frames, at_once
from ..models import is_uri, model_folder, name_of
from ..predict.call import GPU_PROCESSES
from ..predict.run import Progress
from ..predict.settings import PredictSettings, settings_for
from ..predict.stream import Sound, piece_outputs, piece_size, windows_of
from ..predict.work import pieces_of
from .units import About, Units, begin, unit_files, unit_frames

LARGEST = float(np.finfo(np.float16).max)
SURROUNDINGS_S = 5.0  # of a query: a call alone is heard otherwise than in its recording (docs/log.md)


@dataclass(frozen=True)
class Listener:
    """A model that is there. folder: its files; plugins: digests of those of its that may be run."""

    folder: Path
    about: About
    settings: PredictSettings
    plugins: tuple[str, ...] = ()

    def units_around(self, path: Path, start_s: float, stop_s: float) -> tuple[NDArray[np.float16], float]:
        """Units (U, D + C) of a part of any audio file and of up to SURROUNDINGS_S on both sides of it, and where they
        begin in the file, seconds. Raises UserError where it cannot be read."""
        try:
            info = read_info(path, 0)
            first = max(0, round((start_s - SURROUNDINGS_S) * info.rate))
            stop = min(info.samples, round((stop_s + SURROUNDINGS_S) * info.rate))
            waveform_N = np.concatenate(list(read_blocks(path, info, 0, first, stop)))
        except (AudioError, OSError) as error:
            raise UserError(f"{path}: {error}") from None
        task = _Task(path, info, 0, self.folder, self.settings, self.about, Path(), "cpu", self.plugins)
        sound = Sound.of_waveform(waveform_N, info.rate)
        return np.concatenate(list(_unit_blocks(task, sound, lambda seconds: None))), first / info.rate


@dataclass(frozen=True)
class _Task:
    path: Path
    info: AudioInfo
    channel: Channel
    model: Path
    settings: PredictSettings
    about: About
    target: Path
    device: str
    plugins: tuple[str, ...]


@contextmanager
def open_listener(source: str, tracking_uri: str | None, channel: Channel, beside: Path) -> Iterator[Listener]:
    """A model from where it lies, detector or pretrained only. beside: a folder to fetch it next to."""
    with model_folder(source, tracking_uri, beside=beside) as folder:
        model = load_model(folder)
        detector = isinstance(model, Detector)
        settings = settings_for(model)[0] if isinstance(model, Detector) else PredictSettings()
        digest = file_digest(folder / WEIGHTS)[:16]
        thresholds = settings.events.threshold
        about = About(
            name_of(source, digest),
            source if is_uri(source) else str(Path(source).resolve()),
            digest,
            tuple(model.classes) if isinstance(model, Detector) else (),
            dict(thresholds) if detector and isinstance(thresholds, Mapping) else {},
            model.model_config.encoder.dim,
            unit_frames(model.frame_rate),
            model.frame_rate,
            settings.segment_s,
            settings.overlap_s,
            channel,
        )
        yield Listener(folder.absolute(), about, settings, loaded_digests(model.plugins))


def hear(
    listener: Listener,
    folder: Path,
    recordings: Mapping[str, Path],
    progress: Progress,
    processes: int | None = None,
) -> Units:
    """Units of recordings (name -> path) in FOLDER/embeddings; those that are there already are not made again.

    Recordings that cannot be read are left out. Raises ValueError where the disk is too full, UserError for a model
    whose results are no numbers.
    """
    about = listener.about
    place = begin(folder, about)
    files, good, left_out = unit_files(folder, about, recordings)
    names = [name for name, path in files.items() if not path.is_file()]  # of the tasks
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tasks = [
        _Task(
            one.path,
            one.info,
            about.channel,
            listener.folder,
            listener.settings,
            about,
            files[name],
            device,
            listener.plugins,
        )
        for name, one in good.items()
        if not files[name].is_file()
    ]
    if tasks:
        seconds = sum(task.info.duration_s for task in tasks)
        require_free_space(place, round(2 * (about.dim + len(about.classes)) * seconds / about.unit_s) + 1_000_000)
        progress.begin(len(tasks), seconds)
        run = on_cores(processes or (GPU_PROCESSES if device == "cuda" else None))
        with naming_full_disk(place), closing(run(_hear_recording, tasks, progress.advance)) as results:
            for position, result in results:
                if result is not None:
                    left_out[names[position]] = result.message if isinstance(result, Crash) else str(result)
                progress.recording()
    return Units(about, {name: path for name, path in files.items() if name not in left_out}, left_out)


def _hear_recording(task: _Task, advance: Advance) -> AudioError | None:
    """Write a recording's units; returns what is wrong with it."""
    front_end = _model(task.model, task.device, task.plugins).for_rate(task.info.rate).model_config.front_end
    frames = -(-resampled_length(task.info.samples, task.info.rate, front_end.sample_rate) // front_end.stride)
    shape = (-(-frames // task.about.frames), task.about.dim + len(task.about.classes))
    try:
        with rows_aside(task.target, np.float16, shape) as write:
            read = partial(read_blocks, task.path, task.info, task.channel)
            for block_UE in _unit_blocks(task, Sound(task.info.samples, task.info.rate, read), advance):
                write(block_UE)
    except AudioError as error:
        return error
    return None


def _unit_blocks(task: _Task, sound: Sound, advance: Advance) -> Iterator[NDArray[np.float16]]:
    """The units (U, D + C) of a sound in order, window by window. advance: told the seconds, all of them."""
    model = _model(task.model, task.device, task.plugins)
    windows = windows_of(sound, model, task.settings)
    each_s, size = sound.duration_s / len(windows), task.about.frames
    left_TE = np.zeros((0, task.about.dim + len(task.about.classes)), np.float32)
    with threads(1):
        for piece in pieces_of(task.info, windows, piece_size(task.settings, task.device)):
            for likelihood_TC, features_TD in piece_outputs(
                model, sound, windows, piece, task.settings, at_once(windows, task.device), with_features=True
            ):
                assert features_TD is not None
                known_TC = likelihood_TC[:, : len(task.about.classes)]
                left_TE = np.concatenate([left_TE, np.concatenate([features_TD, known_TC], 1)])
                whole = len(left_TE) // size * size
                yield _united(left_TE[:whole], size, task)
                left_TE = left_TE[whole:]
                advance(each_s)
    if len(left_TE):
        yield _united(left_TE, len(left_TE), task)


def _united(frames_TE: Frames, size: int, task: _Task) -> NDArray[np.float16]:
    dim = task.about.dim
    if not np.isfinite(frames_TE).all():
        raise UserError(f"{task.about.model}: what it hears in {task.path.name} holds NaN: its weights are bad")
    cut_UTE = frames_TE.reshape(-1, size, frames_TE.shape[1])
    units_UE = np.concatenate([cut_UTE[:, :, :dim].mean(1), cut_UTE[:, :, dim:].max(1)], 1)
    return np.clip(units_UE, -LARGEST, LARGEST).astype(np.float16)


@lru_cache(maxsize=1)
def _model(folder: Path, device: str, plugins: tuple[str, ...]) -> Detector:
    torch.set_flush_denormal(True)  # as predict.work
    model = load_model(folder, plugins)
    return (model if isinstance(model, Detector) else with_any_head(model)).to(device).eval()


def with_any_head(source: Pretrainer) -> Detector:
    """A pretrained model as a detector whose likelihoods mean nothing: only what its head would see is wanted."""
    config = FinetuneConfig(average_layers=source.averaged, channel_mask_length=0, channel_mask_probability=0.0)
    detector = Detector(source.model_config, config, ["none"])
    detector.load_backbone(source.state_dict())
    return detector
