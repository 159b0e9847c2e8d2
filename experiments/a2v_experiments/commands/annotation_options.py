"""Options of the commands that read tables of events, one for each field of `AnnotationConfig`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig

Command = Callable[..., None]


class TableFormat(StrEnum):
    csv = "csv"
    raven = "raven"
    audacity = "audacity"
    textgrid = "textgrid"
    birdnet = "birdnet"
    nips4bplus = "nips4bplus"
    meerkat = "meerkat"
    json = "json"


class TimeUnit(StrEnum):
    s = "s"
    ms = "ms"
    samples = "samples"


class OutsideChoice(StrEnum):
    refuse = "refuse"
    clip = "clip"
    drop = "drop"


class Unmapped(StrEnum):
    error = "error"
    keep = "keep"
    drop = "drop"


OPTIONS: dict[str, tuple[Any, str, str]] = {  # field -> type, option, help
    "tables": (list[str], "tables", "A table, a folder of tables or a pattern; may be repeated."),
    "format": (TableFormat, "format", "Of the tables; default: told from each."),
    "label_column": (str, "label-column", "Column that holds the class."),
    "tier": (str, "tier", "TextGrid tier to read: name, or number from 1."),
    "strip_numbers": (bool, "strip-numbers/--keep-numbers", "Labels lose running numbers at their end: cl17 is cl."),
    "mapping": (str, "mapping", "CSV (label,class) or YAML that renames, merges and drops; patterns: cl*."),
    "unmapped": (Unmapped, "unmapped", "Labels that the mapping does not name; default: error."),
    "default_label": (str, "default-label", "Class of events without one."),
    "point_duration_s": (float, "point-duration", "Length given to points, in seconds."),
    "outside": (OutsideChoice, "outside", "Events that pass the end of their recording; default: refuse."),
    "encoding": (str, "encoding", "Of text tables; default: UTF-8 or UTF-16."),
    "weak": (str, "weak-labels", "CSV: which classes call in each recording, without times."),
    "regions": (str, "regions", "CSV (file,onset_s,offset_s): what was annotated; default: regions.csv."),
    "region_label": (str, "region-label", "A label that marks what was annotated."),
    "file_column": (str, "file-column", "Column that names the recording."),
    "onset_column": (str, "onset-column", "Column that says where events start."),
    "offset_column": (str, "offset-column", "Column that says where events end."),
    "duration_column": (str, "duration-column", "Column that says how long events are."),
    "time_unit": (TimeUnit, "time-unit", "Of these times; default: what the columns' names say, or s."),
}


def table_options(
    name: str = "annotations", prefix: str = "", of: str = "", without: Sequence[str] = ()
) -> Callable[[Command], Command]:
    """Gives a command the options that say how tables are read; it gets them as its keyword `name: AnnotationConfig`.

    prefix: of the options' names; of: before their help, where there are several kinds of tables; without: fields that
    say nothing to the command.
    """
    fields = [field for field in OPTIONS if field not in without]

    def decorate(command: Command) -> Command:
        # The name of the configuration's class is not known here: importing it would slow every command down.
        hints = get_type_hints(command, localns={"AnnotationConfig": object}, include_extras=True)
        parameters = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name != name:
                parameters.append(parameter.replace(annotation=hints[parameter.name]))
                continue
            for field in fields:
                kind, option, told = OPTIONS[field]
                names = "/".join(f"--{prefix}{name}" for name in option.replace("--", "").split("/"))
                hint: Any = Annotated[kind | None, typer.Option(names, help=of + told)]
                parameters.append(
                    inspect.Parameter(f"{name}_{field}", parameter.KEYWORD_ONLY, default=None, annotation=hint)
                )

        @wraps(command)
        def with_tables(**given: Any) -> None:
            asked = {field: given.pop(f"{name}_{field}", None) for field in fields}
            command(**given, **{name: _config(asked, prefix)})

        signature = inspect.Signature([one.replace(kind=one.KEYWORD_ONLY) for one in parameters])
        with_tables.__signature__ = signature  # type: ignore[attr-defined]
        with_tables.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_tables

    return decorate


def _config(asked: dict[str, Any], prefix: str) -> AnnotationConfig:
    """The configuration for these options; None is the default. Raises `UserError` that names a wrong option."""
    from a2v_data.annotation_config import AnnotationConfig
    from pydantic import ValidationError

    from ..basics.errors import UserError

    try:
        return AnnotationConfig.model_validate({key: value for key, value in asked.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # of two options together, which the message names
            for field, (_, option, _) in OPTIONS.items():
                said = re.sub(rf"\b{field}\b", f"--{prefix}{option}", said)
            raise UserError(said) from None
        option = OPTIONS[str(first["loc"][0])][1]
        raise UserError(f"--{prefix}{option}: {said}") from None
