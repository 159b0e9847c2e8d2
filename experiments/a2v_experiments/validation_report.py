"""The names of validation's metrics, and what a user reads about them. Light: a progress bar needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Score = TypeVar("Score", float, float | None)
AP = ("strict/AP/micro", "strict/AP/macro")  # the first one chooses
METRIC, BEST_METRIC, BEST_UPDATE = f"validation/{AP[0]}", f"validation/best/{AP[0]}", "validation/best_update"
STOPPED = "stopped_at_update"
AS_GOOD = 0.02  # of AP; what one call among fifty decides


def best_of(history: Sequence[tuple[int, Score]]) -> tuple[int, Score]:
    """The last update whose score is as good as the highest, within AS_GOOD; an undefined score is below all.

    With few validation labels the highest score is often an early one by chance, while recordings of other sources
    still gain from training on.
    """
    scores = [-1.0 if score is None else score for _, score in history]
    return [entry for entry, score in zip(history, scores, strict=True) if score >= max(scores) - AS_GOOD][-1]


def told(update: int, score: float, best: tuple[int, float]) -> str:
    """One line about one validation."""
    return f"validation: strict AP {score:.3g} at update {update} (best {best[1]:.3g} at {best[0]})"


def summary(state: Mapping[str, Any], updates: int) -> str | None:
    """One line about a training that is over, from its loop.json: when validation stopped rising, and why it stopped
    before `updates`; None without validation."""
    if not state.get("history"):
        return None
    rose = f"validation AP rose until update {state['best_update']} of {state['updates']}; its weights are the model"
    # 'rose' within AS_GOOD: what came later was lower by more than chance
    if state["updates"] == updates:
        return rose
    later = sum(update > state["best_update"] for update, _ in state["history"])
    return f"stopped at update {state['updates']} of {updates}, after {later} validations without a better one; {rose}"
