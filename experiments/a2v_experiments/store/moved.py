"""A work folder that was moved, copied or is mounted elsewhere: its artifacts are beside its database.

MLflow writes absolute places of artifacts into its database. Before a sqlite store is used, they are compared with
where it lies now, and put right in one transaction, so that MLflow's own UI finds them as well. What an experiment's
artifacts/NAME is beside the database is that experiment's, also while the old place is still there: a copy neither
reads nor writes what is the original's. Nothing changes where both are the same folder (a link, another mount).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from mlflow.tracking._tracking_service import utils

from ..basics.errors import FAILED, UserError
from .claims import DEAD_AFTER_S, is_alive_here
from .database import DATABASE, local_path, sqlite_path
from .tags import CANDIDATE, DRIVER, HEARTBEAT

ARTIFACTS = "artifacts"
PLACES = {  # table -> columns with places of artifacts below an experiment's
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
WAIT_S = 60.0  # for another process that writes to the database
EXPERIMENTS = "SELECT experiment_id, name, creation_time, artifact_location FROM experiments"


@dataclass(frozen=True)
class Move:
    """An experiment whose artifacts are in `new`, not in `old` as the database says.

    runs: those of earlier runs too; else only what is written from now on. apart: `old` is another store's, so that
    not even what is missing in `new` may be taken from it.
    """

    experiment_id: int
    old: Path
    new: Path
    old_uri: str
    runs: bool
    apart: bool


def put_right(uri: str, work: Path, writing: bool) -> None:
    """Places of artifacts in a sqlite store, as they are now. work: the folder that was given with it.

    writing: whether artifacts will be written. Raises UserError where they would go to the wrong place: the store is
    in use under its old place, is a copy without its artifacts, or (FAILED) cannot be written to.
    """
    path = sqlite_path(uri)
    if path is None or not path.is_file():
        return
    # MLflow remembers places by run for as long as the process lives; a copy has runs of the same names
    getattr(utils, "_artifact_repos_cache", {}).clear()
    try:
        with closing(_connect(path)) as database:
            known = database.execute(EXPERIMENTS).fetchall()
            moves = [move for row in known if (move := _move(path, work, writing, *row)) is not None]
            if not moves:
                return
            _check_unused(database, path, moves)
            with database:
                database.execute("BEGIN IMMEDIATE")
                for move in moves:
                    _rewrite(database, move)
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # not MLflow's, or of an old one: MLflow says what about it
            return
        raise UserError(
            f"{path}: this store was made in another place and cannot be put right here ({error}); make it writable,"
            " or use a copy of its work folder",
            FAILED,
        ) from None
    except sqlite3.DatabaseError:
        return  # no database: MLflow says so


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path.absolute(), timeout=WAIT_S, isolation_level=None)


def _move(
    path: Path, work: Path, writing: bool, experiment_id: int, name: str, made: int, location: str | None
) -> Move | None:
    """What is to be put right for one experiment; None where its artifacts are where the database says."""
    old = local_path(location or "")
    if old is None or not old.is_absolute():
        return None
    if old.name == ARTIFACTS and name != ARTIFACTS:
        inside = Path(ARTIFACTS)
    elif old.parent.name == ARTIFACTS:
        inside = Path(ARTIFACTS, old.name)
    else:
        return None  # somebody chose the place
    beside, given = (folder.resolve() / inside for folder in (path.absolute().parent, work))
    if old in (beside, given) or any(_same(old, new) for new in (beside, given)):
        return None
    other = _database_of(old, inside)
    apart = other is not None and not _same(other, path) and _holds(other, experiment_id, name, made)
    assert location is not None

    def to(new: Path, runs: bool) -> Move:
        return Move(experiment_id, old, new, location, runs, apart)

    if beside.is_dir():
        return to(beside, runs=True)
    if given.is_dir() and not old.exists():
        return to(given, runs=True)
    if not writing:
        return None
    if apart and old.exists():
        raise UserError(
            f"{path.parent}: is a copy of {other.parent if other else old} without its artifacts; copy"
            f" {old.parent if inside.parent != Path() else old} there too, or choose another --work"
        )
    return None if old.exists() else to(given, runs=False)


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _database_of(artifacts: Path, inside: Path) -> Path | None:
    """The database of the work folder that artifacts lie in, if it has one."""
    found = artifacts.parents[len(inside.parts) - 1] / DATABASE
    return found if found.is_file() else None


def _holds(path: Path, experiment_id: int, name: str, made: int) -> bool:
    """Whether a store has this very experiment: then one is a copy of the other."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT_S)) as database:
            return (experiment_id, name, made) in {row[:3] for row in database.execute(EXPERIMENTS)}
    except sqlite3.Error:
        return False


def _check_unused(database: sqlite3.Connection, path: Path, moves: list[Move]) -> None:
    """Raise UserError where a process may be writing under a place that is not seen from here (another mount)."""
    unseen = [move.old for move in moves if not move.old.exists()]
    if not unseen:
        return
    tags: dict[str, dict[str, str]] = {}
    query = "SELECT run_uuid, key, value FROM tags JOIN runs USING (run_uuid) WHERE status = 'RUNNING'"
    for run_id, key, value in database.execute(query):
        tags.setdefault(run_id, {})[key] = value
    for of_run in tags.values():
        owner = of_run.get(DRIVER) or of_run.get(CANDIDATE, "")
        here = is_alive_here(owner)
        if here or (here is None and _beats(of_run.get(HEARTBEAT, ""))):
            raise UserError(
                f"{path.parent}: process {owner} is using this store, whose artifacts it knows as {unseen[0].parent};"
                f" wait until it ends ({DEAD_AFTER_S / 60:g} minutes after one that was killed), or name the work"
                " folder as it does",
                FAILED,
            )


def _beats(heartbeat: str) -> bool:
    """Whether a heartbeat is of these minutes, if the clocks of both machines are right."""
    try:
        return abs((datetime.now(UTC) - datetime.fromisoformat(heartbeat)).total_seconds()) < DEAD_AFTER_S
    except (ValueError, TypeError):
        return False


def _rewrite(database: sqlite3.Connection, move: Move) -> None:
    """One experiment, its runs and models, and versions of registered models. A run that lies only in the old place
    stays there, if nobody else's."""
    new_uri = move.new.as_uri()
    database.execute(
        "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new_uri, move.experiment_id)
    )
    if not move.runs:
        return
    for table, columns in PLACES.items():
        there = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
        for column in there.intersection(columns):
            # substr, not LIKE: a folder's name may hold % and _
            rows = database.execute(
                f"SELECT rowid, {column} FROM {table} WHERE substr({column}, 1, ?) = ?",
                (len(move.old_uri) + 1, f"{move.old_uri}/"),
            )
            for row, uri in rows.fetchall():
                rest = uri.removeprefix(move.old_uri)
                inside = unquote(rest).lstrip("/") if uri.startswith("file:") else rest.lstrip("/")
                if move.apart or (move.new / inside).exists() or not (move.old / inside).exists():
                    database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new_uri + rest, row))
