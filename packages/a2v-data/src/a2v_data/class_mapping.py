"""A mapping file renames, merges and drops classes: CSV with label,class, or YAML with label: class.

Several labels may have one class; an empty class drops the label. A row may be a pattern as of file names, in which
`*` is any text, `?` any character and `[0-9]` one of some; upper and lower case differ. What decides about a label:

1. the row that is written exactly so. Such a row is no pattern, so that labels with `*`, `?` or `[` in them (`wren?`)
   can be mapped, and take no other label along. A row `?` alone is never a pattern. Where a pattern is written like a
   label, `[*]` tells them apart: `A[*]` is the label `A*`, and `A*` then a pattern.
2. else, of the patterns that fit, the one with the most characters that stand for themselves. Where two such patterns
   give different classes, the label is refused.

`strip_numbers` takes running numbers away before any of this, see `without_number`.
"""

import difflib
import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import yaml

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.documents import MOST_YAML_BYTES, PlainLoader, shown
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


def relabels(config: AnnotationConfig) -> bool:
    """Whether the classes are other names than those in the tables."""
    return config.mapping is not None or config.strip_numbers


def mapped(rows: list[Event], config: AnnotationConfig, folder: Path) -> tuple[list[Event], list[str], list[str]]:
    """Events with the classes that `config` gives them, problems and notices as `apply_mapping` has them. Raises
    `ValueError` for a mapping file that is wrong."""
    path = mapping_file(config, folder)
    mapping = None if path is None else read_mapping(path)
    merged: list[str] = []
    if config.strip_numbers:
        rows, merged = strip_numbers(rows)
    if mapping is None:
        return rows, [], merged
    kept, problems, notices = apply_mapping(rows, mapping, config.unmapped)
    return kept, problems, merged + notices


NUMBER = re.compile(r"(?P<stem>.*?)[\s_\-.#:]*[0-9]+(?P<mark>[^\w\s]*)", re.DOTALL)


def without_number(label: str) -> str:
    """The label without the number at its end and the separators before it; a mark behind the number stays.

    `cl17` and `cl_17` are `cl`, `-h12` is `-h` (what a dash before it means, a mapping can say), `h1?` is `h?`. A label
    of which no letter would be left (`12`) stays as it is.
    """
    found = NUMBER.fullmatch(label)
    if found is None or not any(map(str.isalnum, found["stem"])):
        return label
    return found["stem"] + found["mark"]


def strip_numbers(rows: list[Event]) -> tuple[list[Event], list[str]]:
    """Events with labels `without_number`, and one line on what became one, if anything did."""
    events = Counter(row.label for row in rows)
    stems = {label: without_number(label) for label in events}
    merged: dict[str, list[str]] = {}
    for label, stem in stems.items():
        merged.setdefault(stem, []).append(label)
    changed = {stem: labels for stem, labels in merged.items() if labels != [stem]}
    if not changed:
        return rows, ["strip_numbers: no label ends with a number"] if rows else []
    order = sorted(changed, key=lambda stem: (-len(changed[stem]), stem))
    told = [
        f"{stem} ({len(changed[stem])} label{'s' if len(changed[stem]) > 1 else ''}, "
        f"{sum(events[label] for label in changed[stem])} events)"
        for stem in order
    ]
    line = f"strip_numbers: {len(stems)} labels became {len(merged)}: {some_of(told, SHOWN)}"
    return [row if stems[row.label] == row.label else replace(row, label=stems[row.label]) for row in rows], [line]


SHOWN = 10  # names in one line


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")


def naturally(label: str) -> list[tuple[int, int, str]]:
    """A key that sorts labels as people count: cl2 before cl10."""
    parts = re.split(r"([0-9]+)", label)
    return [(0, int(part), "") if number % 2 else (1, 0, part) for number, part in enumerate(parts)]


def _csv_pairs(text: str) -> list[Pair]:
    first = text.partition("\n")[0]
    delimiter = next((one for one in ",;\t" if one in first), ",")  # what spreadsheets save
    rows = cells(text, delimiter, quoted=True)
    header = Header(rows[0][1] if rows else [])
    fix = "it must have label,class"
    label, name = header.need("label", fix=fix), header.need("class", fix=fix)
    whole, problems = whole_rows(rows[1:], header, delimiter)
    if problems:
        raise TableError(problems[0])
    return [(number, row[label], row[name]) for number, row in whole]


# a label or class that begins as nothing in YAML may: `*: other`, `wren?: ?`
_INDICATED = re.compile(r"^(?P<label>[^\s'\"#:][^:'\"\n]*?)(?P<colon>[ \t]*:)(?P<rest>[ \t]+[^\n]*|)$", re.MULTILINE)


def _quoted(line: re.Match[str]) -> str:
    label, rest = line["label"], line["rest"]
    if label[0] in "*?[!&@%|>`":
        label = f"'{label}'"
    value = rest.split(" #")[0].strip()
    if value[:1] in ("?", "*"):
        rest = f" '{value}'"
    return f"{label}{line['colon']}{rest}"


def _yaml_pairs(text: str) -> list[Pair]:
    if len(text) > MOST_YAML_BYTES:
        raise TableError(f"has {len(text):,} characters; a YAML is read up to {MOST_YAML_BYTES:,}, write a CSV")
    try:
        node = yaml.compose(_INDICATED.sub(_quoted, text), Loader=PlainLoader)
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
            raise TableError(f"row {number}: {shown(label)} has another class already; each label has one")
        classes[label] = name or None
    if not classes:
        raise TableError("names no label; it must have label,class")
    return classes


def apply_mapping(
    rows: Iterable[Event], mapping: ClassMapping, unmapped: Literal["error", "keep", "drop"]
) -> tuple[list[Event], list[str], list[str]]:
    """Events with their classes, one problem for each label that the mapping does not name or does not decide about,
    and notices."""
    rows = list(rows)
    events = Counter(row.label for row in rows)
    chosen = _rows_of(mapping, events.keys())
    kept: list[Event] = []
    dropped: Counter[str] = Counter()
    wrong: dict[str, list[Event]] = {}
    for row in rows:
        found = chosen[row.label]
        if len(found) > 1 or (not found and unmapped == "error"):
            wrong.setdefault(row.label, []).append(row)
            kept.append(row)
        elif not found and unmapped == "keep":
            kept.append(row)
        elif name := mapping.classes[found[0]] if found else None:
            kept.append(row if name == row.label else replace(row, label=name))
        else:
            dropped[row.label] += 1
    problems = [
        _undecided(label, found, chosen[label], mapping)
        if chosen[label]
        else _unknown(label, found, mapping, events.keys())
        for label, found in wrong.items()
    ]
    return kept, problems, list(_told(mapping, chosen, events, dropped))


def decided(labels: Iterable[str], mapping: ClassMapping) -> dict[str, str]:
    """Label -> class (empty: dropped) of those that the mapping decides about."""
    rows = _rows_of(mapping, set(labels))
    return {label: mapping.classes[found[0]] or "" for label, found in rows.items() if len(found) == 1}


def _rows_of(mapping: ClassMapping, labels: Set[str]) -> dict[str, list[str]]:
    """Label -> the row that decides about it; none, or several that contradict each other. labels: all there are."""
    quoted = {QUOTED.sub(lambda one: one[0][1], row): row for row in mapping.classes if QUOTED.search(row)}
    alone = labels - quoted.keys()
    patterns = {row: _literal(row) for row in mapping.classes if is_pattern(row, alone)}

    def rows_of(label: str) -> list[str]:
        if label in quoted and fnmatch.fnmatchcase(label, quoted[label]):
            return [quoted[label]]
        if label in mapping.classes:
            return [label]
        fitting = [row for row in patterns if fnmatch.fnmatchcase(label, row)]
        best = [row for row in fitting if patterns[row] == max(map(patterns.__getitem__, fitting))]
        return best if len({mapping.classes[row] for row in best}) > 1 else best[:1]

    return {label: rows_of(label) for label in labels}


QUOTED = re.compile(r"\[[^!\]]\]")  # one character that stands for itself: [*]


def is_pattern(row: str, labels: Set[str] = frozenset()) -> bool:
    """Whether a row of a mapping stands for other labels than the one that is written so."""
    return row != "?" and row not in labels and re.search(r"[*?]|\[.+\]", row) is not None


def _literal(pattern: str) -> tuple[int, int, int]:
    """How much of a pattern says what the label is: characters that stand for themselves, sets, single characters.
    `[*]` is the way to write a character that would be a pattern, and stands for itself."""
    itself = len(QUOTED.findall(pattern))
    rest = QUOTED.sub("", pattern)
    sets = len(re.findall(r"\[.[^\]]*\]", rest))
    rest = re.sub(r"\[.[^\]]*\]", "", rest)
    return itself + len(rest) - rest.count("*") - rest.count("?"), sets, rest.count("?")


def _told(
    mapping: ClassMapping, chosen: Mapping[str, list[str]], events: Mapping[str, int], dropped: Mapping[str, int]
) -> Iterator[str]:
    """What a mapping did, a line for each pattern, dropped label, and row without an event; few lines of many."""
    by_row: dict[str, list[str]] = {}
    for label, found in chosen.items():
        if len(found) == 1 and found[0] != label:
            by_row.setdefault(found[0], []).append(label)
    alone = sorted(label for label in dropped if chosen[label] == [label])
    unnamed = sorted((label for label in dropped if not chosen[label]), key=naturally)
    if len(alone + unnamed) <= SHOWN:
        for label in sorted(alone + unnamed):
            yield f"{mapping.name}: events of {label!r} dropped: {dropped[label]}"
    else:
        for labels, of in ((alone, "labels"), (unnamed, "labels that it does not name")):
            if labels:
                count = sum(dropped[label] for label in labels)
                yield f"{mapping.name}: events of {len(labels)} {of} dropped: {count} ({some_of(labels)})"
    for row, labels in by_row.items():
        count, name = sum(events[label] for label in labels), mapping.classes[row]
        what = f"{row!r} is {name}" if name else f"{row!r} drops"
        labels = sorted(labels, key=naturally)
        yield f"{mapping.name}: {what}: {count} events of {len(labels)} labels ({some_of(labels)})"
    unused = [row for row in mapping.classes if row not in events and row not in by_row]
    if len(unused) <= SHOWN:
        for row in unused:
            yield f"{mapping.name}: no event is labelled {row!r}"
    else:
        yield f"{mapping.name}: no event has {len(unused)} of its labels ({some_of(unused)})"


def _undecided(label: str, events: Sequence[Labelled], rows: Sequence[str], mapping: ClassMapping) -> str:
    fitting = " and ".join(f"{row!r} ({mapping.classes[row] or 'dropped'})" for row in rows)
    return f"{events[0].where}: label {label!r} fits {fitting} of {mapping.name} alike; give it a row of its own there"


def _unknown(label: str, rows: Sequence[Labelled], mapping: ClassMapping, labels: Set[str]) -> str:
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    alone = [row for row in mapping.classes if row in labels and is_pattern(row) and fnmatch.fnmatchcase(label, row)]
    close = difflib.get_close_matches(label, mapping.classes, n=1)
    hint = f"did you mean {close[0]!r}? else " if close else ""
    if alone:
        hint = f"{alone[0]!r} there stands for the label that is written so, and no other; "
    return (
        f"{rows[0].where}{more}: label {label!r} is not in {mapping.name}; {hint}add it there (an empty class drops "
        "it), or set unmapped to keep or drop"
    )
