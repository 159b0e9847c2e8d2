"""Who runs a stage: one process at a time, the others wait for it.

Contract. `WORK/locks/STAGE-FINGERPRINT.lock` is locked (flock) by the process that runs the stage; the system takes
the lock from a process that dies, so none is left behind. The file says who holds it (host:pid); whoever has the lock
removes the file before letting go, and who gets a lock on a removed file tries again. Where the file system knows no
locks nothing is claimed: the tracking store's own check (`Store.begin`) is what remains.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 1.0
BUSY = (errno.EWOULDBLOCK, errno.EACCES)
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def claimed(path: Path, waiting: Callable[[str], None], poll_s: float = POLL_S) -> Iterator[None]:
    """Hold the lock at `path` while the block runs. waiting(holder) is called once, if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = False
    while (handle := _try(path)) is None:
        if not told:
            waiting(_holder(path))
            told = True
        time.sleep(poll_s)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _try(path: Path) -> int | None:
    """An open handle with the lock, or None where another process has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return handle
        os.close(handle)
        if error.errno in BUSY:
            return None
        raise
    if not _is_in_place(handle, path):
        os.close(handle)
        return None
    os.ftruncate(handle, 0)
    os.write(handle, f"{socket.gethostname()}:{os.getpid()}".encode())
    return handle


def _is_in_place(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "another"
    except OSError:
        return "another"
