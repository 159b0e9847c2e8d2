"""JSON and YAML that somebody else may have written, read within bounds, and what of it a message shows.

A few hundred bytes of YAML can stand for gigabytes (aliases of aliases), brackets within brackets end Python's stack,
a number of 5000 digits fits no field. So the size of a file, the depth, what aliases stand for and whole numbers have
limits, far above those of any real document. All reasons are one line without the document's name, which callers know.
"""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml

MOST_BYTES = 1 << 28
MOST_YAML_BYTES = 1 << 20  # two seconds of reading
DEEPEST = 100
MOST_VALUES = 100_000  # of YAML, aliases followed
TEXT_VALUE = 64  # characters that count as a further value
LARGEST = 1 << 63  # of whole numbers, either sign
SHOWN = 80
LONGEST = 200  # characters of a reason


def read_document(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """The text of a file. Raises OSError, and ValueError (one line, without its name) for what is no UTF-8 text or too
    large."""
    if path.exists() and not path.is_file():
        raise ValueError("is no file")
    if (size := path.stat().st_size) > most_bytes:
        raise ValueError(f"has {size:,} bytes, at most {most_bytes:,} are read")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text: {error}") from None
    if "\0" in text:
        raise ValueError("holds NUL bytes, it is no text")
    return text


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """What a JSON file says. Raises OSError, and ValueError (one line, without its name)."""
    return json_of(read_document(path, most_bytes))


def json_of(text: str) -> Any:
    """What a text in JSON says. Raises ValueError (one line)."""
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(str(error)) from None
    except (ValueError, RecursionError) as error:  # more than 4300 digits, or deeper than Python's stack
        raise ValueError(_too_deep() if isinstance(error, RecursionError) else "a number of too many digits") from None
    return bounded(tree)


def bounded(tree: Any) -> Any:
    """The tree itself. Raises ValueError where it is too deep or has a whole number that is too large."""
    level: list[Any] = [[tree]]
    for _ in range(DEEPEST + 1):
        below = []
        for one in level:
            for value in one.values() if type(one) is dict else one:
                kind = type(value)
                if kind is dict or kind is list:
                    below.append(value)
                elif kind is int and not -LARGEST <= value < LARGEST:
                    raise ValueError("a whole number of more than 18 digits")
        if not below:
            return tree
        level = below
    raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"values within each other deeper than {DEEPEST} levels"


def check_keys(tree: Any, needed: Mapping[str, Any], further: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The object that a document says, which has the keys of `needed`, and values of the types given for them and for
    those of `further` that it has (`fits`). Raises ValueError (one line)."""
    if not isinstance(tree, dict):
        raise ValueError(f"{shown(tree)} is no JSON object")
    if missing := [key for key in needed if key not in tree]:
        raise ValueError(f"{missing[0]} is missing")
    for key, hint in {**needed, **(further or {})}.items():
        if key in tree and not fits(tree[key], hint):
            raise ValueError(f"{key} is {shown(tree[key])}, should be {getattr(hint, '__name__', hint)}")
    return tree


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a type: numbers, text, None, and lists, tuples and objects of these."""
    origin, of = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is UnionType:
        return any(fits(value, one) for one in of)
    if origin is dict:
        return isinstance(value, dict) and all(fits(one, of[1]) for one in value.values())
    if origin is tuple and of[-1:] != (...,) and isinstance(value, list | tuple) and len(value) != len(of):
        return False
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(fits(one, of[0]) for one in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


class Bounds(yaml.composer.Composer):
    """To stand before a loader of PyYAML: refuses what is too deep, or too much once its aliases are followed."""

    depth = values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._sizes: dict[int, int] = getattr(self, "_sizes", {})
        mark = self.peek_event().start_mark  # type: ignore[attr-defined]
        is_alias = self.check_event(yaml.AliasEvent)  # type: ignore[attr-defined]
        if self.depth > DEEPEST:
            raise yaml.composer.ComposerError(None, None, _too_deep(), mark)
        before, self.depth = self.values, self.depth + 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if is_alias and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias of what it stands in", mark)
        if is_alias:
            self.values += self._sizes[id(node)]
        else:
            self.values += 1 + (len(node.value) // TEXT_VALUE if isinstance(node, yaml.ScalarNode) else 0)
            self._sizes[id(node)] = self.values - before
        if self.values > MOST_VALUES:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_VALUES:,} values, aliases followed", mark)
        return node


class OnceLoader(Bounds, yaml.SafeLoader):
    """Within bounds; refuses a key that stands twice in one mapping, of which YAML keeps the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{shown(key.value)} stands there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class PlainLoader(Bounds, yaml.BaseLoader):
    """Within bounds; every value is text."""


def read_yaml(path: Path) -> Any:
    """What a YAML file says. Raises OSError, and ValueError (one line, without its name)."""
    return yaml_of(read_document(path, MOST_YAML_BYTES))


def yaml_of(text: str) -> Any:
    """What a text in YAML says: plain values only. Raises ValueError (one line), also for keys that stand twice."""
    try:
        tree = yaml.load(text, OnceLoader)
    except yaml.YAMLError as error:
        raise ValueError(reason(str(error).replace('in "<unicode string>", ', "at "), 500)) from None
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        # PyYAML on `!!int x`, a date that is none, a number of 5000 digits
        raise ValueError(f"a value that is not what its form says: {reason(error, SHOWN)}") from None
    return bounded(tree)


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, SHOWN, SHOWN, SHOWN


def shown(value: object, limit: int = SHOWN) -> str:
    """A value for a message: a repr of one printable line of at most `limit` characters, whatever it is."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        text = f"a {type(value).__name__}"
    return shortened(text, limit)


def reason(error: BaseException | str, limit: int = LONGEST) -> str:
    """What an error says, for a message: one printable line of at most `limit` characters, without the file's name that
    the system's errors have; of one without words, its type."""
    said = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return shortened(" ".join(str(said).split()).rstrip("."), limit) or type(error).__name__


def shortened(text: str, limit: int = SHOWN) -> str:
    """A name or another text for a message, as it is but for what cannot be printed and what is beyond `limit`."""
    text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
