"""Plugins: source text that registers parts (`registry.py` here, in a2v_data and in a2v_eval) when it is imported.

A plugin travels as its text, whatever it was read from, and is imported from that, under the name
`a2v_plugins.NAME_DIGEST`: once in a process, and the same on every machine. Its digest is that of the text.

Contract: of one plugin's name one source is in effect in a process. `use` is for one's own work and puts another source
in the place of an earlier one; `load` refuses that, so that a model's folder never changes what a recipe means.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import CodeType, ModuleType
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from a2v_model.front_end_config import Config
from a2v_model.parts import PLUGINS, Part, Registry

MAIN = "__init__.py"
MOST_BYTES = 1_000_000
ALLOW = "A2V_ALLOW_PLUGINS"
REGISTRIES = ("a2v_model.registry", "a2v_data.registry", "a2v_eval.registry")  # of the packages that are imported
FILE = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*/)*[A-Za-z_][A-Za-z0-9_]*\.py")


class Plugin(Config):
    """The source of a plugin. files: path within it -> text; a single file is `__init__.py`. entry: the module to
    import, dotted, below it ('': itself). registers: kind -> names of the parts that it brings, known once it was
    loaded."""

    name: str
    files: dict[str, str]
    entry: str = ""
    registers: dict[str, list[str]] = Field(default={})

    @field_validator("name")
    @classmethod
    def _identifier(cls, name: str) -> str:
        if not name.isidentifier():
            raise ValueError(f"is {name!r}; a plugin's name has letters, digits and _, as a Python module's")
        return name

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if MAIN not in self.files:
            raise ValueError(f"files of plugin {self.name}: {MAIN} is missing")
        if odd := [path for path in self.files if not FILE.fullmatch(path)]:
            raise ValueError(f"files of plugin {self.name}: {odd[0]!r} is no relative path of a Python file")
        if sum(len(text.encode()) for text in self.files.values()) > MOST_BYTES:
            raise ValueError(f"plugin {self.name}: its source has more than {MOST_BYTES / 1e6:g} MB")
        return self

    @property
    def digest(self) -> str:
        """Hex SHA-256 of its source."""
        text = json.dumps([self.entry, sorted(self.files.items())])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def module(self) -> str:
        """The name that it is imported under."""
        return f"{PLUGINS}.{self.name}_{self.digest[:16]}"

    def shown(self, path: str) -> str:
        """What messages and tracebacks call one of its files."""
        return f"{self.name}.py" if list(self.files) == [MAIN] else f"{self.name}/{path}"


_lock = threading.RLock()
_known: dict[str, Plugin] = {}  # by module name: what the finder may import
_brought: dict[str, list[tuple[Registry, Part]]] = {}  # by module name, of what was imported
_active: dict[str, Plugin] = {}  # by name
_agreed = 0  # how many `agreeing` blocks are open


def use(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Load one's own plugins, each in place of an earlier source of the same name; returns them with `registers`.
    Raises ValueError, one line."""
    return [load(plugin, replace=True) for plugin in plugins]


def load(plugin: Plugin, replace: bool = False) -> Plugin:
    """Import a plugin where it was not yet; returns it with `registers`. Raises ValueError, in one line, for what is
    wrong in it, for names that are taken, and without `replace` where another source of its name is loaded."""
    with _lock:
        before, digest = _active.get(plugin.name), plugin.digest
        if before is not None and before.digest == digest:
            return before
        if before is not None and not replace:
            raise ValueError(
                f"plugin {plugin.name}: another source of it is loaded in this process ({before.digest[:8]}, this is"
                f" {digest[:8]}); use a process for each"
            )
        if before is not None:
            _put_out(before)
        try:
            brought = _brought[plugin.module] if plugin.module in _brought else _imported(plugin)
            _put_in(plugin, brought)
        except ValueError:
            if before is not None:
                _put_in(before, _brought[before.module])
            raise
        return _active[plugin.name]


def loaded(digest: str) -> Plugin | None:
    """The plugin of this digest that is in effect in this process."""
    return next((plugin for plugin in _active.values() if plugin.digest == digest), None)


def loaded_digests(plugins: Iterable[Plugin]) -> tuple[str, ...]:
    """Digests of those that are in effect in this process: what another process may run for it, too."""
    return tuple(plugin.digest for plugin in plugins if loaded(plugin.digest) is not None)


def plugin_of(part: Part) -> Plugin | None:
    """The plugin that registered a part; None where a module did that was not loaded as one."""
    name = ".".join(part.module.split(".")[:2])
    return next((plugin for plugin in _active.values() if plugin.module == name), None)


def allowed() -> bool:
    """Whether the user agreed that models bring code: A2V_ALLOW_PLUGINS=1, or `agreeing`."""
    return _agreed > 0 or os.environ.get(ALLOW, "").lower() in ("1", "true", "yes")


@contextmanager
def agreeing() -> Iterator[None]:
    """In this block code that models bring is loaded: the user was asked and agreed."""
    global _agreed
    _agreed += 1
    try:
        yield
    finally:
        _agreed -= 1


def _registries() -> list[Registry]:
    modules = [sys.modules[name] for name in REGISTRIES if name in sys.modules]
    return [value for module in modules for value in vars(module).values() if type(value).__name__ == "Registry"]


def _put_out(plugin: Plugin) -> None:
    for registry, part in _brought[plugin.module]:
        if registry.parts.get(part.name) is part:
            del registry.parts[part.name]
    del _active[plugin.name]


def _put_in(plugin: Plugin, brought: list[tuple[Registry, Part]]) -> None:
    for registry, part in brought:
        there = registry.parts.get(part.name)
        if there is not None and there is not part:
            raise ValueError(
                f"plugin {plugin.name}: {registry.kind} {part.name!r}: is registered already, by {there.plugin}; rename"
                " one"
            )
    registers: dict[str, list[str]] = {}
    for registry, part in brought:
        registry.parts[part.name] = part
        registers.setdefault(registry.kind, []).append(part.name)
    _active[plugin.name] = plugin.model_copy(update={"registers": registers})


def _imported(plugin: Plugin) -> list[tuple[Registry, Part]]:
    """What it registers; nothing is left of it where that fails."""
    if PLUGINS not in sys.modules:
        package = ModuleType(PLUGINS)
        package.__path__ = []
        sys.modules[PLUGINS] = package
        sys.meta_path.insert(0, _Finder())
    before = {id(part) for registry in _registries() for part in registry.parts.values()}
    _known[plugin.module] = plugin

    def new() -> list[tuple[Registry, Part]]:
        every = [(registry, part) for registry in _registries() for part in registry.parts.values()]
        return [(registry, part) for registry, part in every if id(part) not in before]

    try:
        importlib.import_module(plugin.module + (f".{plugin.entry}" if plugin.entry else ""))
        if not new():
            raise ValueError(
                "registers nothing; it should with @register_loss(NAME) or the like (a2v_model.registry,"
                " a2v_data.registry, a2v_eval.registry)"
            )
    except (Exception, SystemExit) as error:
        for registry, part in new():
            del registry.parts[part.name]
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{plugin.module}.")]:
            del sys.modules[name]
        raise ValueError(f"plugin {plugin.name}: {_told(plugin, error)}") from error
    _brought[plugin.module] = new()
    return _brought[plugin.module]


def _told(plugin: Plugin, error: BaseException) -> str:
    """What went wrong and in which line of which of its files."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    files = {plugin.shown(path) for path in plugin.files}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    place = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""
    kind = "" if isinstance(error, ValueError | ImportError) else f"{type(error).__name__}: "
    return f"{place}{kind}{text}"


class _Loader(InspectLoader):
    """Imports a module from its text."""

    def __init__(self, plugin: Plugin, path: str) -> None:
        self.plugin, self.path = plugin, path

    def get_source(self, fullname: str) -> str:
        return self.plugin.files[self.path]

    def is_package(self, fullname: str) -> bool:
        return self.path.endswith(MAIN)

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self.plugin.files[self.path], self.plugin.shown(self.path), "exec", dont_inherit=True)
        return code


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        top = ".".join(fullname.split(".")[:2])
        if not fullname.startswith(f"{PLUGINS}.") or top not in _known:
            return None
        plugin, below = _known[top], fullname[len(top) + 1 :].replace(".", "/")
        places = [f"{below}.py", f"{below}/{MAIN}"] if below else [MAIN]
        for place in places:
            if place in plugin.files:
                with suppress(ImportError):
                    return spec_from_loader(fullname, _Loader(plugin, place), origin=plugin.shown(place))
        return None
