"""Reads the zip files that torch.save writes, as data: tensors, plain containers, and nothing that runs.

Layout of such a file: one folder with `data.pkl` (the object, without the tensors' numbers), `data/0`, `data/1` ...
(one record of raw numbers for each storage, never compressed) and a few small ones (version, byteorder). torch.load
maps the file into memory, so that a large optimiser state costs nothing until someone looks at it.
"""

import os
import re
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from a2v_model.pickle_check import check
from a2v_model.pickle_values import RefusedError, plain, shown, stand_ins

MAX_PICKLE_BYTES = 64 << 20
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save began before version 1.6
_CLEARER = {
    "storage that is not resizable": "a tensor that reaches outside its numbers",
    "failed locating file data/": "a storage that is not in the file",
}
_DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, ValueError, struct.error)


def read(path: str | os.PathLike[str]) -> Any:
    """The object in the file, on the CPU; of what is neither a tensor nor plain data, the data in it (`plain`).

    ValueError (one line, with the file's name) where the file is not one that torch.save wrote, is damaged, or
    holds anything but tensors and plain data.
    """
    path = Path(path)
    _check_file(path)
    try:
        sizes = _check_archive(path)
        return plain(_loaded(path, sizes))
    except RefusedError as error:
        raise ValueError(f"{path}: refused: it holds {error}") from error
    except _DAMAGED as error:
        raise ValueError(f"{path}: damaged, not a complete torch checkpoint: {shown(error)}") from error


def _loaded(path: Path, sizes: Collection[int]) -> Any:
    def checked(storage: Any, location: str) -> Any:
        """torch does not compare what it maps with the record, only with the end of the file."""
        if storage.nbytes() not in sizes:
            raise RefusedError("a storage of another size than its record")
        return storage

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals(stand_ins(names)):
            return torch.load(path, map_location=checked, weights_only=True, mmap=True)
    except (RefusedError, OSError, MemoryError):
        raise
    except Exception as error:  # torch's reader has no error of its own: a wrong shape is a RuntimeError, or another
        why = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0].partition(". This is")[0]
        clearer = [text for part, text in _CLEARER.items() if part in why]
        raise RefusedError(clearer[0] if clearer else f"something that torch cannot read: {shown(why)}") from error


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


def _check_archive(path: Path) -> set[int]:
    """Whether torch may read the archive and the pickle in it; the bytes of its records."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        _check_records(records, path.stat().st_size)
        names = [record.filename.lower() for record in records]  # torch looks records up in lower case
        pickles = [name for name in archive.namelist() if re.fullmatch(r"[^/\\]+/data\.pkl", name, re.IGNORECASE)]
        if len(pickles) != 1:
            raise zipfile.BadZipFile(f"{len(pickles) or 'no'} data.pkl in it, should be one")
        _check_ends(path, archive.start_dir)
        if len(set(names)) < len(names):
            raise zipfile.BadZipFile("two records of the same name")
        size = archive.getinfo(pickles[0]).file_size
        if size > MAX_PICKLE_BYTES:
            raise RefusedError(f"a data.pkl of {size:,} bytes, more than {MAX_PICKLE_BYTES:,}")
        check(archive.read(pickles[0]))
        wrong = archive.testzip()  # torch does not look at checksums
        if wrong is not None:
            raise zipfile.BadZipFile(f"the CRC or header of record {wrong} does not fit")
        return {record.file_size for record in records}


def _check_records(records: list[zipfile.ZipInfo], file_bytes: int) -> None:
    """Records are stored as they are, so no file can hold more than its own size."""
    for record in records:
        if record.flag_bits & 1:
            raise RefusedError(f"record {shown(record.filename)}, encrypted")
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise RefusedError(f"record {shown(record.filename)}, compressed, which torch.save never does")
    total = sum(record.file_size for record in records)
    if total > file_bytes:
        raise RefusedError(f"records of {total:,} bytes in a file of {file_bytes:,}")


def _check_ends(path: Path, directory: int) -> None:
    """Ends of a zip file can be written such that torch finds another directory than the one that was checked."""
    with path.open("rb") as file:
        start = file.read(4)
        ends = file.seek(-min(98, path.stat().st_size), os.SEEK_END)
        tail = file.read()
    fits = start == b"PK\x03\x04" and tail[-22:-18] == b"PK\x05\x06" and tail[-2:] == b"\x00\x00"
    (begins,) = struct.unpack("<I", tail[-6:-2])
    if tail[-42:-38] == b"PK\x06\x07":  # a file beyond 4 GB: the numbers are in a larger record before
        (begins,) = struct.unpack("<Q", tail[48:56])
        fits = fits and tail[:4] == b"PK\x06\x06" and struct.unpack("<Q", tail[64:72]) == (ends,)
    if not fits or begins != directory:
        raise zipfile.BadZipFile("its directory is not where torch.save writes it")
