"""A stage's fingerprint: the hash of its configuration and of its inputs' fingerprints."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def fingerprint(stage: str, config: dict[str, Any], *inputs: str) -> str:
    """Hex SHA-256 (first 16 characters of it name folders) of a stage, its configuration and its inputs.

    config must be JSON data; key order does not matter. inputs are the fingerprints of the stages it reads.
    """
    text = json.dumps({"stage": stage, "config": config, "inputs": inputs}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
