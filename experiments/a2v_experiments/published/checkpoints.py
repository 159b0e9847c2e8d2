"""The checkpoints that the authors of animal2vec published: which file is which, and whether it is still the same."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from a2v_data.documents import read_json
from a2v_data.storage import write_text_aside

from ..basics.errors import FAILED, UserError
from ..basics.progress import advancing, bar
from .dataverse import Dataset, FetchError, RemoteFile
from .download import DIGESTS, Moved, digests, download

DOI = "10.17617/3.ETPUKU"
HOST = "https://edmond.mpg.de"  # where doi.org sends that DOI; its pages ask for a browser, its API does not
PAPER = "arXiv 2406.01253"
REMEMBERED = "sha256.json"
MAX_NAMED = 20  # files

# Name here -> what the file's name has. In 2026 these are animal2vec_large_{pretrained,finetuned}_MeerKAT_240507.pt.
PUBLISHED = {
    "meerkat-pretrained": re.compile(r"pre-?train.*\.pt$", re.IGNORECASE),
    "meerkat-finetuned": re.compile(r"fine-?tun.*\.pt$", re.IGNORECASE),
}


@dataclass(frozen=True)
class Fetched:
    """A checkpoint that lies at `path`, and where it came from (anything JSON can hold), for its model's provenance."""

    path: Path
    origin: dict[str, str]


def choose(name: str, files: Sequence[RemoteFile], wanted: str | None = None) -> RemoteFile:
    """The file of a name of `PUBLISHED`, or the one called `wanted`. Raises UserError, or FetchError without any."""
    if wanted is not None:
        fits = [file for file in files if file.name == wanted]
    else:
        fits = [file for file in files if PUBLISHED[name].search(file.name)]
    if len(fits) == 1:
        if fits[0].restricted:
            raise UserError(
                f"{fits[0].name}: the authors give it on request only: ask at https://doi.org/{DOI}", FAILED
            )
        return fits[0]
    if not files:
        raise FetchError(f"doi:{DOI}: lists no files")
    what = f"called {wanted}" if wanted is not None else f"with a name like {name}"
    count = f"{len(fits)} files" if fits else "no file"
    listed = ", ".join(str(file) for file in fits or files[:MAX_NAMED])
    more = f" and {len(files) - MAX_NAMED} more" if not fits and len(files) > MAX_NAMED else ""
    raise UserError(f"doi:{DOI}: {count} {what}; choose with --file NAME from: {listed}{more}", FAILED)


def fetch(remote: RemoteFile, dataset: Dataset, folder: Path) -> Fetched:
    """Download `remote` into `folder`, or look whether what lies there is it, and remember its sha256.

    A file of its name that is another is left alone. Raises FetchError, or UserError for what is here.
    """
    path = folder / remote.name
    part = folder / f"{remote.name}.part"
    here = path.exists() or path.is_symlink()
    if here and not (path.is_file() and path.stat().st_size == remote.size):
        raise UserError(f"{path}: exists already and is not the {remote.size:,} bytes of doi:{DOI}; move it away first")
    if not here:
        with bar("downloading", round(remote.size / 1e6), "MB") as shown:
            download(remote, part, _megabytes(advancing(shown)))
    sha256 = _checked(remote, path if here else part, here)
    _compare(folder, remote, sha256)
    if not here:
        os.replace(part, path)
    origin = {"doi": DOI, "file": remote.name, "url": remote.url, "sha256": sha256}
    return Fetched(path, origin | {"licence": dataset.licence, "citation": dataset.citation})


def _checked(remote: RemoteFile, path: Path, users: bool) -> str:
    """Its sha256, where it has the repository's checksum; a download that has not is removed, a user's file is left."""
    kind = DIGESTS.get(remote.checksum[0]) if remote.checksum else None
    with bar("checking", round(remote.size / 1e6), "MB") as shown:
        found = digests(path, {"sha256"} | ({kind} if kind else set()), _megabytes(advancing(shown)))
    if kind and remote.checksum and found[kind] != remote.checksum[1]:
        said = f"its {remote.checksum[0]} is {found[kind]}, the repository says {remote.checksum[1]}"
        if users:
            raise UserError(f"{path}: exists already and is another file: {said}; move it away first")
        path.unlink()
        raise FetchError(f"{remote.url}: damaged on the way: {said}; removed, the same command downloads it again")
    return found["sha256"]


def _compare(folder: Path, remote: RemoteFile, sha256: str) -> None:
    """Trust on first use: what a DOI names should never change."""
    memory, key = folder / REMEMBERED, f"doi:{DOI}/{remote.name}"
    try:
        known = read_json(memory) if memory.exists() else {}
        before = known.get(key)
    except (ValueError, AttributeError):
        raise UserError(f"{memory}: should be JSON, file -> sha256; remove it if nothing in it matters") from None
    if before is not None and before != sha256:
        raise UserError(
            f"{remote.name}: is not what it was: sha256 {sha256}, at first use {before}; if the authors say that they"
            f" changed it, remove its line from {memory}",
            FAILED,
        )
    if before is None:
        write_text_aside(memory, json.dumps(known | {key: sha256}, indent=1) + "\n")


def _megabytes(advance: Moved) -> Moved:
    return lambda done, total: advance(round(done / 1e6), round(total / 1e6))
