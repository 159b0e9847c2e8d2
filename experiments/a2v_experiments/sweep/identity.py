"""What makes two calls the same sweep: not how many values it tries, so that a larger grid goes on under its run."""

from __future__ import annotations

from typing import Any

from ..recipe.labelled import with_rules
from ..recipe.sections import Recipe
from ..recipe.sweep import SweepConfig
from ..stages.specs import Dump, whole


def sweep_config(base: Recipe, dump: Dump = whole) -> dict[str, Any]:
    """The recipe below the trials, and what the sweep asks: which keys differ (or that variants are named), how values
    are chosen, and when a trial is given up.

    A grid's values and the names of variants are left out, and so are how many trials there are and how many run at
    once. Drawn values depend on the ranges, so these are in; what trials are compared by is in only where it decides
    which trials there are.
    """
    assert base.sweep is not None
    below = dump(with_rules(base), exclude={"ray": True, "sweep": True})
    return {**below, "sweep": _asks(base.sweep)}


def _asks(sweep: SweepConfig) -> dict[str, Any]:
    dumped = sweep.model_dump(mode="json")
    asks: dict[str, Any] = {"search": sweep.search, "pruning": dumped["pruning"]}
    asks["over"] = sorted(sweep.parameters) or "variants"
    if sweep.search != "grid":
        asks |= {"parameters": dumped["parameters"], "seed": sweep.seed}
    if sweep.search == "optuna" or sweep.pruning is not None:
        asks["metric"] = sweep.metric
    return asks
