"""Parts that plugins bring, by name: a registry of each kind, and what stands in a configuration for such a part.

This module is the same in a2v_model, a2v_data and a2v_eval, which do not know each other (a test holds them equal).
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
PLUGINS = "a2v_plugins"  # the package under which plugins are imported, each as NAME_DIGEST
UNLOADED = "unloaded"  # in a validation's context: a part whose plugin is not loaded is kept as it is

Make = TypeVar("Make", bound=Callable[..., Any])


@dataclass(frozen=True)
class Part:
    """What a plugin registered: a name, its section, the function or class, and the module that registered it."""

    name: str
    config: type[BaseModel]
    make: Callable[..., Any]
    module: str

    @property
    def plugin(self) -> str:
        """The plugin's name, or the module's where it was not imported as a plugin."""
        if not self.module.startswith(f"{PLUGINS}."):
            return self.module
        return self.module.split(".")[1].rpartition("_")[0]


class NoKeys(BaseModel):
    """The section of a part without any setting."""


class Registry:
    """The parts of one kind ('loss', 'head', ...). built_in: names that no plugin may take; base: what a section must
    derive from; alike: built-in ones are asked for by `kind`, too."""

    def __init__(
        self, kind: str, built_in: Collection[str] = (), base: type[BaseModel] = BaseModel, alike: bool = False
    ) -> None:
        self.kind, self.built_in, self.base, self.alike = kind, tuple(built_in), base, alike
        self.parts: dict[str, Part] = {}

    def register(self, name: str, config: type[BaseModel] | None = None) -> Callable[[Make], Make]:
        """Decorator that registers a function or class under a name. config: its section, a pydantic model, of which
        keys that it does not know are refused; None: it has none. Raises ValueError where the name is taken."""
        module = str(sys._getframe(1).f_globals.get("__name__", ""))
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"{self.kind} {name!r}: a name has letters, digits, _ and -, and begins with a letter")
        if name in self.built_in:
            raise ValueError(f"{self.kind} {name!r}: is the name of a built-in one; give it another")
        if name in self.parts:
            raise ValueError(f"{self.kind} {name!r}: is registered already, by {self.parts[name].plugin}; rename one")
        config = config or (NoKeys if issubclass(NoKeys, self.base) else None)
        if not (isinstance(config, type) and issubclass(config, self.base)):
            raise ValueError(f"{self.kind} {name!r}: config must be a class derived from {self.base.__name__}")
        if "kind" in config.model_fields:
            raise ValueError(
                f"{self.kind} {name!r}: `kind` is the part's name, so its config must not have it; rename it"
            )
        forbidding = ConfigDict(extra="forbid", frozen=True)
        strict = type(config.__name__, (config,), {"model_config": forbidding, "__module__": config.__module__})

        def keep(make: Make) -> Make:
            if not callable(make):
                raise ValueError(f"{self.kind} {name!r}: is no function or class")
            self.parts[name] = Part(name, strict, make, module)
            return make

        return keep

    def get(self, name: str) -> Part:
        """The part of this name; ValueError, which says what there is."""
        if name not in self.parts:
            known = " or ".join([*(self.built_in if self.alike else ()), *sorted(self.parts)])
            brought = f"must be {known}, or" if known else "must be"
            raise ValueError(f"kind = {name!r}: {brought} the name of a {self.kind} that a plugin brings (plugins:)")
        return self.parts[name]

    def config(self, name: str, options: Mapping[str, Any]) -> BaseModel:
        """The section of a part, validated. ValueError in one line that names plugin and key."""
        part = self.get(name)
        try:
            return part.config.model_validate(dict(options))
        except ValidationError as error:
            wrong = "; ".join(_wrong(part.config, item) for item in error.errors())
            raise ValueError(f"{self.kind} {name} of plugin {part.plugin}: {wrong}") from None

    def plain(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The section as JSON data, complete with its defaults; raises as `config`."""
        return self.config(name, options).model_dump(mode="json")


def _wrong(config: type[BaseModel], item: Any) -> str:
    key = ".".join(str(place) for place in item["loc"])
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        known = list(config.model_fields)
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        return f"{key}: unknown key" + (f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}")
    if item["type"] == "missing":
        return f"{key}: missing"
    return f"{key} = {item['input']!r}: {message[0].lower() + message[1:]}" if key else message


class OwnPart(BaseModel):
    """What stands in a configuration for a part of a plugin: `kind`, its name, beside the keys of its section. Plain
    data, so it travels to where the plugin is not loaded yet."""

    model_config = ConfigDict(extra="allow", frozen=True)
    registry: ClassVar[Registry]

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, Mapping):
            return value
        options = dict(value)
        name = options.pop("kind", None)
        if not isinstance(name, str):
            raise ValueError(f"kind: missing; the name of a {cls.registry.kind} that a plugin registers")
        if name not in cls.registry.parts and (info.context or {}).get(UNLOADED):
            return value
        return {"kind": name, **cls.registry.plain(name, options)}

    @property
    def options(self) -> dict[str, Any]:
        """The section as plain data."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def part(self) -> Part:
        """What the plugin registered; ValueError where it is not loaded."""
        return self.registry.get(self.kind)

    @cached_property
    def config(self) -> Any:
        """The section, of the plugin's own class."""
        return self.registry.config(self.kind, self.options)

    def __getstate__(self) -> dict[Any, Any]:
        state = dict(super().__getstate__())  # without the section: its class may not be known where this is read
        state["__dict__"] = {key: value for key, value in state["__dict__"].items() if key != "config"}
        return state

    def __hash__(self) -> int:
        return hash(repr(sorted(self.model_dump(mode="json").items())))
