"""Options of the commands that read annotation tables, one for each field of `AnnotationConfig`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig


class TableFormat(StrEnum):
    csv = "csv"
    raven = "raven"
    audacity = "audacity"
    textgrid = "textgrid"
    birdnet = "birdnet"
    nips4bplus = "nips4bplus"
    meerkat = "meerkat"


class Unmapped(StrEnum):
    error = "error"
    keep = "keep"
    drop = "drop"


Tables = Annotated[
    list[str] | None, typer.Option("--tables", help="A table, a folder of tables or a pattern; may be repeated.")
]
Format = Annotated[TableFormat | None, typer.Option("--format", help="Default: told from each table.")]
LabelColumn = Annotated[str | None, typer.Option("--label-column", help="Column that holds the class.")]
Tier = Annotated[str | None, typer.Option("--tier", help="TextGrid tier to read: name, or number from 1.")]
Mapping = Annotated[str | None, typer.Option("--mapping", help="CSV (label,class) or YAML that renames and drops.")]
UnmappedOption = Annotated[Unmapped, typer.Option("--unmapped", help="Labels that the mapping does not name.")]
DefaultLabel = Annotated[str | None, typer.Option("--default-label", help="Class of events without one.")]
PointDuration = Annotated[float | None, typer.Option("--point-duration", help="Length given to points, in seconds.")]
Encoding = Annotated[str | None, typer.Option("--encoding", help="Of text tables; default: UTF-8 or UTF-16.")]


def annotation_config(**options: Any) -> AnnotationConfig:
    """The configuration for these options; None is the default. Raises `UserError` that names a wrong option."""
    from a2v_data.annotation_config import AnnotationConfig
    from pydantic import ValidationError

    from ..errors import UserError

    try:
        return AnnotationConfig.model_validate({key: value for key, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).removesuffix("_s").replace("_", "-")
        raise UserError(f"--{name}: {first['msg'].removeprefix('Value error, ')}") from None
