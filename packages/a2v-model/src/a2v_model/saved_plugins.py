"""Plugins in a model's folder: their source beside the weights, `model.json` says which, and nothing of it is run
unless its user agreed (`plugins.allowed`).

    plugins/NAME/__init__.py ...     the source
    model.json: "plugins"            NAME -> digest, files, entry, and what it registers
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from a2v_model.documents import reason
from a2v_model.finetuning import Detector
from a2v_model.parts import OwnPart
from a2v_model.plugins import ALLOW, MAIN, Plugin, allowed, load, loaded, plugin_of
from a2v_model.pretraining import Pretrainer

FOLDER = "plugins"


def plugins_of(model: Pretrainer | Detector) -> list[Plugin]:
    """Those of the model's parts, then those that it came with. ValueError for a part that no plugin registered."""
    parts: list[Any] = [model.model_config.front_end]
    if isinstance(model, Detector):
        parts += [model.config.head, model.config.loss]
    found = []
    for own in parts:
        if isinstance(own, OwnPart) and own.kind in own.registry.parts:
            plugin = plugin_of(own.part)
            if plugin is None:
                raise ValueError(
                    f"{own.registry.kind} {own.kind}: was registered by the module {own.part.module}, whose source"
                    " cannot be saved with the model; load it as a plugin (`plugins:` in a recipe)"
                )
            found.append(plugin)
    return [*found, *model.plugins]


def write_plugins(folder: Path, plugins: Iterable[Plugin]) -> dict[str, Any]:
    """Put the source into a model's folder; returns what `model.json` says of it, nothing where there is none. Of two
    sources of one name the first counts."""
    by_name: dict[str, Plugin] = {}
    for plugin in plugins:
        by_name.setdefault(plugin.name, plugin)
    told = {}
    for name, plugin in sorted(by_name.items()):
        for path, text in plugin.files.items():
            place = folder / FOLDER / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text.encode())
        told[name] = said_of(plugin)
    return {"plugins": told} if told else {}


def said_of(plugin: Plugin) -> dict[str, Any]:
    """What `model.json` says of a plugin."""
    said = plugin.model_dump(include={"entry", "registers"})
    return {"digest": plugin.digest, **said, "files": list(plugin.files)}


def read_plugins(folder: Path, description: dict[str, Any]) -> tuple[Plugin, ...]:
    """The source in a model's folder, not loaded. ValueError where it is not as `model.json` says."""
    found = []
    every = description.get("plugins") or {}
    if not isinstance(every, dict):
        raise ValueError(f"{folder}: its plugins are {every!r}; must be a mapping of names to what is said of each")
    for name, told in every.items():
        try:
            # names are checked before anything is read: none leads out of the folder
            named = Plugin(name=name, files=dict.fromkeys(told["files"], ""), entry=told.get("entry", ""))
            files = {path: (folder / FOLDER / name / path).read_bytes().decode() for path in named.files}
            plugin = Plugin(name=name, files=files, entry=named.entry, registers=told.get("registers", {}))
        except (OSError, KeyError, TypeError, AttributeError, UnicodeDecodeError, ValidationError) as error:
            raise ValueError(f"{folder}: the source of its plugin {name} cannot be read: {reason(error)}") from None
        if plugin.digest != told.get("digest"):
            raise ValueError(f"{folder / FOLDER / name}: is not the source that the model was saved with (its digest)")
        found.append(plugin)
    return tuple(found)


def load_brought(
    folder: Path, description: dict[str, Any], allow_plugins: bool | Collection[str]
) -> tuple[Plugin, ...]:
    """The plugins in a model's folder; those that its user agreed to are loaded. ValueError where one is needed that
    nobody agreed to, or that cannot be loaded."""
    plugins, needed = read_plugins(folder, description), needed_parts(description)
    everything = allow_plugins is True or allowed()
    digests = () if isinstance(allow_plugins, bool) else tuple(allow_plugins)
    for plugin in plugins:
        if loaded(plugin.digest) is not None:
            continue
        for_parts = [f"{kind} {name}" for kind, name in needed if name in plugin.registers.get(kind, [])]
        if everything or plugin.digest in digests:
            try:
                load(plugin)
            except ValueError as error:
                if for_parts:  # without a loss or a method of events it is a model all the same
                    raise ValueError(f"{folder}: {error}") from None
        elif for_parts:
            raise ValueError(
                f"{folder}: the model brings code of its own, which would be run ({', '.join(for_parts)}): look at"
                f" {folder / FOLDER / plugin.name / MAIN}, then allow it with --allow-plugins or {ALLOW}=1"
            )
    return tuple(loaded(plugin.digest) or plugin for plugin in plugins)


def asks_first(folder: Path, description: dict[str, Any]) -> bool:
    """Whether a model brings code without which it cannot predict, so that its user has to agree."""
    method = (description.get("thresholds_from") or {}).get("method")
    needed = [*needed_parts(description), ("event_method", method)]
    brought = read_plugins(folder, description)
    return any(name in plugin.registers.get(kind, []) for kind, name in needed for plugin in brought)


def needed_parts(description: dict[str, Any]) -> list[tuple[str, str]]:
    """(kind, name) of what a model cannot be used without, as far as a plugin may bring it. How events are found is the
    business of who finds them."""
    front_end = (description.get("model") or {}).get("front_end") or {}
    head = (description.get("finetune") or {}).get("head")
    named = {
        "front_end": front_end.get("kind"),
        "head": head.get("kind") if isinstance(head, dict) else None,
    }
    return [(kind, name) for kind, name in named.items() if isinstance(name, str)]
