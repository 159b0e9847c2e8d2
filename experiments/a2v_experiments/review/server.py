"""The review page's server: 127.0.0.1 only, and nothing without the token in its address.

Routes, all below `/TOKEN/`; what is asked for and answered is JSON but for the page itself, pictures and sounds:

    GET  '', app.js, style.css ...      the page (KINDS)
    GET  about                          what a page needs once
    GET  state?since&page&held          progress, and decisions after line `since`
    GET  list?first&count&FILTER        rows of the list
    GET  next?page&after&FILTER         the next open item, null where there is none
    GET  item?id&page&FILTER            one item
    GET  clip.png, clip.wav ?id&from&to a part of what is shown of an item; the sound's gain is in X-Gain-dB
    POST decide                         `Desk.decide`; 409 with what stands where another page was faster
    POST similar                        {item, from, to}: parts that sound like it

FILTER: label, low, high, file, undecided (items.Filter).
"""

from __future__ import annotations

import errno
import json
import secrets
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvicorn
from a2v_data.audio import AudioError
from a2v_data.documents import json_of
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..basics.errors import FAILED, UserError
from .desk import Desk, UnknownItemError
from .items import Filter
from .journal import ConflictError

HOST = "127.0.0.1"
PAGE = Path(__file__).parent / "page"
MOST_BYTES = 1 << 16  # of what a page sends
KINDS = {
    "index.html": "text/html",
    "app.js": "text/javascript",
    "dialogs.js": "text/javascript",
    "draw.js": "text/javascript",
    "list.js": "text/javascript",
    "server.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
KEEP = {"Cache-Control": "private, max-age=3600"}  # clips: their address has the token of this start


class Guard:
    """Answers 403 to whoever does not know the token, or comes by another name than this machine's (a page elsewhere
    whose name was made to lead here), and hands the rest on without the token."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {f"{name}:{port}".encode() for name in (HOST, "localhost")}
        self._origins = {b"http://" + host for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        _, _, rest = scope["path"].partition("/")
        token, slash, rest = rest.partition("/")
        headers = dict(scope["headers"])
        known = secrets.compare_digest(token.encode("utf-8", "replace"), self._token)
        elsewhere = headers.get(b"origin", b"") not in (b"", *self._origins)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                have = {name for name, _ in message["headers"]}
                added = {**HEADERS, "Cache-Control": "no-store"}
                message["headers"] = [*message["headers"]] + [
                    (name.lower().encode(), value.encode())
                    for name, value in added.items()
                    if name.lower().encode() not in have
                ]
            try:
                await send(message)
            except Exception as error:
                if type(error).__name__ != "LocalProtocolError":  # h11's, of uvicorn
                    raise  # else what came was no HTTP: uvicorn has answered that and closed, there is nobody to tell

        if not (known and slash) or headers.get(b"host") not in self._hosts or elsewhere:
            await _error(403, "no entry without the address that `a2v review` printed")(scope, receive, with_headers)
            return
        await self._app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, with_headers)


def make_app(desk: Desk) -> Starlette:
    """All routes, without the token."""

    def get(path: str, answer: Callable[[Request], Response]) -> Route:
        def safe(request: Request) -> Response:
            return _answered(lambda: answer(request))

        return Route(path, safe, methods=["GET"])

    def post(path: str, answer: Callable[[dict[str, Any]], Any]) -> Route:
        async def safe(request: Request) -> Response:
            asked = await _body(request)
            if isinstance(asked, Response):
                return asked
            return await run_in_threadpool(_answered, lambda: _json(answer(asked)))

        return Route(path, safe, methods=["POST"])

    def prepared(answer: dict[str, Any] | None) -> Response:
        response = _json(answer)
        response.background = BackgroundTask(desk.prepare, answer)
        return response

    def state(request: Request) -> Response:
        asked = request.query_params
        return _json(desk.state(_number(asked.get("since", "0")), asked.get("page", ""), asked.get("held", "")))

    def listing(request: Request) -> Response:
        asked = request.query_params
        first, count = _number(asked.get("first", "0")), _number(asked.get("count", "100"))
        return _json(desk.listing(_filter(request), first, count))

    def following(request: Request) -> Response:
        asked = request.query_params
        return prepared(desk.next(asked.get("page", ""), asked.get("after", ""), _filter(request)))

    def item(request: Request) -> Response:
        asked = request.query_params
        return prepared(desk.item(asked.get("id", ""), asked.get("page", ""), _filter(request)))

    def clip(request: Request, sound: bool) -> Response:
        asked = request.query_params
        start_s, stop_s = _seconds(asked.get("from", "")), _seconds(asked.get("to", ""))
        made = desk.clips.get(desk.clip(asked.get("id", ""), start_s, stop_s))
        if sound:
            return Response(made.wav, headers={**KEEP, "X-Gain-dB": f"{made.gain_db:.2f}"}, media_type="audio/wav")
        return Response(made.png, headers=KEEP, media_type="image/png")

    def similar(asked: dict[str, Any]) -> Any:
        return desk.similar(str(asked.get("item")), _seconds(asked.get("from")), _seconds(asked.get("to")))

    def file(name: str) -> Callable[[Request], Response]:
        return lambda request: Response((PAGE / name).read_bytes(), media_type=KINDS[name])

    return Starlette(
        routes=[
            get("/", file("index.html")),
            *(get(f"/{name}", file(name)) for name in KINDS if name != "index.html"),
            get("/about", lambda request: _json(desk.about())),
            get("/state", state),
            get("/list", listing),
            get("/next", following),
            get("/item", item),
            get("/clip.png", lambda request: clip(request, False)),
            get("/clip.wav", lambda request: clip(request, True)),
            post("/decide", desk.decide),
            post("/similar", similar),
        ]
    )


class Server:
    """The page's server on a port of this machine, 0 for a free one. Raises UserError where the port is taken."""

    def __init__(self, desk: Desk, port: int = 0) -> None:
        # named TCP, since asyncio sends small answers at once (TCP_NODELAY) only then: 40 ms an answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
            self._socket.listen(64)  # so that two never share a port, and a browser that is early waits
        except OSError as error:
            self._socket.close()
            why = "is taken; give another --port, or none" if error.errno == errno.EADDRINUSE else str(error.strerror)
            raise UserError(f"--port {port}: {why}", FAILED) from None
        self.port: int = self._socket.getsockname()[1]
        self.token = secrets.token_urlsafe(24)
        app = Guard(make_app(desk), self.token, self.port)
        config = uvicorn.Config(
            app, lifespan="off", ws="none", log_level="error", access_log=False, server_header=False,
            date_header=False, timeout_graceful_shutdown=1, proxy_headers=False,
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def run(self) -> None:
        """Serve until Ctrl-C (KeyboardInterrupt) or `stop`."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True


def _answered(answer: Callable[[], Response]) -> Response:
    try:
        return answer()
    except ConflictError as error:
        return _json({"error": str(error), "decision": asdict(error.last)}, 409)
    except UnknownItemError as error:
        return _error(404, str(error))
    except AudioError as error:
        return _error(422, f"cannot be shown: {error}")
    except (ValueError, OverflowError, RecursionError, UserError) as error:  # numbers and lists of a request, too
        return _error(400, str(error))
    except OSError as error:  # the disk is full, the folder is gone: the page has to say so
        return _error(500, f"not saved: {error.strerror or error}")


async def _body(request: Request) -> dict[str, Any] | Response:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _error(415, "send JSON")
    data = b""
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > MOST_BYTES:
                return _error(413, f"send at most {MOST_BYTES} bytes")
    except ClientDisconnect:
        return _error(400, "the request broke off")
    try:
        asked = json_of(data.decode())
    except ValueError:
        return _error(400, "send JSON")
    return asked if isinstance(asked, dict) else _error(400, "send a JSON object")


def _filter(request: Request) -> Filter:
    asked = request.query_params
    low, high = (_seconds(asked.get(name) or usual) for name, usual in (("low", "0"), ("high", "1")))
    return Filter(asked.get("label", ""), low, high, asked.get("file", ""), asked.get("undecided") == "1")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise ValueError(f"{text!r}: should be a number from 0")
    return int(text)


def _seconds(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise ValueError(f"{text!r}: should be a number") from None


def _json(value: Any, code: int = 200) -> Response:
    # ASCII: names of files can hold what is no text, which JSON can only write as an escape
    return Response(json.dumps(value, allow_nan=False), code, media_type="application/json")


def _error(code: int, message: str) -> Response:
    return _json({"error": message}, code)
