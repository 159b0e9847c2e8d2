"""The packed corpus: all recordings of a study in one memory-mapped file, with their events (`corpus_files.py` has the
contract of its files).

Legend: B segments, N samples, T frames, C classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from a2v_data.corpus_files import (
    AUDIO,
    EVENT_DTYPE,
    EVENTS,
    META,
    UNSURE,
    Recording,
    read_description,
    read_events,
    read_recordings,
)  # fmt: skip
from a2v_data.intervals import IGNORED
from a2v_data.storage import file_digest
from a2v_data.streams.folder import windows_of
from a2v_data.streams.packed import PackedStream

SEGMENT_DTYPE = np.dtype([("recording", "<i4"), ("start", "<i8")])
FULL_SCALE = 32768
ROUNDING_S = 1e-3  # between a recording's end and the end of its last sample at another rate
MARKED = 4096  # samples of a recording that its `sound_mark` is made from


@dataclass(frozen=True)
class Corpus:
    """A packed corpus, opened for reading. Pickling sends the folder's name, not the audio."""

    folder: Path
    sample_rate: int
    classes: tuple[str, ...]
    recordings: list[Recording]
    events: np.ndarray  # (events,) EVENT_DTYPE
    audio: np.ndarray  # (samples,) int16, memory-mapped
    meta: dict[str, Any]
    unsure: np.ndarray = field(default_factory=lambda: np.empty(0, EVENT_DTYPE))  # (intervals,) EVENT_DTYPE

    @classmethod
    def open(cls, folder: Path | str) -> "Corpus":
        """Memory-map a corpus. Raises `ValueError` where it is missing, of another version, or damaged."""
        folder = Path(folder)
        meta = read_description(folder)
        recordings = read_recordings(folder / META, meta)
        total = sum(recording.n_samples for recording in recordings)
        found = (folder / AUDIO).stat().st_size if (folder / AUDIO).is_file() else 0
        if found != 2 * total:
            raise ValueError(f"{folder / AUDIO}: {found} bytes, {META} says {2 * total}; pack it again")
        events = read_events(folder, EVENTS, meta)
        unsure = read_events(folder, UNSURE, meta) if UNSURE in meta["checksums"] else events[:0]
        audio = np.memmap(folder / AUDIO, dtype="<i2", mode="r", shape=(total,))
        classes = tuple(meta["classes"])
        return cls(folder, meta["sample_rate"], classes, recordings, events, audio, meta, unsure)

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Corpus.open, (self.folder,)

    @property
    def problems(self) -> list[str]:
        """One line for each recording that was left out."""
        return list(self.meta.get("problems", []))

    @property
    def notices(self) -> list[str]:
        """What else is worth knowing: merged events, scaled recordings."""
        return list(self.meta.get("notices", []))

    def sound_mark(self, name: str) -> str:
        """Digest of a recording's length and of the samples in its middle: the same sound in two stores of one sample
        rate has the same, whatever its name."""
        if name not in self._sound_marks:  # of a large store, most are never asked for
            recording = self.recordings[self._index[name]]
            first = recording.offset + max((recording.n_samples - MARKED) // 2, 0)
            middle = self.audio[first : first + min(MARKED, recording.n_samples)].tobytes()
            length = f"{recording.n_samples} ".encode()
            self._sound_marks[name] = blake2b(length + middle, digest_size=12).hexdigest()
        return self._sound_marks[name]

    @cached_property
    def _sound_marks(self) -> dict[str, str]:
        return {}

    @cached_property
    def rates(self) -> np.ndarray:
        """(recordings,) Hz of each recording: `sample_rate`, or where they kept their own at most that."""
        kept = self.meta.get("rates")
        return np.full(len(self.recordings), self.sample_rate) if kept is None else np.array(kept, np.int64)

    def rate(self, recording: int) -> int:
        """Hz of one recording."""
        return int(self.rates[recording])

    def duration_s(self, recording: int) -> float:
        """Seconds of one recording."""
        return self.recordings[recording].n_samples / self.rate(recording)

    def is_shorter(self, recording: int, segment_s: float) -> bool:
        """Whether one recording does not fill a segment."""
        return self.recordings[recording].n_samples < self.segment_samples(segment_s, self.rate(recording))

    def seconds(self, recordings: Iterable[int] | None = None) -> float:
        """Of these recordings together (None: of all)."""
        return sum(map(self.duration_s, range(len(self.recordings)) if recordings is None else recordings))

    def at(self, sample_rate: int) -> "Corpus":
        """The same corpus for those who read recordings of that rate only, which its `sample_rate` then is."""
        return self if sample_rate == self.sample_rate else replace(self, sample_rate=sample_rate)

    def timed_at(self, sample_rate: int) -> "Corpus":
        """The same recordings and labels as if all had that rate, for those who count samples and read none."""
        if set(self.rates.tolist()) <= {sample_rate}:
            return self
        timed = [
            replace(one, n_samples=-(-one.n_samples * sample_rate // self.rate(number)))
            for number, one in enumerate(self.recordings)
        ]
        meta = {key: value for key, value in self.meta.items() if key != "rates"}
        return replace(self, sample_rate=sample_rate, recordings=timed, meta=meta, audio=self.audio[:0])

    def verify(self) -> None:
        """Read all audio and compare its checksum; `ValueError` where it differs."""
        if file_digest(self.folder / AUDIO) != self.meta["checksums"][AUDIO]:
            raise ValueError(f"{self.folder / AUDIO}: changed since it was written; pack it again")

    @cached_property
    def _index(self) -> dict[str, int]:
        return {recording.name: number for number, recording in enumerate(self.recordings)}

    @cached_property
    def _event_bounds(self) -> np.ndarray:
        """Events of recording i are events[bounds[i] : bounds[i + 1]]."""
        return np.searchsorted(self.events["recording"], np.arange(len(self.recordings) + 1))

    @cached_property
    def _unsure_bounds(self) -> np.ndarray:
        return np.searchsorted(self.unsure["recording"], np.arange(len(self.recordings) + 1))

    def indices(self, names: Iterable[str]) -> list[int]:
        """Positions of recordings by name; `ValueError` for a name that is not in the corpus."""
        names = list(names)
        unknown = [name for name in names if name not in self._index]
        if unknown:
            raise ValueError(f"{self.folder}: no recording {unknown[0]!r} ({len(unknown)} of {len(names)} unknown)")
        return [self._index[name] for name in names]

    def labels(self, recording: int) -> np.ndarray:
        """The events of one recording, EVENT_DTYPE, by onset."""
        bounds = self._event_bounds
        return self.events[bounds[recording] : bounds[recording + 1]]

    def unsure_of(self, recording: int) -> np.ndarray:
        """The time of one recording of which nobody knows what calls there, EVENT_DTYPE with the numbers of
        `regions.py` as classes, by onset."""
        bounds = self._unsure_bounds
        return self.unsure[bounds[recording] : bounds[recording + 1]]

    def truth(self, recording: int) -> np.ndarray:
        """What one recording is scored against: its events, then its unsure time."""
        return np.concatenate([self.labels(recording), self.unsure_of(recording)])

    @property
    def weak(self) -> dict[str, list[str]]:
        """The classes of each recording that is labelled as a whole only, by name."""
        weak: dict[str, list[str]] = self.meta.get("weak", {})
        return weak

    def weak_labels(self, recording: int) -> np.ndarray | None:
        """(C,) bool: which classes call somewhere in a recording that is labelled as a whole only; None for others."""
        names = self.weak.get(self.recordings[recording].name)
        return None if names is None else np.isin(self.classes, names)

    def present(self, recording: int) -> np.ndarray:
        """(C,) bool: which classes call in a recording, by its recording-level labels or by its events."""
        weak_C = self.weak_labels(recording)
        return np.isin(np.arange(len(self.classes)), self.labels(recording)["class"]) if weak_C is None else weak_C

    def segment_samples(self, segment_s: float, rate: int | None = None) -> int:
        """Samples in a segment of `segment_s` seconds at `rate` Hz (None: `sample_rate`)."""
        rate = rate or self.sample_rate
        samples = round(segment_s * rate)
        if samples < 1:
            raise ValueError(f"segment_s: {segment_s} s holds no sample at {rate} Hz; it must be longer")
        return samples

    def segments(
        self,
        segment_s: float,
        hop_s: float | None = None,
        recordings: Sequence[int] | None = None,
        labelled_only: bool = False,
    ) -> np.ndarray:
        """Segments of `segment_s` seconds that cover the recordings, SEGMENT_DTYPE, in order.

        They start every `hop_s` seconds (default: `segment_s`). No sample is lost: where the last one would
        reach beyond the end it starts earlier and ends there; a recording shorter than a segment is one
        segment (padded on the right when read). labelled_only: without those in which nothing was annotated. Raises
        `ValueError` where a length is not positive or the hop leaves gaps.
        """
        if hop_s is not None and hop_s > segment_s:
            raise ValueError(f"hop_s: {hop_s} is longer than segment_s {segment_s}; samples between would be lost")
        chosen = range(len(self.recordings)) if recordings is None else recordings
        parts = []
        for number in chosen:
            recording = self.recordings[number]
            if labelled_only and not recording.labelled:
                continue
            rate = self.rate(number)
            length = self.segment_samples(segment_s, rate)
            hop = length if hop_s is None else self.segment_samples(hop_s, rate)
            last = max(recording.n_samples - length, 0)
            starts = np.append(np.arange(0, last, hop), last)
            part = np.empty(len(starts), SEGMENT_DTYPE)
            part["recording"], part["start"] = number, starts
            parts.append(part[self._annotated(part, length)] if labelled_only else part)
        return np.concatenate(parts) if parts else np.empty(0, SEGMENT_DTYPE)

    def _annotated(self, segments: np.ndarray, length: int) -> np.ndarray:
        """(B,) bool: which segments of one recording, of `length` samples, hold time that is not to be ignored."""
        recording = int(segments["recording"][0])
        ignored = self.unsure_of(recording)
        ignored = ignored[ignored["class"] == IGNORED]
        found = np.ones(len(segments), bool)
        # Intervals do not touch one another, so a segment that is ignored as a whole lies in one of them.
        first = segments["start"] / self.rate(recording)
        last = np.minimum(segments["start"] + length, self.recordings[recording].n_samples) / self.rate(recording)
        for onset_s, offset_s in ignored[["onset_s", "offset_s"]].tolist():
            found &= (first < onset_s - ROUNDING_S) | (last > offset_s + ROUNDING_S)
        return found

    def waveforms(self, segments: np.ndarray, segment_samples: int) -> tuple[np.ndarray, np.ndarray]:
        """Samples of segments: float32 (B, N) in [-1, 1], zeros after the end, and (B,) valid samples."""
        waveform_BN = np.zeros((len(segments), segment_samples), np.float32)
        lengths_B = np.zeros(len(segments), np.int64)
        for row, segment in enumerate(segments):
            recording = self.recordings[segment["recording"]]
            start = int(segment["start"])
            assert 0 <= start < recording.n_samples, f"segment starts at {start} of {recording}"
            valid = min(segment_samples, recording.n_samples - start)
            first = recording.offset + start
            np.multiply(self.audio[first : first + valid], np.float32(1 / FULL_SCALE), out=waveform_BN[row, :valid])
            lengths_B[row] = valid
        return waveform_BN, lengths_B

    @cached_property
    def streams(self) -> Mapping[str, PackedStream]:
        """What was recorded beside sound, by name. Raises `ValueError` where a file is missing or damaged."""
        durations_s = [self.duration_s(number) for number in range(len(self.recordings))]
        described: dict[str, Any] = self.meta.get("streams", {})
        return {name: PackedStream.open(self.folder, name, one, durations_s) for name, one in described.items()}

    def stream_grids(self, recording: int) -> dict[str, np.ndarray]:
        """The streams of one recording on their grids (M, C), by name."""
        return {name: stream.grid(recording) for name, stream in self.streams.items()}

    def stream_windows(self, segments: np.ndarray, seconds: float) -> dict[str, np.ndarray]:
        """The streams of segments of so many seconds, float32 (B, M, C) by name, M values at each stream's own rate;
        NaN where it is not there."""
        numbers = [int(number) for number in segments["recording"]]
        starts_s = (segments["start"] / self.rates[segments["recording"]]).tolist()
        configs = {name: stream.config for name, stream in self.streams.items()}
        return windows_of(configs, [self.stream_grids(number) for number in numbers], starts_s, seconds)

    def targets(self, segments: np.ndarray, frame_rate: float, frames: int) -> np.ndarray:
        """Frame targets, float32 (B, T, C), 0 or 1, at `frame_rate` Hz; NaN where a target is not known.

        Frame t of a segment that starts at s seconds covers [s + t / f', s + (t + 1) / f'). It is 1 where its
        centre lies in [onset, offset) of an event of the class. So that no call is lost that is shorter than
        a frame, every event also sets the frame that contains its middle. Zeros in unlabelled recordings. Frames that
        touch unsure time are not known, but for classes that have an event there; nor are those of recordings that are
        labelled as a whole only (`weak_labels`).
        """
        target_BTC = np.zeros((len(segments), frames, len(self.classes)), np.float32)
        for row, segment in enumerate(segments):
            if self.weak and self.recordings[segment["recording"]].name in self.weak:
                target_BTC[row] = np.nan
                continue
            events = self.labels(segment["recording"])
            start_s = segment["start"] / self.rate(segment["recording"])
            unsure = self.unsure_of(segment["recording"])
            mark_unsure(target_BTC[row], unsure["onset_s"] - start_s, unsure["offset_s"] - start_s, frame_rate)
            inside = (events["offset_s"] > start_s) & (events["onset_s"] < start_s + frames / frame_rate)
            events = events[inside]
            onset_s, offset_s = events["onset_s"] - start_s, events["offset_s"] - start_s
            mark_events(target_BTC[row], onset_s, offset_s, events["class"], frame_rate)
        return target_BTC


def mark_events(
    target_TC: np.ndarray, onset_s: np.ndarray, offset_s: np.ndarray, numbers: np.ndarray, frame_rate: float
) -> None:
    """Set the frames of events in the targets of one segment, in place, as `Corpus.targets` says.

    onset_s, offset_s (E,): seconds from the segment's start, which may lie outside it; numbers (E,): their classes.
    """
    frames = len(target_TC)
    # Rounded, so that an onset of 0.0125 s is on the centre of frame 2 at 200 Hz whatever its float says.
    onset, offset = np.round(onset_s * frame_rate, 6), np.round(offset_s * frame_rate, 6)
    first = np.clip(np.ceil(onset - 0.5), 0, frames).astype(np.int64)
    end = np.clip(np.ceil(offset - 0.5), 0, frames).astype(np.int64)
    middle = np.floor((onset + offset) / 2).astype(np.int64)
    for begin, stop, number in zip(first, end, numbers, strict=True):
        target_TC[begin:stop, number] = 1
    seen = (middle >= 0) & (middle < frames)
    target_TC[middle[seen], numbers[seen]] = 1


def mark_unsure(target_TC: np.ndarray, onset_s: np.ndarray, offset_s: np.ndarray, frame_rate: float) -> None:
    """Set the frames that touch unsure time to NaN, in place. onset_s, offset_s: seconds from the segment's start."""
    frames = len(target_TC)
    # Rounded, so that time that ends on a frame's edge does not touch the next one.
    first = np.clip(np.floor(np.round(onset_s * frame_rate, 6)), 0, frames).astype(np.int64)
    end = np.clip(np.ceil(np.round(offset_s * frame_rate, 6)), 0, frames).astype(np.int64)
    for begin, stop in zip(first, end, strict=True):
        target_TC[begin:stop] = np.nan
