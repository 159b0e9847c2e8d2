"""A stage's fingerprint: the hash of its configuration, of its inputs' fingerprints, and of the code that it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any


class Fingerprint(str):
    """A fingerprint that also knows its `identity`: the same without any code, neither its own nor that of its
    inputs. The identity of plain text, such as the hash of recordings, is that text."""

    identity: str

    def __new__(cls, text: str, identity: str | None = None) -> Fingerprint:
        made = super().__new__(cls, text)
        made.identity = identity or text
        return made


def identity_of(mark: str) -> str:
    """A fingerprint's identity."""
    return mark.identity if isinstance(mark, Fingerprint) else mark


def fingerprint(stage: str, config: dict[str, Any], *inputs: str, code: Sequence[str] = ()) -> Fingerprint:
    """Hex SHA-256 (first 16 characters of it name folders) of a stage, its configuration, its inputs and its code.

    config must be JSON data; key order does not matter. inputs are the fingerprints of the stages it reads. code: the
    marks of the code that it runs (`stages/code.py`).
    """
    of = {"stage": stage, "config": config}
    identity = _hash({**of, "inputs": [identity_of(one) for one in inputs]})
    return Fingerprint(_hash({**of, "inputs": inputs, **({"code": list(code)} if code else {})}), identity)


def _hash(of: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(of, sort_keys=True, allow_nan=False).encode()).hexdigest()
