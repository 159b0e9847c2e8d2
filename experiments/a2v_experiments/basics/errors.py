"""What a user sees when something is wrong: one clear line and an exit code."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .terminal import one_line

USAGE = 2  # the command, the recipe or the input is wrong
FAILED = 1  # the machine, the store or the training failed, or something was left out
INTERRUPTED = 130  # Ctrl-C
TERMINATED = 143  # a polite kill (SIGTERM), where Ctrl-C would have given INTERRUPTED


class UserError(Exception):
    """A mistake or a fault that one line explains: what, where, what would be right.

    `code` is the exit code: `USAGE` (2) for what the user can put right in a recipe or a call,
    `FAILED` (1) for the rest.
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it (IPython asks for this name): what the command line does."""
        return message_lines(str(self))


def message_lines(message: str) -> list[str]:
    """What a user sees of an error's message, each line with the command's name before it."""
    return [f"a2v: {one_line(line)}" for line in message.split("\n") if line]


# What the extra `train` brings (pyproject.toml); an install that only predicts has none of them.
TRAINING_LIBRARIES = frozenset({"ray", "mlflow", "optuna", "requests", "sqlalchemy"})


def light_install(error: ModuleNotFoundError) -> UserError | None:
    """The line for a library that only training needs and that is not installed; None: it is another one, a fault."""
    library = (error.name or "").partition(".")[0]
    if library not in TRAINING_LIBRARIES:
        return None
    return UserError(f"this needs {library}, which is not installed here: pip install 'a2v[train]'", FAILED)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota, a limit on files
_FULL_TEXT = re.compile(
    rf"disk is full|no space left|(os error|errno =) ({'|'.join(map(str, _FULL))})\b", re.IGNORECASE
)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, of whatever library, means that there was no room for a file."""
    return getattr(error, "errno", None) in _FULL or bool(_FULL_TEXT.search(str(error)))


def disk_full(place: object, needed_bytes: int | None = None) -> UserError:
    """The line for it: the file, folder or store, and how much was needed, if that is known."""
    sizes = ""
    if needed_bytes is not None:
        existing = Path(str(place)).absolute()
        while not existing.exists():
            existing = existing.parent
        free = shutil.disk_usage(existing).free
        sizes = f": {needed_bytes / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free"
    return UserError(f"{place}: no space left on the disk{sizes}; free some and run the same command again", FAILED)


@contextmanager
def naming_full_disk(place: Path) -> Iterator[None]:
    """A disk that is full in this block is one line that names `place`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise disk_full(place) from error
        raise


def last_line(error: BaseException) -> str:
    """The last line of what an error says, at most 300 characters of it; without a text its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
