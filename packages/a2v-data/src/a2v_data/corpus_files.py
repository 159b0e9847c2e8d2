"""The files of a packed corpus: how they are written, and read with checks (`corpus.Corpus` reads sound and labels).

Contract. A corpus is a folder of three or four files, written aside and renamed: it is complete or it is not there.
- `corpus.json`: format version, sample rate (Hz), classes, recordings, number of events, BLAKE2b of the other
  files, where it came from, and what was left out or noticed on the way. Written last. Where recordings kept rates of
  their own it has `rates`, one for each of them, the sample rate is their limit, and the format version is 3.
- `audio.i16`: the samples of all recordings one after another, int16 little endian, no header.
- `events.npy`: structured array EVENT_DTYPE, sorted by recording, then onset; no Python objects.
- `unsure.npy`: the same for time of which nobody knows what calls there (`regions.py`), with its numbers below 0 as
  classes. Only where there is some; the format version is then 2, so that no older reader takes it for silence.
- `stream-NAME.f32`: what was recorded beside sound (`streams/packed.py`), where `corpus.json` has `streams`.
Nothing writes into a corpus after it was renamed into place.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from a2v_data.documents import check_keys, read_json, reason, shown
from a2v_data.storage import BLOCK_BYTES, file_digest

FORMAT_VERSION, UNSURE_VERSION, RATES_VERSION = 1, 2, 3
EVENT_DTYPE = np.dtype([("recording", "<i4"), ("class", "<i2"), ("onset_s", "<f8"), ("offset_s", "<f8")])
MOST_BYTES = 1 << 30  # of the description: ten million recordings
LONGEST = 1 << 53  # samples
META, AUDIO, EVENTS, UNSURE = "corpus.json", "audio.i16", "events.npy", "unsure.npy"
NEEDED = {
    "sample_rate": int, "classes": list[str], "checksums": dict[str, str], "recording_columns": list[str],
    "recordings": list[list[Any]],
}  # fmt: skip
FURTHER = {
    "rates": list[int], "weak": dict[str, list[str]], "problems": list[str], "notices": list[str],
    "annotation_notices": list[str], "source": dict[str, Any], "config": dict[str, Any],
    "streams": dict[str, dict[str, Any]],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording. `n_samples` and `offset` (its first sample in audio.i16) are at its rate in the corpus
    (`Corpus.rate`), `source_samples` at the file's own; `gain` is what its amplitude was multiplied with, usually 1."""

    name: str
    n_samples: int
    labelled: bool
    offset: int
    source_rate: int
    source_samples: int
    gain: float = 1.0


def in_order(events: np.ndarray) -> np.ndarray:
    """By recording, then onset."""
    return events[np.lexsort((events["class"], events["offset_s"], events["onset_s"], events["recording"]))]


def read_description(folder: Path) -> dict[str, Any]:
    """`corpus.json`, of which keys and types are checked. Raises `ValueError` where it is missing or none."""
    path = folder / META
    if not path.is_file():
        raise ValueError(f"{folder}: no packed corpus ({META} is missing); `a2v data pack` makes one")
    try:
        meta = check_keys(read_json(path, MOST_BYTES), {"format_version": int})
        version = meta["format_version"]
    except ValueError as error:
        raise ValueError(f"{path}: not a corpus description ({error}); pack it again") from error
    if version not in (FORMAT_VERSION, UNSURE_VERSION, RATES_VERSION):
        raise ValueError(f"{path}: format version {version}, this a2v reads {RATES_VERSION}; pack it again")
    try:
        check_keys(meta, NEEDED, FURTHER)
        if not 0 < meta["sample_rate"] <= LONGEST:
            raise ValueError("sample_rate should be above 0")
        if missing := [name for name in (AUDIO, EVENTS) if name not in meta["checksums"]]:
            raise ValueError(f"checksums has none of {missing[0]}")
        if len({*meta["classes"]}) < len(meta["classes"]):
            raise ValueError("a class stands there twice")
    except ValueError as error:
        raise ValueError(f"{path}: not a corpus description ({error}); pack it again") from error
    return meta


def read_recordings(path: Path, meta: dict[str, Any]) -> list[Recording]:
    """The rows of the description. Raises `ValueError` where they are not what they should be."""
    columns, rows = meta["recording_columns"], meta["recordings"]
    kinds = get_type_hints(Recording)
    if not {"name", "n_samples", "labelled", "offset", "source_rate", "source_samples"} <= {*columns} <= {*kinds}:
        raise ValueError(f"{path}: recording_columns are {shown(columns)}, not those of recordings; pack it again")
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"{path}: a recording has not {len(columns)} values; pack it again")
    for name, values in zip(columns, zip(*rows, strict=True), strict=False):  # by column: there may be a million
        kind, types = kinds[name], {*map(type, values)}
        if not types <= ({int, float} if kind is float else {kind}):
            raise ValueError(f"{path}: {name} of a recording is no {kind.__name__}; pack it again")
        if (kind is int and not max(map(abs, values)) <= LONGEST) or (kind is not str and min(values) < 0):
            raise ValueError(f"{path}: {name} of a recording is below 0 or too large; pack it again")
    found = [Recording(**dict(zip(columns, row, strict=True))) for row in rows]
    total = sum(one.n_samples for one in found)
    if any(one.offset + one.n_samples > total for one in found):
        raise ValueError(f"{path}: a recording lies beyond the end of {AUDIO}; pack it again")
    if len({one.name for one in found}) < len(found):
        raise ValueError(f"{path}: two recordings have one name; pack it again")
    rates = meta.get("rates")
    if rates is not None and (len(rates) != len(found) or not all(0 < rate <= meta["sample_rate"] for rate in rates)):
        most = meta["sample_rate"]
        raise ValueError(f"{path}: rates should be one for each recording, up to {most} Hz; pack it again")
    return found


def read_events(folder: Path, name: str, meta: dict[str, Any]) -> np.ndarray:
    """One of its tables, EVENT_DTYPE. Raises `ValueError` where it is not as it was written."""
    if not (folder / name).is_file() or file_digest(folder / name) != meta["checksums"][name]:
        raise ValueError(f"{folder / name}: missing or changed since it was written; pack it again")
    try:
        table: np.ndarray = np.load(folder / name, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, MemoryError) as error:
        raise ValueError(f"{folder / name}: not readable ({reason(error)}); pack it again") from None
    recordings = table["recording"] if table.dtype == EVENT_DTYPE and table.ndim == 1 else np.array([-1])
    if len(recordings) and not 0 <= recordings.min() <= recordings.max() < len(meta["recordings"]):
        raise ValueError(f"{folder / name}: not the events of these recordings; pack it again")
    if len(table) and table["class"].max() >= len(meta["classes"]):
        raise ValueError(f"{folder / name}: names a class that {META} does not have; pack it again")
    return table


class CorpusWriter:
    """Fills a folder (given by `storage.written_aside`) with a corpus, one recording at a time."""

    def __init__(self, folder: Path, sample_rate: int, classes: Sequence[str]) -> None:
        self._folder, self._sample_rate, self._classes = folder, sample_rate, list(classes)
        self.audio_path = folder / AUDIO
        self._audio = self.audio_path.open("w+b")
        self._samples = 0
        self.recordings: list[Recording] = []

    def add(
        self,
        name: str,
        audio_N: np.ndarray,
        labelled: bool,
        source_rate: int,
        source_samples: int,
        gain: float,
    ) -> int:
        """Append one recording's int16 samples; returns its position in the corpus."""
        assert audio_N.dtype == np.int16 and audio_N.ndim == 1 and len(audio_N)
        self._audio.write(audio_N.astype("<i2", copy=False).tobytes())
        offset, self._samples = self._samples, self._samples + len(audio_N)
        self.recordings.append(Recording(name, len(audio_N), labelled, offset, source_rate, source_samples, gain))
        return len(self.recordings) - 1

    def adopt(self, recordings: Sequence[Recording]) -> None:
        """Take recordings that others wrote to `audio_path`, by offset. Gaps between them are closed."""
        for recording in recordings:
            assert recording.offset >= self._samples, "recordings overlap or are not in order"
            if recording.offset > self._samples:
                self._move(recording.offset, self._samples, recording.n_samples)
            self.recordings.append(replace(recording, offset=self._samples))
            self._samples += recording.n_samples
        self._audio.truncate(2 * self._samples)

    def _move(self, start: int, to: int, samples: int) -> None:
        for moved in range(0, 2 * samples, BLOCK_BYTES):
            self._audio.seek(2 * start + moved)
            block = self._audio.read(min(BLOCK_BYTES, 2 * samples - moved))
            self._audio.seek(2 * to + moved)
            self._audio.write(block)

    def finish(
        self,
        events: np.ndarray,
        unsure: np.ndarray | None = None,
        rates: Sequence[int] | None = None,
        checksums: Mapping[str, str] | None = None,
        **described: Any,
    ) -> None:
        """Write events, unsure time and description; `described` (JSON values) is kept beside the fixed fields. rates:
        Hz of each recording, where they kept their own. checksums: of files that others wrote."""
        _sync_and_close(self._audio)
        tables = {EVENTS: events}
        if unsure is not None and len(unsure):
            tables[UNSURE] = unsure
        for name, table in tables.items():
            assert table.dtype == EVENT_DTYPE
            with (self._folder / name).open("wb") as file:
                np.save(file, in_order(table), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        columns = list(Recording.__dataclass_fields__)
        version = UNSURE_VERSION if UNSURE in tables else FORMAT_VERSION
        meta = {
            "format_version": version if rates is None else RATES_VERSION,
            "sample_rate": self._sample_rate,
            "classes": self._classes,
            "events": len(events),
            "checksums": {name: file_digest(self._folder / name) for name in (AUDIO, *tables)} | dict(checksums or {}),
            **described,
            **({} if rates is None else {"rates": list(rates)}),
            "recording_columns": columns,
            "recordings": [list(asdict(recording).values()) for recording in self.recordings],
        }
        with (self._folder / META).open("w", encoding="utf-8") as file:
            json.dump(meta, file, ensure_ascii=False, indent=None, separators=(",", ":"))
            _sync_and_close(file)

    def close(self) -> None:
        """Let go of the audio file; safe to call twice."""
        self._audio.close()


def _sync_and_close(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
