"""Which classes a model has learned, from what its description says of the thresholds that were chosen for it.

`thresholds_from` holds, beside the event settings, class -> number under `F1`, `precision`, `recall` (strict protocol,
at the chosen threshold, on the recordings that it was chosen on) and `labels` (how many there were). Descriptions of
before hold `F1` only, and those of elsewhere nothing: what is not known is no reason to call a class not learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEARNED_F1 = 0.3
"""A class is learned if, at the threshold that suits it best, its strict F1 is at least this on the recordings on which
that was chosen. Below it most finds are wrong or most calls are missed, even on the recordings that flatter it, and the
best threshold tends to be one that is nearly always exceeded."""


@dataclass(frozen=True)
class ClassFit:
    """How well a model finds a class at its threshold; None where that is not known. learned: None where nothing is
    known of it, which counts as learned."""

    threshold: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    labels: int | None
    learned: bool | None

    def reason(self) -> str:
        """Why it is not learned: "F1 0.05 on 12 labels", "no label to choose a threshold on"."""
        if self.labels == 0:
            return "no label to choose a threshold on"
        on = "" if self.labels is None else f" on {self.labels} label{'' if self.labels == 1 else 's'}"
        if self.f1 is not None:
            return f"F1 {self.f1:.2f}{on}"
        return f"nothing found at any threshold{on}" if on else "no threshold could be chosen"


def class_fits(
    classes: Sequence[str], thresholds: Mapping[str, float], thresholds_from: Mapping[str, Any]
) -> dict[str, ClassFit]:
    """Class -> what `thresholds` and `thresholds_from` of a model say of it."""
    known = {key: _numbers(thresholds_from.get(key)) for key in ("F1", "precision", "recall", "labels")}
    fits = {}
    for name in classes:
        f1, labels = known["F1"].get(name), known["labels"].get(name)
        count = None if labels is None else int(labels)
        fits[name] = ClassFit(
            thresholds.get(name), f1, known["precision"].get(name), known["recall"].get(name), count,
            _learned(f1, count, thresholds.get(name), "F1" in thresholds_from),
        )  # fmt: skip
    return fits


def learned(
    classes: Sequence[str], thresholds: Mapping[str, float], thresholds_from: Mapping[str, Any]
) -> dict[str, bool]:
    """Class -> whether events of it are worth writing: not where it is known not to be learned."""
    return {name: fit.learned is not False for name, fit in class_fits(classes, thresholds, thresholds_from).items()}


def _learned(f1: float | None, labels: int | None, threshold: float | None, chosen_by_f1: bool) -> bool | None:
    if labels == 0:
        return False
    if f1 is not None:
        return f1 >= LEARNED_F1
    # where thresholds were chosen by F1, a class has none if no threshold finds a label of it
    return False if chosen_by_f1 and threshold is None else None


def _numbers(value: Any) -> dict[str, float]:
    """Class -> number; what is none, as a description of elsewhere may have it, is not known."""
    if not isinstance(value, Mapping):
        return {}
    return {
        str(name): float(number)
        for name, number in value.items()
        if isinstance(number, int | float) and not isinstance(number, bool) and number == number
    }
