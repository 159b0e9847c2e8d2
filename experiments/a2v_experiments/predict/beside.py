"""What was recorded beside the sound of recordings (streams), for a model that hears it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from a2v_data.streams.config import FILE, TIME, StreamConfig
from a2v_data.streams.folder import FOLDER, RecordingTable, StreamFolder, has_streams
from a2v_data.streams.tables import StreamError
from a2v_model.config import ModelConfig

from ..basics.errors import UserError

AUDIO_FOLDERS = ("audio", "wav")  # of a source, beside which its streams lie


def find_tables(
    recordings: Mapping[str, Path], model: ModelConfig, given: str | None = None
) -> tuple[dict[str, RecordingTable], list[str]]:
    """The tables of streams of recordings (name -> path), by name, and what is to be said of them.

    given: the folder with `streams.csv` or `streams/`; None: that of the recordings, or the one above `audio/`, where
    it has some. Raises UserError for a folder that was given and has none, a table that is wrong, and a model that
    hears sound alone.
    """
    if not model.streams:
        if given is not None:
            raise UserError(f"--streams {given}: this model hears sound alone; leave it out")
        return {}, []
    wanted = {name: StreamConfig.model_validate(one.model_dump()) for name, one in model.streams.items()}
    hears = "; ".join(f"{name}: {', '.join(one.columns)}" for name, one in wanted.items())
    root = _root(recordings)
    folder = Path(given).absolute() if given is not None else _folder(root)
    try:
        if folder is None:
            raise StreamError(
                f"{root}: has no streams: expected {FOLDER}.csv with {FILE},{TIME} and these columns, or {FOLDER}/ with"
                " a table named like each recording"
            )
        audio = _audio_folder(recordings, folder) or root
        own = {path.relative_to(audio).as_posix(): name for name, path in recordings.items()}
        found = StreamFolder.find(folder, audio, list(own), wanted)
        tables = {own[name]: table for name in own if (table := found.of(name)) is not None}
    except (StreamError, OSError) as error:
        if given is not None:
            raise UserError(str(error)) from None
        return {}, [f"this model hears streams, too ({hears}), and recordings are heard without: {error}"]
    if len(tables) < len(recordings):
        return tables, [f"{folder}: {len(tables)} of {len(recordings)} recordings have streams ({hears})"]
    return tables, []


def _root(recordings: Mapping[str, Path]) -> Path:
    """What recordings' names are relative to."""
    name, path = next(iter(recordings.items()))
    return path.parents[len(PurePosixPath(name).parts) - 1]


def _folder(root: Path) -> Path | None:
    """The folder of the recordings that has streams, or the one above the `audio/` that they are in."""
    above = [folder.parent for folder in (root, *root.parents) if folder.name in AUDIO_FOLDERS]
    return next(filter(has_streams, [root, *above]), None)


def _audio_folder(recordings: Mapping[str, Path], folder: Path) -> Path | None:
    """What the names of tables are relative to: `audio/` of the folder with streams where all recordings are in it, or
    the folder itself where they are; None elsewhere."""
    for place in (*(folder / name for name in AUDIO_FOLDERS), folder):
        if all(path.is_relative_to(place) for path in recordings.values()):
            return place
    return None
