"""What was recorded beside the sound of recordings (streams), for a model that hears it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from a2v_data.streams.config import FILE, TIME, StreamConfig
from a2v_data.streams.folder import FOLDER, RecordingTable, StreamFolder
from a2v_data.streams.tables import SUFFIXES, StreamError
from a2v_model.config import ModelConfig

from ..basics.errors import UserError

AUDIO_FOLDERS = ("audio", "wav")  # of a source, beside which its streams lie


def find_tables(
    recordings: Mapping[str, Path], model: ModelConfig, given: str | None = None
) -> tuple[dict[str, RecordingTable], list[str]]:
    """The tables of streams of recordings (name -> path), by name, and what is to be said of them.

    given: the folder with `streams.csv` or `streams/`; None: that of the recordings, or the one above `audio/`, where
    it has some. Raises UserError for a folder without any, a table that is wrong, and a model that hears sound alone.
    """
    if not model.streams:
        if given is not None:
            raise UserError(f"--streams {given}: this model hears sound alone; leave it out")
        return {}, []
    wanted = {name: StreamConfig.model_validate(one.model_dump()) for name, one in model.streams.items()}
    root = _root(recordings)
    folder = _folder(root) if given is None else Path(given)
    hears = "; ".join(f"{name}: {', '.join(one.columns)}" for name, one in wanted.items())
    if folder is None:
        return {}, [
            f"this model hears streams, too ({hears}), and {root} has none: recordings are heard without; expected"
            f" {FOLDER}.csv with {FILE},{TIME} and these columns, or {FOLDER}/ with a table named like each recording"
        ]
    try:
        found = StreamFolder.find(folder, root, list(recordings), wanted)
        tables = {name: table for name in recordings if (table := found.of(name)) is not None}
    except (StreamError, OSError) as error:
        raise UserError(str(error)) from None
    told = [f"{name}: is named like no recording, and not read" for name in found.unused]
    if len(tables) < len(recordings):
        told.append(f"{folder}: {len(tables)} of {len(recordings)} recordings have streams ({hears})")
    return tables, told


def _root(recordings: Mapping[str, Path]) -> Path:
    """What recordings' names are relative to."""
    name, path = next(iter(recordings.items()))
    return path.parents[len(PurePosixPath(name).parts) - 1]


def _folder(root: Path) -> Path | None:
    places = [root, *([root.parent] if root.name in AUDIO_FOLDERS else [])]
    for place in places:
        if (place / FOLDER).is_dir() or any((place / f"{FOLDER}{suffix}").is_file() for suffix in SUFFIXES):
            return place
    return None
