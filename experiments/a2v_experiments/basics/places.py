"""Where things are by default, and the command as it can be typed here."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

DEFAULT_WORK = Path("a2v-runs")


def command(*arguments: object) -> str:
    """A call of `a2v` as it can be pasted here, whatever paths and names are in it."""
    return pasted([a2v_command(), *arguments])


def pasted(words: Sequence[object]) -> str:
    """A command line of these words, quoted where a shell would read something else."""
    return shlex.join(map(str, words))


def a2v_command() -> str:
    """The path of `a2v` from the current folder, not quoted."""
    return "a2v" if Path(sys.prefix) == Path(sys.base_prefix) else f"{os.path.relpath(sys.prefix)}/bin/a2v"


def ui_command(work: Path, tracking_uri: str | None) -> str:
    """The `a2v ui` call that shows this store, as it can be pasted here."""
    return command("ui", *(("--tracking-uri", tracking_uri) if tracking_uri else ("--work", work)))
