"""Lists of class names as they are typed: with commas, in which a name may hold one itself."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence

from .errors import UserError


def listed(given: Sequence[str] | None) -> list[str] | None:
    """The names of an option that may be repeated, each with several names and commas between; in double quotes a comma
    belongs to the name. None where it is not given."""
    if not given:
        return None
    try:
        return [name.strip() for row in csv.reader(given, skipinitialspace=True) for name in row or [""]]
    except csv.Error as error:
        raise UserError(f"a list of names is not readable ({error}); separate names with commas") from None


def rejoined(names: Sequence[str], known: Collection[str]) -> list[str]:
    """The names, those that are not known put together where several are a known one: `Wren, juv.`."""
    found: list[str] = []
    left = list(names)
    while left:
        wholes = ((end, sep.join(left[:end])) for end in range(len(left), 1, -1) for sep in (", ", ","))
        one = (1, left[0])
        end, name = one if left[0] in known else next((whole for whole in wholes if whole[1] in known), one)
        found.append(name)
        del left[:end]
    return found
