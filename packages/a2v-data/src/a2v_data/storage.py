"""Files and folders that are complete or invisible.

Contract of `written_aside`: the new folder is built beside its destination under a hidden name
(`.NAME.partial-PID-RANDOM`) and renamed when everything is in it. A failure or Ctrl-C removes what was built;
a killed process leaves only that hidden folder, which nothing reads. The next one that writes NAME removes it: whoever
builds a folder holds a lock on it (`flock`), which ends with the process, so one that can be locked is of nobody.
"""

import errno
import fcntl
import hashlib
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

BLOCK_BYTES = 1 << 22
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # on the disk, in a quota, under a limit on files


def refuse_existing(out: Path) -> None:
    """`ValueError` where `out` already holds something that writing would replace."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out}: exists already; name a new folder or remove this one first")


@contextmanager
def written_aside(out: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes `out` at the end of the block, whole or not at all.

    Raises `ValueError` where `out` exists and is not an empty folder. `OSError` of a full disk names `out`.
    """
    refuse_existing(out)
    _remove_left(out)
    aside, lock = _new_aside(out)
    try:
        yield aside
        os.replace(aside, out)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), str(out)) from error
        raise
    finally:
        os.close(lock)


def _new_aside(out: Path) -> tuple[Path, int]:
    """A hidden folder beside `out`, and a descriptor of it that holds the lock for as long as it is open."""
    while True:
        aside = out.parent / f".{out.name}.partial-{os.getpid()}-{secrets.token_hex(4)}"
        aside.mkdir(parents=True)
        try:
            lock = os.open(aside, os.O_RDONLY)
        except FileNotFoundError:  # another call took it for one that was left, in the moment before it was locked
            continue
        with suppress(OSError):  # a file system without locks, on which none is removed either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if aside.is_dir():
            return aside, lock
        os.close(lock)


def _remove_left(out: Path) -> None:
    """Remove what killed processes left of `out`, and nothing that one that runs is building."""
    name = re.compile(rf"\.{re.escape(out.name)}\.partial-\d+-[0-9a-f]{{8}}")
    for left in list(out.parent.iterdir()) if out.parent.is_dir() else ():
        if not name.fullmatch(left.name) or left.is_symlink() or not left.is_dir():
            continue
        try:
            lock = os.open(left, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except OSError:  # it is being built
            pass
        finally:
            os.close(lock)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A hidden path beside the file `path` to write to: it takes its place at the end of the block, or is removed, so
    that a reader sees the old content or the new, never half of it. The folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text_aside(path: Path, text: str) -> None:
    """Write one UTF-8 file, as `replaced`; what a file's name holds that is no text becomes an escape, `\\udcff`, which
    in JSON means the same."""
    with replaced(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_array_aside(path: Path, values: np.ndarray) -> None:
    """Write one .npy file, as `replaced`; it is on the disk when this returns."""
    with replaced(path) as aside, aside.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def rows_aside(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that writes the next rows of one .npy file, as `replaced`; together they have this shape.

    They are written plainly: where a disk fills up, that raises `OSError`, while a file that is mapped into memory ends
    the process with a bus error.
    """
    kind = np.dtype(dtype)
    with replaced(path) as aside, aside.open("wb") as file:
        head = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, head)
        end = file.tell() + math.prod(shape) * kind.itemsize

        def write(rows: np.ndarray) -> None:
            file.write(np.ascontiguousarray(rows, kind).data)

        yield write
        assert file.tell() == end, f"{path}: {file.tell()} of {end} bytes were written"


def check_regular(path: Path) -> None:
    """`OSError` for a pipe, a socket or a device, which to read would wait for ever or never end. A folder, and what is
    not there, are left to who opens it."""
    if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "is a pipe or a device, no file", str(path))


def file_digest(path: Path) -> str:
    """Hex BLAKE2b-256 of a file's content."""
    digest = hashlib.blake2b(digest_size=32)
    check_regular(path)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def require_free_space(folder: Path, needed_bytes: int) -> None:
    """`ValueError` where the disk that will hold `folder` has less than `needed_bytes` free."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise ValueError(
            f"{folder}: needs {needed_bytes / 1e9:.2f} GB but {free / 1e9:.2f} GB are free; "
            "free some space, choose another disk, or lower the sample rate"
        )
