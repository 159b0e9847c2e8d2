"""Reads a pickle as data: it never imports, never calls and never builds what the file names.

Python's own decoder of opcodes (pickletools) says what is in the file; a stack machine here builds plain
containers, numbers and strings from it. A name that the file asks for (GLOBAL, STACK_GLOBAL) is looked up in a
table of this package's functions, or becomes a `Name`, which is inert: what the file 'makes' of a class of the
`INERT` packages is an `Object` that only records what was given to it. Everything else ends the reading with one
line. So nothing can run, whatever the file says; limits keep a hostile file from filling the memory either.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from a2v_model.pickle_values import CALLS, Call, Name, Object, OrderedItems, RefusedError, checked_key, kind_of, shown

INERT = ("omegaconf", "argparse", "fairseq", "examples")  # examples: where fairseq keeps the code of data2vec
MAX_OPCODES = 2_000_000
MAX_INTEGER_BITS = 128
_ALIASES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_TYPES = frozenset(
    f"builtins.{name}" for name in ("bool", "bytes", "complex", "dict", "float", "int", "list", "long", "object",
                                    "set", "str", "tuple", "unicode")
)  # fmt: skip
_PUSH = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8",
})  # fmt: skip
_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_DAMAGED = (IndexError, KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError, struct.error)


class _Mark:
    """Where a list of arguments begins on the stack."""


def load(
    data: bytes,
    persistent: Callable[[tuple[Any, ...]], Any] | None = None,
    calls: Mapping[str, Call] | None = None,
    names: Sequence[str] = (),
) -> Any:
    """The object that `data` describes, with `Name` and `Object` in the place of classes and their instances.

    `persistent` answers references to what lies outside (torch's storages). `calls` are this program's own
    functions for names that the file may call; `names` may only be mentioned. `RefusedError` (one line) says
    what the file asked for, or where it is damaged.
    """
    machine = _Machine(persistent, CALLS | dict(calls or {}), frozenset(names))
    position = 0
    try:
        for count, (opcode, arg, pos) in enumerate(pickletools.genops(data)):
            position = pos or 0
            if count >= MAX_OPCODES:
                raise RefusedError(f"more than {MAX_OPCODES:,} instructions")
            machine.step(opcode.name, arg)
        return machine.result()
    except RefusedError:
        raise
    except _DAMAGED as error:
        raise RefusedError(f"a damaged pickle (near byte {position}: {shown(error)})") from error


class _Machine:
    """The stack machine of a pickle, reduced to data."""

    def __init__(
        self, persistent: Callable[[tuple[Any, ...]], Any] | None, calls: Mapping[str, Call], names: frozenset[str]
    ) -> None:
        self.persistent, self.calls, self.names = persistent, calls, names
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.finished = False

    def step(self, opcode: str, arg: Any) -> None:
        if opcode in _PUSH:
            if isinstance(arg, int) and arg.bit_length() > MAX_INTEGER_BITS:
                raise RefusedError(f"an integer of {arg.bit_length()} bits")
            self.stack.append(arg)
        elif opcode in _CONSTANT:
            self.stack.append(_CONSTANT[opcode])
        elif opcode in _EMPTY:
            self.stack.append(_EMPTY[opcode]())
        else:
            handler = _HANDLERS.get(opcode)
            if handler is None:
                raise RefusedError(f"the pickle instruction {opcode}, which data does not need")
            handler(self, arg)

    def result(self) -> Any:
        if not self.finished or len(self.stack) != 1:
            raise RefusedError("a pickle that does not end with one value")
        return self.stack[0]

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _Mark:
            raise IndexError("nothing before the mark")
        return value

    def top(self) -> Any:
        if self.stack[-1] is _Mark:
            raise IndexError("nothing after the mark")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self.stack.pop()) is not _Mark:
            items.append(value)
        return items[::-1]

    def name(self, module: Any, name: Any) -> Name:
        """The inert stand-in of module.name, for names that may occur at all."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedError("a name that is not text")
        module = _ALIASES.get(module, module)
        full = f"{module}.{name}"
        package = module.split(".")[0]
        plain_type = full in _TYPES or (module == "typing" and name.isidentifier())
        inert = package in INERT and all(part.isidentifier() for part in full.split("."))
        if full in self.calls or full in self.names or plain_type or inert:
            return Name(full)
        raise RefusedError(f"{shown(full)}, which is neither a tensor nor plain data")

    def make(self, called: Any, args: Any) -> Any:
        """What REDUCE, NEWOBJ and NEWOBJ_EX give: one of our own functions' result, or an inert record."""
        if not isinstance(called, Name):
            raise RefusedError(f"a call of {kind_of(called)}")
        if not isinstance(args, tuple):
            raise RefusedError(f"a call of {called.full} without arguments")
        if called.full in self.calls:
            return self.calls[called.full](*args)
        if called.full.split(".")[0] in INERT:
            return Object(called, args)
        raise RefusedError(f"a call of {called.full}")

    def new(self, called: Any, args: Any) -> Any:
        if not isinstance(called, Name) or called.full.split(".")[0] not in INERT:
            raise RefusedError(f"an object of {kind_of(called)}")
        return self.make(called, args)

    def build(self, state: Any) -> None:
        target = self.top()
        if isinstance(target, OrderedItems):
            return
        if not isinstance(target, Object):
            raise RefusedError(f"attributes set on {kind_of(target)}")
        parts = state if isinstance(state, tuple) else (state,)
        for key in (key for part in parts if isinstance(part, dict) for key in part):
            if isinstance(key, str) and key.startswith("__"):
                raise RefusedError(f"{shown(key)} set on an object of {target.of.full}")
        target.state = state

    def put(self, items: list[Any]) -> None:
        """Pairs into the mapping on top of the stack."""
        target = self.top()
        into = target.items if isinstance(target, Object) else target
        if not isinstance(into, dict):
            raise RefusedError(f"items put into {kind_of(target)}")
        if len(items) % 2:
            raise IndexError("a key without a value")
        for key, value in zip(items[0::2], items[1::2], strict=True):
            into[checked_key(key)] = value

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise RefusedError(f"values appended to {kind_of(target)}")
        target.extend(items)

    def as_dict(self, items: list[Any]) -> None:
        self.stack.append({})
        self.put(items)

    def global_(self, arg: str) -> None:
        module, _, name = arg.partition(" ")
        self.stack.append(self.name(module, name))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(self.name(module, name))

    def reduce(self) -> None:
        args, called = self.pop(), self.pop()
        self.stack.append(self.make(called, args))

    def newobj(self) -> None:
        args, called = self.pop(), self.pop()
        self.stack.append(self.new(called, args))

    def newobj_ex(self) -> None:
        keywords, args, called = self.pop(), self.pop(), self.pop()
        made = self.new(called, args)
        if keywords:
            made.state = keywords
        self.stack.append(made)

    def persistent_id(self) -> None:
        reference = self.pop()
        if self.persistent is None or not isinstance(reference, tuple):
            raise RefusedError("a reference to something outside the pickle")
        self.stack.append(self.persistent(reference))

    def setitem(self) -> None:
        value, key = self.pop(), self.pop()
        self.put([key, value])

    def append(self) -> None:
        value = self.pop()
        self.extend([value])

    def tuple_of(self, size: int) -> None:
        values = tuple(self.pop() for _ in range(size))
        self.stack.append(values[::-1])

    def stop(self) -> None:
        self.finished = True


_HANDLERS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, arg: None,
    "FRAME": lambda m, arg: None,
    "STOP": lambda m, arg: m.stop(),
    "MARK": lambda m, arg: m.stack.append(_Mark),
    "POP": lambda m, arg: m.stack.pop(),
    "POP_MARK": lambda m, arg: m.pop_mark(),
    "DUP": lambda m, arg: m.stack.append(m.top()),
    "PUT": lambda m, arg: m.memo.__setitem__(arg, m.top()),
    "BINPUT": lambda m, arg: m.memo.__setitem__(arg, m.top()),
    "LONG_BINPUT": lambda m, arg: m.memo.__setitem__(arg, m.top()),
    "MEMOIZE": lambda m, arg: m.memo.__setitem__(len(m.memo), m.top()),
    "GET": lambda m, arg: m.stack.append(m.memo[arg]),
    "BINGET": lambda m, arg: m.stack.append(m.memo[arg]),
    "LONG_BINGET": lambda m, arg: m.stack.append(m.memo[arg]),
    "LIST": lambda m, arg: m.stack.append(m.pop_mark()),
    "TUPLE": lambda m, arg: m.stack.append(tuple(m.pop_mark())),
    "TUPLE1": lambda m, arg: m.tuple_of(1),
    "TUPLE2": lambda m, arg: m.tuple_of(2),
    "TUPLE3": lambda m, arg: m.tuple_of(3),
    "FROZENSET": lambda m, arg: m.stack.append(m.pop_mark()),
    "DICT": lambda m, arg: m.as_dict(m.pop_mark()),
    "APPEND": lambda m, arg: m.append(),
    "APPENDS": lambda m, arg: m.extend(m.pop_mark()),
    "ADDITEMS": lambda m, arg: m.extend(m.pop_mark()),
    "SETITEM": lambda m, arg: m.setitem(),
    "SETITEMS": lambda m, arg: m.put(m.pop_mark()),
    "GLOBAL": lambda m, arg: m.global_(arg),
    "STACK_GLOBAL": lambda m, arg: m.stack_global(),
    "REDUCE": lambda m, arg: m.reduce(),
    "NEWOBJ": lambda m, arg: m.newobj(),
    "NEWOBJ_EX": lambda m, arg: m.newobj_ex(),
    "BUILD": lambda m, arg: m.build(m.pop()),
    "BINPERSID": lambda m, arg: m.persistent_id(),
}
