"""Swept values that `--scale` would cap to one and the same: smaller ones in their place, so that trials stay apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..basics.errors import UserError
from .sections import Recipe

Tree = dict[str, Any]
Resolve = Callable[[Mapping[str, Any]], Recipe]
Number = float | int


def keep_apart(sweep: Tree, resolve: Resolve) -> None:
    """Change numbers of the `sweep` section where the trials that they make have the same one.

    Only numbers: what two presets become, or two texts, is left, and so is a value for which no smaller one is valid.
    resolve(values): the trial with these values.
    """
    for key, choice in sweep["parameters"].items():
        if isinstance(choice, dict):
            low, high = _apart(key, [choice["low"], choice["high"]], resolve)
            if (low, high) != (choice["low"], choice["high"]) and low < high:
                sweep["parameters"][key] = {**choice, "low": low, "high": high, "step": None}
        else:
            sweep["parameters"][key] = _apart(key, choice, resolve)
    keys = dict.fromkeys(key for changes in sweep["variants"].values() for key in changes)
    for key in keys:
        named = [changes for changes in sweep["variants"].values() if key in changes]
        for changes, value in zip(named, _apart(key, [one[key] for one in named], resolve), strict=True):
            changes[key] = value


def _apart(key: str, values: Sequence[Any], resolve: Resolve) -> list[Any]:
    """The values of a key, those that are capped to one number as different ones below it, in their order of size."""
    numbers = sorted({value for value in values if _is_number(value)})
    if len(numbers) < 2:
        return list(values)
    becomes = {value: _what_becomes_of(key, value, resolve) for value in numbers}
    chosen: dict[Number, Number] = {}
    taken = {one for one in becomes.values() if one is not None}
    for cap in taken:
        alike = [value for value in numbers if becomes[value] == cap]
        if len(alike) < 2:
            continue
        chosen[alike[-1]] = cap
        for place, value in enumerate(alike[:-1], 1):
            smaller = _smaller(key, cap, place / len(alike), taken | set(chosen.values()), resolve)
            if smaller is not None:
                chosen[value] = smaller
    return [chosen.get(value, value) if _is_number(value) else value for value in values]


def _smaller(key: str, cap: Number, share: float, taken: set[Number], resolve: Resolve) -> Number | None:
    """A value below the cap, near `share` of it, that stays what it is when made small; None where there is none."""
    first = max(1, round(cap * share)) if isinstance(cap, int) else cap * share
    for candidate in (first, *((first + 1, first - 1, cap - 1) if isinstance(cap, int) else ())):
        if 0 < candidate < cap and candidate not in taken and _what_becomes_of(key, candidate, resolve) == candidate:
            return candidate
    return None


def _what_becomes_of(key: str, value: Number, resolve: Resolve) -> Number | None:
    """The number that a trial with this value has at the key, None where it has none or would be refused."""
    try:
        node: Any = resolve({key: value}).model_dump(mode="json")
    except UserError:
        return None
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node if _is_number(node) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
