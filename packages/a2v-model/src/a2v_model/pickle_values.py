"""What a checkpoint may hold beside tensors: inert stand-ins for classes that are not installed here, numbers that
numpy wrote, and how all of it becomes plain data."""

import reprlib
import struct
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

MAX_DEPTH = 100
MAX_VALUES = 1_000_000
MAX_NAMES = 1000
INERT = ("omegaconf", "argparse", "fairseq", "examples")  # examples: where fairseq keeps the code of data2vec


class RefusedError(ValueError):
    """The file asks for something that is not data."""


class Object:
    """What a file makes of a stand-in's class: constructor arguments and state, both only recorded."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> "Object":
        made = super().__new__(cls)
        made.args, made.state = args, None
        return made

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother = 2, 60, 60


def shown(value: object, limit: int = 120) -> str:
    """Something from a file for a message: one line, printable, short, whatever it is."""
    text = str(value) if isinstance(value, (str, BaseException)) else SHORT.repr(value)
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _default_dict(factory: Any = None) -> dict[Any, Any]:
    return {}


class _NumpyType(Object):
    """A numpy.dtype."""


_NUMPY_FORMATS = {
    "b1": "?", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    """A number that training code logged as a numpy scalar."""
    if not isinstance(dtype, _NumpyType) or not dtype.args:
        raise RefusedError("a numpy value without a type")
    code = dtype.args[0]
    if not isinstance(code, str) or code not in _NUMPY_FORMATS or not isinstance(data, bytes):
        raise RefusedError(f"a numpy value of type {shown(code, 40)}")
    order = ">" if isinstance(dtype.state, tuple) and ">" in dtype.state[1:2] else "<"
    return struct.unpack(order + _NUMPY_FORMATS[code], data)[0]


_OWN: dict[str, Callable[..., Any]] = {
    "collections.defaultdict": _default_dict,
    "builtins.frozenset": frozenset,
    "numpy.dtype": _NumpyType,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
}


_TYPES = frozenset(
    f"builtins.{name}" for name in ("bool", "bytes", "dict", "float", "int", "list", "object", "str", "tuple")
)  # fmt: skip


def is_inert(full: str) -> bool:
    """Whether a name ('module.name') is of a package whose objects are only recorded."""
    return full.split(".")[0] in INERT and all(part.isidentifier() for part in full.split("."))


def stand_ins(names: Collection[str]) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """For torch.serialization.safe_globals: what to take for each name that torch does not know by itself.

    `RefusedError` names one that no checkpoint needs.
    """
    if len(names) > MAX_NAMES:
        raise RefusedError(f"more than {MAX_NAMES:,} classes")
    return [(_OWN.get(full) or _class_of(full), full) for full in sorted(names)]


def _class_of(full: str) -> type[Object]:
    module, _, name = full.rpartition(".")
    if not is_inert(full) and full not in _TYPES and module != "typing":
        raise RefusedError(f"{shown(full)}, which is neither a tensor nor plain data")
    return type(name, (Object,), {"__module__": module, "__qualname__": name})


def plain(value: Any) -> Any:
    """What torch.load gave, without stand-ins: what omegaconf and argparse kept becomes dict and list.

    Tensors stay, without anything that is attached to them. `RefusedError` where values are nested deeper than 100
    levels (or within themselves), or are more than a million, shared ones counted each time.
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
        if isinstance(value, (str, bytes, int, float, type(None))):
            return value
        if isinstance(value, Tensor):
            return value.detach()
        if isinstance(value, type):
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, Object):
            return self.convert(_content(value), depth + 1)
        if isinstance(value, dict):  # dict.items: the file can give an OrderedDict attributes, an 'items' too
            return {self._key(key, depth): self.convert(item, depth + 1) for key, item in dict.items(value)}
        if isinstance(value, (list, set, frozenset)):
            return [self.convert(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self.convert(item, depth + 1) for item in value)
        if isinstance(value, (torch.dtype, torch.device)):
            return str(value)
        raise RefusedError(f"a {type(value).__name__}, which is neither a tensor nor plain data")

    def _key(self, key: Any, depth: int) -> Any:
        """As plain as the rest; what could be no key once it is plain goes by its text."""
        key = self.convert(key, depth + 1)
        parts = key if isinstance(key, tuple) else (key,)
        return shown(key) if any(isinstance(part, (dict, list, tuple)) for part in parts) else key


def _content(value: Object) -> Any:
    """The data in an inert object: an omegaconf node's content, an enum's value, else its attributes."""
    state = value.state
    if isinstance(state, tuple) and len(state) == 2:  # (__dict__, __slots__)
        state = {key: item for part in state if isinstance(part, dict) for key, item in dict.items(part)}
    if isinstance(state, dict):
        if type(value).__module__.startswith("omegaconf."):
            for attribute in ("_content", "_val"):
                if attribute in state:
                    return state[attribute]
        return state
    return value.args[0] if len(value.args) == 1 else list(value.args)
