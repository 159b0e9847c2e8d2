"""What recordings' names say about which of them belong together: a common beginning, such as an animal, site or day.

Names are taken apart at `_` (at `-` or spaces where not all have one). The first part that is not the same in all of
them is the group, with everything before it. A folder above the recordings is tried before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FEWEST_GROUPS = 3
LEAST_SIZE = 2  # recordings of a group, on average


@dataclass(frozen=True)
class NameGroups:
    """pattern: for `folds.group`, None where no grouping is clear. groups: the beginnings that were found, sorted.
    alone_in_group: a class that is in several recordings, but of one group only: such a grouping is not suggested."""

    pattern: str | None
    groups: tuple[str, ...] = ()
    rejected: str | None = None
    alone_in_group: str | None = None


def name_groups(classes_of: Mapping[str, frozenset[str]]) -> NameGroups:
    """The grouping that labelled recordings' names suggest. classes_of: name -> the classes of its calls.

    It is clear only where every name has it, there are at least 3 groups, of 2 recordings or more on average, and no
    class would be in one group alone: that one could not be learned and evaluated.
    """
    unclear = NameGroups(None)
    for pattern in _candidates(list(classes_of)):
        found = {name: match[1] for name in classes_of if (match := re.search(pattern, name))}
        groups = tuple(sorted(set(found.values())))
        if len(found) < len(classes_of) or len(groups) < FEWEST_GROUPS or len(groups) * LEAST_SIZE > len(found):
            continue
        alone = _alone(classes_of, found)
        if alone is None:
            return NameGroups(pattern, groups)
        if unclear.rejected is None:
            unclear = NameGroups(None, groups, pattern, alone)
    return unclear


def _candidates(names: Sequence[str]) -> list[str]:
    candidates = []
    if all("/" in name for name in names):
        candidates.append("^([^/]+)/")
    stems = [name.rpartition("/")[2].rpartition(".")[0] for name in names]
    folder = "^(?:.*/)?" if any("/" in name for name in names) else "^"
    for mark in ("_", "-", " "):
        if not all(mark in stem for stem in stems):
            continue
        parts = [stem.split(mark)[:-1] for stem in stems]  # the last part tells recordings of a group apart
        for place in range(min(map(len, parts))):
            if len({part[place] for part in parts}) > 1:
                one = f"[^{mark}/]+"
                before = f"(?:{one}{mark}){{{place}}}" if place else ""
                candidates.append(f"{folder}({before}{one}){mark}")
                break
        break
    return candidates


def _alone(classes_of: Mapping[str, frozenset[str]], group_of: Mapping[str, str]) -> str | None:
    """A class whose recordings, two or more, are all of one group."""
    for name in sorted(frozenset().union(*classes_of.values())):
        of_class = [recording for recording, classes in classes_of.items() if name in classes]
        if len(of_class) > 1 and len({group_of[recording] for recording in of_class}) == 1:
            return name
    return None
