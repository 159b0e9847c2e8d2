"""Names that MLflow takes, and the names of classes as people wrote them.

MLflow allows letters, digits, _ - . : / and space in the name of a metric or parameter, 250 characters at most, and no
name that reads as another path (a//b, a/../b). A class may be called anything: `wren?` becomes `wren_`, and where
another class is `wren!`, that one becomes `wren_2`. A run keeps what was changed, a tag for each such class
(`a2v.class/wren_2`: `wren!`), so that whatever reads its metrics has the names that people wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .tags import CLASS

LONGEST = 250  # characters of a name
LONGEST_CLASS = 160  # of a class in one: what stands around it, such as labels_0.25/any_class/strict/, is shorter
SUFFIXES = ("", "_mean", "_std")  # of scores over folds


def allowed_name(name: str) -> str:
    """The name with other characters in place of those that MLflow does not take. Several names may become one."""
    parts = re.sub(r"[^\w\-.: /]", "_", name)[:LONGEST].split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)


def unique_names(names: Iterable[str], longest: int = LONGEST) -> dict[str, str]:
    """Each name's own allowed one: those that are allowed stay, the others get a number where theirs is taken."""
    wanted = {name: allowed_name(name)[:longest] for name in names}
    taken = {name for name, allowed in wanted.items() if name == allowed}
    found: dict[str, str] = {}
    for name, allowed in wanted.items():
        number, chosen = 1, allowed
        while name != chosen and chosen in taken:
            number += 1
            tail = f"{'' if allowed.endswith('_') else '_'}{number}"
            chosen = allowed[: longest - len(tail)] + tail
        taken.add(chosen)
        found[name] = chosen
    return found


def flatten(tree: dict[str, Any]) -> dict[str, str]:
    """Nested configuration as dotted parameters, so that MLflow can filter and compare them."""
    flat = _dotted(tree, "")
    names = unique_names(flat)
    return {names[key]: value for key, value in flat.items()}


def _dotted(tree: dict[str, Any], prefix: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(_dotted(value, f"{name}.") if isinstance(value, dict) else {name: str(value)})
    return flat


@dataclass(frozen=True)
class ClassNames:
    """Classes with another name in MLflow: class -> that name. Also those that would be taken for one of them."""

    changed: Mapping[str, str]

    @classmethod
    def of(cls, classes: Sequence[str]) -> ClassNames:
        names = unique_names(classes, LONGEST_CLASS)
        changed = {name: allowed for name, allowed in names.items() if name != allowed}
        # `AP/a/b_` is of the class `a/b_`, though there is a class `b?`
        alike = {
            name: name
            for name in names
            if name not in changed and any(name.endswith(f"/{end}") for pair in changed.items() for end in pair)
        }
        return cls({**changed, **alike})

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> ClassNames:
        """Those that a run's tags tell."""
        return cls({name: key.removeprefix(CLASS) for key, name in tags.items() if key.startswith(CLASS)})

    @property
    def tags(self) -> dict[str, str]:
        """What `from_tags` reads."""
        return {f"{CLASS}{allowed}": name for name, allowed in self.changed.items()}

    def to_store(self, metric: str) -> str:
        """A metric's name in MLflow, of its name with the class as people wrote it (`strict/AP/wren?_mean`)."""
        return allowed_name(_renamed(metric, self._there))

    def from_store(self, metric: str) -> str:
        """The other way round."""
        return _renamed(metric, self._back)

    @cached_property
    def _there(self) -> list[tuple[str, str]]:
        return sorted(self.changed.items(), key=lambda pair: -len(pair[0]))

    @cached_property
    def _back(self) -> list[tuple[str, str]]:
        return sorted(((allowed, name) for name, allowed in self.changed.items()), key=lambda pair: -len(pair[0]))


def _renamed(metric: str, pairs: Sequence[tuple[str, str]]) -> str:
    """A metric with the longest of the old names at its end as the new one."""
    for old, new in pairs:
        for suffix in SUFFIXES:
            if metric.endswith(f"/{old}{suffix}"):
                return metric[: len(metric) - len(old) - len(suffix)] + new + suffix
    return metric
