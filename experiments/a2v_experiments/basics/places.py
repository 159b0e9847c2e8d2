"""Where things are by default, and the command as it can be typed here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DEFAULT_WORK = Path("a2v-runs")


def a2v_command() -> str:
    """`a2v` as it can be typed here."""
    return "a2v" if Path(sys.prefix) == Path(sys.base_prefix) else f"{os.path.relpath(sys.prefix)}/bin/a2v"


def ui_command(work: Path, tracking_uri: str | None) -> str:
    """The `a2v ui` call that shows this store, as it can be typed here."""
    return f"{a2v_command()} ui" + (f" --tracking-uri {tracking_uri}" if tracking_uri else f" --work {work}")
