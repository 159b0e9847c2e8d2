"""How faults end here: as on the command line, in one line, but raised. And where things are by default."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from a2v_experiments.basics.errors import UserError, light_install
from a2v_experiments.basics.places import DEFAULT_WORK


@contextmanager
def in_one_line() -> Iterator[None]:
    """What a user can put right leaves the block as UserError: wrong values and folders (ValueError), and libraries
    that only training needs."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error
    except ModuleNotFoundError as error:
        missing = light_install(error)
        if missing is None:
            raise
        raise missing from error


def work_folder(given: str | os.PathLike[str] | None) -> Path:
    """The work folder that the command line would take, as a path that stays true when the process goes elsewhere."""
    return Path(given or os.environ.get("A2V_WORK") or DEFAULT_WORK).absolute()
