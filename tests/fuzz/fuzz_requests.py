"""Requests to the review server that no page of ours sends. None brings it down, shows what is no business of theirs or
ends in a traceback; a right request is answered afterwards."""

import csv
import http.client
import json
import shutil
import socket
import threading
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, quote_from_bytes

import numpy as np
import soundfile
from fuzz_mutate import TOKENS, damage_tree, nested, values
from fuzz_run import Case, Family

RATE = 8000
REQUESTS = 8
GET = ("", "app.js", "about", "state", "list", "next", "item", "clip.png", "clip.wav")
POST = ("decide", "similar")
PATHS = (
    "../../../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "page/../server.py",
    "..\\..\\etc\\passwd", "app.js/../../server.py", "//etc/passwd", "%00", "app.js%00.html", "%ff%fe", "?" * 100,
    "a/" * 5000, "x" * 70_000, "clip.png/", ";/about", "about#x",
)  # fmt: skip
METHODS = (
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "CONNECT",
    "GE T",
    "\x1b[31m",
    "x" * 999,
)


def _ready(folder: Path) -> None:
    audio = folder / "audio"
    audio.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    rows = []
    for name in ("a.wav", "<b>.wav"):
        soundfile.write(audio / name, noise, RATE, subtype="PCM_16")
        rows += [[name, start, start + 0.2, "cc", 0.9 - start / 10] for start in (0.5, 1.5, 2.5)]
    with (folder / "calls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "onset_s", "offset_s", "label", "likelihood"], *rows])


def _make(rng: Random, ready: Path, folder: Path) -> Case:
    shutil.copytree(ready, folder / "out")
    seed = rng.randrange(1 << 30)
    return Case(f"requests of {seed}", call=lambda: _serve(seed))


def _serve(seed: int) -> None:
    """Raises AssertionError, a traceback, for an answer that is not right."""
    from a2v_experiments.review.calls import open_calls
    from a2v_experiments.review.clips import Clips
    from a2v_experiments.review.desk import Desk
    from a2v_experiments.review.items import queue
    from a2v_experiments.review.journal import open_journal
    from a2v_experiments.review.server import Server

    rng = Random(seed)
    calls = open_calls(Path("out/calls.csv"), Path("out/audio"))
    with open_journal(calls.folder) as journal:
        clips = Clips(calls.recordings, calls.channel, None)
        desk = Desk(calls, journal, queue(calls, "likelihood", window_count=1), clips, "ann")
        server = Server(desk)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            right = f"GET /{server.token}/%s HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n"
            item = json.loads(_ask(server.port, (right % "next?page=p").encode())[1])
            for _ in range(REQUESTS):
                sent = _request(rng, server, item)
                code, body = _ask(server.port, sent, 0.5)
                assert code < 500, (code, body[:300], sent[:300])
                assert b"root:" not in body and b"Traceback" not in body, sent[:300]
            code, body = _ask(server.port, (right % "about").encode())
            assert code == 200 and json.loads(body)["total"] == 7, (code, body)
        finally:
            server.stop()
            thread.join(10)
            clips.close()


def _request(rng: Random, server: Any, item: dict[str, Any]) -> bytes:
    """One request that something is wrong with, or nothing."""
    token, host = server.token, f"127.0.0.1:{server.port}"
    kind = rng.choice(("query", "query", "body", "body", "body", "path", "token", "method", "headers", "bytes"))
    if kind == "bytes":
        return rng.choice((rng.randbytes(2000), b"\r\n" * 500, b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00" * 9))
    if kind == "token":
        token = rng.choice(("", token[:-1], token + "x", token.lower(), "%ff", quote(rng.choice(TOKENS[20:30]))))
    if kind == "headers":
        host = rng.choice(("evil.example", "", "127.0.0.1", "[::1]:1", host + "\r\nHost: evil.example", "x" * 70_000))
    method, path, body = "GET", rng.choice(GET), b""
    if kind == "path":
        path = rng.choice(PATHS)
    if kind == "query":
        path = f"{path}?{_query(rng, item)}"
    headers = [f"Host: {host}", "Connection: close"]
    if kind == "body":
        method, path, body = "POST", rng.choice(POST), _body(rng, item)
        type_ = rng.choice(("application/json",) * 6 + ("text/plain", "application/json; charset=utf-16", ""))
        headers += [f"Content-Type: {type_}"]
        length = rng.choice((len(body),) * 8 + (0, len(body) // 2, len(body) + 10, 10**18, -1, "x"))
        headers += [rng.choice((f"Content-Length: {length}",) * 9 + ("Transfer-Encoding: chunked",))]
    if kind == "method":
        method = rng.choice(METHODS)
    if rng.random() < 0.1:
        headers += rng.choice(
            (["Origin: http://evil.example"], ["Range: bytes=0-"], ["X: y"] * 2000, ["Expect: 100-continue"])
        )
    head = "\r\n".join([f"{method} /{token}/{path} HTTP/1.1", *headers])
    return head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def _query(rng: Random, item: dict[str, Any]) -> str:
    keys = {
        "id": item["id"], "page": "p", "from": item["clip"][0], "to": item["clip"][1], "since": 0, "first": 0,
        "count": 5, "low": 0, "high": 1, "label": "cc", "file": "a.wav", "undecided": 1, "after": item["id"],
        "held": "",
    }  # fmt: skip
    for _ in range(rng.choice((0, 1, 2, 3))):
        keys[rng.choice(sorted(keys))] = rng.choice((*TOKENS[:-2], -1, "9" * 11, "nan", "1e400"))
    return "&".join(
        f"{key}={quote_from_bytes(str(value).encode('utf-8', 'surrogateescape'))}" for key, value in keys.items()
    )[:60_000]


def _body(rng: Random, item: dict[str, Any]) -> bytes:
    right = {
        "shown": item["id"], "item": item["id"], "kind": item["kind"], "label": "cc", "onset_s": item["onset_s"],
        "verdict": rng.choice(("right", "wrong", "unsure", "other", "undone")), "offset_s": item["offset_s"],
        "clip": item["clip"], "whole": True, "seen": 0, "page": "p", "chosen": False, "reviewer": "ann",
        "spent_s": 1.5, "from": 0.0, "to": 1.0,
    }  # fmt: skip
    if rng.random() < 0.1:
        return rng.choice((b"", b"{", b"[" * 50_000, b"\xff\xfe", b"0" * 100_000, b'{"a":' * 9000, b"null", b"NaN"))
    tree = damage_tree(rng, right)[1] if rng.random() < 0.5 else right
    tree = {**tree, rng.choice(sorted(right)): rng.choice((values(rng), nested(800), 10**400, 10**308))}
    try:
        return json.dumps(tree).encode()
    except RecursionError:
        return b"[" * 5000
    except ValueError:  # a number that is too long to be written
        return json.dumps(right).encode()


def _ask(port: int, sent: bytes, wait_s: float = 20) -> tuple[int, bytes]:
    """The answer's code and body; 0 where the server closes, as it may for what is no HTTP, or waits for the rest."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as connection:
        try:
            connection.sendall(sent)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError):
            return 0, b""


REQUESTS_FAMILY = Family("requests", _make, _ready)
