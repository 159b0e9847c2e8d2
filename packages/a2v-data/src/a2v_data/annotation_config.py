"""How annotations are read: which tables, in which format, and which class each label becomes."""

import codecs
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Format = Literal["csv", "raven", "audacity", "textgrid", "birdnet", "nips4bplus", "meerkat", "json"]
Outside = Literal["refuse", "clip", "drop"]
TimeUnit = Literal["s", "ms", "samples"]


def _is_none(value: object) -> bool:
    """Whether an option is off: then it is no part of a fingerprint."""
    return value is None


class AnnotationConfig(BaseModel):
    """Options of the readers; the defaults find tables and formats by themselves.

    tables: files, folders or patterns (`*.TextGrid`), relative to the source folder or else to where the command
    runs; None: `annotations.csv`, or else the tables in `annotations/` and beside the recordings.
    format: None: told from each table's name and content.
    label_column: the column that holds the class (Raven, BirdNET, CSV, MeerKAT's fields); None: the only known one.
    tier: name or number (from 1) of the TextGrid tier to read; None: the only one with labels.
    strip_numbers: labels lose the running number at their end (`cl17`: `cl`) before anything else is done with them.
    mapping: file that renames, merges and drops classes: CSV (label,class) or YAML (label: class), a label or a
    pattern (`gy_*`) each; an empty class drops the label. unmapped: what happens to labels that it does not name.
    outside: what happens to events that pass the end of their recording: `refuse` (they are errors), `clip` (they end
    with it) or `drop`; those that lie outside altogether are dropped by both.
    default_label: class of events that have none, for tables of a single class.
    point_duration_s: points (onset = offset) become events of this length with the point in the middle; None: they
    are errors.
    weak: a table of recording-level labels, without times (`weak.py`), relative as tables are; None: there is none.
    encoding: of text tables; None: UTF-8, or UTF-16 with a byte order mark.
    regions: CSV (file,onset_s,offset_s) that says which parts of the recordings were annotated; None: `regions.csv`
    where there is one. region_label: a label that marks such parts in the tables themselves.
    file_column, onset_column, offset_column, duration_column: names of the columns that hold the recording, where an
    event starts, and where it ends or how long it is; with one of the latter three any table with a header can be read.
    time_unit: of the times in them, seconds, milliseconds or samples of the recording; None: what the names say, else
    seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tables: list[str] | None = None
    format: Format | None = None
    label_column: str | None = None
    tier: str | int | None = None
    # in no dump where they are as usual, so recipes without them keep the fingerprints that they had before
    strip_numbers: bool = Field(default=False, exclude_if=lambda wanted: not wanted)
    outside: Outside = Field(default="refuse", exclude_if=lambda one: one == "refuse")
    mapping: str | None = None
    unmapped: Literal["error", "keep", "drop"] = "error"
    default_label: str | None = None
    point_duration_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    encoding: str | None = None
    weak: str | None = Field(default=None, exclude_if=_is_none)
    regions: str | None = Field(default=None, exclude_if=_is_none)
    region_label: str | None = Field(default=None, exclude_if=_is_none)
    file_column: str | None = Field(default=None, exclude_if=_is_none)
    onset_column: str | None = Field(default=None, exclude_if=_is_none)
    offset_column: str | None = Field(default=None, exclude_if=_is_none)
    duration_column: str | None = Field(default=None, exclude_if=_is_none)
    time_unit: TimeUnit | None = Field(default=None, exclude_if=_is_none)

    @property
    def named_times(self) -> bool:
        """Whether a column of times is named, so that any table with a header is read by these names."""
        return any(name is not None for name in (self.onset_column, self.offset_column, self.duration_column))

    @model_validator(mode="after")
    def _one_end(self) -> "AnnotationConfig":
        if self.offset_column is not None and self.duration_column is not None:
            raise ValueError("duration_column: offset_column says where events end, too; give one of the two")
        return self

    @field_validator("tables")
    @classmethod
    def _some(cls, tables: list[str] | None) -> list[str] | None:
        if tables is not None and (not tables or not all(map(str.strip, tables))):
            raise ValueError("must name at least one file, folder or pattern (leave it out to find them)")
        return tables

    @field_validator(
        "label_column", "mapping", "default_label", "weak", "regions", "region_label", "file_column", "onset_column",
        "offset_column", "duration_column",
    )  # fmt: skip
    @classmethod
    def _not_blank(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("must not be empty (leave it out instead)")
        return text

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        try:
            if name is not None:
                "".encode(codecs.lookup(name).name)
        except LookupError:
            raise ValueError(f"no text encoding {name!r}; for example utf-8, cp1252, latin-1") from None
        return name
