"""The file code_versions.json: versions of what stages compute, and the values that fingerprints leave out.

`python -m a2v_experiments.stages.pin` writes it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

PLACE = Path(__file__).parents[1] / "code_versions.json"


class Version(TypedDict):
    """version: raised where code computes something else than before; digest: of the code that has it."""

    version: int
    digest: str


class Pinned(TypedDict):
    """code: part of a stage -> its version. left_out: MODULE:CLASS of a configuration -> field -> the value that is in
    no fingerprint: the default that it had when it was new. A default that changes later is another value."""

    code: dict[str, Version]
    left_out: dict[str, dict[str, Any]]


@cache
def pinned() -> Pinned:
    """What the file holds."""
    found: Pinned = json.loads(PLACE.read_text(encoding="utf-8"))
    return found
