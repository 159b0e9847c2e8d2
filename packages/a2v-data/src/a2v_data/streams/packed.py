"""Streams in a packed corpus: `stream-NAME.f32` for each, all recordings' grids one after another, float32 little
endian (values, columns), NaN where a recording lacks it. What a recording's part is follows from its length."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2v_data.storage import file_digest
from a2v_data.streams.config import StreamConfig
from a2v_data.streams.grid import Values, grid_length


def stream_file(name: str) -> str:
    """The file of a stream in a packed corpus."""
    return f"stream-{name}.f32"


@dataclass(frozen=True)
class PackedStream:
    """A stream of all recordings of a corpus. first (R + 1,): where each recording's values begin."""

    config: StreamConfig
    values: Values
    first: NDArray[np.int64]

    @classmethod
    def open(
        cls, folder: Path, name: str, described: Mapping[str, Any], durations_s: Iterable[float]
    ) -> "PackedStream":
        """Memory-map it. Raises `ValueError` where it is missing or of another length."""
        config = StreamConfig.model_validate(described)
        first = _firsts(durations_s, config.rate)
        path, shape = folder / stream_file(name), (int(first[-1]), len(config.columns))
        found = path.stat().st_size if path.is_file() else 0
        if found != 4 * shape[0] * shape[1]:
            raise ValueError(f"{path}: {found} bytes, must be {4 * shape[0] * shape[1]}; pack it again")
        return cls(config, np.memmap(path, "<f4", "r", shape=shape), first)

    def grid(self, recording: int) -> Values:
        """The values (M, C) of one recording."""
        return self.values[self.first[recording] : self.first[recording + 1]]

    def statistics(self, recordings: Sequence[int]) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of each column over these recordings; None where none of them has the stream."""
        counts, sums, squares = (np.zeros(len(self.config.columns)) for _ in range(3))
        shift = self._some(recordings)
        for recording in recordings:
            grid_MC = self.grid(recording).astype(np.float64) - shift
            known = np.isfinite(grid_MC)
            grid_MC = np.where(known, grid_MC, 0.0)
            counts, sums, squares = counts + known.sum(0), sums + grid_MC.sum(0), squares + np.square(grid_MC).sum(0)
        if not counts.all():
            return None
        mean = sums / counts
        spread = np.sqrt(np.maximum(squares / counts - np.square(mean), 0.0))
        return (mean + shift).tolist(), np.where(spread > 0, spread, 1.0).tolist()

    def _some(self, recordings: Sequence[int]) -> NDArray[np.float64]:
        """A value of each column, near which sums of squares lose nothing; 0 where there is none."""
        for recording in recordings:
            known = self.grid(recording)[np.isfinite(self.grid(recording)).all(1)]
            if len(known):
                return known[0].astype(np.float64)
        return np.zeros(len(self.config.columns))


class StreamWriter:
    """Writes the streams of recordings into a folder, one recording at a time."""

    def __init__(self, folder: Path, streams: Mapping[str, StreamConfig]) -> None:
        self.folder, self.streams = folder, streams
        self._files = {name: (folder / stream_file(name)).open("wb") for name in streams}
        self._durations_s: list[float] = []
        self.there: list[set[str]] = []
        """Of each recording the streams that it has a value of."""
        self.notices: list[str] = []
        """What is worth knowing of them."""

    def add(self, grids: Mapping[str, Values], duration_s: float) -> None:
        """Append a recording of `duration_s` seconds."""
        for name, config in self.streams.items():
            lacking = np.full((grid_length(duration_s, config.rate), len(config.columns)), np.nan, "<f4")
            grid_MC = grids.get(name, lacking).astype("<f4", copy=False)
            assert grid_MC.shape == lacking.shape
            self._files[name].write(grid_MC.tobytes())
        self._durations_s.append(duration_s)
        self.there.append({name for name, grid_MC in grids.items() if np.isfinite(grid_MC).any()})

    def finish(self, kept: Sequence[int]) -> dict[str, dict[str, Any]]:
        """Keep the recordings of these numbers, in order, only; returns what describes the streams."""
        self.close()
        if len(kept) < len(self._durations_s):
            for name, config in self.streams.items():
                path, first = self.folder / stream_file(name), _firsts(self._durations_s, config.rate)
                values = np.fromfile(path, "<f4").reshape(-1, len(config.columns))
                np.concatenate([values[first[number] : first[number + 1]] for number in kept]).tofile(path)
            self._durations_s = [self._durations_s[number] for number in kept]
            self.there = [self.there[number] for number in kept]
        return {name: config.model_dump(mode="json") for name, config in self.streams.items()}

    def checksums(self) -> dict[str, str]:
        """Of each file that was written."""
        return {stream_file(name): file_digest(self.folder / stream_file(name)) for name in self.streams}

    def close(self) -> None:
        """Let go of the files; safe to call twice."""
        for file in self._files.values():
            file.close()


def _firsts(durations_s: Iterable[float], rate: float) -> NDArray[np.int64]:
    return np.cumsum([0, *(grid_length(duration_s, rate) for duration_s in durations_s)]).astype(np.int64)
