"""What `restricted_pickle` makes of a file: inert stand-ins, the few values that a file may ask for by calling
something, and how all of it becomes plain data."""

import reprlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 100
MAX_VALUES = 1_000_000

Call = Callable[..., Any]


class RefusedError(ValueError):
    """The pickle asks for something that is not data."""


@dataclass(frozen=True, slots=True, repr=False)
class Name:
    """A class, type or function that the file names; never looked up."""

    full: str

    def __repr__(self) -> str:
        return self.full


@dataclass(eq=False, slots=True, repr=False)
class Object:
    """What the file makes of an inert class: constructor arguments, state and items, all of them data."""

    of: Name
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"an object of {self.of.full}"


class OrderedItems(dict[Any, Any]):
    """A collections.OrderedDict; attributes that the file sets on it (torch's `_metadata`) are dropped."""


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 60, 60


def shown(value: object, limit: int = 120) -> str:
    """Something from a file for a message: one line, printable, short, whatever it is."""
    text = str(value) if isinstance(value, (str, BaseException)) else _SHORT.repr(value)
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."


def checked_key(key: Any) -> Any:
    """A key that can be hashed without recursion."""
    scalar = (str, bytes, int, float, type(None), Name, Object)
    if isinstance(key, scalar) or (isinstance(key, tuple) and all(isinstance(part, scalar) for part in key)):
        return key
    raise RefusedError(f"{kind_of(key)} as a key")


def kind_of(value: Any) -> str:
    return shown(value) if isinstance(value, (Name, Object)) else f"a {type(value).__name__}"


def _ordered(pairs: Any = ()) -> OrderedItems:
    return OrderedItems((checked_key(key), value) for key, value in pairs)


def _default_dict(factory: Any = None, pairs: Any = ()) -> OrderedItems:
    if factory is not None and not isinstance(factory, Name):
        raise RefusedError(f"a defaultdict of {kind_of(factory)}")
    return _ordered(pairs.items() if isinstance(pairs, dict) else pairs)


def _sequence(values: Any = ()) -> list[Any]:
    if not isinstance(values, (list, tuple)):
        raise RefusedError(f"a set of {kind_of(values)}")
    return list(values)


def _latin_1(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedError("_codecs.encode of something other than bytes")
    return text.encode("latin-1")


_NUMPY_FORMATS = {
    "b1": "?", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


def _numpy_dtype(*args: Any) -> Object:
    return Object(Name("numpy.dtype"), args)


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    """A number that training code logged as a numpy scalar."""
    if not isinstance(dtype, Object) or dtype.of.full != "numpy.dtype" or not dtype.args:
        raise RefusedError("a numpy value without a type")
    code = dtype.args[0]
    if not isinstance(code, str) or code not in _NUMPY_FORMATS or not isinstance(data, bytes):
        raise RefusedError(f"a numpy value of type {shown(code, 40)}")
    order = ">" if isinstance(dtype.state, tuple) and ">" in dtype.state[1:2] else "<"
    return struct.unpack(order + _NUMPY_FORMATS[code], data)[0]


CALLS: dict[str, Call] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _default_dict,
    "builtins.set": _sequence,
    "builtins.frozenset": _sequence,
    "_codecs.encode": _latin_1,
    "numpy.dtype": _numpy_dtype,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
}


def plain(value: Any) -> Any:
    """`value` of `load` without `Name` and `Object`: what omegaconf and argparse kept becomes dict and list.

    Leaves other than containers and inert things stay what they are. `RefusedError` where values are nested
    deeper than 100 levels (or within themselves), or are more than a million, shared ones counted each time.
    """
    return _Plain().convert(value, 0)


class _Plain:
    def __init__(self) -> None:
        self.left = MAX_VALUES

    def convert(self, value: Any, depth: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise RefusedError(f"more than {MAX_VALUES:,} values")
        if depth > MAX_DEPTH:
            raise RefusedError(f"values nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, Name):
            return value.full
        if isinstance(value, Object):
            return self.convert(_content(value), depth + 1)
        if isinstance(value, dict):
            return {self._key(key, depth): self.convert(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.convert(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self.convert(item, depth + 1) for item in value)
        return value

    def _key(self, key: Any, depth: int) -> Any:
        return checked_key(self.convert(key, depth + 1))


def _content(value: Object) -> Any:
    """The data in an inert object: an omegaconf node's content, an enum's value, else its attributes."""
    state = value.state
    if isinstance(state, tuple) and len(state) == 2:  # (__dict__, __slots__)
        state = {key: item for part in state if isinstance(part, dict) for key, item in part.items()}
    if isinstance(state, dict):
        if value.of.full.startswith("omegaconf."):
            for attribute in ("_content", "_val"):
                if attribute in state:
                    return state[attribute]
        return {**state, **value.items}
    if value.items:
        return value.items
    return value.args[0] if len(value.args) == 1 else list(value.args)
