"""A mapping file renames, merges and drops classes: CSV with label,class, or YAML with label: class.

Several labels may have one class; an empty class drops the label.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import yaml

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.formats.table import Header, TableError, cells, read_text, whole_rows

Pair = tuple[int, str, str]  # row, label, class


class Labelled(Protocol):
    """A dataclass with a label; `where` is for messages. An `Annotation` is one."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def label(self) -> str: ...
    @property
    def where(self) -> str: ...


Event = TypeVar("Event", bound=Labelled)


@dataclass(frozen=True)
class ClassMapping:
    """Label -> class, None where the label is dropped; `name` is how messages call the file."""

    name: str
    classes: dict[str, str | None]


def read_mapping(path: Path) -> ClassMapping:
    """Read a mapping file; every text counts as it stands (`no` is a label, not a truth value).

    Raises `ValueError` naming file and row for what is wrong.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such mapping file; it is a CSV with label,class or a YAML with label: class")
    try:
        text = read_text(path)
        pairs = _yaml_pairs(text) if path.suffix.lower() in (".yaml", ".yml") else _csv_pairs(text)
        return ClassMapping(path.name, _checked(pairs))
    except TableError as error:
        comma = ", " if str(error).startswith("row ") else ": "
        raise ValueError(f"{path}{comma}{error}") from error


def mapping_file(config: AnnotationConfig, folder: Path) -> Path | None:
    """The mapping file, if one is named: in the tables' folder, or else where the command runs."""
    if config.mapping is None:
        return None
    inside = folder / config.mapping
    return inside if inside.is_file() else Path(config.mapping)


def mapped(rows: list[Event], config: AnnotationConfig, folder: Path) -> tuple[list[Event], list[str], list[str]]:
    """Events with the classes that `config` gives them, problems and notices as `apply_mapping` has them. Raises
    `ValueError` for a mapping file that is wrong."""
    path = mapping_file(config, folder)
    return (rows, [], []) if path is None else apply_mapping(rows, read_mapping(path), config.unmapped)


def _csv_pairs(text: str) -> list[Pair]:
    rows = cells(text, ",", quoted=True)
    header = Header(rows[0][1] if rows else [])
    fix = "it must have label,class"
    label, name = header.need("label", fix=fix), header.need("class", fix=fix)
    whole, problems = whole_rows(rows[1:], header, ",")
    if problems:
        raise TableError(problems[0])
    return [(number, row[label], row[name]) for number, row in whole]


def _yaml_pairs(text: str) -> list[Pair]:
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"row {mark.line + 1}: " if mark else ""
        raise TableError(f"{place}not readable as YAML; write one 'label: class' a line") from error
    if not isinstance(node, yaml.MappingNode):
        raise TableError("must hold one 'label: class' a line")
    pairs = []
    for key, value in node.value:
        number = key.start_mark.line + 1
        if not (isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)):
            raise TableError(f"row {number}: a label has one class; to merge labels, give each the same class")
        none = not value.style and value.value in ("", "~", "null")
        pairs.append((number, key.value.strip(), "" if none else value.value.strip()))
    return pairs


def _checked(pairs: list[Pair]) -> dict[str, str | None]:
    classes: dict[str, str | None] = {}
    for number, label, name in pairs:
        if not label:
            raise TableError(f"row {number}: label is empty; name the label, or remove the row")
        if label in classes and classes[label] != (name or None):
            raise TableError(f"row {number}: {label!r} has another class already; each label has one")
        classes[label] = name or None
    if not classes:
        raise TableError("names no label; it must have label,class")
    return classes


def apply_mapping(
    rows: Iterable[Event], mapping: ClassMapping, unmapped: Literal["error", "keep", "drop"]
) -> tuple[list[Event], list[str], list[str]]:
    """Events with their classes, one problem for each label that the mapping does not name, and notices."""
    kept: list[Event] = []
    dropped: Counter[str] = Counter()
    unknown: dict[str, list[Event]] = {}
    seen = set()
    for row in rows:
        seen.add(row.label)
        if row.label not in mapping.classes and unmapped != "drop":
            if unmapped == "error":
                unknown.setdefault(row.label, []).append(row)
            kept.append(row)
        elif name := mapping.classes.get(row.label):
            kept.append(replace(row, label=name))
        else:
            dropped[row.label] += 1
    problems = [_unknown(label, found, mapping) for label, found in unknown.items()]
    notices = [f"{mapping.name}: events of {label!r} dropped: {count}" for label, count in sorted(dropped.items())]
    notices += [f"{mapping.name}: no event is labelled {label!r}" for label in mapping.classes if label not in seen]
    return kept, problems, notices


def _unknown(label: str, rows: Sequence[Labelled], mapping: ClassMapping) -> str:
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    close = difflib.get_close_matches(label, mapping.classes, n=1)
    hint = f"did you mean {close[0]!r}? else " if close else ""
    return (
        f"{rows[0].where}{more}: label {label!r} is not in {mapping.name}; {hint}add it there (an empty class drops "
        "it), or set unmapped to keep or drop"
    )
