"""The name of the probe's metric, and what a user reads about it. Light: a progress bar needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .validation_report import AS_GOOD

PROBE_CLASS = "probe/AP/"  # and the class
PROBE = f"{PROBE_CLASS}macro"


def probe_summary(state: Mapping[str, Any]) -> str | None:
    """One line about a pretraining that is over, from its loop.json: whether its features got better than those of the
    random start, by more than `AS_GOOD`; None without a probe."""
    history = [(update, ap) for update, ap in state.get("probe", {}).get("history", []) if ap is not None]
    if len(history) < 2:
        return None
    (_, first), (_, last) = history[0], history[-1]
    best_update, best = max(history, key=lambda entry: entry[1])
    told = f"{first:.2f} -> {last:.2f}"
    if last - first > AS_GOOD:
        return f"probe {told} (best at update {best_update}" + (f": {best:.2f})" if best > last else ")")
    if first > 1 - AS_GOOD:
        return f"probe {told}: these calls are so easy that the random start tells them apart; the probe says nothing"
    passed = f", {best:.2f} at update {best_update}" if best - first > AS_GOOD else ""
    return (
        f"the probe did not rise ({told}{passed}): these features are no better than a random start; finetuning from"
        " them will not help"
    )
