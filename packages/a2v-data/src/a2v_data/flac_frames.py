"""The length of a FLAC: its last frame says where it begins, so that the header need not be believed.

Some recorders write twice the length (Frontier Labs), and a pipe writes none; libsndfile then refuses the file, or
stops at a length that is too short. Where the last frame is whole, libsndfile is given the length that it ends at.
Format: RFC 9639, sections 8.2 and 9.1.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from a2v_data.headers import LengthFound
from a2v_data.spliced import Part

STREAM = b"fLaC"
NEXT_STREAMS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")  # a second header in the same file
INFO_BYTES = 34
LONGEST_FRAME = 1 << 20  # looked at from the end where the header does not say how long frames are; else at most twice
TRIED = 40
MOST_CHECKED = 1 << 22  # bytes whose checksum is made, of all that look like frames: a third of a second
CRC8 = [0] * 256
CRC16 = [0] * 256
for _byte in range(256):
    _small, _large = _byte, _byte << 8
    for _ in range(8):
        _small = (_small << 1 ^ (0x07 if _small & 0x80 else 0)) & 0xFF
        _large = (_large << 1 ^ (0x8005 if _large & 0x8000 else 0)) & 0xFFFF
    CRC8[_byte], CRC16[_byte] = _small, _large


@dataclass(frozen=True, slots=True)
class _Info:
    """STREAMINFO: samples in a frame (least, most), bytes of the longest frame (0: not said), Hz, samples (0: not)."""

    least: int
    most: int
    longest: int
    rate: int
    samples: int


def flac_length(path: Path, start: int) -> LengthFound:
    """How long a FLAC is whose stream begins at byte `start`. Raises `OSError`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        text, size = data[start + 8 : start + 8 + INFO_BYTES], len(data)
        if len(text) < INFO_BYTES:
            return LengthFound()
        info = _stream_info(text)
        counted = _counted(data, info, start + 8 + INFO_BYTES)
        if counted is None or counted == info.samples:
            return LengthFound()
        if line := _joined(data, start, info.rate):
            return LengthFound(line)
    right = text[:13] + bytes([text[13] & 0xF0 | counted >> 32]) + struct.pack(">I", counted & 0xFFFFFFFF) + bytes(16)
    parts: tuple[Part, ...] = ((0, start + 8), right, (start + 8 + INFO_BYTES, size))
    said = f"promises {info.samples} samples" if info.samples else "does not say how long it is"
    seconds = f" ({info.samples / info.rate:.2f} s)" if info.samples else ""
    notice = f"{said}{seconds}, {counted} ({counted / info.rate:.2f} s) are there: all of them are read"
    return LengthFound(None, notice, parts, counted)


def another_stream(path: Path) -> str | None:
    """What is said of a file of which only the first FLAC was read; the whole file is looked at."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(STREAM)
        return _joined(data, start, 0) if start >= 0 else None


def _joined(data: mmap.mmap, start: int, rate: int) -> str | None:
    ends = [at for mark in NEXT_STREAMS if (at := data.find(mark, start + 4)) >= 0]
    if not ends:
        return None
    return (
        f"holds several FLACs one behind the other, of which only the first {min(ends)} bytes would be read; part it: "
        f"head -c {min(ends)} IN > FIRST.flac; tail -c +{min(ends) + 1} IN > SECOND.flac"
    )


def _stream_info(text: bytes) -> _Info:
    least, most = struct.unpack(">HH", text[:4])
    numbers = int.from_bytes(text[10:18], "big")
    return _Info(least, most, int.from_bytes(text[7:10], "big"), max(1, numbers >> 44), numbers & (1 << 36) - 1)


def _counted(data: mmap.mmap, info: _Info, first: int) -> int | None:
    """Samples up to the end of the last frame: where it ends at the promised length, or is whole. Else None."""
    size = len(data)
    ends = _ends(data, size)
    longest = min(max(info.longest, 1 << 16), 2 * LONGEST_FRAME) if info.longest else LONGEST_FRAME
    lowest = max(first, size - longest - (1 << 13))
    position, tried, checked = size, 0, 0
    while checked < MOST_CHECKED and tried < TRIED and (position := data.rfind(b"\xff", lowest, position)) >= 0:
        if data[position + 1 : position + 2] not in (b"\xf8", b"\xf9"):
            continue
        end = _frame_end(data[position : position + 16], info)
        if end is None:
            continue
        if end == info.samples:
            return end
        tried += 1
        checked += (size - position) * len(ends)
        if any(_crc16(data[position : at - 2]) == int.from_bytes(data[at - 2 : at], "big") for at in ends):
            return end
    return None


def _ends(data: mmap.mmap, size: int) -> list[int]:
    """Where the last frame may end: before a tag, or before zeros, which may be its own."""
    ends = [size]
    if data[size - 128 : size - 125] == b"TAG":
        ends.append(size - 128)
    tail = data[max(0, size - (1 << 16)) : size]
    zeros = len(tail) - len(tail.rstrip(b"\0"))
    return ends + [size - zeros + kept for kept in range(3) if kept < zeros]


def _frame_end(head: bytes, info: _Info) -> int | None:
    """The number of the sample behind the frame that begins with `head`; None where no frame does."""
    if len(head) < 6 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] >> 4 > 10:
        return None
    ones = next((bit for bit in range(8) if not head[4] << bit & 0x80), 8)
    if ones in (1, 8):
        return None
    number, at = head[4] & (0x7F >> ones), 5
    for byte in head[5 : 5 + max(0, ones - 1)]:
        if byte >> 6 != 2:
            return None
        number, at = number << 6 | byte & 0x3F, at + 1
    code = head[2] >> 4
    if code in (6, 7):
        block = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    else:
        block = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    crc = 0
    for byte in head[:at]:
        crc = CRC8[crc ^ byte]
    if at >= len(head) or crc != head[at]:
        return None
    return (number if head[1] & 1 else number * info.most) + block


def _crc16(text: bytes) -> int:
    crc = 0
    for byte in text:
        crc = (crc << 8 ^ CRC16[crc >> 8 ^ byte]) & 0xFFFF
    return crc
