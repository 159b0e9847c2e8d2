"""The length of an MP3, counted: what its index or its bit rate promises is not believed.

libsndfile stops at the length that the index of the first frame (Xing, Info) promises, or that follows from the first
frame's bit rate; both can be far too short: variable bit rate without an index, files that were put one behind the
other, streams. So the frames are walked, tags between them are passed over, and where their number is not the promised
one libsndfile is given the frames behind an index that is right (ISO 11172-3, 2.4.1.3; the index as LAME writes it).
"""

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from a2v_data.headers import LONGEST_TAIL_S, LengthFound
from a2v_data.spliced import Part

DECODER_DELAY = 529  # samples that mpg123 takes off the start of what has an index, besides the encoder's delay
CONVERT = "ffmpeg -i IN OUT.wav"
LEAST_FRAMES = 3
MOST_TRIED = 100_000  # places between frames that look like one or like a tag: in more there is no sound to be found
KBITS = {  # by MPEG 1 or not, and layer
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MOST_TAGS = 10_000
MARKS = (b"Xing", b"Info")
STARTS = (b"\xff", b"ID3", b"APETAGEX")
RATES = (44100, 48000, 32000)


@dataclass(frozen=True, slots=True)
class Kind:
    """What all frames of a file share: version (1, 2 or 2.5), layer, rate in Hz, channels."""

    version: float
    layer: int
    rate: int
    channels: int

    @property
    def samples(self) -> int:
        """Of each channel, in a frame."""
        return 384 if self.layer == 1 else 576 if self.layer == 3 and self.version > 1 else 1152

    @property
    def side_bytes(self) -> int:
        """Between a frame's head and its main data (layer III)."""
        return (32 if self.channels == 2 else 17) if self.version == 1 else (17 if self.channels == 2 else 9)

    def __str__(self) -> str:
        return f"{self.rate} Hz, {self.channels} channel{'s' if self.channels > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Index:
    """What the first frame says of the others: frames, bytes with itself (None: not said), samples that the encoder
    put before and behind the sound (None: not said)."""

    frames: int | None
    bytes: int | None
    delay: int | None
    padding: int | None

    def samples(self, frames: int | None, kind: Kind) -> int | None:
        """What mpg123 makes of so many frames: its own delay is taken off the start and off the padding."""
        if frames is None:
            return None
        taken = (self.delay or 0) + DECODER_DELAY + max(0, (self.padding or 0) - DECODER_DELAY)
        return max(0, frames * kind.samples - taken)


@dataclass
class Walked:
    """The frames of a file. runs: where they lie without a gap, without the indices; changed: of which kind, and at
    which sample, the first frame is that is of another kind, where the walk ends. ahead: see `_next`. tried: places
    between frames that were looked at; after MOST_TRIED the walk ends."""

    kind: Kind | None = None
    frames: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)
    indices: list[Index] = field(default_factory=list)
    changed: tuple[Kind, int] | None = None
    ahead: dict[bytes, int] = field(default_factory=dict)
    bytes: int = 0
    gaps: int = 0
    tried: int = 0

    def add(self, start: int, stop: int) -> None:
        """A frame of sound."""
        self.frames += 1
        if self.runs and self.runs[-1][1] == start:
            self.runs[-1] = (self.runs[-1][0], stop)
        else:
            self.runs.append((start, stop))


@lru_cache(maxsize=4096)
def frame_head(head: bytes) -> tuple[int, Kind] | None:
    """Bytes and kind of the frame that begins with these four bytes; None where none does (or its length is free)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version = {0: 2.5, 2: 2.0, 3: 1.0}.get(head[1] >> 3 & 3)
    layer, kbits, rate = 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version is None or layer == 4 or not 0 < kbits < 15 or rate == 3:
        return None
    kind = Kind(version, layer, RATES[rate] // {1.0: 1, 2.0: 2, 2.5: 4}[version], 1 if head[3] >> 6 == 3 else 2)
    bits = KBITS[version == 1, layer][kbits - 1] * 1000
    pad = head[2] >> 1 & 1
    length = (12 * bits // kind.rate + pad) * 4 if layer == 1 else kind.samples // 8 * bits // kind.rate + pad
    return length, kind


def after_id3(data: bytes | mmap.mmap, position: int = 0) -> int:
    """Where what follows an ID3v2 tag at `position` begins."""
    if data[position : position + 3] == b"ID3" and len(data) >= position + 10:
        length = 0
        for byte in data[position + 6 : position + 10]:
            length = length << 7 | byte & 0x7F
        position += 10 + length + (10 if data[position + 5] & 0x10 else 0)
    return position


def walk(data: bytes | mmap.mmap) -> Walked:
    """All frames of an MP3, whatever lies before, between and behind them, up to one of another kind."""
    found, position, end, size, marked = Walked(), 0, 0, len(data), 0
    while position + 4 <= size and found.changed is None:
        head = frame_head(data[position : position + 4])
        if head is None or (found.kind is not None and head[1] != found.kind):
            position = _resync(data, position, found)
            continue
        length, kind = head
        if position + length > size:
            break
        if found.kind is None:
            if not _followed(data, position, 2):
                position = _resync(data, position, found)
                continue
            found.kind, marked = kind, 4 + kind.side_bytes
        mark = position + marked
        index = _index(data, position, length, kind) if data[mark : mark + 4] in MARKS else None
        if position != end:
            found.gaps += position - end if found.bytes else 0
        found.bytes += length
        if index is None:
            found.add(position, position + length)
        else:
            found.indices.append(index)
        position = end = position + length
    return found


def _resync(data: bytes | mmap.mmap, position: int, found: Walked) -> int:
    """Where the next frame begins, of the kind of those before where there are any; notes one of another kind."""
    size = len(data)
    while position + 4 <= size and found.tried < MOST_TRIED:
        found.tried += 1
        if (following := after_id3(data, position)) > position:
            found.tried += MOST_TRIED // MOST_TAGS
            position = following
            continue
        if data[position : position + 8] == b"APETAGEX":
            position += 32 + struct.unpack("<I", data[position + 12 : position + 16])[0] if position + 16 <= size else 8
        head = frame_head(data[position : position + 4])
        if head is not None and _followed(data, position, 2):
            if found.kind is None or head[1] == found.kind:
                return position
            if found.changed is None and _followed(data, position, 8):
                found.changed = (head[1], found.frames * found.kind.samples)
                break
        position = _next(data, position + 1, found.ahead)
    return size


def _next(data: bytes | mmap.mmap, position: int, ahead: dict[bytes, int]) -> int:
    """Where something from `position` on may begin. ahead: where each of them is found next, so that a file of many
    tags is not searched to its end for every one of them."""
    for mark in STARTS:
        if ahead.get(mark, -1) < position:
            at = data.find(mark, position)
            ahead[mark] = len(data) if at < 0 else at
    return min(ahead.values())


def _followed(data: bytes | mmap.mmap, position: int, count: int) -> bool:
    """Whether `count` frames of one kind follow each other here, or all up to the end or to a tag."""
    first = frame_head(data[position : position + 4])
    for _ in range(count):
        if first is None or (head := frame_head(data[position : position + 4])) is None or head[1] != first[1]:
            return False
        position += head[0]
        if position >= len(data) or data[position : position + 3] in (b"TAG", b"ID3", b"APE"):
            return True
    head = frame_head(data[position : position + 4])
    return head is not None and first is not None and head[1] == first[1]


def _index(data: bytes | mmap.mmap, position: int, length: int, kind: Kind) -> Index | None:
    """The index in a frame that has the mark of one; None for a frame of sound."""
    if kind.layer != 3:
        return None
    at = position + 4 + kind.side_bytes
    if length < 4 + kind.side_bytes + 8:
        return None
    text = data[at : position + length]
    flags, at = struct.unpack(">I", text[4:8])[0], 8
    numbers: list[int | None] = []
    for flag, size in ((1, 4), (2, 4), (4, 100), (8, 4)):
        numbers.append(struct.unpack(">I", text[at : at + 4])[0] if flags & flag and len(text) >= at + 4 else None)
        at += size if flags & flag else 0
    encoder = text[at : at + 24]
    if len(encoder) < 24 or not encoder[0]:
        return Index(numbers[0], numbers[1], None, None)
    gap = int.from_bytes(encoder[21:24], "big")
    return Index(numbers[0], numbers[1], gap >> 12, gap & 0xFFF)


def mp3_length(path: Path, estimated: Callable[[], int | None]) -> LengthFound:
    """How long an MP3 is. estimated: gives the samples that libsndfile takes it for, None where it does not know the
    file; asked where there is no index.

    A file without frames has no findings. Raises `OSError`.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = walk(data)
    if found.tried >= MOST_TRIED:  # nor is it given to mpg123, which writes a line for every tag
        return LengthFound(f"is no MP3, or much of it is no sound; keep what can be read of it: {CONVERT}")
    if found.kind is None or found.frames < LEAST_FRAMES:
        return LengthFound()
    kind = found.kind
    if found.changed is not None:
        other, sample = found.changed
        return LengthFound(
            f"changes from {kind} to {other} after {sample / kind.rate:.1f} s (files that were joined); "
            f"make one of them: {CONVERT}"
        )
    index = found.indices[0] if found.indices else None
    promised = estimated() if index is None else index.samples(index.frames, kind)
    if index is not None and index.frames == found.frames and len(found.indices) == len(found.runs) == 1:
        return LengthFound()
    if len(found.indices) == 1 and (missing := _missing(found, found.indices[0], kind)):
        return LengthFound(missing)
    if kind.layer != 3:
        return _of_other_layers(found, kind, promised)
    samples, parts = _with_index(found, kind, index)
    notices = []
    if promised is None or abs(promised - samples) > kind.samples:
        notices.append(f"{_promise(promised, kind)}, {samples / kind.rate:.2f} s were counted and are read")
    if found.gaps:
        notices.append(f"{found.gaps} bytes between its frames are no sound and are passed over")
    return LengthFound(None, "; ".join(notices) or None, parts, samples)


def _missing(found: Walked, index: Index, kind: Kind) -> str | None:
    """What is said of a file that holds fewer frames and fewer bytes than its index says: it was cut."""
    if index.frames is None or index.bytes is None or index.bytes <= found.bytes:
        return None
    missing_s = (index.frames - found.frames) * kind.samples / kind.rate
    if missing_s < LONGEST_TAIL_S:
        return None
    there_s = found.frames * kind.samples / kind.rate
    return (
        f"is truncated: {there_s:.1f} of {there_s + missing_s:.1f} s are there; copy it again, or keep what is there: "
        f"{CONVERT}"
    )


def _of_other_layers(found: Walked, kind: Kind, promised: int | None) -> LengthFound:
    """Layers I and II have no index that could be put in front; libsndfile stops where it takes the end to be."""
    counted = found.frames * kind.samples
    said = f"{_promise(promised, kind)}, {counted / kind.rate:.2f} s "
    if promised is not None and promised >= counted:
        return LengthFound(
            None, f"{said}were counted and are read" if promised - counted > kind.samples else None, (), counted
        )
    return LengthFound(f"{said}are there (MPEG layer {kind.layer}); convert it: {CONVERT}")


def _promise(promised: int | None, kind: Kind) -> str:
    return "does not say how long it is" if promised is None else f"promises {promised / kind.rate:.2f} s"


def _with_index(found: Walked, kind: Kind, index: Index | None) -> tuple[int, tuple[Part, ...]]:
    """How many samples there are, and the frames behind an index that is right. Without an index libsndfile takes
    nothing off the start; so a silent frame is put there, of which all is taken off."""
    if index is None:
        right = Index(found.frames + 1, None, kind.samples - DECODER_DELAY, 0)
        silent: tuple[Part, ...] = (_frame(kind, b""),)
    else:
        right, silent = Index(found.frames, None, index.delay, found.indices[-1].padding), ()
    text = b"Info" + struct.pack(">II", 1, right.frames)
    if right.delay is not None:
        text += b"LAME3.100" + bytes(12) + (right.delay << 12 | (right.padding or 0)).to_bytes(3, "big")
    samples = right.samples(right.frames, kind)
    assert samples is not None
    return samples, (_frame(kind, text.ljust(48, b"\0")), *silent, *found.runs)


def _frame(kind: Kind, text: bytes) -> bytes:
    """The shortest frame that holds `text` as its main data; its other bytes are 0, which is silence."""
    version = {1.0: 3, 2.0: 2, 2.5: 0}[kind.version]
    rate = RATES.index(kind.rate * {1.0: 1, 2.0: 2, 2.5: 4}[kind.version])
    for kbits in range(1, 15):
        head = bytes(
            [0xFF, 0xE0 | version << 3 | 1 << 1 | 1, kbits << 4 | rate << 2, 0 if kind.channels == 2 else 0xC0]
        )
        found = frame_head(head)
        if found is not None and found[0] >= 4 + kind.side_bytes + len(text):
            return (head + bytes(kind.side_bytes) + text).ljust(found[0], b"\0")
    raise ValueError(f"no frame of {kind} holds {len(text)} bytes")
