"""What `a2v predict` has done in its output folder, so that a later call goes on from there.

Contract. Everything is in `.predict/` of the output folder; nothing else there is ever read.

`state.jsonl`, as `a2v_data.state_lines` describes it: appended to, locked while a call runs, at most one torn line,
    which is ignored. Its options are the model (digest), all that decides which events are found, and the tracks and
    embeddings that are kept; a call with others is refused. Formats of tables are no part of it: tables are made from
    `events/` and can be made again. Then one line for each recording that is done, `Done`; of several lines of a
    recording the last one holds; those of before there were `likelihoods` have none. It is written after everything
    else of the recording has been renamed into place.
`events/NAME.npy`: the events of a recording that is done, dtype EVENT, by onset. Written aside and renamed.
`pieces/STAMP/FIRST-LAST.npy`: likelihoods (T, C) of windows FIRST ... LAST - 1 of a recording that is not done yet (and
    `...features.npy`), written aside and renamed: a piece that is there is whole and is not computed again. STAMP
    holds for one state of a recording (name, size, time of change, channel) and of its streams. Removed when the
    recording is done; pieces of anything but the recordings of the call are removed at its start.
`pieces/STAMP/left-out`: a piece of the recording could not be read, so the others need not be.
A model that is fetched from MLflow lies in a hidden folder beside the output folder while a call runs.

So a crash at any moment leaves whole pieces, perhaps tables of a recording that is not in `state.jsonl` (they are
written again), and hidden files that end with a process id and are never read. A recording whose file changed is done
again from the start; its line says until then what its tables hold.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from a2v_data.audio import Channel
from a2v_data.documents import json_of
from a2v_data.state_lines import StateLines, open_lines, typed
from a2v_data.storage import write_array_aside
from numpy.typing import NDArray

from ..basics.errors import UserError
from .plan import Recording

VERSION = 1
HIDDEN = ".predict"
SHARED = "events", "likelihoods"  # of a line: class -> value


@dataclass(frozen=True, slots=True)
class Done:
    """A recording that is done. stamp: of its file; rate: Hz; events: of each class; seconds: that the work took on
    all processes, and those in the model. likelihoods: of each class the lowest, the highest and the second of that;
    None where an earlier a2v did it, which kept none. streams: stamp of the table with what was recorded beside it; ''
    where it was heard without."""

    name: str
    path: str
    stamp: str
    rate: int
    samples: int
    channels: int
    events: dict[str, int]
    seconds: float
    model_seconds: float
    likelihoods: dict[str, list[float]] | None = None
    streams: str = ""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate


class State:
    """The state of one output folder, open and locked; `done` by name."""

    def __init__(self, out: Path, lines: StateLines, done: dict[str, Done]) -> None:
        self.out, self.done, self._lines = out, done, lines

    def add(self, done: Done, events: NDArray[np.void]) -> None:
        """Keep a recording's events and write down that it is done; both are on the disk when this returns."""
        write_array_aside(self.events_path(done.name), events)
        self._lines.append(asdict(done))
        self.done[done.name] = done

    def events(self, name: str) -> NDArray[np.void]:
        """Of a recording that is done."""
        return load_events(self.out, name)

    def events_path(self, name: str) -> Path:
        return events_path(self.out, name)

    def pieces(self, stamp: str) -> Path:
        """The folder of a recording's pieces."""
        return self.out / HIDDEN / "pieces" / stamp

    def remove_pieces_but(self, stamps: set[str]) -> None:
        """Pieces of anything else are of no use any more."""
        folder = self.out / HIDDEN / "pieces"
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in stamps:
                shutil.rmtree(path, ignore_errors=True)

    def names(self, found: dict[str, Path]) -> dict[str, Path]:
        """The recordings by the names that they have here: one that was done before keeps its own.

        Raises UserError where a name stands for another recording here.
        """
        known = {done.path: name for name, done in self.done.items()}
        named: dict[str, Path] = {}
        for name, path in found.items():
            own = known.get(str(path), name)
            before = self.done.get(own)
            if before is not None and before.path != str(path) and Path(before.path).exists():
                raise UserError(
                    f"{path}: {self.out} holds {own!r} of another recording, {before.path}; name another folder"
                )
            if own in named:
                raise UserError(f"{path}: and {named[own]} are both named {own!r} in {self.out}; name another folder")
            named[own] = path
        return named


def events_path(out: Path, name: str) -> Path:
    """Of a recording's events in the output folder `out`."""
    return out / HIDDEN / "events" / f"{name}.npy"


def load_events(out: Path, name: str) -> NDArray[np.void]:
    """The events of a recording that is done."""
    found: NDArray[np.void] = np.load(events_path(out, name))
    return found


@contextmanager
def open_state(out: Path, options: dict[str, Any]) -> Iterator[State]:
    """The state of `out`, made where it has none. Raises ValueError as `open_lines`."""
    path = out / HIDDEN / "state.jsonl"
    with open_lines(path, out, flat(options), VERSION, "a2v predict", _done) as lines:
        yield State(out, lines, {done.name: done for done in lines.lines})


def _done(line: dict[str, Any]) -> Done:
    """What a line says; all of them share the names of the classes."""
    done = typed(Done, line)
    if any(len(values) != 3 for values in (done.likelihoods or {}).values()):
        raise TypeError("likelihoods are not three of each class")
    shared: dict[str, Any] = {
        key: {sys.intern(name): value for name, value in line[key].items()} for key in SHARED if line.get(key)
    }
    return replace(done, **shared)


def begun_options(out: Path) -> dict[str, Any]:
    """The options, flat, that `out` was begun with; empty where it was not, or where `open_state` will complain."""
    try:
        with (out / HIDDEN / "state.jsonl").open(encoding="utf-8", errors="surrogateescape") as file:
            options = json_of(file.readline())["options"]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return options if isinstance(options, dict) else {}


def stamp_of(recording: Recording, channel: Channel) -> str:
    """Digest of a recording's name, the size and time of change of its file, and the channel."""
    state = recording.path.stat()
    value = [recording.name, state.st_size, state.st_mtime_ns, str(channel)]
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, `events.threshold.cc`: so that a message names just what changed."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values
