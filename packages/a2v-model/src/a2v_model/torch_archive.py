"""Reads the zip files that torch.save writes, as data: tensors, plain containers, and nothing that runs.

Layout of such a file: one folder with `data.pkl` (the object, without the tensors' numbers), `data/0`, `data/1` ...
(one record of raw numbers for each storage, never compressed) and a few small ones (version, byteorder). Tensors
stay in the file until they are read one by one, so that a large optimiser state costs nothing.
"""

import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from a2v_model.pickle_values import Call, Name, RefusedError, plain, shown
from a2v_model.restricted_pickle import load

MAX_PICKLE_BYTES = 64 << 20
MAX_AXES = 16
_STORAGES = {
    "torch.DoubleStorage": torch.float64, "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16, "torch.CharStorage": torch.int8, "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}  # fmt: skip
_NAMES = (*_STORAGES, *(str(dtype) for dtype in _STORAGES.values()))
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save began before version 1.6


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file: where its numbers are. `read` fetches them."""

    archive: zipfile.ZipFile
    record: zipfile.ZipInfo
    dtype: torch.dtype
    numel: int  # of the storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> Tensor:
        """The tensor, on the CPU, in memory of its own."""
        data = bytearray(self.archive.read(self.record))
        if self.numel == 0:
            return torch.empty(self.size, dtype=self.dtype)
        storage = torch.frombuffer(data, dtype=self.dtype, count=self.numel)
        return storage.as_strided(self.size, self.stride, self.offset).contiguous()


@dataclass(frozen=True)
class _Storage:
    record: zipfile.ZipInfo
    dtype: torch.dtype
    numel: int


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The object in the file, with a `StoredTensor` for each tensor; these can be read inside the block.

    ValueError (one line, with the file's name) where the file is not one that torch.save wrote, is damaged, or
    holds anything but tensors and plain data. The same for errors that arise inside the block.
    """
    path = Path(path)
    _check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield plain(_Reader(archive, path.stat().st_size).contents())
    except RefusedError as error:
        raise ValueError(f"{path}: refused: it holds {error}") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeError, OverflowError) as error:
        raise ValueError(f"{path}: damaged, not a complete torch checkpoint: {shown(error)}") from error


def _check_file(path: Path) -> None:
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file; expected a checkpoint, FILE.pt")
    with path.open("rb") as file:
        start = file.read(len(_LEGACY))
    if not start:
        raise ValueError(f"{path}: empty; expected a checkpoint written by torch.save")
    if start == _LEGACY:
        raise ValueError(
            f"{path}: written in the format of torch before 1.6, which is not read here; "
            "in an environment that you trust the file in, load it and save it again with torch 1.6 or later"
        )
    if not start.startswith(b"PK"):
        raise ValueError(f"{path}: not a torch checkpoint (torch.save writes zip archives, this is none)")


class _Reader:
    def __init__(self, archive: zipfile.ZipFile, file_bytes: int) -> None:
        self.archive = archive
        self.records = {record.filename: record for record in archive.infolist()}
        self._check(file_bytes)
        pickles = [name for name in archive.namelist() if re.fullmatch(r"[^/\\]+/data\.pkl", name)]
        if len(pickles) != 1:
            raise zipfile.BadZipFile(f"{len(pickles) or 'no'} data.pkl in it, should be one")
        self.folder = pickles[0].removesuffix("data.pkl")
        order = self.records.get(f"{self.folder}byteorder")
        if order is not None and archive.read(order) != b"little":
            raise RefusedError("numbers that are not little-endian")

    def _check(self, file_bytes: int) -> None:
        """Records are stored as they are, so no file can hold more than its own size."""
        records = self.archive.infolist()
        for record in records:
            if record.flag_bits & 1:
                raise RefusedError(f"record {shown(record.filename)}, encrypted")
            if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
                raise RefusedError(f"record {shown(record.filename)}, compressed, which torch.save never does")
        total = sum(record.file_size for record in records)
        if total > file_bytes:
            raise RefusedError(f"records of {total:,} bytes in a file of {file_bytes:,}")

    def contents(self) -> Any:
        record = self.records[f"{self.folder}data.pkl"]
        if record.file_size > MAX_PICKLE_BYTES:
            raise RefusedError(f"a data.pkl of {record.file_size:,} bytes, more than {MAX_PICKLE_BYTES:,}")
        calls: dict[str, Call] = {
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch.Size": _size,
            "torch.device": lambda *parts: ":".join(shown(part, 20) for part in parts),
        }
        return load(self.archive.read(record), self.storage, calls, _NAMES)

    def storage(self, reference: tuple[Any, ...]) -> _Storage:
        """What torch's reference ('storage', type, key, location, number of elements) stands for."""
        if len(reference) != 5 or reference[0] != "storage" or not isinstance(reference[1], Name):
            raise RefusedError("a reference that is not to a storage")
        _, kind, key, _, numel = reference
        dtype = _STORAGES.get(kind.full)
        if dtype is None:
            raise RefusedError(f"a storage of type {kind.full}")
        if not isinstance(key, str) or not re.fullmatch(r"[0-9]+", key, re.ASCII):
            raise RefusedError(f"a storage named {shown(key)}, should be a number")
        record = self.records.get(f"{self.folder}data/{key}")
        if record is None:
            raise RefusedError(f"storage {shown(key)}, which is not in the file")
        if not _count(numel) or numel * dtype.itemsize > record.file_size:
            raise RefusedError(f"storage {shown(key)} of {shown(numel)} numbers in {record.file_size:,} bytes")
        return _Storage(record, dtype, numel)

    def tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> StoredTensor:
        """`rest` (requires_grad, hooks, metadata) says nothing about the numbers."""
        if not isinstance(storage, _Storage):
            raise RefusedError("a tensor without a storage")
        axes = _size(size), _size(stride)
        if not _count(offset) or len(axes[0]) != len(axes[1]) or len(axes[0]) > MAX_AXES:
            raise RefusedError(f"a tensor of shape {shown(size)}, stride {shown(stride)}, offset {shown(offset)}")
        last = offset + sum((n - 1) * step for n, step in zip(*axes, strict=True))
        if all(axes[0]) and last >= storage.numel:
            raise RefusedError(
                f"a tensor of shape {shown(list(axes[0]))} that reaches element {last} of a storage of {storage.numel}"
            )
        return StoredTensor(self.archive, storage.record, storage.dtype, storage.numel, offset, *axes)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _size(axes: Any) -> tuple[int, ...]:
    if not isinstance(axes, (tuple, list)) or not all(_count(n) for n in axes):
        raise RefusedError(f"a shape or stride of {shown(axes)}")
    return tuple(axes)


def _parameter(data: Any, *rest: Any) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise RefusedError("a parameter that is not a tensor")
    return data
