"""How annotations are read: which tables, in which format, and which class each label becomes."""

import codecs
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Format = Literal["csv", "raven", "audacity", "textgrid", "birdnet", "nips4bplus", "meerkat", "json"]


class AnnotationConfig(BaseModel):
    """Options of the readers; the defaults find tables and formats by themselves.

    tables: files, folders or patterns (`*.TextGrid`), relative to the source folder or else to where the command
    runs; None: `annotations.csv`, or else the tables in `annotations/` and beside the recordings.
    format: None: told from each table's name and content.
    label_column: the column that holds the class (Raven, BirdNET, CSV, MeerKAT's fields); None: the only known one.
    tier: name or number (from 1) of the TextGrid tier to read; None: the only one with labels.
    mapping: file that renames, merges and drops classes: CSV (label,class) or YAML (label: class); an empty class
    drops the label. unmapped: what happens to labels that the mapping does not name.
    default_label: class of events that have none, for tables of a single class.
    point_duration_s: points (onset = offset) become events of this length with the point in the middle; None: they
    are errors.
    weak: a table of recording-level labels, without times (`weak.py`), relative as tables are; None: there is none.
    encoding: of text tables; None: UTF-8, or UTF-16 with a byte order mark.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tables: list[str] | None = None
    format: Format | None = None
    label_column: str | None = None
    tier: str | int | None = None
    mapping: str | None = None
    unmapped: Literal["error", "keep", "drop"] = "error"
    default_label: str | None = None
    point_duration_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    encoding: str | None = None
    weak: str | None = Field(default=None, exclude_if=lambda table: table is None)  # fingerprints without it stay

    @field_validator("tables")
    @classmethod
    def _some(cls, tables: list[str] | None) -> list[str] | None:
        if tables is not None and (not tables or not all(map(str.strip, tables))):
            raise ValueError("must name at least one file, folder or pattern (leave it out to find them)")
        return tables

    @field_validator("label_column", "mapping", "default_label", "weak")
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
