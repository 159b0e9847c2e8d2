"""What must stay together in folds: a group of recordings (a long recording's pieces, an individual, a day).

A group is given by a part of the recording's name, or by a column of a table.
"""

import csv
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from a2v_data.storage import check_regular

Grouping = str | Callable[[str], str] | Mapping[str, str]
FILE_COLUMN = "file"


def group_of(name: str, group: Grouping) -> str:
    """The group of one recording. Raises `ValueError` where it has none."""
    if isinstance(group, str):
        if group != "recording":
            raise ValueError(f"group: {group!r}; it must be 'recording', a function or a mapping from names")
        return name
    if callable(group):
        return group(name)
    if name not in group:
        raise ValueError(f"group: no group is given for recording {name!r}; name one for every recording")
    return group[name]


def groups_of(names: Iterable[str], group: Grouping) -> dict[str, str | None]:
    """The group of each recording, None where it has none: an unlabelled one, or one of another corpus."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = group_of(name, group)
        except ValueError:
            found[name] = None
    return found


def of_the_same_groups(names: Iterable[str], some: Collection[str], group: Grouping) -> set[str]:
    """Those of the names that are some recordings, or of the same group as one of these."""
    groups = groups_of({*names, *some}, group)
    held = {groups[name] for name in some} - {None}
    return {name for name in names if name in some or groups[name] in held}


def by_pattern(pattern: str) -> Callable[[str], str]:
    """The group is what the one pair of parentheses in a regular expression finds in a recording's name.

    Raises `ValueError` for another expression; the function does for a name in which it is not found.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"group: {pattern!r} is not a regular expression ({error})") from None
    if expression.groups != 1:
        raise ValueError(f"group: {pattern!r} must have exactly one group in parentheses, for example ^(bird[0-9]+)_")

    def group(name: str) -> str:
        found = expression.search(name)
        if not found or found[1] is None:
            raise ValueError(
                f"group: {pattern!r} does not match the recording {name}; it must match every name, or be left out "
                "(null in a recipe)"
            )
        return found[1]

    return group


def by_table(path: Path, column: str) -> dict[str, str]:
    """The group of each recording from a CSV with the column `file` (its name in the corpus) and `column`.

    Raises `ValueError` naming file and row for what is missing, empty or contradictory.
    """
    try:
        check_regular(Path(path))
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file)
            header = [name.strip() for name in next(table, [])]
            rows = [(table.line_num, cells) for cells in table if any(cell.strip() for cell in cells)]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); groups are a CSV with file,{column}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not readable as UTF-8 CSV ({error})") from None
    for needed in (FILE_COLUMN, column):
        if header.count(needed) != 1:
            has = ", ".join(header) or "nothing"
            raise ValueError(f"{path}, row 1: needs one column {needed!r}; the header has {has}")
    groups: dict[str, str] = {}
    for number, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{path}, row {number}: {len(cells)} fields, the header has {len(header)}")
        name, group = (cells[header.index(key)].strip() for key in (FILE_COLUMN, column))
        if not name or not group:
            raise ValueError(f"{path}, row {number}: {column if name else FILE_COLUMN} is empty; it must have a value")
        if groups.setdefault(name, group) != group:
            raise ValueError(f"{path}, row {number}: {name} is in {group!r} and in {groups[name]!r}; name one group")
    return groups
