"""A file of state that is only ever appended to, so that a call that was stopped can be gone on with.

Contract. UTF-8, one JSON object a line. Line 1 is {"version", "options"}: what decides every result. It never changes;
a call with other options is refused. Each further line is on the disk when `append` returns. A process that is killed
leaves at most one line that is not whole, which is ignored. While a call runs it holds a lock on the file.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from a2v_data.documents import SHOWN, fits, json_of, shown

T = TypeVar("T")
MOST_CHANGED = 10  # options that a message names


class StateLines:
    """The file, open and locked: `lines` is what was kept of those after the first one when it was opened."""

    def __init__(self, file: Any, lines: list[Any]) -> None:
        self._file, self.lines = file, lines

    def append(self, value: dict[str, Any]) -> None:
        """Write a line down; it is on the disk when this returns. After an `OSError` (a full disk) nothing of it is."""
        line = (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape")
        descriptor = self._file.fileno()
        before = os.fstat(descriptor).st_size
        try:
            while line:  # past Python's buffer, which would keep what was refused for the next line
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise


def _as_it_is(line: dict[str, Any]) -> Any:
    return line


@contextmanager
def open_lines(
    path: Path,
    folder: Path,
    options: dict[str, Any],
    version: int,
    command: str,
    keep: Callable[[dict[str, Any]], Any] = _as_it_is,
) -> Iterator[StateLines]:
    """The state in `path`, which lies in the output folder of a command, made where there is none.

    keep: what is kept of a line; the next one is read when that is done, so that a million of them do not fill memory.
    It raises TypeError for a line that is not what it should be, see `typed`.

    Raises `ValueError` where it was begun with other options or by another version, another call is writing, the file
    is damaged, or `folder` holds other things; not where a killed call left the folder of `path` without a file in it.
    """
    if not path.exists() and folder.exists() and (not folder.is_dir() or _holds_other_things(folder, path.parent)):
        raise ValueError(f"{folder}: exists already; name a new folder or remove this one first")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8", errors="surrogateescape") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{folder}: another `{command}` is writing there; wait for it") from None
        file.seek(0)
        begun, lines, whole = False, [], 0
        try:
            for line in file:
                if not line.endswith("\n"):
                    file.truncate(whole)
                    break
                whole += len(line.encode("utf-8", "surrogateescape"))
                if not (text := line.strip("\n")):
                    continue
                value = parsed(text)
                if begun:
                    lines.append(keep(value))
                else:
                    begun = True
                    _check(path, folder, value, options, version)
        except TypeError as error:
            raise damaged(path, error) from error
        state = StateLines(file, lines)
        if not begun:
            state.append({"version": version, "options": options})
        yield state


def _holds_other_things(folder: Path, hidden: Path) -> bool:
    """Whether there is more than `hidden` without a file in it, as a call that was killed at its start leaves it."""
    if any(found != hidden for found in folder.iterdir()):
        return True
    return hidden != folder and any(found.is_symlink() or not found.is_dir() for found in hidden.rglob("*"))


def parsed(text: str) -> dict[str, Any]:
    """The object that a line says. Raises TypeError where it says none."""
    try:
        value = json_of(text)
    except ValueError as error:
        raise TypeError(str(error)) from error
    if not isinstance(value, dict):
        raise TypeError("a line is no JSON object")
    return value


def typed(kind: Callable[..., T], line: dict[str, Any]) -> T:
    """The dataclass that a line says, its values of the types of the fields: numbers, text, None, and lists, tuples and
    objects of one kind of value. Raises TypeError where they are not."""
    hints = _hints(kind)
    for name, value in line.items():
        if name not in hints:
            raise TypeError(f"{shown(name)} is no name of a value")
        if not fits(value, hints[name]):
            raise TypeError(f"{name} holds a wrong type")
    return kind(**line)


_hints = lru_cache(get_type_hints)


def damaged(path: Path, error: Exception) -> ValueError:
    """What to raise for lines that are not what they should be."""
    return ValueError(f"{path}: damaged ({error}); name a new folder")


def _check(path: Path, folder: Path, head: dict[str, Any], options: dict[str, Any], version: int) -> None:
    before, written = head.get("options"), head.get("version")
    if not isinstance(before, dict):
        raise TypeError("the first line has no options")
    if written != version:
        raise ValueError(f"{folder}: begun by another version of a2v; name a new folder")
    keys = list(dict.fromkeys([*before, *options]))
    changed = [
        f"{_said(key)} {_said(before.get(key))}, now {_said(options.get(key))}"
        for key in keys
        if before.get(key) != options.get(key)
    ]
    if more := changed[MOST_CHANGED:]:
        changed[MOST_CHANGED:] = [f"{len(more)} more"]
    if changed:
        raise ValueError(f"{folder}: was begun with {'; '.join(changed)}; give the same options or name a new folder")


def _said(value: Any) -> str:
    text = str(value) if isinstance(value, str | int | float) else shown(value)
    return text if len(text) <= SHOWN and text.isprintable() else shown(value)
