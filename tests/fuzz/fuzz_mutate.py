"""What is done to an input that was right: bytes of files, lines of tables, values of JSON and YAML.

Each function takes a `random.Random`, so that a seed gives the same input anywhere.
"""

import copy
from random import Random
from typing import Any

SIZES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
LONG_SIZES = (*SIZES, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
NUMBERS = (
    "0",
    "-1",
    "1e999",
    "-1e999",
    "1e308",
    "nan",
    "inf",
    "-0.0",
    "9" * 400,
    "0x10",
    "1e-320",
    "1_000",
    "٣",
    "1,5",
)
LONG = 200_000
TOKENS = (
    *NUMBERS, "", '"', "'", '""', "\x00", "\ufeff", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "a\rb", "../../outside",
    "/etc/passwd", "=1+1", "@SUM(A1)", "%s%n", "{0}", "$HOME", "`id`", "\u202egnp.wav", "\udcff", "null", "true", "~",
    "x" * 5000, "x" * LONG, "é" * 300,
)  # fmt: skip


def damage_bytes(rng: Random, data: bytes) -> tuple[str, bytes]:
    """(what was done, the bytes) of a binary file with one to three faults."""
    done = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(sorted(_BYTES))
        data = _BYTES[name](rng, data)
        done.append(name)
    return " + ".join(done), data


def _place(rng: Random, data: bytes) -> int:
    """Somewhere, and more often in the head, where lengths stand."""
    size = max(1, len(data))
    return rng.randrange(min(size, rng.choice((16, 64, 200, size, size))))


def _flip(rng: Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 4, 32))):
        if out:
            out[_place(rng, data)] = rng.randrange(256)
    return bytes(out)


def _number(rng: Random, data: bytes) -> bytes:
    width = rng.choice((2, 4, 4, 8))
    value = rng.choice(LONG_SIZES) & ((1 << 8 * width) - 1)
    at = _place(rng, data) & ~1
    return data[:at] + value.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def _cut(rng: Random, data: bytes) -> bytes:
    return data[: rng.choice((0, 1, 4, 12, 30, 44, _place(rng, data), rng.randrange(len(data) + 1)))]


def _without(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 8, 100)) :]


def _more(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.choice((b"\0" * 1000, rng.randbytes(100), data[:100], b"\xff" * 64)) + data[at:]


def _behind(rng: Random, data: bytes) -> bytes:
    return data + rng.choice((b"\0" * 100_000, rng.randbytes(5000), data, data[:64], b"LIST\xff\xff\xff\x7f"))


def _blank(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    length = rng.choice((4, 16, 64, 1000, len(data)))
    return data[:at] + (rng.choice((b"\0", b"\xff")) * length)[: max(0, len(data) - at)] + data[at + length :]


_BYTES = {
    "flipped": _flip, "number": _number, "cut": _cut, "bytes missing": _without, "bytes between": _more,
    "bytes behind": _behind, "blanked": _blank,
}  # fmt: skip


def damage_text(rng: Random, text: str, separator: str = "\t") -> tuple[str, bytes]:
    """(what was done, the bytes) of a table or another text of lines, with one to three faults."""
    done = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(("cell", "cell", "line missing", "line twice", "lines turned", "token", "long line", "cut"))
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        if name == "cell":
            cells = lines[at].split(separator)
            cells[rng.randrange(len(cells))] = rng.choice(TOKENS)
            lines[at] = separator.join(cells)
        elif name == "line missing":
            del lines[at]
        elif name == "line twice":
            lines.insert(at, lines[at])
        elif name == "lines turned":
            rng.shuffle(lines)
        elif name == "token":
            place = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + rng.choice(TOKENS) + lines[at][place:]
        elif name == "long line":
            lines.insert(at, rng.choice(('"', separator, "x", "[", "\x00")) * rng.choice((2000, LONG)))
        else:
            lines[at:] = [lines[at][: rng.randrange(len(lines[at]) + 1)]]
        text = "\n".join(lines)
        done.append(name)
    encoding = rng.choice(("utf-8",) * 6 + ("utf-16", "latin-1", "utf-8-sig"))
    if encoding != "utf-8":
        done.append(encoding)
    errors = "replace" if encoding == "latin-1" else "surrogatepass" if encoding == "utf-16" else "surrogateescape"
    return " + ".join(done), text.encode(encoding, errors)


def values(rng: Random) -> Any:
    """A value that is not what belongs there."""
    return rng.choice((
        None, True, False, 0, -1, 1 << 31, 1 << 63, 10**30, 10**400, -(10**9), 0.5, 1e308, float("inf"), float("nan"),
        "", "x", "1", "x" * LONG, "\x1b[31mred", "a\nb", "../../outside", "/etc/passwd", "\x00", [], {}, [None], [[]],
        {"": None}, {"a": {"b": {}}}, ["x"] * 1000, list(range(50_000)), nested(3000),
    ))  # fmt: skip


def nested(depth: int) -> Any:
    tree: Any = []
    for _ in range(depth):
        tree = [tree]
    return tree


def damage_tree(rng: Random, tree: Any) -> tuple[str, Any]:
    """(what was done, the tree) of objects and lists of which one to three places were changed."""
    tree, done = copy.deepcopy(tree), []
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return "all", values(rng)
        parent, key = rng.choice(places)
        name = rng.choice(("value", "value", "value", "missing", "new key"))
        if name == "value":
            parent[key] = values(rng)
        elif name == "missing":
            del parent[key]
        elif isinstance(parent, dict):
            parent[rng.choice(("", "x", "\x1b[31m", "__class__", "a" * 5000, "-"))] = values(rng)
        else:
            parent.insert(rng.randrange(len(parent) + 1), values(rng))
        done.append(f"{name} of {str(key)[:40]}")
    return " + ".join(done), tree


def vary_tree(rng: Random, tree: Any) -> tuple[str, Any]:
    """(what was done, the tree) with one to three of its numbers smaller or larger: what somebody might want."""
    tree, done = copy.deepcopy(tree), []
    numbers = [(parent, key) for parent, key in _places(tree) if type(parent[key]) in (int, float)]
    for parent, key in rng.sample(numbers, min(len(numbers), rng.choice((1, 1, 2, 3)))):
        times = rng.choice((0, 0.5, 0.9, 1.1, 2, 2, 10, 10_000))
        parent[key] = type(parent[key])(parent[key] * times)
        done.append(f"{key} {parent[key]}")
    return ", ".join(done), tree


def _places(tree: Any) -> Any:
    stack, deep = [tree], 0
    while stack and deep < 10_000:
        one, deep = stack.pop(), deep + 1
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in list(keys)[:50]:
            yield one, key
            if isinstance(one[key], dict | list):
                stack.append(one[key])
