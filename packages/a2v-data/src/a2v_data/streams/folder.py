"""Where the streams of a source lie: `streams.csv` (.parquet, .h5) for all recordings, or `streams/` with a table for
each, named like it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from a2v_data.recording_names import RecordingNames
from a2v_data.streams.config import FILE, TIME, HeardStream, StreamConfig
from a2v_data.streams.grid import Values, grid_length, on_grid, window
from a2v_data.streams.tables import SUFFIXES, Columns, StreamError, has_times, read_own, read_shared

FOLDER = "streams"
Streams = tuple[tuple[str, StreamConfig], ...]  # by name
Stamp = tuple[int, int]  # size and time of change of a file


def is_of_streams(path: Path, relative: str) -> bool:
    """Whether a file is a table of streams: by its place, `relative` to a source, and by its times."""
    first, _, rest = relative.partition("/")
    placed = first == FOLDER if rest else Path(first).stem == FOLDER and Path(first).suffix.lower() in SUFFIXES
    return placed and has_times(path)


def shared_tables(folder: Path) -> list[Path]:
    """`streams.csv` and the like, each of all recordings, in a source."""
    return [path for suffix in SUFFIXES if (path := folder / f"{FOLDER}{suffix}").is_file()]


def has_streams(folder: Path) -> bool:
    """Whether a source has a place with streams."""
    return (folder / FOLDER).is_dir() or bool(shared_tables(folder))


@dataclass(frozen=True)
class RecordingTable:
    """The table with a recording's streams. listed: how a table of several calls the recording; None: it is of this one
    alone. shown: for messages. It is small, and so travels to those who read it."""

    path: Path
    shown: str
    streams: Streams
    listed: str | None = None

    @property
    def stamp(self) -> Stamp:
        """Changes with the file. Raises `StreamError` where it is gone."""
        return _stamp(self.path)

    def grids(self, duration_s: float) -> dict[str, Values]:
        """The streams that the recording, of so many seconds, has: by name, on their grids (M, C) (`grid.py`). Those of
        the last one are kept. Raises `StreamError`."""
        return _grids(self, duration_s, self.stamp)


@dataclass(frozen=True)
class StreamFolder:
    """The tables of streams of recordings. own: by recording; shared: of all of them. unused: tables in `streams/` that
    belong to no recording."""

    folder: Path
    streams: Mapping[str, StreamConfig]
    own: Mapping[str, Path]
    shared: Path | None
    names: RecordingNames
    unused: tuple[str, ...] = ()

    @classmethod
    def find(
        cls, folder: Path, audio_folder: Path, names: Sequence[str], streams: Mapping[str, StreamConfig]
    ) -> "StreamFolder":
        """The tables in `folder` of recordings (paths relative to `audio_folder`). Raises `StreamError` where a
        recording has two, or there are none at all."""
        known = RecordingNames(audio_folder, names)
        shared = shared_tables(folder)
        own: dict[str, Path] = {}
        unused = []
        for path in tables_in(folder / FOLDER):
            relative = path.relative_to(folder / FOLDER).as_posix()
            recordings = known.of_table(relative)
            unused += [] if recordings else [f"{FOLDER}/{relative}"]
            for name in recordings:
                if name in own:
                    both = f"both {own[name].name} and {path.name} are of {name}"
                    raise StreamError(f"{folder / FOLDER}: {both}; keep one")
                own[name] = path
        given = [path.name for path in shared] + ([f"{FOLDER}/"] if own else [])
        if len(given) > 1:
            raise StreamError(f"{folder}: both {given[0]} and {given[1]} are there; keep one")
        if not given:
            more = f"; {unused[0]} is named like no recording" if unused else ""
            raise StreamError(
                f"{folder}: has no streams ({', '.join(streams)}): expected {FOLDER}.csv with {FILE},{TIME} and the"
                f" columns, or {FOLDER}/ with a table for each recording, named like it{more}"
            )
        return cls(folder, dict(streams), own, shared[0] if shared else None, known, tuple(unused))

    @property
    def files(self) -> list[Path]:
        """All tables."""
        return [self.shared] if self.shared else [self.own[name] for name in sorted(self.own)]

    def of(self, recording: str) -> RecordingTable | None:
        """The table with a recording's streams; None where it has none. Raises `StreamError`."""
        streams = tuple(self.streams.items())
        if path := self.own.get(recording):
            return RecordingTable(path, path.relative_to(self.folder).as_posix(), streams)
        if self.shared and (listed := self._listed.get(recording)):
            return RecordingTable(self.shared, self.shared.name, streams, listed)
        return None

    @cached_property
    def _listed(self) -> dict[str, str]:
        """Recording -> how the table of all calls it, which may be of more than these. Raises `StreamError` where it
        names none of them."""
        assert self.shared is not None
        found: dict[str, str] = {}
        unknown: list[str] = []
        for text in _shared(self.shared, self.shared.name, tuple(self.streams.items()), _stamp(self.shared)):
            name = self.names.resolve(text, self.folder)
            if name is None:  # perhaps without its ending
                of_stem = self.names.of_table(f"{text}.csv")
                name = of_stem[0] if len(of_stem) == 1 else None
            if name is None:
                unknown.append(text)
            else:
                found[name] = text
        if unknown and not found:
            raise StreamError(f"{self.shared.name}: {self.names.missing(unknown[0])}")
        return found


def windows_of(
    streams: Mapping[str, HeardStream],
    grids: Sequence[Mapping[str, Values]],
    starts_s: Sequence[float],
    seconds: float,
) -> dict[str, Values]:
    """(B, M, C) of windows that begin at `starts_s`, by stream; NaN where a recording lacks it. grids: of each window's
    recording."""
    found = {}
    for name, config in streams.items():
        length, width = grid_length(seconds, config.rate), len(config.columns)
        lacking = np.full((length, width), np.nan, np.float32)
        found[name] = np.stack(
            [
                window(of[name], config.rate, start_s, length) if name in of else lacking
                for of, start_s in zip(grids, starts_s, strict=True)
            ]
        )
    return found


def _stamp(path: Path) -> Stamp:
    try:
        state = path.stat()
    except OSError as error:
        raise StreamError(f"{path}: cannot be read ({error.strerror})") from None
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=2)
def _shared(path: Path, shown: str, streams: Streams, stamp: Stamp) -> dict[str, dict[str, Columns]]:
    """A table of several recordings, by how it calls them. stamp: when it changed."""
    return dict(read_shared(path, shown, dict(streams)))


@lru_cache(maxsize=1)
def _grids(table: RecordingTable, duration_s: float, stamp: Stamp) -> dict[str, Values]:
    if table.listed is None:
        found = read_own(table.path, table.shown, dict(table.streams))
    else:
        found = _shared(table.path, table.shown, table.streams, stamp)[table.listed]
    grids = {}
    for name, config in table.streams:
        if columns := found.get(name):
            values = np.stack([columns[column] for column in config.columns], axis=1)
            grids[name] = on_grid(columns[TIME], values, config.rate, duration_s, config.gap_s)
    return grids


def tables_in(folder: Path) -> list[Path]:
    """Every table in a folder and those below, sorted within each."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in sorted(files)
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return found
