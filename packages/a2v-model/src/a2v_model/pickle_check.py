"""Looks through a checkpoint's pickle before torch reads it, and refuses what torch is not safe from.

torch.load(weights_only=True) runs nothing that a file names. But it calls some functions for a file, and a hostile one
can make them fill the memory (one list copied a million times, an error message of 2^50 values) or overflow the stack
(keys nested a hundred thousand deep). So this walks over the instructions as Python's own decoder (pickletools) gives
them, with placeholders on the stack in the place of values; what torch checks by itself is left to torch.
"""

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from a2v_model.pickle_values import MAX_VALUES, RefusedError, is_inert, shown

MAX_OPCODES = 2_000_000
MAX_INTEGER_BITS = 128
_SETS = ("__builtin__.set", "__builtin__.frozenset")  # names are here as protocol 2 writes them, those of Python 2
_CALLED = {
    *_SETS, "collections.OrderedDict", "collections.defaultdict", "_codecs.encode", "torch.Size", "torch.device",
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
    "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
}  # fmt: skip
_SCALARS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "NONE", "NEWTRUE", "NEWFALSE"}
_DAMAGED = (IndexError, KeyError, TypeError, AttributeError, ValueError, OverflowError, struct.error)
_MARK = object()


@dataclass(frozen=True, slots=True)
class _Name:
    """A class, type or function that the file names."""

    full: str


@dataclass(eq=False, slots=True)
class _Made:
    """The place of a container, of which only the size is known, or of what a call gives."""

    kind: str
    count: int = 0
    keys_only: bool = True  # everything in it may be a key


def check(data: bytes) -> None:
    """Whether torch may read a pickle; `RefusedError` (one line) says why not, or where it is damaged."""
    walk, position = _Walk(len(data)), 0
    try:
        for count, (opcode, arg, at) in enumerate(pickletools.genops(data)):
            position = at or 0
            if count >= MAX_OPCODES:
                raise RefusedError(f"more than {MAX_OPCODES:,} instructions")
            walk.step(opcode, arg)
        if len(walk.stack) != 1:
            raise RefusedError("a pickle that does not end with one value")
    except RefusedError:
        raise
    except _DAMAGED as error:
        raise RefusedError(f"a damaged pickle (near byte {position}: {shown(error)})") from error


class _Walk:
    def __init__(self, size: int) -> None:
        self.may_copy = min(size, MAX_VALUES)  # each value was written at least once, in at least one byte
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: pickletools.OpcodeInfo, arg: Any) -> None:
        name = opcode.name
        if name in _SCALARS:
            if isinstance(arg, int) and arg.bit_length() > MAX_INTEGER_BITS:
                raise RefusedError(f"an integer of {arg.bit_length()} bits")
            self.stack.append(arg)
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[arg] = _value(self.stack[-1])
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[arg])
        elif name == "GLOBAL":
            self.stack.append(_Name(arg.replace(" ", ".")))
        elif name in _HANDLERS:
            self.stack.append(_HANDLERS[name](self, *self.take(opcode.stack_before)))
        elif name != "PROTO":
            raise RefusedError(f"the pickle instruction {name}, which torch.save does not write")
        elif arg != 2:
            raise RefusedError(f"a pickle of protocol {arg}; read is only protocol 2, which torch.save takes by itself")

    def take(self, wanted: list[pickletools.StackObject]) -> list[Any]:
        """Off the stack what an instruction needs; all that follows a mark as one list."""
        values: list[Any] = []
        for kind in reversed(wanted):
            if kind is pickletools.stackslice:
                items = []
                while (item := self.stack.pop()) is not _MARK:
                    items.append(item)
                values.append(items[::-1])
            elif kind is not pickletools.markobject:
                values.append(_value(self.stack.pop()))
        return values[::-1]

    def call(self, called: Any, args: Any) -> _Made:
        full = called.full if isinstance(called, _Name) else ""
        if not isinstance(args, tuple) or not (full in _CALLED or is_inert(full)):
            raise RefusedError(f"a call of {_kind(called)}")
        self.copy(args, *args)
        if full == "collections.OrderedDict":
            fits = not args
        elif full in _SETS:
            fits = len(args) == 1 and _kind(args[0]) == "a list" and args[0].keys_only
        else:
            fits = full != "_codecs.encode" or (isinstance(args[0], str) and args[1:] in (("latin1",), ("latin-1",)))
        if not fits:
            raise RefusedError(f"a call of {full} with something unusual")
        return _Made(f"an object of {full}")

    def new(self, called: Any, args: Any) -> _Made:
        if not isinstance(called, _Name) or not is_inert(called.full):
            raise RefusedError(f"an object of {_kind(called)}")
        return self.call(called, args)

    def build(self, target: Any, state: Any) -> Any:
        full = _kind(target).removeprefix("an object of ")
        if not is_inert(full) and full not in ("collections.OrderedDict", "numpy.dtype"):
            raise RefusedError(f"attributes set on {_kind(target)}")
        self.copy(state)
        return target

    def copy(self, *values: Any) -> None:
        """What torch copies, for which a file can refer to the same values again and again."""
        for value in values:
            if isinstance(value, str):
                self.may_copy -= len(value) // 8  # a value in a container takes 8 bytes
            elif isinstance(value, (tuple, _Made)):
                self.may_copy -= len(value) if isinstance(value, tuple) else value.count
        if self.may_copy < 0:
            raise RefusedError("the same values copied again and again")

    def extend(self, target: _Made, items: list[Any]) -> _Made:
        target.count += len(items)
        target.keys_only = target.keys_only and all(_is_key(item) for item in items)
        return target

    def put(self, target: _Made, items: list[Any]) -> _Made:
        for key in items[::2]:
            if not _is_key(key):
                raise RefusedError(f"{_kind(key)} as a key")
        target.count += len(items)
        return target

    def storage(self, reference: Any) -> _Made:
        if not isinstance(reference, tuple) or reference[:1] != ("storage",) or not _is_key(reference):
            raise RefusedError("a reference that is not to a storage")
        return _Made("a storage")


def _value(value: Any) -> Any:
    if value is _MARK:
        raise IndexError("a mark in the place of a value")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, _Name):
        return shown(value.full)
    return shown(value.kind) if isinstance(value, _Made) else f"a {type(value).__name__}"


def _is_key(value: Any) -> bool:
    """Whether it can be hashed without going deep."""
    parts = value if isinstance(value, tuple) else (value,)
    return not any(isinstance(part, tuple) or _kind(part) in ("a list", "a dict") for part in parts)


_HANDLERS: dict[str, Callable[..., Any]] = {
    "EMPTY_DICT": lambda walk: _Made("a dict"),
    "EMPTY_LIST": lambda walk: _Made("a list"),
    "EMPTY_TUPLE": lambda walk: (),
    "TUPLE": lambda walk, items: tuple(items),
    "TUPLE1": lambda walk, *items: items,
    "TUPLE2": lambda walk, *items: items,
    "TUPLE3": lambda walk, *items: items,
    "APPEND": lambda walk, target, item: walk.extend(target, [item]),
    "APPENDS": _Walk.extend,
    "SETITEM": lambda walk, target, key, value: walk.put(target, [key, value]),
    "SETITEMS": _Walk.put,
    "REDUCE": _Walk.call,
    "NEWOBJ": _Walk.new,
    "BUILD": _Walk.build,
    "BINPERSID": _Walk.storage,
    "STOP": lambda walk, value: value,
}
