"""A sweep's trials: which there are, what each is called, and its recipe. Pure functions of the recipe."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..basics.errors import UserError
from ..recipe.files import Recipe, RecipeFile
from ..recipe.sweep import Choice, Range, SweepConfig

TRIES = 100  # draws without a new combination, after which there is none


@dataclass(frozen=True)
class Trial:
    """One trial: its name, the keys that it changes, and its whole recipe."""

    name: str
    parameters: dict[str, Any]
    recipe: Recipe


def trials_of(file: RecipeFile) -> list[Trial]:
    """Every trial of a sweep, in order. With `search: optuna` none is known before the others ran: an empty list.

    All values are validated, of ranges both ends. Raises UserError naming file, trial, key and what would be right.
    """
    sweep = sweep_of(file)
    if sweep.variants:
        variants = [Trial(name, changes, file.resolve(changes, name)) for name, changes in sweep.variants.items()]
        return _alike(file, variants)
    _alike(file, [trial(file, parameters) for parameters in _one_by_one(sweep.parameters)])
    if sweep.search == "optuna":
        return []
    chosen = _grid(sweep.parameters) if sweep.search == "grid" else _drawn(sweep)
    return [trial(file, parameters) for parameters in chosen]


def _alike(file: RecipeFile, trials: list[Trial]) -> list[Trial]:
    """These trials, which are all compared by the same score."""
    validated = file.resolve().is_validated
    for one in trials:
        if one.recipe.is_validated != validated:
            raise UserError(
                f"{file.name}: trial {one.name}: folds.validation = {one.recipe.folds.validation}: trials are compared"
                " on validation recordings where the sweep's own recipe has some, so all have them, or none"
            )
    return trials


def trial(file: RecipeFile, parameters: Mapping[str, Any]) -> Trial:
    """The trial with these values. Raises UserError as `trials_of` does."""
    name = trial_name(parameters)
    return Trial(name, dict(parameters), file.resolve(parameters, name))


def number_of_trials(file: RecipeFile) -> int:
    """How many trials a sweep has when it is complete."""
    sweep = sweep_of(file)
    return sweep.trials or 0 if sweep.search == "optuna" else len(trials_of(file))


def sweep_of(file: RecipeFile) -> SweepConfig:
    sweep = file.resolve().sweep
    assert sweep is not None, "callers ask only for a recipe with a sweep"
    return sweep


def trial_name(parameters: Mapping[str, Any]) -> str:
    """`mask_probability=0.5 window_s=0.05`: each key by as many of its last parts as tell it from the others."""
    names = short_names(parameters)
    return " ".join(f"{names[key]}={shown(value)}" for key, value in parameters.items())


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Dotted key -> its shortest ending that no other key has."""
    names = {}
    every = list(keys)
    for key in every:
        parts = key.split(".")
        endings = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [f".{other}" for other in every if other != key]
        names[key] = next((e for e in endings if not any(other.endswith(f".{e}") for other in others)), key)
    return names


def shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _values(choice: Choice) -> list[Any]:
    return list(choice.ends) if isinstance(choice, Range) else list(choice)


def _one_by_one(parameters: Mapping[str, Choice]) -> list[dict[str, Any]]:
    """Every value (of ranges both ends) at least once, the other parameters at their first."""
    first = {key: _values(choice)[0] for key, choice in parameters.items()}
    return [first | {key: value} for key, choice in parameters.items() for value in _values(choice)]


def _grid(parameters: Mapping[str, Choice]) -> list[dict[str, Any]]:
    """Every combination; the last parameter changes fastest."""
    combinations = itertools.product(*(_values(choice) for choice in parameters.values()))
    return [dict(zip(parameters, values, strict=True)) for values in combinations]


def _drawn(sweep: SweepConfig) -> list[dict[str, Any]]:
    """`trials` different combinations, drawn with `seed`; the first ones are the same for any number of trials."""
    rng = np.random.default_rng(sweep.seed)
    chosen: list[dict[str, Any]] = []
    assert sweep.trials is not None
    while len(chosen) < sweep.trials:
        for _ in range(TRIES):
            parameters = {key: draw(choice, rng) for key, choice in sweep.parameters.items()}
            if parameters not in chosen:
                chosen.append(parameters)
                break
        else:
            raise UserError(
                f"sweep.trials = {sweep.trials}: no more than {len(chosen)} different combinations of"
                f" {', '.join(sweep.parameters)} were found; lower it, or use search: grid"
            )
    return chosen


def draw(choice: Choice, rng: np.random.Generator) -> Any:
    """One value of a list or range, all equally likely (with log: all magnitudes)."""
    if not isinstance(choice, Range):
        return choice[int(rng.integers(len(choice)))]
    low, high = choice.ends
    step = choice.step or (1.0 if choice.integer and not choice.log else None)
    if step is not None:
        value = low + step * int(rng.integers(round((high - low) / step) + 1))
    elif choice.log:
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
    else:
        value = float(rng.uniform(low, high))
    value = min(max(value, low), high)
    return round(value) if choice.integer else float(f"{value:.6g}")
