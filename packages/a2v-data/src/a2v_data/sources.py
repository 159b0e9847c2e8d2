"""Where recordings and annotations come from: a folder with a CSV, or MeerKAT's layout.

Both forms end in one `Source`: the recordings by name, and annotations that name them.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from a2v_data.annotations import AnnotationError, Annotations, read_annotations
from a2v_data.audio import AUDIO_SUFFIXES
from a2v_data.meerkat import JOURNAL, LABEL_SUFFIXES, PREPARED_META, PREPARED_TABLES, label_path, read_labels
from a2v_data.storage import BLOCK_BYTES, write_text_aside

ANNOTATION_FILE = "annotations.csv"
Entry = tuple[list[int] | None, str]  # ([size, mtime_ns], content hash) of one file


@dataclass(frozen=True)
class Source:
    """A folder of recordings. `names` are paths relative to `audio_folder`, sorted, bad ones included."""

    folder: Path
    form: Literal["csv", "meerkat"]
    audio_folder: Path
    names: tuple[str, ...]

    @property
    def label_folder(self) -> Path:
        """Where MeerKAT's label files lie."""
        return self.folder / "lbl"

    def annotations(self) -> Annotations:
        """Read all annotations; `AnnotationError` names file and row, `ValueError` what is missing."""
        if self.form == "csv":
            return read_annotations(self.folder / ANNOTATION_FILE, self.audio_folder)
        return _meerkat_annotations(self)

    def read_files(self) -> list[Path]:
        """Every file whose content decides what is prepared."""
        audio = [self.audio_folder / name for name in self.names]
        if self.form == "csv":
            return [*audio, self.folder / ANNOTATION_FILE]
        tables = [path for path in map(self.folder.joinpath, PREPARED_TABLES) if path.is_file()]
        return [*audio, *self.label_files(), *tables]

    def label_files(self) -> list[Path]:
        """MeerKAT's label files, sorted."""
        return _label_files(self.label_folder)


def open_source(folder: Path) -> Source:
    """Find out which form a folder has, and its recordings.

    (a) `audio/` with recordings, or recordings in the folder itself, and `annotations.csv`; (b) MeerKAT's
    wav/ and lbl/. Sub-folders are searched; names that start with a point are left alone. Raises `ValueError`
    where the folder, its audio or its annotations are missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; it must hold recordings (audio/ and {ANNOTATION_FILE})")
    if (folder / JOURNAL).exists() and not (folder / PREPARED_META).exists():
        raise ValueError(f"{folder}: its preparation is not finished; run the same `a2v data prepare` again")
    if (folder / "wav").is_dir() and not (folder / ANNOTATION_FILE).exists():
        source = Source(folder, "meerkat", folder / "wav", _audio_names(folder / "wav"))
        missing = (
            None if source.label_folder.is_dir() else "lbl/ with one HDF5 label file per segment is missing"
        )
    else:
        audio = folder / "audio" if (folder / "audio").is_dir() else folder
        source = Source(folder, "csv", audio, _audio_names(audio))
        has = (folder / ANNOTATION_FILE).is_file()
        missing = None if has else f"{ANNOTATION_FILE} (file,onset_s,offset_s,label) is missing"
    if not source.names:
        suffixes = ", ".join(sorted(suffix.removeprefix(".") for suffix in AUDIO_SUFFIXES))
        raise ValueError(f"{source.audio_folder}: no audio in it; put recordings there ({suffixes})")
    if missing:
        raise ValueError(f"{folder}: {missing}")
    return source


def _audio_names(folder: Path) -> tuple[str, ...]:
    """Everything that is named like a recording: a folder `x.wav` too, so that it can be reported."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in [*folders, *files]:
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                found.append(Path(os.path.relpath(os.path.join(parent, name), folder)).as_posix())
    return tuple(sorted(found))


def _label_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in LABEL_SUFFIXES and path.is_file())


def _meerkat_annotations(source: Source) -> Annotations:
    rows, problems, annotated = [], [], set()
    used: set[Path] = set()
    for name in source.names:
        path = label_path(source.label_folder, name)
        if path is None:
            continue
        events, wrong = read_labels(path, name, path.relative_to(source.folder).as_posix())
        rows += events
        problems += wrong
        annotated.add(name)
        used.add(path)
    for path in _label_files(source.label_folder):
        if path not in used:
            shown = path.relative_to(source.folder).as_posix()
            recording = path.relative_to(source.label_folder).with_suffix(".wav").as_posix()
            problems.append(
                f"{shown}: its recording wav/{recording} does not exist; add it or remove the labels"
            )
    if problems:
        raise AnnotationError(source.label_folder, problems)
    return Annotations(source.label_folder, tuple(rows), frozenset(annotated))


def source_fingerprint(source: Path, cache: Path | None = None) -> str:
    """Hex SHA-256 over the names and contents of every file that `prepare` reads from `source`.

    Contents are hashed once: `cache`, a JSON file, remembers a file's hash for as long as its path, size and
    modification time (ns) stay the same. A damaged cache is ignored. Raises `ValueError` as `open_source`
    does.
    """
    opened = open_source(Path(source))
    known = _read_cache(cache)
    paths = opened.read_files()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        entries = list(pool.map(lambda path: _hash_entry(path, known), paths))
    total = hashlib.sha256()
    for path, (_, content) in zip(paths, entries, strict=True):
        name = os.fsencode(path.relative_to(opened.folder).as_posix())
        total.update(len(name).to_bytes(8, "little") + name + content.encode() + b"\n")
    if cache is not None:
        fresh = {os.path.abspath(path): entry for path, entry in zip(paths, entries, strict=True) if entry[0]}
        if any(known.get(path) != entry for path, entry in fresh.items()):
            write_text_aside(cache, json.dumps({**known, **fresh}))
    return total.hexdigest()


def _hash_entry(path: Path, known: dict[str, Entry]) -> Entry:
    """Stamp and content hash; without a stamp for what cannot be read, which is not cached."""
    try:
        state = path.stat()
        stamp = [state.st_size, state.st_mtime_ns]
        entry = known.get(os.path.abspath(path))
        if entry is not None and entry[0] == stamp:
            return entry
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        return stamp, digest.hexdigest()
    except OSError:
        return None, "folder" if path.is_dir() else "unreadable"


def _read_cache(cache: Path | None) -> dict[str, Entry]:
    try:
        content = json.loads(cache.read_text(encoding="utf-8")) if cache is not None else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {path: (entry[0], entry[1]) for path, entry in content.items() if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    match entry:
        case [[int(), int()], str()]:
            return True
    return False
