"""Where the samples of an uncompressed file lie, by its header: WAV, RF64, BW64, Wave64, AIFF, AU and CAF."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

OPEN_LENGTH = 0xFFFFFFFF  # written by a stream that did not know its length: everything up to the end of the file
UNKNOWN_LENGTH = 1 << 62  # no file is as long
MOST_CHUNKS = 10_000  # a file of more is damaged: nobody waits until millions of chunks of no bytes are walked
NO_NAME = bytes(4)  # of a chunk: zeros, which go on to the end of the file
W64_HEAD = 24  # a GUID and a length that counts this head
W64_START = 40
WAV_CODECS = {  # ffmpeg's names, by the format's number and the bits of a sample
    (1, 8): "u8", (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (3, 32): "f32le", (3, 64): "f64le",
    (6, 8): "alaw", (7, 8): "mulaw",
}  # fmt: skip
AU_CODECS = {1: "mulaw", 2: "s8", 3: "s16be", 4: "s24be", 5: "s32be", 6: "f32be", 7: "f64be", 27: "alaw"}
AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
Container = Literal["RIFF", "RF64", "W64", "AIFF", "AU", "CAF"]


@dataclass(frozen=True, slots=True)
class Layout:
    """start: byte of the first sample; length: bytes of samples that the header promises, None where it says that it
    does not know; magic: the first four bytes; frame: bytes of one sample of all channels, 1 where it is not known;
    bytes_per_s: 0 where not known; codec: as ffmpeg calls it, '' where it is none of the plain ones. unpadded: where a
    byte is missing behind a chunk of odd length before the samples (RIFF)."""

    container: Container
    magic: bytes
    start: int = 0
    length: int | None = 0
    frame: int = 1
    bytes_per_s: float = 0.0
    rate: int = 0
    channels: int = 0
    codec: str = ""
    unpadded: tuple[int, ...] = ()

    def seconds(self, count: int) -> float:
        """How long so many bytes of samples last; 0 where that is not known."""
        return count / self.bytes_per_s if self.bytes_per_s else 0.0


def read_layout(file: BinaryIO) -> Layout | None:
    """The layout of an open file; None for other formats, and where no samples are named."""
    form = _at(file, 0, W64_START)
    if form[:4] == b"riff" and form[24:28] == b"wave":
        return _wave(file, Layout("W64", form[:4]), w64_chunks(file, W64_START))
    if form[8:12] == b"WAVE" and form[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _wave(file, Layout("RIFF" if form[:4] == b"RIFF" else "RF64", form[:4]), chunks(file, "<", 12))
    if form[:4] == b"FORM" and form[8:11] == b"AIF":
        return _aiff(file, form)
    if form[:4] == b".snd" and len(form) >= 24:
        return _au(form)
    if form[:4] == b"caff":
        return _caf(file, form)
    return None


def chunks(file: BinaryIO, order: str, position: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, length) of the chunks from `position` on. A chunk of odd length is followed by a byte that many
    programs forget: the next one is looked for in both places."""
    for _ in range(MOST_CHUNKS):
        if not (head := _head(file, position, 8)):
            return
        name, length = struct.unpack(f"{order}4sI", head)
        yield name, position + 8, length
        position += 8 + length
        if length % 2 and not (is_name(_at(file, position, 4)) and not is_name(_at(file, position + 1, 4))):
            position += 1


def w64_chunks(file: BinaryIO, position: int) -> Iterator[tuple[bytes, int, int]]:
    """The same for Wave64, whose chunks begin at multiples of 8 bytes."""
    for _ in range(MOST_CHUNKS):
        if not (head := _head(file, position, W64_HEAD)):
            return
        name, length = struct.unpack("<4s12xQ", head)
        yield name, position + W64_HEAD, max(0, length - W64_HEAD)
        if not W64_HEAD <= length < UNKNOWN_LENGTH:
            return
        position += (length + 7) // 8 * 8


def caf_chunks(file: BinaryIO, position: int) -> Iterator[tuple[bytes, int, int]]:
    """The same for CAF; a length of -1 (up to the end) is a very large one here."""
    for _ in range(MOST_CHUNKS):
        if not (head := _head(file, position, 12)):
            return
        name, length = struct.unpack(">4sQ", head)
        yield name, position + 12, length
        if length >= UNKNOWN_LENGTH:
            return
        position += 12 + length


def _head(file: BinaryIO, position: int, size: int) -> bytes:
    """The head of a chunk; b"" at the end of the file, and where there is none but zeros."""
    head = _at(file, position, size)
    return b"" if len(head) < size or head[:4] == NO_NAME else head


def is_name(name: bytes) -> bool:
    """Whether four bytes could be the name of a chunk."""
    return len(name) == 4 and all(32 <= letter < 127 for letter in name)


def _wave(file: BinaryIO, layout: Layout, found: Iterator[tuple[bytes, int, int]]) -> Layout | None:
    """RIFF and its relatives. RF64 has its long length in ds64, which an unfinished file lacks or left at 0."""
    long_length, odd_end = 0, -1
    for name, start, length in found:
        if start - 8 == odd_end:
            layout = replace(layout, unpadded=(*layout.unpadded, odd_end))
        odd_end = start + length if length % 2 and layout.container != "W64" else -1
        if name == b"ds64":
            long_length = struct.unpack("<8xQ", _at(file, start, 16).ljust(16, b"\0"))[0]
        elif name == b"fmt ":
            layout = _with_format(layout, _at(file, start, 40).ljust(40, b"\0"))
        elif name == b"data":
            if layout.container == "RF64" and 0 < long_length < UNKNOWN_LENGTH:
                return replace(layout, start=start, length=long_length)
            open_length = length >= UNKNOWN_LENGTH if layout.container == "W64" else length == OPEN_LENGTH
            return replace(layout, start=start, length=None if open_length else length)
    return None


def _with_format(layout: Layout, text: bytes) -> Layout:
    tag, channels, rate, bytes_per_s, frame, bits = struct.unpack("<HHIIHH", text[:16])
    if tag == 0xFFFE:
        tag = struct.unpack("<H", text[24:26])[0]
    codec = WAV_CODECS.get((tag, 8 * frame // max(1, channels)), "")
    if codec and bits:
        bytes_per_s = rate * frame
    return replace(
        layout, frame=max(1, frame), bytes_per_s=float(bytes_per_s), rate=rate, channels=channels, codec=codec
    )


def _aiff(file: BinaryIO, form: bytes) -> Layout | None:
    layout = Layout("AIFF", form[:4])
    for name, start, length in chunks(file, ">", 12):
        if name == b"COMM":
            layout = _with_common(layout, _at(file, start, 22).ljust(22, b"\0"), form[8:12] == b"AIFC")
        if name == b"SSND":
            skipped = 8 + struct.unpack(">I", _at(file, start, 4).ljust(4, b"\0"))[0]
            return replace(layout, start=start + skipped, length=max(0, length - skipped) if length else None)
    return None


def _with_common(layout: Layout, text: bytes, packed: bool) -> Layout:
    channels, _, bits, exponent, mantissa = struct.unpack(">HIHHQ", text[:18])
    rate = round(mantissa * 2.0 ** min((exponent & 0x7FFF) - 16383 - 63, 0)) if exponent else 0
    wide = (bits + 7) // 8
    plain, kind = f"s{8 * wide}be" if wide > 1 else "s8", text[18:22]
    names = {b"NONE": plain, b"twos": plain, b"sowt": plain.replace("be", "le"), b"raw ": "u8"}
    names |= {b"fl32": "f32be", b"FL32": "f32be", b"fl64": "f64be", b"FL64": "f64be"}
    codec = names.get(kind, "") if packed else plain
    frame = channels * (int(codec[1:3]) // 8 if codec[1:3].isdigit() else 1) if codec else 1
    return replace(
        layout, frame=max(1, frame), bytes_per_s=float(rate * frame) if codec else 0.0, rate=rate, channels=channels,
        codec=codec,
    )  # fmt: skip


def _au(form: bytes) -> Layout:
    start, length, encoding, rate, channels = struct.unpack(">5I", form[4:24])
    frame = AU_BYTES.get(encoding, 0) * channels
    return Layout(
        "AU", form[:4], start, None if length == OPEN_LENGTH else length, max(1, frame), float(rate * frame), rate,
        channels, AU_CODECS.get(encoding, ""),
    )  # fmt: skip


def _caf(file: BinaryIO, form: bytes) -> Layout | None:
    layout = Layout("CAF", form[:4])
    for name, start, length in caf_chunks(file, 8):
        if name == b"desc":
            text = _at(file, start, 32).ljust(32, b"\0")
            rate, kind, flags, packet, _, channels, bits = struct.unpack(">d4s5I", text)
            rate = rate if math.isfinite(rate) else 0.0
            sign, order = "f" if flags & 1 else "s", "le" if flags & 2 else "be"
            codec = (f"{sign}{bits}{order}" if bits > 8 else "s8") if kind == b"lpcm" else ""
            layout = replace(
                layout, frame=max(1, packet), bytes_per_s=rate * packet, rate=round(rate), channels=channels,
                codec=codec,
            )  # fmt: skip
        if name == b"data":  # four bytes before the samples count how often they were edited
            return replace(layout, start=start + 4, length=None if length >= UNKNOWN_LENGTH else max(0, length - 4))
    return None


def _at(file: BinaryIO, position: int, length: int) -> bytes:
    if position >= UNKNOWN_LENGTH:  # lengths that add up to more than a file can be asked for
        return b""
    file.seek(position)
    return file.read(length)
