"""The work on one piece of a recording, wherever it runs: read, resample, ask the model, write the likelihoods down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from a2v_data.audio import AudioError, AudioInfo, read_blocks
from a2v_data.scheduling import Advance
from a2v_data.storage import rows_aside
from a2v_data.streams.folder import RecordingTable
from a2v_data.streams.tables import StreamError
from a2v_model import Detector, load_model, threads
from numpy.typing import NDArray

from ..basics.errors import FAILED, UserError
from ..inference import Frames, Windows, at_once
from .api import events_of_likelihoods
from .extremes import extremes_of
from .options import Choice
from .settings import PredictSettings
from .stream import Sound, Spent, piece_at, piece_bounds, piece_count, piece_frames, piece_outputs

LEFT_OUT = "left-out"
# libsndfile goes to a sample of these exactly; of others (MP3, OGG, ...) a recording is one piece, read from its start
SOUGHT_EXACTLY = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")


@dataclass(frozen=True)
class PieceTask:
    """Windows `piece` of a recording. size: windows of all its pieces but the last; folder: where they are written;
    model: a detector's folder; settings: what the model makes of those chosen; plugins: digests of those of the model's
    that may be run; streams: the table with what was recorded beside it."""

    name: str
    path: Path
    info: AudioInfo
    windows: Windows
    piece: tuple[int, int]
    size: int
    folder: Path
    model: Path
    settings: PredictSettings
    choice: Choice
    seconds: float
    plugins: tuple[str, ...] = ()
    streams: RecordingTable | None = None

    @property
    def likelihoods(self) -> Path:
        return self.folder / _piece_name(*self.piece)

    @property
    def of_all(self) -> list[Path]:
        """The likelihoods of all pieces of the recording, in order."""
        return [self.folder / _piece_name(*piece) for piece in piece_bounds(self.windows, self.size)]

    @property
    def features(self) -> Path:
        return self.likelihoods.with_suffix(".features.npy")

    @property
    def is_done(self) -> bool:
        """Whether an earlier call has done it. Likelihoods come last."""
        return self.likelihoods.is_file()


def _piece_name(first: int, last: int) -> str:
    return f"{first:07d}-{last:07d}.npy"


@dataclass(frozen=True)
class Found:
    """What a whole recording's likelihoods give: events, dtype EVENT, and `extremes_of` them."""

    events: NDArray[np.void]
    likelihoods: dict[str, list[float]]


@dataclass
class PieceDone(Spent):
    """A piece that is done. found: given with the one that was done last of its recording, so that those who work find
    the events, and not the one that all others wait for. without_values: its streams have no value within it."""

    found: Found | None = None
    without_values: bool = False


def find_in(pieces: list[Path], frame_rate: float, classes: list[str], settings: PredictSettings) -> Found:
    """What the settings make of a recording whose pieces are all there."""
    blocks = partial(read_pieces, pieces)
    events = events_of_likelihoods(blocks, frame_rate, classes, settings)
    return Found(events, extremes_of(blocks, frame_rate, classes))


def find_when_whole(task: PieceTask, frame_rate: float, classes: list[str]) -> Found | None:
    """`find_in`, where all pieces are there; of two that end at once both see it. None also where a network's file
    system does not show the others yet; then the one who waits for all finds the events."""
    # The last one is begun last: this look mostly tells, and there are as many as pieces.
    last = piece_at(task.windows, task.size, piece_count(task.windows, task.size) - 1)
    if not (task.folder / _piece_name(*last)).is_file():
        return None
    pieces = task.of_all
    return find_in(pieces, frame_rate, classes, task.settings) if all(map(Path.is_file, pieces)) else None


def piece_windows(info: AudioInfo, windows: Windows, size: int) -> int:
    """Windows of a piece of a recording, `size` where its format allows it."""
    return size if info.subtype.startswith(SOUGHT_EXACTLY) else len(windows)


def pieces_of(info: AudioInfo, windows: Windows, size: int) -> list[tuple[int, int]]:
    """The pieces of a recording, see `piece_windows`."""
    return piece_bounds(windows, piece_windows(info, windows, size))


def predict_piece(task: PieceTask, advance: Advance) -> PieceDone | AudioError | None:
    """Write a piece's likelihoods; returns the seconds that it took, what is wrong with the recording, or None where
    another piece found that out already. `advance` is told the seconds of audio, all of them."""
    left_s = task.seconds
    spent = PieceDone()
    choice, device = task.choice, task.choice.device
    try:
        if (task.folder / LEFT_OUT).exists():
            return None
        model = _detector(task.model, device, task.plugins)
        begun = time.perf_counter()
        read = partial(read_blocks, task.path, task.info, choice.channel)
        beside = task.streams.grids(task.info.duration_s) if task.streams else {}
        sound = Sound(task.info.samples, task.info.rate, read, beside)
        spent.without_values = task.streams is not None and not any(np.isfinite(grid).any() for grid in beside.values())
        each_s = task.seconds / (task.piece[1] - task.piece[0])
        # More threads sum in another order: other last bits, also where a call has one piece left and does it itself.
        with threads(1), ExitStack() as stack:
            frames = piece_frames(task.windows, *task.piece)
            widths = {task.likelihoods: model.columns}
            with_features = choice.embeddings is not None
            if with_features:  # first, as a piece is done when its likelihoods are there
                widths = widths | {task.features: model.model_config.encoder.dim}
            write = [
                stack.enter_context(rows_aside(path, np.float32, (frames, width))) for path, width in widths.items()
            ]
            batch = choice.batch or at_once(task.windows, device)
            outputs = piece_outputs(model, sound, task.windows, task.piece, task.settings, batch, with_features, spent)
            for output in outputs:
                for write_rows, values in zip(write, output, strict=False):
                    assert values is not None
                    write_rows(values)
                advance(each_s)
                left_s -= each_s
        spent.found = find_when_whole(task, model.for_rate(task.info.rate).frame_rate, model.classes)
        spent.all_s = time.perf_counter() - begun
        return spent
    except AudioError as error:
        return error
    except StreamError as error:
        return AudioError(f"cannot be heard with its streams: {error}")
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise UserError(f"the {device} device has too little memory; give a smaller --batch", FAILED) from None
        raise
    finally:
        advance(max(left_s, 0.0))


@lru_cache(maxsize=1)
def _detector(folder: Path, device: str, plugins: tuple[str, ...]) -> Detector:
    import torch

    torch.set_flush_denormal(True)  # attention to far frames underflows; denormal numbers are slow on CPUs
    model = load_model(folder, plugins)
    assert isinstance(model, Detector)
    return model.to(device).eval()


def read_pieces(paths: list[Path]) -> Iterator[Frames]:
    """The pieces in order, each mapped, so that only what is looked at is in memory."""
    for path in paths:
        yield np.load(path, mmap_mode="r")
