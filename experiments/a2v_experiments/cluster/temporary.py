"""A folder for Ray's sessions whose sockets a machine can name.

A socket's path may have 107 bytes (Linux; macOS 103), and Ray's lie deep below TMPDIR, which batch systems make long.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

LIMIT_BYTES = 107 if sys.platform.startswith("linux") else 103
BELOW = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"  # of Ray's folder
SHORT = ("/tmp", "/var/tmp", "/dev/shm")


def session_folder() -> str | None:
    """Where a Ray of this machine keeps its sessions, for `ray.init`; None: its own choice (RAY_TMPDIR, TMPDIR, /tmp)
    is short enough, or nothing shorter can be written to."""
    default = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or SHORT[0]
    if fits(f"{default}/ray"):
        return None
    places = (f"{parent}/a2v-ray-{os.getuid()}" for parent in SHORT)
    return next((place for place in places if _is_own(Path(place))), None)


def fits(folder: str) -> bool:
    """Whether sockets of sessions in a folder have names that are short enough."""
    return len(os.fsencode(folder + BELOW)) <= LIMIT_BYTES


def _is_own(place: Path) -> bool:
    """Whether a folder is this user's, or can be made."""
    try:
        place.mkdir(exist_ok=True)
        return place.is_dir() and place.stat().st_uid == os.getuid() and os.access(place, os.W_OK)
    except OSError:
        return False
