"""Which recording a table means: by the name that it holds, or by its own name.

Names are compared in composed form (NFC), since accents are stored composed or decomposed depending on the system.
Nothing is guessed across folders: day1/a.wav never takes the events of a missing day2/a.wav.
"""

import difflib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from a2v_data.audio import AUDIO_SUFFIXES, UNREAD_SUFFIXES, AudioError, read_info
from a2v_data.formats.lines import NIPS4BPLUS_NAME

ABSOLUTE = re.compile(r"/|[A-Za-z]:/")
NIPS4B_STEM = "nips4b_birds_{}file{}"


def composed(text: str) -> str:
    """One spelling for what looks the same, with forward slashes."""
    return unicodedata.normalize("NFC", text.replace("\\", "/"))


def recording_names(folder: Path) -> tuple[str, ...]:
    """Everything under `folder` that is named like a recording, as sorted paths relative to it.

    A folder `x.wav` too, so that it can be reported, and sound that is not read (phone.m4a), of which `read_info` says
    how it becomes a recording; unless that was done, and phone.wav lies beside it. Names that start with a point are
    left alone.
    """
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = [name for name in [*folders, *files] if not name.startswith(".")]
        read = [name for name in visible if Path(name).suffix.lower() in AUDIO_SUFFIXES]
        stems = {composed(Path(name).stem) for name in read}
        unread = [
            name for name in files if name in visible and is_unread(name) and composed(Path(name).stem) not in stems
        ]
        found += [Path(os.path.relpath(os.path.join(parent, name), folder)).as_posix() for name in [*read, *unread]]
    return tuple(sorted(found))


def is_unread(name: str) -> bool:
    """Whether a file is sound by its name that libsndfile does not read."""
    return Path(name).suffix.lower() in UNREAD_SUFFIXES


def left_out_names(folder: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """Of recordings those that are sound by name and not read, each with the reason and the way out."""
    found = []
    for name in names:
        if is_unread(name):
            try:
                read_info(folder / name)
            except AudioError as error:
                found.append((name, str(error)))
    return found


class RecordingNames:
    """The recordings of a source. `names`: paths relative to `audio_folder`."""

    def __init__(self, audio_folder: Path, names: Sequence[str]) -> None:
        self.audio_folder = audio_folder
        self._by_path = {composed(name): name for name in names}
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for name in names:
            bare = composed(PurePosixPath(name).name)
            self._by_name.setdefault(bare, []).append(name)
            self._by_stem.setdefault(bare.rpartition(".")[0], []).append(name)
        self._known: dict[tuple[str, Path], str | None] = {}
        self._rates: dict[str, int | None] = {}

    def resolve(self, text: str, table_folder: Path) -> str | None:
        """The recording that a table in `table_folder` calls `text`; None where there is none.

        `text` is a path relative to the audio or to the table, a unique bare name, or a path from another computer
        whose end is a recording's whole name. Answers are kept: thousands of rows name the same file.
        """
        key = (text, table_folder)
        if key not in self._known:
            self._known[key] = self._find(composed(text), table_folder) if text and "\0" not in text else None
        return self._known[key]

    def _find(self, text: str, table_folder: Path) -> str | None:
        for folder in (self.audio_folder, table_folder):
            name = Path(os.path.relpath(os.path.normpath(folder / text), self.audio_folder)).as_posix()
            if found := self._by_path.get(composed(name)):
                return found
        parts = text.split("/")
        same = self._by_name.get(parts[-1], [])
        if len(parts) == 1:
            return same[0] if len(same) == 1 else None
        whole = composed(Path(os.path.abspath(self.audio_folder)).as_posix())
        ends = [name for name in same if f"{whole}/{composed(name)}".endswith(f"/{text}")]
        if not ends and ABSOLUTE.match(text):
            ends = [name for name in same if f"/{text}".endswith(f"/{composed(name)}")]
        return max(ends, key=len) if ends else None

    def missing(self, text: str | None) -> str:
        """What to say where `resolve` found nothing."""
        if not text:
            return "file is empty; name a recording"
        close = difflib.get_close_matches(composed(text), [*self._by_path, *self._by_name], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "; correct the name or add the recording"
        return f"file {text!r} does not exist in {self.audio_folder}{hint}"

    def rate(self, recording: str) -> int | None:
        """The sample rate of a recording in Hz; None where it cannot be read, which is reported where recordings
        are."""
        if recording not in self._rates:
            try:
                self._rates[recording] = read_info(self.audio_folder / recording).rate
            except AudioError:
                self._rates[recording] = None
        return self._rates[recording]

    def of_table(self, table: str) -> list[str]:
        """Recordings to which a table belongs by its name, a path relative to the audio folder's counterpart.

        `day1/monday.txt`, `day1/monday.wav.txt` or `day1/monday.Table.1.selections.txt` belong to `day1/monday.wav`,
        and `monday.txt` too where only one recording has that name. NIPS4Bplus: annotation_train001.csv.
        """
        path = PurePosixPath(composed(table))
        if match := NIPS4BPLUS_NAME.fullmatch(path.name):
            return self._by_stem.get(NIPS4B_STEM.format(match[1].lower(), match[2]), [])
        pieces = path.name.split(".")
        for count in range(len(pieces) - 1, 0, -1):
            stem = ".".join(pieces[:count])
            for index in (self._by_name, self._by_stem):
                if found := index.get(stem):
                    here = [name for name in found if PurePosixPath(composed(name)).parent == path.parent]
                    return here or (found if path.parent == PurePosixPath() else [])
        return []
