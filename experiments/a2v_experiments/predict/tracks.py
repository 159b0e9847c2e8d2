"""What a model says beside the events, on request: likelihoods of all frames, embeddings of frames or of events.

    likelihoods/day1/a.wav.npz or .h5       likelihoods (T, C) float32, classes, frame_rate (Hz), file, model
    embeddings/day1/a.wav.frames.parquet    onset_s of each frame, embedding (D)
    embeddings/day1/a.wav.events.parquet    columns as in events.parquet, and embedding: the mean of the event's frames

Frame t covers t / frame_rate to (t + 1) / frame_rate seconds. An embedding is what the model's head sees: the mean of
its last layer results. All are written in pieces, whatever a recording's length, and whole or not there.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from a2v_data.annotation_writers import PREDICTED, EventRow
from a2v_data.storage import replaced
from numpy.typing import NDArray

from ..inference import Frames

Blocks = Callable[[], Iterable[Frames]]
EVENTS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Track:
    """What all tracks say of themselves. frames: T of the recording."""

    name: str
    frames: int
    frame_rate: float
    classes: tuple[str, ...]
    model: str


def likelihoods_path(out: Path, kind: str, name: str) -> Path:
    """kind: npz or hdf5."""
    return out / "likelihoods" / f"{name}{'.npz' if kind == 'npz' else '.h5'}"


def embeddings_path(out: Path, kind: str, name: str) -> Path:
    """kind: frames or events."""
    return out / "embeddings" / f"{name}.{kind}.parquet"


def write_likelihoods(path: Path, kind: str, track: Track, blocks: Blocks) -> None:
    """The likelihoods of a recording, from blocks (T, C)."""
    shape = (track.frames, len(track.classes))
    about = {"frame_rate": track.frame_rate, "file": track.name, "model": track.model}
    with replaced(path) as aside:
        if kind == "npz":
            with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for name, value in {"classes": list(track.classes), **about}.items():
                    with archive.open(f"{name}.npy", "w") as member:
                        np.lib.format.write_array(member, np.array(value), allow_pickle=False)
                with archive.open("likelihoods.npy", "w", force_zip64=True) as member:
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_2_0(member, header)
                    for block_TC in blocks():
                        member.write(np.ascontiguousarray(block_TC, "<f4").tobytes())
            return
        import h5py

        with h5py.File(aside, "w") as file:
            file.create_dataset("classes", data=list(track.classes), dtype=h5py.string_dtype())
            file.attrs.update(about)
            data = file.create_dataset("likelihoods", shape, np.float32, chunks=(min(shape[0], 4096), shape[1]))
            at = 0
            for block_TC in blocks():
                data[at : at + len(block_TC)] = block_TC
                at += len(block_TC)


def write_frame_embeddings(path: Path, track: Track, blocks: Blocks) -> None:
    """The embeddings of all frames of a recording, from blocks (T, D)."""

    def tables() -> Iterator[tuple[dict[str, Any], Frames]]:
        at = 0
        for block_TD in blocks():
            yield {"onset_s": np.arange(at, at + len(block_TD)) / track.frame_rate}, block_TD
            at += len(block_TD)

    _write_parquet(path, track, tables())


def write_event_embeddings(
    path: Path, track: Track, blocks: Blocks, events: NDArray[np.void], rows: Sequence[EventRow]
) -> None:
    """The mean embedding of each event's frames, from blocks (T, D) of all frames; events and rows: the same ones."""

    def tables() -> Iterator[tuple[dict[str, Any], Frames]]:
        for first in range(0, max(len(rows), 1), EVENTS_AT_ONCE):
            part = slice(first, first + EVENTS_AT_ONCE)
            columns = {
                name: [getattr(row, name) for row in rows[part]]
                for name in ("file", "onset_s", "offset_s", "label", *PREDICTED)
            }
            yield columns, _event_means(blocks(), events[part])

    _write_parquet(path, track, tables())


def _event_means(blocks: Iterable[Frames], events: NDArray[np.void]) -> NDArray[np.float32]:
    """(E, D): means over [start, stop), of events that may overlap and go on from one block into the next."""
    total_ED: NDArray[np.float64] | None = None
    at = 0
    for block_TD in blocks:
        if total_ED is None:
            total_ED = np.zeros((len(events), block_TD.shape[1]))
        stop = at + len(block_TD)
        for number in np.flatnonzero((events["start"] < stop) & (events["stop"] > at)):
            inside = slice(max(events["start"][number] - at, 0), events["stop"][number] - at)
            total_ED[number] += block_TD[inside].sum(0, dtype=np.float64)
        at = stop
    assert total_ED is not None, "a recording has a frame"
    return (total_ED / (events["stop"] - events["start"])[:, None]).astype(np.float32)


def _write_parquet(path: Path, track: Track, tables: Iterator[tuple[dict[str, Any], Frames]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    text, number = pa.string(), pa.float64()
    kinds = {"file": text, "label": text, "model": text}
    with replaced(path) as aside:
        try:
            for columns, values_ND in tables:
                width = values_ND.shape[1]
                fields = [pa.field(name, kinds.get(name, number)) for name in columns]
                fields.append(pa.field("embedding", pa.list_(pa.float32(), width)))
                about = {"file": track.name, "model": track.model, "frame_rate": str(track.frame_rate)}
                schema = pa.schema(fields, metadata=about)
                flat = pa.array(np.ascontiguousarray(values_ND, np.float32).ravel())
                arrays = [pa.array(values, kinds.get(name, number)) for name, values in columns.items()]
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, width))
                writer = writer or pq.ParquetWriter(aside, schema)
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        finally:
            if writer is not None:
                writer.close()
