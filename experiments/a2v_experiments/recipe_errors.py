"""What is wrong in a configuration, in one line each: file, key, value, what would be right."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

KIND = re.compile(r"^constrained-|\[")  # what pydantic puts into an error's place for each kind a value may have


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Every problem of a configuration in one line each: file, key, value, what would be right."""
    lines = []
    for item in _as_meant(error):
        keys = [str(part) for part in item["loc"]]
        key = ".".join(keys)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(keys[-1], _keys_at(model, keys[:-1]), n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(_keys_at(model, keys[:-1]))}"
            lines.append(f"{where}: {key}: unknown key{hint}")
        elif item["type"] == "missing":
            lines.append(f"{where}: {key}: missing")
        elif not key:
            lines.append(f"{where}: {message}")
        elif item["type"] == "value_error":
            lines.append(f"{where}: {key}: {message}")
        else:
            lines.append(f"{where}: {key} = {item['input']!r}: {message[0].lower() + message[1:]}")
    return "\n".join(lines)


def _as_meant(error: ValidationError) -> list[ErrorDetails]:
    """A value that may be of several kinds (a number, a mapping) has an error for each: keep that of the kind meant."""
    groups: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for item in error.errors():
        loc = item["loc"]
        kind = next((place for place, part in enumerate(loc) if KIND.search(str(part))), None)
        field = loc if kind is None else loc[:kind]
        item["loc"] = field + (() if kind is None else loc[kind + 1 :])
        groups.setdefault(field, []).append(item)
    kept = []
    for items in groups.values():
        right_kind = [item for item in items if not item["type"].endswith(("_type", "_parsing"))]
        kept += right_kind or [max(items, key=lambda item: len(item["loc"]))]
    return kept


def _keys_at(model: type[BaseModel], keys: list[str]) -> list[str]:
    """The known keys of the configuration that stands at a dotted path."""
    rest = list(keys)
    while rest:
        field = model.model_fields.get(rest.pop(0))
        nested = _nested_model(field.annotation) if field else None
        if field is None or nested is None:
            return []
        if get_origin(field.annotation) is dict and rest:  # the next key is the user's: a label share, a parameter
            rest.pop(0)
        model = nested
    return list(model.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _nested_model(part)
        if found:
            return found
    return None
