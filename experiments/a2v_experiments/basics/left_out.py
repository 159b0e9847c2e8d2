"""Configurations in fingerprints: without what is as usual, so that a new option changes no fingerprint.

Of two different configurations of one class what is left differs too: a field is left out for one value alone, and a
field that can only have one value (`kind`) tells the classes of a union apart and is never left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from .code_versions import pinned

Usual = Mapping[str, Mapping[str, Any]]


def without_usual(config: BaseModel, usual: Usual | None = None, **dump: Any) -> dict[str, Any]:
    """A configuration as JSON data without the fields that have their usual value, at any depth.

    usual: as `Pinned.left_out` (None: that of this a2v); a field that is not there has its default. dump: `include` and
    `exclude` of pydantic's `model_dump`.
    """
    shown = config.model_dump(mode="json", **dump)
    found: dict[str, Any] = _reduced(config, shown, pinned()["left_out"] if usual is None else usual)
    return found


def class_key(kind: type[BaseModel]) -> str:
    """MODULE:CLASS."""
    return f"{kind.__module__}:{kind.__qualname__}"


def defaults(kind: type[BaseModel], usual: Usual) -> dict[str, Any]:
    """Field -> its default, without what is usual in there; of the fields that have one."""
    found = {}
    for name, field in kind.model_fields.items():
        if not field.is_required():
            value = field.get_default(call_default_factory=True, validated_data={})
            holder = kind.model_construct(**{name: value})
            shown = holder.model_dump(mode="json", include={name}, warnings=False)
            if name in shown:
                found[name] = _reduced(value, shown[name], usual)
    return found


def configurations(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A class of configurations, those that it is made of, and all those that its fields may hold."""
    waiting, seen = [kind], {kind}
    while waiting:
        one = waiting.pop()
        yield one
        found = {
            inner for field in one.model_fields.values() for inner in _classes((field.annotation, *field.metadata))
        }
        found |= {base for base in one.__mro__ if issubclass(base, BaseModel) and base is not BaseModel}
        waiting += sorted(found - seen, key=class_key)
        seen |= found


def _classes(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not get_origin(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in annotation if isinstance(annotation, tuple) else get_args(annotation):
        yield from _classes(inner)


def _reduced(value: Any, shown: Any, usual: Usual) -> Any:
    """shown: the value as JSON data."""
    if isinstance(value, BaseModel) and isinstance(shown, dict):
        kind = type(value)
        known = usual.get(class_key(kind), {})
        if any(name not in known for name in shown):
            known = {**defaults(kind, usual), **known}
        inside = {
            name: _reduced(getattr(value, name), one, usual) if name in kind.model_fields else one
            for name, one in shown.items()
        }
        return {
            name: one
            for name, one in inside.items()
            if _tells_classes_apart(kind, name) or name not in known or not _same(one, known[name])
        }
    if isinstance(value, Mapping) and isinstance(shown, dict) and len(value) == len(shown):
        return {key: _reduced(one, shown[key], usual) for one, key in zip(value.values(), shown, strict=True)}
    if isinstance(value, list | tuple) and isinstance(shown, list) and len(value) == len(shown):
        return [_reduced(one, inner, usual) for one, inner in zip(value, shown, strict=True)]
    return shown


def _tells_classes_apart(kind: type[BaseModel], name: str) -> bool:
    annotation = kind.model_fields[name].annotation if name in kind.model_fields else None
    return get_origin(annotation) is Literal and len(get_args(annotation)) == 1


def _same(one: Any, other: Any) -> bool:
    """As JSON text, in which true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
