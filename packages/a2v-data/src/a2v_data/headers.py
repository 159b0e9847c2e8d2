"""Whether a file is as long as its header says. libsndfile reads what the header promises, and says nothing.

WAV, RF64, BW64, Wave64, AIFF, AU and CAF are looked at here: a recorder writes their length first and the samples
later, and some never do. MP3 (`mp3_frames.py`), FLAC (`flac_frames.py`) and OGG (`ogg_pages.py`) are counted there.

A file that promises a little too much (Frontier Labs' 44 bytes), or after whose samples other things follow, is read to
its end with a notice. One that promises a part of what is there, or much more, is a problem whose line names a repair.
"""

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from pathlib import Path
from typing import BinaryIO

from a2v_data.layouts import OPEN_LENGTH, Layout, caf_chunks, chunks, is_name, read_layout, w64_chunks
from a2v_data.spliced import Part

TRAILERS = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"guan", b"wamd", b"cue ")  # also where they are cut short
SOUNDS = (b"RIFF", b"RF64", b"BW64", b"FORM", b"data", b"SSND", b"riff", b"caff", b".snd")  # more samples follow
PADDING_BYTES = 4096  # so many zeros behind the samples are no samples
LONGEST_TAIL_S = 0.1
LARGE = 1 << 31
STREAMED = ((0x7FFFE000, 0x80000000), (0xFFFFE000, OPEN_LENGTH))  # lengths that programs write before they know it
RECENT_S = 600


@dataclass(frozen=True, slots=True)
class LengthFound:
    """problem: why the file cannot be used as it is; notice: what is odd about it though all of it is read; one line
    each, without the file's name. parts: what libsndfile must be given in the file's stead, if anything. samples: the
    samples per channel that were counted, None where the header is right."""

    problem: str | None = None
    notice: str | None = None
    parts: tuple[Part, ...] = ()
    samples: int | None = None


def header_length(path: Path) -> LengthFound:
    """What is wrong with the length that an uncompressed file's header states. Raises `OSError`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        layout = read_layout(file)
        if layout is None:
            return LengthFound()
        there = max(0, size - layout.start)
        if layout.length is None or _streamed(layout.length, there):
            return _open_ended(file, layout, there)
        if layout.length > there:
            return _too_much(path, layout, size)
        found = _too_little(file, layout, size)
        return found if found.problem else replace(found, parts=_understood(layout, there, size))


def _streamed(length: int, there: int) -> bool:
    return length > there and any(low <= length <= high for low, high in STREAMED)


def _open_ended(file: BinaryIO, layout: Layout, there: int) -> LengthFound:
    """Samples up to the end of the file."""
    notice = f"does not say how long it is; all that is there is read: {_amount(layout, there)}"
    if layout.container == "RF64" or (layout.container == "RIFF" and there > OPEN_LENGTH):
        return LengthFound(None, notice, _as_rf64(file, layout, there))
    silent = layout.length is None and layout.container != "CAF"  # a stream's usual length, which nobody wonders at
    return LengthFound(None, None if silent else notice, _understood(layout, there, layout.start + there))


def _as_rf64(file: BinaryIO, layout: Layout, there: int) -> tuple[Part, ...]:
    """The file with the head that its recorder would have written at the end: libsndfile goes by ds64."""
    there -= there % layout.frame
    lengths = struct.pack("<QQQI", layout.start + there + 28, there, there // layout.frame, 0)
    kept: list[Part] = [
        (start - 8, start + length + length % 2)
        for name, start, length in takewhile(lambda one: one[1] < layout.start, chunks(file, "<", 12))
        if name not in (b"ds64", b"data")
    ]
    head = b"RF64" + struct.pack("<I", OPEN_LENGTH) + b"WAVEds64" + struct.pack("<I", len(lengths)) + lengths
    return (head, *kept, b"data" + struct.pack("<I", OPEN_LENGTH), (layout.start, layout.start + there))


def _too_much(path: Path, layout: Layout, size: int) -> LengthFound:
    """A promise that the file does not keep: cut short, or the header counted itself (Frontier Labs, Android)."""
    assert layout.length is not None
    there = max(0, size - layout.start)
    missing = layout.length - there
    if there and (missing <= layout.start or missing < layout.frame):
        notice = f"promises {layout.length} bytes of samples, {there} are there: all of them are read"
        return LengthFound(None, notice, _understood(layout, there, size))
    line = f"is truncated: {size} of {layout.start + layout.length} bytes are there"
    if not there:
        return LengthFound(f"{line}, and no samples; copy or record it again{_recent(path)}")
    if seconds := layout.seconds(layout.length):
        line += f" ({_clock(layout.seconds(there))} of {_clock(seconds)})"
    return LengthFound(f"{line}; copy it again, or keep what is there: {repair(layout, there)}{_recent(path)}")


def _understood(layout: Layout, there: int, size: int) -> tuple[Part, ...]:
    """The file as libsndfile takes it: it refuses a CAF whose samples pass its end or have no length, and a WAV with a
    chunk of odd length before its samples that is not padded, and does not know that BW64 is RF64."""
    if layout.magic == b"BW64":
        return (b"RF64", (4, size))
    if layout.unpadded:
        ends = (0, *layout.unpadded, size)
        stretches = [(begin, end) for begin, end in pairwise(ends)]
        return tuple(part for stretch in stretches for part in (stretch, b"\0"))[:-1]
    if layout.container == "CAF" and (layout.length is None or layout.length > there):
        return ((0, layout.start - 12), struct.pack(">Q", there + 4), (layout.start - 4, layout.start + there))
    return ()


def _recent(path: Path) -> str:
    """What tells a file that is being written from one that was cut."""
    if time.time() - path.stat().st_mtime > RECENT_S:
        return ""
    return "; it changed in the last ten minutes: if it is still being recorded or copied, wait for its end"


def _too_little(file: BinaryIO, layout: Layout, size: int) -> LengthFound:
    """What follows the samples: nothing, other chunks, a tail that is none, or more samples."""
    assert layout.length is not None
    end = layout.start + layout.length
    left = [_unexplained(file, layout, begin, size) for begin in _next_chunks(layout, end)]
    rest = min(left)
    if not rest:
        odd = f"{size - end} bytes of metadata follow its samples without a byte to pad them: all samples are read"
        return LengthFound(None, odd if left[0] else None)
    behind, way = size - end, repair(layout, size - layout.start)
    if layout.length and rest < LARGE:
        short = rest < layout.frame or (rest <= layout.length and 0 < layout.seconds(rest) < LONGEST_TAIL_S)
        if short or (rest <= PADDING_BYTES and not any(_last(file, size, rest))):
            notice = (
                f"promises {layout.length} bytes of samples, all of them are read; {rest} bytes behind them are not"
            )
            return LengthFound(None, notice)
    return LengthFound(
        f"has a wrong header: it promises {layout.length} bytes of samples{_time(layout, layout.length)}, "
        f"{behind} more follow{_time(layout, behind)}; repair its header (for example: {way})"
    )


def _next_chunks(layout: Layout, end: int) -> Sequence[int]:
    """Where the chunk after the samples may begin."""
    if layout.container == "W64":
        return (end + -end % 8, end)
    return (end + end % 2, end) if layout.container in ("RIFF", "RF64", "AIFF") else (end,)


def _unexplained(file: BinaryIO, layout: Layout, position: int, size: int) -> int:
    """Bytes from `position` on, behind the samples, that are no chunks: 0, or all from the first that is none."""
    readers = {"W64": w64_chunks, "CAF": caf_chunks, "AU": None}
    reader = readers.get(layout.container, lambda f, p: chunks(f, ">" if layout.container == "AIFF" else "<", p))
    if reader is not None:
        for name, start, length in reader(file, position):
            fits = start + length <= size + 1 and is_name(name) and name not in SOUNDS
            if not fits and not (name in TRAILERS and size - start < LARGE):
                break
            position = min(size, start + length)
            position += 0 if layout.container == "CAF" else -position % 8 if layout.container == "W64" else length % 2
    return max(0, size - position)


def _last(file: BinaryIO, size: int, count: int) -> bytes:
    file.seek(size - count)
    return file.read(count)


def repair(layout: Layout, length: int) -> str:
    """A command that reads `length` bytes of samples whatever the header says; it was tried with each container."""
    large = layout.start + length >= OPEN_LENGTH  # of which sox would write another wrong header
    if layout.container not in ("W64", "CAF") and not large:
        return "sox --ignore-length IN OUT"
    if not layout.codec:
        return "export it again with the program that wrote it"
    raw = f"-f {layout.codec} -ar {layout.rate} -ac {layout.channels} -skip_initial_bytes {layout.start}"
    return f"ffmpeg {raw} -i IN{' -c copy -rf64 auto' if layout.codec.endswith('le') else ''} OUT.wav"


def _time(layout: Layout, count: int) -> str:
    seconds = layout.seconds(count)
    return f" ({_clock(seconds)})" if seconds else ""


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _amount(layout: Layout, count: int) -> str:
    seconds = layout.seconds(count)
    return _clock(seconds) if seconds else f"{count} bytes of samples"
