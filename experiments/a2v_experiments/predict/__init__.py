"""From recordings to events: `from a2v_experiments.predict import predict`."""

from typing import Any


def __getattr__(name: str) -> Any:
    """What is meant for users, imported when it is asked for: torch takes seconds."""
    if name == "predict":
        from .api import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
