"""A large file over a network that breaks: goes on where it was, and is checked before anyone reads it."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError

from ..basics.errors import FAILED, INTERRUPTED, UserError, disk_full, naming_full_disk
from .dataverse import NETWORK, FetchError, RemoteFile, opened, why

BLOCK_BYTES = 1 << 20
WAITS_S = (2.0, 10.0, 30.0)  # before the next try, after so many without a new byte
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP codes that pass
DIGESTS = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}  # as Dataverse names them
Moved = Callable[[int, int], None]


def download(remote: RemoteFile, part: Path, moved: Moved) -> None:
    """Bring the file `part` to all bytes of `remote`, from those that it has already.

    moved(done, total) is called with bytes. A connection that breaks is tried again while that brings new bytes. Raises
    FetchError, and UserError where the disk has no room (before anything is written), where another process is writing
    the same file, and on Ctrl-C.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    with _locked(part) as file:
        have = furthest = _bytes(file)
        if have > remote.size:
            file.truncate(have := 0)
        _check_room(part, remote.size - have)
        tries = 0
        try:
            while have < remote.size:
                problem, passes = _transfer(remote, part, file, moved)
                have = _bytes(file)
                if have >= remote.size:
                    break
                tries, furthest = (0, have) if have > furthest else (tries + 1, furthest)
                if not passes or tries > len(WAITS_S):
                    kept = f"; {have / 1e6:.1f} of {remote.size / 1e6:.1f} MB are here, the same command goes on"
                    raise FetchError(f"{remote.url}: {problem}{kept if have else ''}")
                time.sleep(WAITS_S[max(tries - 1, 0)])
        except KeyboardInterrupt:
            have = _bytes(file)
            raise UserError(
                f"stopped: {have / 1e6:.1f} of {remote.size / 1e6:.1f} MB are in {part}; the same command goes on",
                INTERRUPTED,
            ) from None


def _transfer(remote: RemoteFile, part: Path, file: BinaryIO, moved: Moved) -> tuple[str, bool]:
    """One connection. What ended it too early, if anything, and whether that can pass."""
    have = _bytes(file)
    try:
        answer = opened(remote.url, have)
    except HTTPError as error:
        if error.code == 416:  # it has fewer bytes than are here: another file
            file.truncate(0)
            return "has another file than the one that was begun; it was begun anew", True
        return why(error), error.code in BUSY
    except NETWORK as error:
        return why(error), True
    with answer:
        if have and not _goes_on(answer.status, answer.headers, have):
            file.truncate(have := 0)
        try:
            for block in _received(answer):
                have += len(block)
                if have > remote.size:
                    file.truncate(0)
                    return f"sends more than the {remote.size:,} bytes that the dataset says", False
                with naming_full_disk(part):
                    _write(file, block)
                moved(have, remote.size)
        except FetchError as error:
            return str(error), True
    return "the connection ended too early", True


def _received(answer: HTTPResponse) -> Iterator[bytes]:
    try:
        while block := answer.read(BLOCK_BYTES):
            yield block
    except NETWORK as error:
        raise FetchError(why(error)) from None


def _goes_on(status: int, headers: Message, start: int) -> bool:
    """Whether an answer begins at byte `start`: a server may send everything instead."""
    return status == 206 and (headers.get("Content-Range") or "").startswith(f"bytes {start}-")


def digests(path: Path, kinds: set[str], moved: Moved) -> dict[str, str]:
    """Hex digests of a file by hashlib's names, all in one pass."""
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            for made in hashes.values():
                made.update(block)
            done += len(block)
            moved(done, size)
    return {kind: made.hexdigest() for kind, made in hashes.items()}


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """The file for appending, unbuffered: what was received is there, however the process ends."""
    with part.open("ab", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{part}: another process is downloading it; wait for it", FAILED) from None
        yield file


def _write(file: BinaryIO, block: bytes) -> None:
    rest = memoryview(block)
    while rest:  # an unbuffered file may take less than it is given
        rest = rest[file.write(rest) :]


def _bytes(file: BinaryIO) -> int:
    return file.seek(0, 2)


def _check_room(part: Path, needed: int) -> None:
    if shutil.disk_usage(part.parent).free < needed:
        raise disk_full(part, needed)
