"""A Dataverse repository on the loopback: the two calls of its API that a2v makes, and what goes wrong with them."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

DOI = "doi:10.17617/3.ETPUKU"


@dataclass
class Repository:
    """What it has and how it misbehaves.

    files: name -> content; their ids are 253219, 253220, ... cuts: after so many bytes the next answers with content
    end, one each. refusals: HTTP codes of the next of them. ranges: whether the store can begin in the middle.
    """

    files: dict[str, bytes]
    listing: dict[str, Any] = field(default_factory=dict)  # replaces keys of the version
    of_file: dict[str, Any] = field(default_factory=dict)  # replaces keys of every file's `dataFile`
    answer: bytes | None = None  # instead of the listing
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    stalls_s: float = 0.0
    uri: str = ""
    asked: list[str] = field(default_factory=list)  # 'PATH' or 'PATH RANGE' of every request

    def version(self) -> dict[str, Any]:
        """As Dataverse 5.10 and later write it, without what is not read."""
        authors = [{"authorName": {"typeName": "authorName", "value": name}} for name in ("Doe, Jane", "Roe, Richard")]
        fields = [
            {"typeName": "title", "value": "Model weights\nof <i>animal2vec</i>"},
            {"typeName": "author", "value": authors},
        ]
        version = {
            "versionNumber": 2, "versionState": "RELEASED",
            "license": {"name": "CC BY-NC 4.0", "uri": "https://creativecommons.org/licenses/by-nc/4.0"},
            "metadataBlocks": {"citation": {"fields": fields}},
            "files": [self._entry(number, name) for number, name in enumerate(self.files, 253219)],
        }  # fmt: skip
        return version | self.listing

    def _entry(self, number: int, name: str) -> dict[str, Any]:
        content = self.files[name]
        data = {
            "id": number, "filename": name, "filesize": len(content),
            "checksum": {"type": "MD5", "value": hashlib.md5(content).hexdigest()},
        }  # fmt: skip
        return {"label": name, "restricted": False, "dataFile": data | self.of_file}


@contextmanager
def serving(repository: Repository) -> Iterator[Repository]:
    """`repository`, answering under its `uri`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            url = urlsplit(self.path)
            repository.asked.append(f"{url.path} {wanted}".strip())
            if url.path == "/api/datasets/:persistentId/":
                self._list(parse_qs(url.query).get("persistentId"))
            elif url.path.startswith("/api/access/datafile/") and repository.refusals:
                self._json(repository.refusals.pop(0), {"status": "ERROR", "message": "over the limit"})
            elif url.path.startswith("/api/access/datafile/"):
                self.send_response(303)  # to a store with signed addresses, as S3
                self.send_header("Location", f"/store/{url.path.rpartition('/')[2]}?signature=x%2Fy")
                self.end_headers()
            elif not url.path.startswith("/store/"):
                self.send_error(404, "no such page")
            else:
                self._send(list(repository.files.values())[int(url.path.rpartition("/")[2]) - 253219], wanted)

        def _list(self, wanted: list[str] | None) -> None:
            if repository.answer is not None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(repository.answer)
            elif wanted != [DOI]:
                self._json(404, {"status": "ERROR", "message": f"Dataset with Persistent ID {wanted} not found."})
            else:
                data = {"publisher": "Edmond", "publicationDate": "2024-06-14", "latestVersion": repository.version()}
                self._json(200, {"status": "OK", "data": data})

        def _json(self, code: int, value: object) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())

        def _send(self, content: bytes, wanted: str) -> None:
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and repository.ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            rest = content[start:]
            self.wfile.write(rest[: repository.cuts.pop(0)] if repository.cuts else rest)
            self.wfile.flush()
            time.sleep(repository.stalls_s)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        repository.uri = f"http://127.0.0.1:{server.server_port}"
        try:
            yield repository
        finally:
            server.shutdown()
            thread.join()
