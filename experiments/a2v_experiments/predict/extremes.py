"""What a model said of recordings at the most and at the least: why nothing was found, and whether it says anything.

T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..inference import Frames
from .settings import PredictSettings
from .state import Done

HARDLY_VARIES = 0.02
"""A class whose likelihoods in all frames of all recordings lie within this says nothing of the sound."""
BELOW = "below its threshold"


@dataclass(frozen=True)
class Extremes:
    """Of a class, over recordings: its lowest likelihood, its highest one, and where that is."""

    lowest: float
    highest: float
    file: str
    at_s: float


def extremes_of(
    blocks: Callable[[], Iterable[Frames]], frame_rate: float, classes: Sequence[str]
) -> dict[str, list[float]]:
    """Class -> lowest and highest likelihood of a recording and the second of the (first) highest one, from blocks
    (T, C), or with head `boxes` (T, 4 C), of which the onsets count. Empty for a recording without a frame."""
    lowest_C, highest_C = np.full(len(classes), np.inf), np.full(len(classes), -np.inf)
    at_C, first = np.zeros(len(classes), np.int64), 0
    for block_TC in blocks():
        if not len(block_TC):
            continue
        block_TC = block_TC[:, : len(classes)]  # with head `boxes`, onsets
        place_C = block_TC.argmax(axis=0)
        peak_C = block_TC[place_C, np.arange(len(classes))]
        at_C = np.where(peak_C > highest_C, first + place_C, at_C)
        lowest_C, highest_C = np.minimum(lowest_C, block_TC.min(axis=0)), np.maximum(highest_C, peak_C)
        first += len(block_TC)
    if not first:
        return {}
    rows = zip(classes, lowest_C.tolist(), highest_C.tolist(), (at_C / frame_rate).tolist(), strict=True)
    return {name: [round(low, 6), round(high, 6), round(at_s, 6)] for name, low, high, at_s in rows}


def overall(done: Iterable[Done]) -> dict[str, Extremes]:
    """Class -> its extremes over all recordings of which they are known. Of equal ones, the first recording's."""
    found: dict[str, Extremes] = {}
    for one in done:
        for name, (lowest, highest, at_s) in (one.likelihoods or {}).items():
            before = found.get(name)
            if before is None:
                found[name] = Extremes(lowest, highest, one.name, at_s)
            else:
                top = Extremes(lowest, highest, one.name, at_s) if highest > before.highest else before
                found[name] = Extremes(min(lowest, before.lowest), top.highest, top.file, top.at_s)
    return found


def hardly_varying(extremes: Mapping[str, Extremes]) -> str | None:
    """Where the likelihoods of no class vary, how little they do: "0.018 to 0.021"."""
    if not extremes or any(one.highest - one.lowest >= HARDLY_VARIES for one in extremes.values()):
        return None
    lowest, highest = min(one.lowest for one in extremes.values()), max(one.highest for one in extremes.values())
    if highest - lowest < HARDLY_VARIES:
        return f"{lowest:.3f} to {highest:.3f}"
    return f"by at most {max(one.highest - one.lowest for one in extremes.values()):.3f} within each class"


def untrained_notice(done: Sequence[Done], learned: Sequence[str]) -> list[str]:
    """What to say, if anything, where the model says the same of all sound. learned: classes that it is known to find;
    then the recordings are to blame. Where an earlier a2v did recordings and kept no extremes, nothing is said."""
    if any(one.likelihoods is None for one in done) or (said := hardly_varying(overall(done))) is None:
        return []
    told = f"the model's likelihoods hardly vary ({said}):"
    if learned:
        return [
            f"{told} these recordings sound all alike to it, though it has learned {', '.join(learned)}; are they"
            " silent, or are the calls on another channel?"
        ]
    return [f"{told} it has not learned to tell sound from silence; train longer, see a2v experiment plan"]


def why_none(name: str, one: Extremes, settings: PredictSettings, not_learned: Mapping[str, str]) -> str:
    """Why a class has no event."""
    if name in not_learned:
        return f"not learned: {not_learned[name]}"
    if settings.classes is not None and name not in settings.classes:
        return "not asked for"
    if one.highest <= settings.threshold(name):
        return BELOW
    window = settings.events.window_s
    window_s = window[name] if isinstance(window, dict) else window
    reasons = [f"above it too briefly ({settings.events.method} over {window_s:g} s)"]
    if settings.events.is_own:
        reasons = [f"not an event by the method {settings.events.method}"]
    if settings.events.method == "boxes":
        reasons = ["its onsets are above it, but no offset is as likely"]
    if settings.events.extent_threshold is not None:
        reasons = ["above it for a moment only (the mean over a whole event counts)"]
    if settings.min_duration_s is not None or settings.max_duration_s is not None:
        reasons.append("of another duration than asked for")
    return ", or ".join(reasons)


def extreme_rows(
    done: Sequence[Done], classes: Sequence[str], settings: PredictSettings, not_learned: Mapping[str, str]
) -> dict[str, dict[str, Any] | None]:
    """For JSON: class -> lowest, highest, file, at_s, threshold, and why it has no event (None where it has some). None
    for a class of which nothing is known."""
    found = overall(done)
    rows: dict[str, dict[str, Any] | None] = dict.fromkeys(classes)
    for name in classes:
        if one := found.get(name):
            events = sum(recording.events.get(name, 0) for recording in done)
            rows[name] = {
                "lowest": one.lowest,
                "highest": one.highest,
                "file": one.file,
                "at_s": one.at_s,
                "threshold": settings.threshold(name),
                "why_none": None if events else why_none(name, one, settings, not_learned),
            }
    return rows
