"""sqlite stores by their URI, for folders of any name.

SQLAlchemy reads a sqlite URI in its own way: the path ends at the first `?` and is percent-decoded; `#`, `&`, quotes
and spaces stand for themselves, where `urllib.parse` would end or change it. So only SQLAlchemy takes one apart here.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from mlflow import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ..basics.errors import UserError

DATABASE = "mlflow.db"


def default_uri(work: Path) -> str:
    """sqlite in the work folder: the store that needs no server. Raises UserError as `check_name` does."""
    check_name(work)
    return sqlite_uri(work.resolve() / DATABASE)


def check_name(work: Path) -> None:
    """Raise UserError for a folder's name that no line, URI or database can hold: with control characters in it, or
    bytes that are no UTF-8."""
    text = str(work.absolute())
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise UserError(f"--work {str(work)!r}: has a line break or control character in its name; rename the folder")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"--work {str(work)!r}: its name is not UTF-8; rename the folder") from None


def is_sqlite(uri: str) -> bool:
    """Whether a tracking URI names a sqlite database, with whatever driver."""
    return uri.startswith(("sqlite:", "sqlite+"))


def sqlite_uri(path: Path) -> str:
    """The URI of a sqlite database in a file."""
    plain = f"sqlite:///{path}"
    if make_url(plain).database == str(path):
        return plain
    # with the driver's name: MLflow makes folders for what follows a plain `sqlite:///`, as if it were a path
    return "sqlite+pysqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite URI; None for other stores, and for a database in memory."""
    if not is_sqlite(uri):
        return None
    try:
        name = make_url(uri).database or ""
    except ArgumentError:
        return None
    return Path(name) if name not in ("", ":memory:") else None


def absolute(uri: str | None) -> str | None:
    """The URI as it holds in every folder: the path of a sqlite database made absolute."""
    path = sqlite_path(uri) if uri else None
    return uri if path is None or path.is_absolute() else sqlite_uri(path.absolute())


def local_path(uri: str) -> Path | None:
    """The path of an artifact URI on this machine; None where it is elsewhere (a server, a bucket)."""
    if uri.startswith("file:"):
        return Path(url2pathname(urlparse(uri).path))
    return Path(uri) if uri.startswith("/") or ("://" not in uri and ":/" not in uri) else None


def make_database(uri: str) -> None:
    """A sqlite database that is not there is made aside, as its hundred steps cannot be resumed or done by two."""
    path = sqlite_path(uri)
    if path is None or path.exists() or not path.parent.is_dir():
        return
    aside = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        MlflowClient(sqlite_uri(aside.resolve()))
        os.link(aside, path)
    except FileExistsError:  # another process was faster
        return
    except PermissionError:  # a file system without links
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
        aside.with_name(f"{aside.name}-journal").unlink(missing_ok=True)
