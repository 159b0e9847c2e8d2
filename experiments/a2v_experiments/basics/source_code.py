"""Which of the project's own code a computation uses, and a digest of it: from the sources alone, nothing is imported.

Definitions are followed, not modules: from a function to the functions, classes and constants that it names, through
imports (those inside functions too, those for type checking not). So a class beside another one is not part of what
only the other one uses. What is reached by no name (`getattr` with a computed one, say) is not seen; statements of a
module that define nothing, and definitions that something of the project's own decorates, count as soon as anything
of the module does.

The digest is over the syntax tree without docstrings, comments and the annotations of functions, in a form that no
version of Python changes.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGES = ("a2v_model", "a2v_data", "a2v_eval", "a2v_experiments")
WHOLE = "*"  # in place of a definition's name: all of the module
EFFECTS = ""  # and: its statements that define nothing

Definition = tuple[str, str]  # module, name
Reference = tuple[str, ...]  # x.y.z as it stands in the code
UNSEEN = frozenset({"ctx", "type_comment", "kind", "type_params", "returns", "annotation", "simple", "lineno"})
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
NAMED = (*FUNCTIONS, ast.ClassDef)
CHECKS = {"model_validator", "field_validator"}


@dataclass(frozen=True)
class Closure:
    """What is followed. entries: MODULE:NAME, or MODULE for all of it; cut: MODULE or MODULE:NAME that is not followed,
    nor what is below such a package; configurations: MODULE:CLASS of classes whose fields are not looked at, as their
    values are in the fingerprint, nor their checks."""

    entries: tuple[str, ...]
    cut: frozenset[str] = frozenset()
    configurations: frozenset[str] = frozenset()


@dataclass
class _Module:
    """imports: name -> module and the name there (None: the module itself); nodes: statements that define a name."""

    name: str
    package: str  # that relative imports start from
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    nodes: dict[str, list[ast.stmt]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)


class Sources:
    """The sources of some packages. folders: package -> its folder."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.folders = folders
        self._modules: dict[str, _Module | None] = {}
        self._scans: dict[tuple[str, str, bool], tuple[bytes, list[Definition]]] = {}

    def digests(self, closure: Closure) -> dict[str, str]:
        """Module -> digest (hex SHA-256, 16 characters) of what of it is used. Raises ValueError for an entry that is
        not there."""
        with _without_collector():
            return self._digests(closure)

    def _digests(self, closure: Closure) -> dict[str, str]:
        waiting = [self._entry(entry) for entry in closure.entries]
        seen: set[Definition] = set()
        texts: dict[str, dict[str, bytes]] = {}
        while waiting:
            module_name, name = waiting.pop()
            if (module_name, name) in seen or _is_cut(module_name, name, closure.cut):
                continue
            seen.add((module_name, name))
            module = self._module(module_name)
            assert module is not None
            waiting.append((module_name, EFFECTS))
            if name == WHOLE:
                waiting += [(module_name, one) for one in module.nodes]
                continue
            text, uses = self._scanned(module, name, f"{module_name}:{name}" in closure.configurations)
            waiting += uses
            if text:
                texts.setdefault(module_name, {})[name] = text
        return {module: _digest(parts) for module, parts in sorted(texts.items())}

    def _scanned(self, module: _Module, name: str, configuration: bool) -> tuple[bytes, list[Definition]]:
        """A definition's text, and the definitions that it uses."""
        key = (module.name, name, configuration)
        if key not in self._scans:
            found = _Scan(module.package, configuration)
            for statement in module.effects if name == EFFECTS else module.nodes[name]:
                found.look(statement)
            uses = []
            for reference in sorted(found.references):
                imported, target = self._resolved(module, reference, found.imports)
                if imported:
                    found.text.append(f"{reference[0]}={imported}")
                if target is not None:
                    uses.append(target)
            self._scans[key] = "\0".join(found.text).encode(), uses
        return self._scans[key]

    def _entry(self, entry: str) -> Definition:
        module, _, name = entry.partition(":")
        found = self._module(module)
        if found is None or (name and name not in found.nodes):
            raise ValueError(f"{entry}: no such code; what a stage uses is named in a2v_experiments/stages/code.py")
        return module, name or WHOLE

    def _resolved(
        self, module: _Module, reference: Reference, local: Mapping[str, tuple[str, str | None]]
    ) -> tuple[str, Definition | None]:
        """What an import says of a reference's first name, if one does, and the definition that it comes to."""
        first, *rest = reference
        imported = local.get(first) or module.imports.get(first)
        if imported is None:
            return "", (module.name, first) if first in module.nodes else None
        place, name = imported
        said = f"{place}:{name or ''}"
        while True:
            if name is None:
                if self._module(place) is None:
                    return said, None
                if not rest:
                    return said, (place, WHOLE)
                name = rest.pop(0)
            if self._module(f"{place}.{name}") is not None:
                place, name = f"{place}.{name}", None
                continue
            return said, self._definition(place, name)

    def _definition(self, module_name: str, name: str) -> Definition | None:
        """Where a name of a module is defined: there, or where it imports it from."""
        module = self._module(module_name)
        if module is None:
            return None
        if name in module.nodes:
            return module_name, name
        if name not in module.imports:
            return None
        place, there = module.imports[name]
        if there is None or self._module(f"{place}.{there}") is not None:
            whole = place if there is None else f"{place}.{there}"
            return (whole, WHOLE) if self._module(whole) is not None else None
        return self._definition(place, there)

    def _module(self, name: str) -> _Module | None:
        """A module of these packages, None where there is no such."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> _Module | None:
        package, *parts = name.split(".")
        if package not in self.folders:
            return None
        place = self.folders[package].joinpath(*parts)
        path, is_package = place / "__init__.py", True
        if not path.is_file():
            path, is_package = place.with_suffix(".py"), False
            if not parts or not path.is_file():
                return None
        module = _Module(name, name if is_package else name.rpartition(".")[0])
        _sort(ast.parse(path.read_bytes()).body, module)
        module.effects += [node for nodes in module.nodes.values() for node in nodes if _registers(node, module)]
        return module


@contextmanager
def _without_collector() -> Iterator[None]:
    """Syntax trees are so many objects that looking for garbage among them takes most of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@cache
def installed() -> Sources:
    """The sources of the project as they are installed here, in a checkout, a wheel or what was sent to a cluster."""
    folders = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.submodule_search_locations, package
        folders[package] = Path(spec.submodule_search_locations[0])
    return Sources(folders)


def _is_cut(module: str, name: str, cut: frozenset[str]) -> bool:
    parts = module.split(".")
    return f"{module}:{name}" in cut or any(".".join(parts[:count]) in cut for count in range(1, len(parts) + 1))


def _digest(parts: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(name.encode() + b"\0\0" + parts[name] + b"\0\0\0")
    return digest.hexdigest()[:16]


def _sort(statements: Iterable[ast.stmt], module: _Module, block: ast.stmt | None = None) -> None:
    """Statements of a module by what they are. block: the `if` or `try` around them, which then counts as a whole."""
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            module.imports.update(_imported(statement, module.package))
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            if not _is_aside(statement):
                inside = [*statement.body, *getattr(statement, "orelse", ()), *getattr(statement, "finalbody", ())]
                inside += [one for handler in getattr(statement, "handlers", ()) for one in handler.body]
                _sort(inside, module, block or statement)
        elif names := list(_defined(statement)):
            for name in names:
                nodes = module.nodes.setdefault(name, [])
                if (block or statement) not in nodes:
                    nodes.append(block or statement)
        elif not _is_docstring(statement) and not isinstance(statement, ast.Pass):
            module.effects.append(block or statement)


def _is_aside(statement: ast.stmt) -> bool:
    """`if TYPE_CHECKING:` and `if __name__ == "__main__":`."""
    return isinstance(statement, ast.If) and any(
        isinstance(one, ast.Name) and one.id in ("TYPE_CHECKING", "__name__") for one in ast.walk(statement.test)
    )


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, NAMED):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id
            elif isinstance(target, ast.Tuple | ast.List):
                yield from (one.id for one in target.elts if isinstance(one, ast.Name))


def _imported(statement: ast.Import | ast.ImportFrom, package: str) -> dict[str, tuple[str, str | None]]:
    if isinstance(statement, ast.Import):
        return {
            one.asname or one.name.partition(".")[0]: (one.name if one.asname else one.name.partition(".")[0], None)
            for one in statement.names
        }
    place = statement.module or ""
    if statement.level:
        above = package.split(".")[: len(package.split(".")) - statement.level + 1]
        place = ".".join([*above, *([statement.module] if statement.module else [])])
    return {one.asname or one.name: (place, one.name) for one in statement.names}


def _registers(statement: ast.stmt, module: _Module) -> bool:
    """Whether something of the project's own decorates a definition, which may put it in a table."""
    return isinstance(statement, NAMED) and any(
        name.id in module.nodes or module.imports.get(name.id, ("", None))[0].partition(".")[0] in PACKAGES
        for decorator in statement.decorator_list
        for name in ast.walk(decorator)
        if isinstance(name, ast.Name)
    )


def _is_docstring(statement: ast.AST) -> bool:
    """Text that stands alone, as documentation does."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


class _Scan:
    """Goes through a definition: its text for the digest, what it refers to, and what it imports itself."""

    def __init__(self, package: str, configuration: bool) -> None:
        self.package, self.configuration = package, configuration
        self.text: list[str] = []
        self.references: set[Reference] = set()
        self.imports: dict[str, tuple[str, str | None]] = {}

    def look(self, node: ast.AST, seen: bool = True) -> None:
        """seen: whether it goes into the text, too."""
        text = self.text
        if isinstance(node, ast.Name):
            self.references.add((node.id,))
            if seen:
                text.append(node.id)
            return
        if isinstance(node, ast.Attribute):
            if reference := _dotted(node):
                self.references.add(reference)
                if seen:
                    text.append(".".join(reference))
                return
        elif isinstance(node, ast.Constant):
            if seen:
                text.append(repr(node.value))
            return
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self.imports.update(_imported(node, self.package))
            return
        elif _is_docstring(node):
            return
        elif isinstance(node, ast.ClassDef) and self.configuration:
            self._look_at_configuration(node)
            return
        if seen:
            text.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == []:
                continue
            shown = seen and (name not in UNSEEN or (name == "annotation" and _is_field(node)))
            if isinstance(value, ast.AST):
                if shown:
                    text.append(name)
                self.look(value, shown)
            elif isinstance(value, list):
                if shown:
                    text.append(f"{name}[")
                for one in value:
                    if isinstance(one, ast.AST):
                        self.look(one, shown)
                    elif shown:
                        text.append(str(one))
                if shown:
                    text.append("]")
            elif shown:
                text.append(f"{name}={value}")

    def _look_at_configuration(self, node: ast.ClassDef) -> None:
        """Methods, and the classes of its fields."""
        self.text.append(node.name)
        for base in node.bases:
            self.look(base)
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign):
                self.look(statement.annotation, seen=False)
            elif isinstance(statement, FUNCTIONS) and not CHECKS & _decorators(statement):
                self.look(statement)


def _decorators(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {one.id for decorator in node.decorator_list for one in ast.walk(decorator) if isinstance(one, ast.Name)}


def _is_field(node: ast.AST) -> bool:
    """Of an annotation that may mean something: those of a class's fields do, to pydantic and dataclasses."""
    return isinstance(node, ast.AnnAssign)


def _dotted(node: ast.Attribute) -> Reference | None:
    """x.y.z, None where it begins with something else than a name."""
    names: list[str] = []
    place: ast.expr = node
    while isinstance(place, ast.Attribute):
        names.append(place.attr)
        place = place.value
    if not isinstance(place, ast.Name):
        return None
    return (place.id, *reversed(names))
