"""The two protocols' names, see `protocols.py`."""

from typing import Literal

Protocol = Literal["paper", "strict"]
PROTOCOLS: tuple[Protocol, ...] = ("paper", "strict")
