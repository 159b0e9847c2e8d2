"""How predictions were found, which decides what a threshold for their likelihood means to `a2v predict`.

Precision is estimated over the likelihood of events, the mean over their frames. Without `extent_threshold` the
threshold of a model is one of the pooled likelihood instead: as it rises, events get shorter and their means higher, so
that at .5 there are two or three times as many events as have .5 in the table (docs/log.md), and fewer of them are
right. With it, events are found once and the threshold is of their likelihood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .calls import PREDICT, Calls, about_of

OF_EVENTS = ("method", "window_s", "peak_share", "min_duration_s")


def found_with(calls: Calls) -> dict[str, Any] | None:
    """The settings of `a2v_eval.events.EventConfig` with which a folder of predict was made, and `merge_gap_s`, where
    events were merged; None for a table, which does not say."""
    path = calls.path / PREDICT
    if not (calls.path.is_dir() and path.is_file()):
        return None
    options = about_of(path)["options"]
    events: dict[str, Any] = options["events"]
    if not events:
        return None
    gap = options.get("merge_gap_s")
    return events if gap is None else {**events, "merge_gap_s": gap}


def of_events(settings: Mapping[str, Any], labels: Iterable[str]) -> bool:
    """Whether the threshold of all of these classes is one of an event's likelihood."""
    extent = settings.get("extent_threshold")
    return all(name in extent for name in labels) if isinstance(extent, Mapping) else extent is not None


def why_not(settings: Mapping[str, Any], model: Mapping[str, Any]) -> str | None:
    """Why a model with these settings of events (`thresholds_from`) cannot find the predictions again at a threshold of
    their likelihood; None where it can."""
    if (method := settings.get("method")) not in (None, "avg", "max"):
        return f"method {method} has no threshold of an event's likelihood"
    if settings.get("merge_gap_s") is not None:
        return "events were merged (--merge-gap), which changes their likelihood"
    for name in OF_EVENTS:
        if name in model and settings.get(name, 0.0) != model[name]:
            return f"{name} was {settings.get(name, 0.0)} there, and is {model[name]} in the model"
    return None


def with_extents(
    settings: Mapping[str, Any], thresholds: Mapping[str, float], labels: Iterable[str]
) -> float | dict[str, float]:
    """`extent_threshold` with which a model finds the predictions of these classes again, and of a threshold only takes
    fewer of them. thresholds: with which they were found."""
    extent = settings.get("extent_threshold")
    if extent is not None and not isinstance(extent, Mapping):
        return float(extent)
    return {**(extent or {}), **{name: (extent or {}).get(name, thresholds[name]) for name in labels}}
