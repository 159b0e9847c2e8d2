"""What is wrong in a configuration, in one line each: file, key, value, what would be right."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_origin

from a2v_data.documents import shortened, shown
from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

KIND = re.compile(r"^constrained-|\[")  # what pydantic puts into an error's place for each kind a value may have
REMOVED = {"evaluate.segment_s": "there is no such key any more, windows are as long as data.segment_s; leave it out"}
MOST_LINES = 50
LONGEST_KEY, LONGEST_REASON = 200, 1000  # characters
NAMED = "[several]"  # the tag of a mapping whose keys are the user's names
TAG = re.compile(r"^\[.*\]$")  # and what a union whose `kind` says what is meant puts there: no key either


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Every problem of a configuration in one line each: file, key, value, what would be right."""
    lines = []
    strangers: dict[str, list[str]] = {}
    items = _as_meant(error)
    for item in items[:MOST_LINES]:
        last = len(item["loc"]) - 1
        own = last if item["type"] == "extra_forbidden" else None  # a key that is the user's, whatever it looks like
        keys = [str(part) for at, part in enumerate(item["loc"]) if at == own or not TAG.match(str(part))]
        key = shortened(".".join(keys), LONGEST_KEY)
        message = shortened(item["msg"].removeprefix("Value error, "), LONGEST_REASON)
        if item["type"] == "extra_forbidden":
            if told := _of_another_kind(model, [str(part) for part in item["loc"]]):
                strangers.setdefault(told, []).append(key)
                continue
            if key in REMOVED:
                lines.append(f"{where}: {key}: {REMOVED[key]}")
                continue
            known = _keys_at(model, [str(part) for part in item["loc"][:-1]])
            close = difflib.get_close_matches(keys[-1][:LONGEST_KEY], known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            lines.append(f"{where}: {key}: unknown key{hint}")
        elif item["type"] == "union_tag_invalid":
            tag, expected = item["ctx"]["tag"], re.findall(r"'\[(.*?)\]'", item["ctx"]["expected_tags"])
            lines.append(f"{where}: {key}.kind = {shown(tag.strip('[]'))}: must be {' or '.join(expected)}")
        elif item["type"] == "missing":
            lines.append(f"{where}: {key}: missing")
        elif not key:
            lines.append(f"{where}: {message}")
        elif item["type"] == "value_error" and message.startswith("kind"):  # of a plugin's part
            lines.append(f"{where}: {key}.{message}")
        elif item["type"] == "value_error":
            lines.append(f"{where}: {key}: {message}")
        else:
            lines.append(f"{where}: {key} = {shown(item['input'])}: {message[0].lower() + message[1:]}")
    for told, keys in strangers.items():
        lines.append(f"{where}: {', '.join(keys)}: {'a key' if len(keys) == 1 else 'keys'} of {told}")
    if more := items[MOST_LINES:]:
        lines.append(f"{where}: and {len(more)} more")
    return "\n".join(lines)


def _as_meant(error: ValidationError) -> list[ErrorDetails]:
    """A value that may be of several kinds (a number, a mapping) has an error for each: keep that of the kind meant."""
    groups: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for item in error.errors():
        loc = item["loc"]
        ours = loc[:-1] if item["type"] == "extra_forbidden" else loc  # without a key that is the user's
        kinds = (place for place, part in enumerate(ours) if KIND.search(str(part)) and not TAG.match(str(part)))
        kind = next(kinds, None)
        field = loc if kind is None else loc[:kind]
        item["loc"] = field + (() if kind is None else loc[kind + 1 :])
        groups.setdefault(field, []).append(item)
    kept = []
    for items in groups.values():
        right_kind = [item for item in items if not item["type"].endswith(("_type", "_parsing"))]
        kept += right_kind or [max(items, key=lambda item: len(item["loc"]))]
    return kept


def _of_another_kind(model: type[BaseModel], loc: list[str]) -> str | None:
    """Which other kind of a union has the key that ends `loc`, and what to do about it; None where none has."""
    if len(loc) < 2 or not TAG.match(loc[-2]):
        return None
    own, parents = loc[-2].strip("[]"), loc[:-2]
    field = _field_at(model, parents)
    others = _tagged(field.annotation) if field else {}
    for tag, other in others.items():
        if tag not in (loc[-2], NAMED) and loc[-1] in other.model_fields:
            kind = tag.strip("[]")
            place = ".".join(part for part in parents if not TAG.match(part))
            return f"kind {kind!r}, but {place} is of kind {own!r}; say {place}.kind: {kind}, or leave it out"
    return None


def _field_at(model: type[BaseModel], keys: list[str]) -> FieldInfo | None:
    *parents, last = keys
    parent = _model_at(model, parents)
    return parent.model_fields.get(last) if parent else None


def _keys_at(model: type[BaseModel], keys: list[str]) -> list[str]:
    """The known keys of the configuration that stands at a path, tags of kinds included."""
    found = _model_at(model, keys)
    return list(found.model_fields) if found else []


def _model_at(model: type[BaseModel], keys: list[str]) -> type[BaseModel] | None:
    rest = list(keys)
    while rest:
        field = model.model_fields.get(rest.pop(0))
        if field is None:
            return None
        if get_origin(field.annotation) is dict and rest:  # the next key is the user's: a label share, a parameter
            rest.pop(0)
        tag = rest.pop(0) if rest and TAG.match(rest[0]) else None
        nested = _tagged(field.annotation).get(tag) if tag else _nested_model(field.annotation)
        if tag == NAMED and rest:
            rest.pop(0)
        if nested is None:
            return None
        model = nested
    return model


def _tagged(annotation: Any) -> dict[str, type[BaseModel]]:
    """Tag -> configuration, of a union whose parts are tagged."""
    found: dict[str, type[BaseModel]] = {}
    for part in getattr(annotation, "__args__", ()):
        tags = [one.tag for one in getattr(part, "__metadata__", ()) if isinstance(one, Tag)]
        nested = _nested_model(part)
        found |= {tag: nested for tag in tags if nested} or _tagged(part)
    return found


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _nested_model(part)
        if found:
            return found
    return None
