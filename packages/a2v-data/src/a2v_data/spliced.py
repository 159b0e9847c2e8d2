"""A file as it should have been written: stretches of it, and bytes that are put in their place."""

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

Part = bytes | tuple[int, int]  # bytes, or (start, stop) in the file


class Spliced(io.RawIOBase):
    """`parts` of the file at `path`, one after another, to read; libsndfile is given it in the file's stead."""

    def __init__(self, path: Path, parts: Sequence[Part]) -> None:
        self._file = path.open("rb", buffering=1 << 16)
        self._parts = list(parts)
        lengths = [len(part) if isinstance(part, bytes) else part[1] - part[0] for part in parts]
        self._ends = list(accumulate(lengths))
        self._starts = [0, *self._ends[:-1]]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._ends[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        done = 0
        while done < len(buffer) and self._position < self._ends[-1]:
            number = bisect_right(self._ends, self._position)
            part, inside = self._parts[number], self._position - self._starts[number]
            wanted = min(len(buffer) - done, self._ends[number] - self._position)
            if isinstance(part, bytes):
                piece = part[inside : inside + wanted]
            else:
                if self._file.tell() != part[0] + inside:
                    self._file.seek(part[0] + inside)
                piece = self._file.read(wanted)
            if not piece:  # the file became shorter
                break
            buffer[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done

    def close(self) -> None:
        self._file.close()
        super().close()
