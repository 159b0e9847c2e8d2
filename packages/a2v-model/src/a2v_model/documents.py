"""The JSON that describes a model, read within bounds: anybody may have written it."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from a2v_model.pickle_values import SHORT, shown

MOST_BYTES = 1 << 26
DEEPEST = 100
LONGEST = 500  # characters of a reason
LARGEST = 1 << 63  # of whole numbers, either sign


def read_json(path: Path) -> Any:
    """What a JSON file says. Raises OSError, and ValueError (one line, without the file's name) for what is too large
    or too deep, or no JSON."""
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"has {size:,} bytes, at most {MOST_BYTES:,} are read")
    try:
        tree = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    except ValueError:  # Python reads no more than 4300
        raise ValueError("a number of too many digits") from None
    except RecursionError:
        raise ValueError(f"values within each other deeper than {DEEPEST} levels") from None
    _check(tree)
    return tree


def _check(tree: Any) -> None:
    level: list[Any] = [[tree]]
    for _ in range(DEEPEST + 1):
        values = [value for one in level for value in (one.values() if isinstance(one, dict) else one)]
        if any(isinstance(value, int) and not -LARGEST <= value < LARGEST for value in values):
            raise ValueError("a whole number of more than 18 digits")
        level = [value for value in values if isinstance(value, dict | list)]
        if not level:
            return
    raise ValueError(f"values within each other deeper than {DEEPEST} levels")


def quoted(value: object, limit: int = 80) -> str:
    """The repr of a value for a message: one line, printable, short, whatever it is."""
    return shown(SHORT.repr(value), limit)


def reason(error: Exception) -> str:
    """What an error says, in one line: of a configuration the first places that are wrong."""
    if not isinstance(error, ValidationError):
        return shown(" ".join(str(error).split()), LONGEST)
    found = error.errors()
    lines = [_place(item["loc"], item["msg"], item["input"]) for item in found[:3]]
    return "; ".join([*lines, f"and {len(found) - 3} more"] if len(found) > 3 else lines)


def _place(loc: tuple[int | str, ...], message: str, value: object) -> str:
    keys = ".".join(str(part) for part in loc if not str(part).startswith("["))
    if message.startswith("Value error, "):
        return shown(message.removeprefix("Value error, "), LONGEST)
    return f"{shown(keys)} is {quoted(value)}: {shown(message, LONGEST)}"


def check_types(tree: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Raise ValueError (one line) for a key of `types` of which `tree` has another type: numbers, text, lists, objects
    and unions of these."""
    for key, hint in types.items():
        if key in tree and not _fits(tree[key], hint):
            raise ValueError(f"{key} is {quoted(tree[key])}, should be {getattr(hint, '__name__', hint)}")


def _fits(value: Any, hint: Any) -> bool:
    origin, of = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return any(_fits(value, one) for one in of)
    if origin is dict:
        return isinstance(value, dict) and (of[1] is Any or all(_fits(one, of[1]) for one in value.values()))
    if origin is list:
        return isinstance(value, list) and all(_fits(one, of[0]) for one in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)
