"""The `sweep` section of a recipe: which trials there are, how they are searched, when a poor one is given up."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

Positive = Annotated[int, Field(gt=0)]
SCORES = re.compile(
    r"^(strict/)?(AP|mAP|F1|precision|recall)/.|^any_class/(strict/)?(AP|mAP|F1|precision|recall)$"
    r"|^timestep/(F1|precision|recall)$|^presence/(AP|mAP|F1|precision|recall)/."
)
# what a trial is and where it runs, not what it tries
FIXED = ("name", "variant", "sweep", "extends", "ray", "seeds", "plugins")


class Section(BaseModel):
    """Base of a recipe's sections: unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"is {value!r}; must be a number, text, true, false or null (lists and mappings: sweep.variants)")


def _distinct(values: list[Any]) -> list[Any]:
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return values


def none_as_empty(mapping: Any) -> Any:
    """In YAML a key without anything below it is null."""
    return {} if mapping is None else mapping


Changes = Annotated[dict[str, Any], BeforeValidator(none_as_empty)]


class Range(Section):
    """Values from `low` to `high`, both included. log: drawn evenly in their logarithm. integer: whole numbers only.
    step: only low, low + step, low + 2 step, ..."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    step: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low:g} must be below high = {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g} must be above 0 where log is true")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        if self.integer and not all(float(v).is_integer() for v in (self.low, self.high, self.step or 1)):
            raise ValueError("low, high and step must be whole numbers where integer is true")
        return self

    @property
    def ends(self) -> list[float | int]:
        """The smallest and the largest value."""
        high = self.high
        if self.step is not None:
            high = self.low + self.step * int((self.high - self.low) / self.step + 1e-9)
        return [int(end) if self.integer else end for end in (self.low, high)]


Values = Annotated[list[Annotated[Any, AfterValidator(_scalar)]], Field(min_length=1), AfterValidator(_distinct)]
# The tags stand in an error's place; brackets mark them as kinds, which errors.py leaves out.
Choice = Annotated[
    Annotated[Values, Tag("[values]")] | Annotated[Range, Tag("[range]")],
    Discriminator(lambda value: "[values]" if isinstance(value, list) else "[range]"),
]


def _flat(parameters: Any, prefix: str = "") -> Any:
    """Nested mappings, as `--set sweep.parameters.a.b=[1, 2]` makes them, become dotted keys."""
    if not isinstance(parameters, dict):
        return none_as_empty(parameters)
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        nested = isinstance(value, dict) and not value.keys() & Range.model_fields.keys()
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _wanted(parameters: Any) -> Any:
    """The same without those that null drops, which a parent has: a key, or all that begin with it."""
    flat = _flat(parameters)
    if not isinstance(flat, dict):
        return flat
    gone = [key for key, value in flat.items() if value is None]
    return {key: value for key, value in flat.items() if not any(f"{key}.".startswith(f"{one}.") for one in gone)}


class PruningConfig(Section):
    """Trials that fall behind are stopped (ASHA) after `grace_folds`, then at folds `reduction_factor` times as many,
    and so on: one goes on where its mean score over the folds done so far is among the best 1 / reduction_factor of
    the trials that came that far before it. Folds are the same for all trials, so their scores are comparable. With
    `seeds`, each fold counts once for each seed, all folds of the first seed first.

    grace_validations: instead, trials are compared after each validation of their trainings (`finetune.validation`),
    first after so many, then after `reduction_factor` times as many, by their scores on validation recordings so far
    (None: after folds). A training counts as many validations as one of the sweep's own recipe, however long it is.
    Needs `folds.validation`, and trials that train in their own process (`ray.num_workers: 0`).
    """

    grace_folds: Positive = 1
    grace_validations: Positive | None = Field(default=None, exclude_if=lambda number: number is None)
    reduction_factor: float = Field(default=2.0, gt=1)

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if self.grace_validations is not None and self.grace_folds != 1:
            raise ValueError("grace_folds and grace_validations exclude each other: trials are compared after either")
        return self

    def check(self, folds: int, validations: int, workers: int) -> None:
        """Raise ValueError where nothing is left to prune after the grace, or trials could not be compared.

        folds: those that run, for each seed; validations: of all trainings of a fold, 0 without any; workers:
        `ray.num_workers`.
        """
        if self.grace_validations is None:
            if self.grace_folds >= folds:
                raise ValueError(
                    f"sweep.pruning.grace_folds = {self.grace_folds}: must be below the number of folds that run,"
                    f" {folds}; after the last one nothing is left to prune"
                )
            return
        key = f"sweep.pruning.grace_validations = {self.grace_validations}"
        if not validations:
            raise ValueError(f"{key}: there are no validations without a share in folds.validation; say 0.2 there")
        if workers:
            raise ValueError(
                f"{key}: only a trial that trains in its own process learns of its validations; say ray.num_workers: 0"
                f" (they are {workers}), or prune by folds (grace_folds)"
            )
        if self.grace_validations >= folds * validations:
            raise ValueError(
                f"{key}: must be below the number of validations of a trial, {folds * validations}; after the last one"
                " nothing is left to prune (finetune.validation.every)"
            )


class SweepConfig(Section):
    """Many trials of one recipe, each with some keys changed.

    parameters: dotted key -> list of values, or a range {low, high, log, integer, step}; null drops one that a parent
    has. search: `grid` tries every
    combination of the lists, `random` draws `trials` of them, `optuna` lets Optuna's TPE choose `trials` of them.
    variants: instead of parameters, name -> {dotted key: value}: a trial for each, in this order.
    metric: the score that trials are compared by, the higher the better, mean over folds and label shares; a trial in
    which it is undefined comes last, and it is 0 in a fold in which it is undefined for some trials alone.
    concurrency: trials at once (None: as many as the cluster's resources allow). seed: of random and optuna.
    """

    search: Literal["grid", "random", "optuna"] = "grid"
    trials: Positive | None = None
    parameters: Annotated[dict[str, Choice], BeforeValidator(_wanted)] = {}
    variants: Annotated[dict[str, Changes], BeforeValidator(none_as_empty)] = {}
    metric: str = "strict/mAP/micro"
    concurrency: Positive | None = None
    pruning: PruningConfig | None = None
    seed: int = Field(default=0, ge=0)

    @field_validator("metric")
    @classmethod
    def _a_score(cls, metric: str) -> str:
        if not SCORES.match(metric):
            raise ValueError(
                f"is {metric!r}; must be a score of the folds, for example strict/mAP/micro or strict/AP/macro"
            )
        return metric

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.parameters) == bool(self.variants):
            raise ValueError("name either parameters (dotted key: values) or variants (name: {dotted key: value})")
        if self.search == "grid" and self.trials is not None:
            raise ValueError("trials is for search: random or optuna; a grid has every combination")
        if self.search != "grid" and self.variants:
            raise ValueError(f"search: {self.search} draws from parameters; variants are all tried")
        if self.search != "grid" and self.trials is None:
            raise ValueError(f"search: {self.search} needs trials, how many are drawn")
        for key, choice in self.parameters.items():
            if self.search == "grid" and isinstance(choice, Range):
                raise ValueError(f"parameters.{key}: a grid needs a list of values; ranges are for random and optuna")
        for key in [*self.parameters, *(key for keys in self.variants.values() for key in keys)]:
            if key.split(".")[0] in FIXED:
                raise ValueError(f"{key}: cannot differ between trials")
        return self
