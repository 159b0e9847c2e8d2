"""What a dataset in a Dataverse repository holds, by the API that these have (guides.dataverse.org, Native API).

`/api/datasets/:persistentId/?persistentId=doi:...` lists the newest published version, `/api/access/datafile/ID` is a
file. The latter mostly redirects to a signed address of a store, which holds for an hour and takes GET, with Range, but
not HEAD: who goes on later asks the repository again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from socket import gaierror
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from ..basics.errors import last_line

TIMEOUT_S = 60.0  # without a byte
MAX_LISTING_BYTES = 16 << 20
MAX_TEXT = 300  # characters
NETWORK = (OSError, HTTPException)  # of a call that touches nothing but the network


class FetchError(Exception):
    """What is wrong with the repository or the way to it, for one line that also says what to do by hand."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of the dataset, its size in bytes. checksum: its type as the repository names it (MD5, SHA-1, ...) and hex
    digits, if it has one."""

    name: str
    url: str
    size: int
    checksum: tuple[str, str] | None
    restricted: bool

    def __str__(self) -> str:
        return f"{self.name} ({self.size / 1e6:,.1f} MB)"


@dataclass(frozen=True)
class Dataset:
    """The newest published version: its files, and under which terms it may be used, each one line."""

    files: list[RemoteFile]
    licence: str
    citation: str


def opened(url: str, start: int = 0) -> HTTPResponse:
    """The answer to a GET, from byte `start` on if the server can do that. Raises one of `NETWORK`."""
    headers = {"User-Agent": "a2v"} | ({"Range": f"bytes={start}-"} if start else {})
    answer: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    return answer


def why(error: BaseException) -> str:
    """What a network error means, in a few words; of a refusal what the repository says about it."""
    if isinstance(error, HTTPError):
        try:
            told = json.loads(error.read(1 << 16))["message"]
        except (*NETWORK, ValueError, KeyError, TypeError):  # a page instead of JSON, or nothing
            told = error.reason
        return f"HTTP {error.code}: {line_of(told)}"
    reason = getattr(error, "reason", error)
    if isinstance(reason, gaierror):
        return "its host is not found: no network here, or the host is gone"
    if isinstance(reason, TimeoutError):
        return f"no answer for {TIMEOUT_S:g} s"
    return last_line(reason) if isinstance(reason, BaseException) else line_of(reason)


def line_of(text: object) -> str:
    """A text of the repository as one printable line, without its HTML, not too long."""
    plain = " ".join(re.sub(r"<[^<>]*>", " ", str(text)).split())
    plain = "".join(c for c in plain if c.isprintable())
    return plain if len(plain) <= MAX_TEXT else plain[: MAX_TEXT - 3] + "..."


def list_dataset(host: str, doi: str) -> Dataset:
    """The dataset `doi` (10.NNN/...) of the repository at `host` (https://...). Raises FetchError."""
    host = host.rstrip("/")
    url = f"{host}/api/datasets/:persistentId/?persistentId=doi:{quote(doi, safe='/')}"
    if urlsplit(host).scheme not in ("http", "https") or not urlsplit(host).netloc:
        raise FetchError(f"{host}: should begin with https:// or http:// and name a host")
    try:
        with opened(url) as answer:
            text = answer.read(MAX_LISTING_BYTES)
    except (*NETWORK, ValueError) as error:
        raise FetchError(f"{host}: {why(error)}") from None
    try:
        data = json.loads(text)["data"]
        version = data["latestVersion"]
        files = [_file(host, entry) for entry in version["files"]]
        return Dataset(files, _licence(version), _citation(data, version, doi))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FetchError(f"{host}: does not answer as a Dataverse repository does") from None


def _file(host: str, entry: dict[str, Any]) -> RemoteFile:
    data = entry["dataFile"]
    name = str(data.get("filename") or entry["label"])
    if not name.isprintable() or "/" in name or "\\" in name or name.startswith("."):
        name = f"file-{int(data['id'])}"  # it becomes a file's name here
    checksum = data.get("checksum") or ({"type": "MD5", "value": data["md5"]} if data.get("md5") else None)
    return RemoteFile(
        name,
        f"{host}/api/access/datafile/{int(data['id'])}",
        int(data["filesize"]),
        (str(checksum["type"]), str(checksum["value"]).lower()) if checksum else None,
        bool(entry.get("restricted")),
    )


def _licence(version: dict[str, Any]) -> str:
    """A licence is a name and an address, or a bare name (before Dataverse 5.10); who has none has terms."""
    licence = version.get("license")
    if isinstance(licence, dict):
        return line_of(" ".join(str(licence[key]) for key in ("name", "uri") if licence.get(key)))
    terms = version.get("termsOfUse")
    named = [str(text) for text in (licence, terms) if text and text != "NONE"]
    return line_of(", ".join(named)) if named else "none named: ask the authors"


def _citation(data: dict[str, Any], version: dict[str, Any], doi: str) -> str:
    block = version.get("metadataBlocks", {}).get("citation", {})
    fields = {field["typeName"]: field.get("value") for field in block.get("fields", [])}
    year = str(data.get("publicationDate") or "")[:4]
    number = version.get("versionNumber")
    authors = line_of("; ".join(author["authorName"]["value"] for author in fields.get("author") or []))
    parts = [f"{authors} ({year})".strip(), line_of(fields.get("title", ""))]
    parts += [line_of(data.get("publisher", "")), f"https://doi.org/{doi}", f"V{number}" if number else ""]
    return ", ".join(part for part in parts if part)
