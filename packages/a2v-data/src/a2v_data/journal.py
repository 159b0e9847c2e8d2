"""What `a2v data prepare` has done so far, so that a later call goes on from there.

Contract. `.prepare.jsonl` in the output folder, as `state_lines` describes it:
- its options are sample rate, segment length and names.
- then one line for each recording that is done: `Entry`. It is written and flushed to the disk after all segments
  and labels of the recording were renamed into place. For a recording with several lines the last one holds; one with
  `stamp` null was removed.
A process that is killed leaves files in `.work/`, which the next call removes. Losing power may lose files that the
journal names: their sizes are checked by the next call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from a2v_data.meerkat import JOURNAL
from a2v_data.state_lines import StateLines, open_lines, typed

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

    def __init__(self, lines: StateLines, entries: dict[str, Entry]) -> None:
        self._lines = lines
        self.entries = entries

    def add(self, entry: Entry) -> None:
        """Write an entry down; it is on the disk when this returns."""
        self._lines.append(asdict(entry))
        if entry.stamp is None:
            self.entries.pop(entry.name, None)
        else:
            self.entries[entry.name] = entry


@contextmanager
def open_journal(folder: Path, options: dict[str, Any]) -> Iterator[Journal]:
    """The journal of `folder`, made where it has none. Raises `ValueError` as `open_lines`."""
    path = folder / JOURNAL
    with open_lines(path, folder, options, VERSION, "a2v data prepare", partial(typed, Entry)) as lines:
        entries = {entry.name: entry for entry in lines.lines}
        yield Journal(lines, {name: entry for name, entry in entries.items() if entry.stamp is not None})
