"""Which recordings are meant: files, folders, patterns and lists of them; their names mirror where they lie."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from a2v_data.audio import AUDIO_SUFFIXES, AudioError, AudioInfo, Channel, read_info
from a2v_data.plan import HEADER_THREADS, check_name
from a2v_data.recording_names import is_unread, recording_names

from ..basics.errors import UserError

LONGEST_NAME = 200  # bytes, so that what is put before and behind it fits into a file system's 255
LIST_SUFFIXES = (".txt", ".lst")


@dataclass(frozen=True)
class Recording:
    """A recording to predict. name: relative to what was given, with slashes."""

    name: str
    path: Path
    info: AudioInfo


def find_recordings(given: Sequence[str]) -> dict[str, Path]:
    """Name -> absolute path of every recording in files, folders (with those below), patterns (`*`, `**`) and lists
    (text files, a path a line, relative to the list's folder or to where the command runs).

    A name is the path relative to the one folder that was given, else to what all have in common. Raises UserError for
    what does not exist or holds no recording.
    """
    found: dict[Path, Path] = {}  # recording -> the folder that it was found in
    for text in given:
        here: dict[Path, Path] = {}
        for path in _expanded(text):
            if path.is_dir() and not _named_like_audio(path):
                here |= {path / name: path for name in recording_names(path)}
            else:
                here[path] = path.parent
        if not here:
            endings = ", ".join(sorted(suffix.removeprefix(".") for suffix in AUDIO_SUFFIXES))
            raise UserError(f"{text}: holds no recording ({endings})")
        found |= here
    root = Path(os.path.commonpath([str(folder) for folder in found.values()])) if found else Path()
    return {path.relative_to(root).as_posix(): path for path in sorted(found)}


def read_headers(recordings: dict[str, Path], channel: Channel) -> tuple[dict[str, Recording], dict[str, str]]:
    """The recordings that can be read, and by name why the others cannot."""

    def read(item: tuple[str, Path]) -> Recording | AudioError:
        name, path = item
        try:
            check_name(name)
            if (length := len(path.name.encode())) > LONGEST_NAME:
                raise AudioError(
                    f"has a name of {length} bytes; its tables need one of at most {LONGEST_NAME}; rename it"
                )
            return Recording(name, path, read_info(path, channel))
        except AudioError as error:
            return error

    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        results = dict(zip(recordings, pool.map(read, recordings.items()), strict=True))
    good = {name: result for name, result in results.items() if isinstance(result, Recording)}
    return good, {name: str(result) for name, result in results.items() if isinstance(result, AudioError)}


def _expanded(text: str, listed: bool = False) -> list[Path]:
    """Files and folders that an argument, or a line of a list, stands for. Raises UserError."""
    path = Path(text)
    if path.exists():
        if path.is_file() and path.suffix.lower() in LIST_SUFFIXES and not listed:
            return _listed(path)
        return [Path(os.path.abspath(path))]
    if glob.has_magic(text):
        matches = sorted(glob.glob(text, recursive=True))
        kept = [match for match in map(Path, matches) if match.is_dir() or _named_like_audio(match)]
        read = {match.with_suffix("") for match in kept}
        kept += [match for match in map(Path, matches) if _is_unread(match) and match.with_suffix("") not in read]
        if not kept:
            raise UserError(f"{text}: no recording is named like this")
        folders = {match for match in kept if match.is_dir() and not _named_like_audio(match)}
        # `**` gives a folder and what is in it; the folder alone would say the same, with other names
        files = [match for match in kept if match not in folders]
        return [Path(os.path.abspath(match)) for match in files or sorted(folders)]
    raise UserError(f"{text}: no such file or folder; name recordings, folders, a pattern, or a list (.txt) of them")


def _listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not readable as a list of recordings ({error}); it must be UTF-8 text") from None
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        beside = path.parent / text
        try:
            found += _expanded(str(beside) if beside.exists() or glob.has_magic(text) else text, listed=True)
        except UserError as error:
            raise UserError(f"{path}, row {number}: {error}") from None
    if not found:
        raise UserError(f"{path}: lists no recording; write one path a line")
    return found


def _is_unread(path: Path) -> bool:
    """Sound that is not read: it is left out, and its line says how it becomes a recording."""
    return is_unread(path.name) and path.is_file()


def _named_like_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES
