"""Whether a file is as long as its header says. libsndfile reads what is there and says nothing.

Known are WAV, RF64, Wave64 and AIFF, in which a recorder writes the length first and the samples later. FLAC, OGG and
MP3 are found out while they are decoded.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

OPEN_LENGTH = 0xFFFFFFFF  # written by a stream that did not know its length: everything up to the end of the file
TRAILERS = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"guan", b"wamd", b"cue ")  # also where they are cut short
W64_HEAD = 24  # a GUID and a length that counts this head
REPAIR = "repair its header (for example: sox --ignore-length IN OUT)"


def length_problem(path: Path) -> str | None:
    """What is wrong with the length that a header states, one line without the file's name; None if nothing.

    Raises `OSError` for what cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        form = file.read(40)
        found = _samples_chunk(file, form)
        if found is None:
            return None
        start, length = found
        if length == OPEN_LENGTH:
            return None
        if start + length > size:
            return f"is truncated: {size} of {start + length} bytes are there"
        if form[:4] == b"RIFF" and (more := _bytes_after(file, start + length, size)):
            return f"has a wrong header: it promises {length} bytes of samples, {more} more follow; {REPAIR}"
    return None


def _samples_chunk(file: BinaryIO, form: bytes) -> tuple[int, int] | None:
    """Where the samples start and how many bytes they are, by the header; None where it does not say."""
    if form[:4] == b"riff" and form[24:28] == b"wave":
        file.seek(40)
        return next((found for name, *found in _w64_chunks(file) if name == b"data"), None)  # type: ignore[return-value]
    if form[8:12] == b"WAVE" and form[:4] in (b"RIFF", b"RF64", b"BW64"):
        long_length = None
        for name, start, length in _chunks(file, "<"):
            if name == b"ds64":
                long_length = struct.unpack("<8xQ", file.read(16))[0]
            if name == b"data":
                return start, long_length if length == OPEN_LENGTH and long_length else length
    if form[:4] == b"FORM" and form[8:11] == b"AIF":
        return next(((start, length) for name, start, length in _chunks(file, ">") if name == b"SSND"), None)
    return None


def _chunks(file: BinaryIO, order: str, position: int = 12) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, length) of the chunks from `position` on; the file stands at the start of each."""
    while len(head := _at(file, position, 8)) == 8:
        name, length = struct.unpack(f"{order}4sI", head)
        yield name, position + 8, length
        position += 8 + length + length % 2


def _w64_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    position = 40
    while len(head := _at(file, position, W64_HEAD)) == W64_HEAD:
        name, length = struct.unpack("<4s12xQ", head)
        if length < W64_HEAD:
            return
        yield name, position + W64_HEAD, length - W64_HEAD
        position += (length + 7) // 8 * 8


def _bytes_after(file: BinaryIO, end: int, size: int) -> int:
    """Bytes after the samples that are no chunks: a header left at 0, or a length that went round at 4 GB."""
    for name, start, length in _chunks(file, "<", end + end % 2):
        if not any(name):  # padding
            break
        fits = start + length <= size + 1 and all(32 <= letter < 127 for letter in name)
        if size - end >= 1 << 31 or not (fits or name in TRAILERS):
            return size - end
    return 0


def _at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)
