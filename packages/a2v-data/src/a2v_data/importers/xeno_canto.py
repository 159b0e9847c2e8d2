"""xeno-canto: recordings as they are downloaded, with the API's JSON, for pretraining without labels.

A folder, with sub-folders as they come, of XC123456.mp3, XC123456 - Eurasian Wren - Troglodytes troglodytes.mp3 or
XC123456-song.wav, and of JSON files: answers of the API ({"recordings": [...]}), lists, or one recording each.
https://xeno-canto.org/explore/api. Licences and recordists are kept in recordings.csv: most licences ask for both.
"""

import csv
import io
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from a2v_data.annotation_writers import annotation_csv
from a2v_data.audio import AUDIO_SUFFIXES, AudioError, AudioInfo, read_info
from a2v_data.documents import read_json
from a2v_data.importers.result import Imported, as_text, some_names, write_readme
from a2v_data.importers.sounds import Shape, shape, sound_digest
from a2v_data.recording_names import recording_names
from a2v_data.storage import file_digest, refuse_existing, require_free_space, write_text_aside, written_aside

NUMBER = re.compile(r"(?:^|[^A-Za-z0-9])XC([0-9]{1,12})(?!\d)", re.IGNORECASE)
CATALOGUE = re.compile(r"[0-9]{1,12}")
COLUMNS = (
    "id", "gen", "sp", "ssp", "group", "en", "rec", "cnt", "loc", "lat", "lng", "date", "time", "type", "sex", "stage",
    "method", "q", "length", "also", "lic", "url", "file-name",
)  # fmt: skip
ABOUT = (
    "Recordings from https://xeno-canto.org for pretraining, without annotations. `recordings.csv` names recordist and",
    "licence of each; whoever passes recordings on must keep both.",
)
Metadata = dict[str, Any]
Progress = Callable[[int, int], None]


class XenoCantoConfig(BaseModel):
    """What the paper leaves open: which recordings.

    quality: ratings to keep, A (best) to E; None: all, rated or not. no_derivatives: take in recordings whose licence
    does not allow derived works (ND). exclude: source folders (as imported NIPS4Bplus) whose recordings must not be in
    it; exact copies are found, the same sound in another encoding is not. link: hard links instead of copies, which
    need no space.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quality: list[Literal["A", "B", "C", "D", "E"]] | None = None
    no_derivatives: bool = True
    exclude: list[Path] = []
    link: bool = False


def import_xeno_canto(folder: Path, out: Path, config: XenoCantoConfig, progress: Progress | None = None) -> Imported:
    """Make the source folder `out` from downloaded recordings; `progress(done, total)` counts them.

    A recording that cannot be used is left out and listed in `problems`; those that are not wanted are counted in
    `notices`. Raises `ValueError` where there is no audio or nothing of it is good, the disk is too full, or `out`
    exists.
    """
    refuse_existing(out)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; it must hold recordings from xeno-canto (XC123456.mp3)")
    found = Imported(out)
    metadata = _read_metadata(folder, found)
    chosen = _choose(folder, metadata, config, found)
    if not config.link:
        require_free_space(out, sum((folder / name).stat().st_size for name in chosen.values()) + 10_000_000)
    known = _Known(config.exclude)
    with written_aside(out) as aside:
        (aside / "audio").mkdir()
        rows = []
        for done, (number, name) in enumerate(chosen.items(), start=1):
            target = f"XC{number}{Path(name).suffix.lower()}"
            if info := _take(folder / name, name, aside / "audio" / target, config.link, known, found):
                found.seconds += info.duration_s
                rows.append({"file": target, "id": number} | _attributes(metadata.get(number, {})))
            if progress:
                progress(done, len(chosen))
        if not rows:
            first = (found.problems + found.notices)[0].replace("\n", "\\n")
            raise ValueError(f"{folder}: none of its recordings can be used; {first}")
        found.recordings = len(rows)
        if unknown := [row["file"] for row in rows if not row.get("lic")]:
            names = some_names(unknown)
            found.notices.append(f"without metadata, so their licence is not known: {len(unknown)} ({names})")
        write_text_aside(aside / "annotations.csv", annotation_csv([]))
        write_text_aside(aside / "recordings.csv", as_text(_table(rows)))
        write_readme(aside, "xeno-canto", ABOUT, config.model_dump(mode="json"), found)
    return found


def _read_metadata(folder: Path, found: Imported) -> dict[str, Metadata]:
    """The API's answers by catalogue number."""
    metadata: dict[str, Metadata] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.lower().endswith(".json") or name.startswith("."):
                continue
            path = Path(parent, name)
            try:
                entries = _entries(read_json(path))
            except (OSError, ValueError) as error:
                found.problems.append(f"{path.relative_to(folder)}: not readable as JSON ({error}); download it again")
                continue
            for entry in entries:
                number = str(entry["id"])[:100].strip().upper().removeprefix("XC")
                if CATALOGUE.fullmatch(number):
                    metadata.setdefault(number, entry)
                else:
                    found.problems.append(
                        f"{path.relative_to(folder)}: id {number!r} is no catalogue number (123456, XC123456); correct"
                        " it (left out)"
                    )
    return metadata


def _entries(content: object) -> list[Metadata]:
    """Recordings in an API answer, a list of recordings, a list of answers, or one recording."""
    if isinstance(content, list):
        return [entry for part in content for entry in _entries(part)]
    if isinstance(content, dict):
        return _entries(content["recordings"]) if "recordings" in content else [content] if "id" in content else []
    return []


def _choose(folder: Path, metadata: dict[str, Metadata], config: XenoCantoConfig, found: Imported) -> dict[str, str]:
    """Number -> file of the recordings that are wanted, each once, by number."""
    names = recording_names(folder)
    if not names:
        suffixes = ", ".join(sorted(suffix.removeprefix(".") for suffix in AUDIO_SUFFIXES))
        raise ValueError(f"{folder}: no audio in it; put recordings from xeno-canto there ({suffixes})")
    chosen: dict[str, str] = {}
    refused: Counter[str] = Counter()
    for name in names:
        number = _number(name, metadata)
        if number is None:
            found.problems.append(f"{name}: no catalogue number (XC123456) in its name; rename it (left out)")
        elif number in chosen:
            found.notices.append(f"{name} is XC{number} again, like {chosen[number]}, which was taken")
        elif reason := _refusal(metadata.get(number), config):
            refused[reason] += 1
        else:
            chosen[number] = name
    found.notices += [f"left out, {reason}: {count}" for reason, count in refused.items()]
    there = {_number(name, metadata) for name in names}
    if missing := [f"XC{number}" for number in sorted(metadata) if number not in there]:
        found.notices.append(f"in the metadata but not in the folder: {len(missing)} ({some_names(missing)})")
    return dict(sorted(chosen.items(), key=lambda item: int(item[0])))


def _number(name: str, metadata: dict[str, Metadata]) -> str | None:
    """Catalogue number from a file's name; a name that is a number alone must be in the metadata."""
    bare = Path(name).stem
    if match := NUMBER.search(bare):
        return match[1]
    return bare if bare in metadata else None


def _refusal(entry: Metadata | None, config: XenoCantoConfig) -> str | None:
    """Why a recording is not wanted."""
    if config.quality is not None:
        rating = str((entry or {}).get("q") or "").strip().upper()
        if rating not in config.quality:
            return f"quality not in {'/'.join(config.quality)}"
    if not config.no_derivatives:
        licence = str((entry or {}).get("lic") or "").lower()
        if not licence:
            return "licence not known"
        if re.search(r"\bnd\b", licence):
            return "no derived works allowed"
    return None


class _Known:
    """Sounds that must not come in (again): those of other corpora, and those that are in already."""

    def __init__(self, sources: Sequence[Path]) -> None:
        self._files: dict[str, str] = {}
        self._shapes: dict[Shape, list[Path]] = {}
        self._sounds: dict[Path, bytes] = {}
        for source in sources:
            if not source.is_dir():
                raise ValueError(f"{source}: no such folder; exclude names a folder of recordings")
            for name in recording_names(source):
                try:
                    info = read_info(source / name)
                except AudioError:  # what cannot be read is in no corpus
                    continue
                self._shapes.setdefault(shape(info), []).append(source / name)

    def copy_of(self, path: Path, name: str, info: AudioInfo) -> str | None:
        """What `path` is an exact copy of, sample by sample or byte by byte; it is remembered else."""
        for other in self._shapes.get(shape(info), ()):
            if self._sound(other) == sound_digest(path):
                return str(other)
        digest = file_digest(path)
        if digest in self._files:
            return self._files[digest]
        self._files[digest] = name
        return None

    def _sound(self, path: Path) -> bytes:
        if path not in self._sounds:
            self._sounds[path] = sound_digest(path)
        return self._sounds[path]


def _take(path: Path, name: str, target: Path, link: bool, known: _Known, found: Imported) -> AudioInfo | None:
    """Copy or link one recording; None, with the reason in `found`, where it is not taken."""
    try:
        info = read_info(path)
        if copy := known.copy_of(path, name, info):
            found.notices.append(f"{name} has the same sound as {copy}; left out")
            return None
    except AudioError as error:
        found.problems.append(f"{name}: {error} (left out)")
        return None
    if link:
        try:
            os.link(path, target)
        except OSError as error:
            raise ValueError(f"{target}: no hard link to {path} ({error.strerror}); leave out link") from error
    else:
        shutil.copyfile(path, target)
    return info


def _attributes(entry: Metadata) -> dict[str, str]:
    """The columns of recordings.csv as text; addresses with https."""
    values = {}
    for column in COLUMNS[1:]:
        value = entry.get(column, entry.get("lon") if column == "lng" else None)
        if column == "group" and value is None:
            value = entry.get("grp")
        text = "; ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
        text = " ".join(text.split())
        values[column] = f"https:{text}" if column in ("lic", "url") and text.startswith("//") else text
    return values


def _table(rows: Sequence[dict[str, str]]) -> str:
    lines = io.StringIO()
    writer = csv.DictWriter(lines, ("file", *COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return lines.getvalue()
