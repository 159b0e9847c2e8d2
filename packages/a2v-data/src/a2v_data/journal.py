"""What `a2v data prepare` has done so far, so that a later call goes on from there.

Contract. `.prepare.jsonl` in the output folder, UTF-8, one JSON object a line, only ever appended to:
- line 1: {"version", "options"}: what decides every segment (sample rate, segment length, names). It never changes; a
  call with other options is refused.
- then one line for each recording that is done: `Entry`. It is written and flushed to the disk after all segments
  and labels of the recording were renamed into place. For a recording with several lines the last one holds; one with
  `stamp` null was removed.
A process that is killed leaves at most one line that is not whole, which is ignored, and files in `.work/`, which the
next call removes. While a call runs it holds a lock on the journal. Losing power may lose files that the journal
names: their sizes are checked by the next call.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from a2v_data.meerkat import JOURNAL

VERSION = 1


@dataclass(frozen=True)
class Entry:
    """A recording that is done.

    stem: what its segments are named after; segments: how many; stamp: of its file, and its channel; labels: digest of
    its events, None where it is not labelled; peak: of its file, full scale 1.
    """

    name: str
    stem: str
    segments: int
    samples: int
    source_rate: int
    source_samples: int
    channel: str
    gain: float
    peak: float
    stamp: str | None
    labels: str | None


class Journal:
    """The journal of one output folder, open and locked: `entries` by recording, `add` for another one."""

    def __init__(self, file: Any, entries: dict[str, Entry]) -> None:
        self._file = file
        self.entries = entries

    def add(self, entry: Entry) -> None:
        """Write an entry down; it is on the disk when this returns."""
        self._write(asdict(entry))
        if entry.stamp is None:
            self.entries.pop(entry.name, None)
        else:
            self.entries[entry.name] = entry

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_journal(folder: Path, options: dict[str, Any]) -> Iterator[Journal]:
    """The journal of `folder`, made where it has none.

    Raises `ValueError` where it was begun with other options, another call is writing, or `folder` holds other things.
    """
    path = folder / JOURNAL
    if not path.exists() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: exists already; name a new folder or remove this one first")
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8", errors="surrogateescape") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{folder}: another `a2v data prepare` is writing there; wait for it") from None
        file.seek(0)
        text = file.read()
        whole, _, torn = text.rpartition("\n")
        if torn:
            file.truncate(len(f"{whole}\n".encode()) if whole else 0)
        try:
            lines = [json.loads(line) for line in whole.split("\n") if whole]
            journal = Journal(file, _entries(lines[1:]))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: damaged ({error}); prepare into a new folder") from error
        if lines:
            _check_options(folder, lines[0], options)
        else:
            journal._write({"version": VERSION, "options": options})
        yield journal


def _entries(lines: list[dict[str, Any]]) -> dict[str, Entry]:
    entries = {line["name"]: Entry(**line) for line in lines}
    return {name: entry for name, entry in entries.items() if entry.stamp is not None}


def _check_options(folder: Path, head: dict[str, Any], options: dict[str, Any]) -> None:
    if head.get("version") != VERSION:
        raise ValueError(f"{folder}: begun by another version of a2v; name a new folder")
    before = head["options"]
    changed = [f"{key} {before.get(key)}, now {value}" for key, value in options.items() if before.get(key) != value]
    if changed:
        raise ValueError(f"{folder}: was begun with {'; '.join(changed)}; give the same options or name a new folder")
