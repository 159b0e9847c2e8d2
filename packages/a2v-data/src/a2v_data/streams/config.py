"""Which streams of a source are used."""

from typing import Annotated, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAME = r"^[A-Za-z][A-Za-z0-9_-]*$"  # a key of recipes, a part of file names
TIME, FILE = "time_s", "file"
LEAST_GAP = 2.5  # of what lies between two values usually


class HeardStream(Protocol):
    """What is known of a stream that is heard: a `StreamConfig`, or a model's."""

    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def rate(self) -> float: ...


class StreamConfig(BaseModel):
    """One stream, such as acceleration along three axes.

    columns: their names in the tables, in the order in which the model hears them. rate: Hz at which it is kept and
    heard, whatever the tables have: values of one step are averaged, steps without any are interpolated. gap_s: longest
    time between two values that is interpolated, seconds; in longer gaps, before the first value and after the last
    the stream is not there. None: 2.5 times what usually lies between two values, at least 2.5 steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    columns: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, max_length=64)]
    rate: Annotated[float, Field(gt=0, le=1000)]
    gap_s: Annotated[float, Field(gt=0)] | None = None

    @field_validator("columns")
    @classmethod
    def _distinct(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(columns)) < len(columns):
            raise ValueError(f"is {list(columns)}; each column must be named once")
        return columns

    @model_validator(mode="after")
    def _no_keys(self) -> Self:
        if keys := {TIME, FILE} & set(self.columns):
            raise ValueError(f"columns: {min(keys)} says which recording and when; name columns with values")
        return self
