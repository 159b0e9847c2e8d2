"""The tasks of many recordings, made when they are asked for: a million hours of sound have 50 million of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import overload

from .stream import piece_at, piece_count
from .work import PieceTask


class PieceTasks(Sequence[PieceTask]):
    """The tasks of one recording. whole: as if it were the only one, with all windows."""

    def __init__(self, whole: PieceTask) -> None:
        self.whole, self.size, self.windows = whole, whole.size, len(whole.windows)

    def __len__(self) -> int:
        return piece_count(self.whole.windows, self.size)

    @overload
    def __getitem__(self, place: int) -> PieceTask: ...
    @overload
    def __getitem__(self, place: slice) -> list[PieceTask]: ...
    def __getitem__(self, place: int | slice) -> PieceTask | list[PieceTask]:
        numbers = range(len(self))[place]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        piece = piece_at(self.whole.windows, self.size, numbers)
        return replace(self.whole, piece=piece, seconds=self._seconds(piece[1] - piece[0]))

    def left(self) -> Sequence[int]:
        """The numbers of those that no earlier call has done."""
        numbers = range(len(self))
        if not self.whole.folder.is_dir():
            return numbers
        return [number for number in numbers if not self[number].is_done]

    def seconds(self, numbers: Sequence[int]) -> float:
        """Seconds of sound in the tasks with these numbers, which are in order."""
        missing = len(self) * self.size - self.windows if numbers and numbers[-1] == len(self) - 1 else 0
        return self._seconds(len(numbers) * self.size - missing)

    def _seconds(self, windows: int) -> float:
        return self.whole.seconds * windows / self.windows


class JoinedTasks(Sequence[PieceTask]):
    """Tasks of several recordings, of each those with the numbers that stand beside it, one after another."""

    def __init__(self, parts: Sequence[tuple[PieceTasks, Sequence[int]]]) -> None:
        self._parts = [part for part in parts if part[1]]
        self._ends = list(accumulate(len(numbers) for _, numbers in self._parts))
        self.seconds = sum(tasks.seconds(numbers) for tasks, numbers in self._parts)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> PieceTask: ...
    @overload
    def __getitem__(self, place: slice) -> list[PieceTask]: ...
    def __getitem__(self, place: int | slice) -> PieceTask | list[PieceTask]:
        positions = range(len(self))[place]
        if isinstance(positions, range):
            return [self[position] for position in positions]
        part = bisect_right(self._ends, positions)
        tasks, numbers = self._parts[part]
        return tasks[numbers[positions - self._ends[part]]]  # from the end, where the part ends
