"""The names of validation's metrics, and what a user reads about them. Light: a progress bar needs it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Score = TypeVar("Score", float, float | None)
VALIDATION = "validation/"  # before the name of a score: that of the validation recordings
RANKING = re.compile(r"^(strict/|presence/)?m?AP/")  # scores of how events or recordings are ranked, without threshold
AP = ("strict/AP/micro", "strict/AP/macro", "strict/mAP/micro", "strict/mAP/macro")  # the first one chooses
LOSS = f"{VALIDATION}loss"
METRIC, BEST_METRIC, BEST_UPDATE = f"validation/{AP[0]}", f"validation/best/{AP[0]}", "validation/best_update"
PRESENCE_AP = ("presence/mAP/micro", "presence/mAP/macro")  # where recordings are labelled as a whole only
PRESENCE_METRIC, BEST_PRESENCE = f"validation/{PRESENCE_AP[0]}", f"validation/best/{PRESENCE_AP[0]}"
STOPPED = "stopped_at_update"
PRESENCE_TOLD = "presence mAP"
AS_GOOD = 0.02  # of AP; what one call among fifty decides


def validation_metrics(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores of validation recordings under the names that they have: of what ranks, others depend on thresholds that
    were chosen on these recordings."""
    return {f"{VALIDATION}{name}": value for name, value in scores.items() if RANKING.match(name)}


def best_of(history: Sequence[tuple[int, Score]]) -> tuple[int, Score]:
    """The last update whose score is as good as the highest, within AS_GOOD; an undefined score is below all.

    With few validation labels the highest score is often an early one by chance, while recordings of other sources
    still gain from training on.
    """
    scores = [-1.0 if score is None else score for _, score in history]
    return [entry for entry, score in zip(history, scores, strict=True) if score >= max(scores) - AS_GOOD][-1]


def told(update: int, score: float, kept: tuple[int, float], what: str = "strict AP") -> str:
    """One line about one validation. kept: `best_of` all so far; what: the score is."""
    return f"validation: {what} {score:.3g} at update {update} (kept: {kept[1]:.3g} at {kept[0]})"


def summary(state: Mapping[str, Any], updates: int) -> str | None:
    """One line about a training that is over, from its loop.json: which validation's weights are the model, how good
    it was beside the highest, and why training stopped before `updates`; None without validation."""
    if not state.get("history"):
        return None
    which = f"{_kept(state)}; its weights are the model"
    if state["updates"] == updates:
        return which
    later = sum(update > state["best_update"] for update, _ in state["history"])
    told = f"stopped at update {state['updates']} of {updates}, after {later} validations more than {AS_GOOD:g} below"
    return f"{told} the highest; {which}"


def _kept(state: Mapping[str, Any]) -> str:
    """What the validation was whose weights are the model."""
    update, score, of = state["best_update"], state["best_score"], state["updates"]
    ap = f"{PRESENCE_TOLD} of validation" if state.get("of_presence") else "validation AP"
    scored = [(value, -when) for when, value in state["history"] if value is not None]
    if score is None or not scored:
        return f"{ap} was undefined at update {update} of {of} and before"
    highest, negative = max(scored)
    if score == highest:
        return f"{ap} was highest at update {update} of {of}, {score:.3g}"
    return (
        f"{ap} was {score:.3g} at update {update} of {of}, as good within {AS_GOOD:g} as the highest,"
        f" {highest:.3g} at update {-negative}"
    )
