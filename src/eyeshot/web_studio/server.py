"""The studio's server: on this machine only, with a secret in the address, and read-only.

Every address begins with a token that is new at each start, so another page in the same browser
cannot guess it; the Host and Origin that a browser names are checked as well, against a page that
points its own name at this machine. There are no cookies, and nothing is written.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from eyeshot.errors import EyeshotError, Failure, UserError, one_line
from eyeshot.extras import extra
from eyeshot.web_studio.looks import Cancelled
from eyeshot.web_studio.payloads import Query, refusal
from eyeshot.web_studio.session import Session
from eyeshot.web_studio.web_page import PAGE_FILES, html_tag, served_file

with extra("studio"):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.datastructures import Headers
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MOST_BODY = 1 << 22
_KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_LOOK_UP = 0.05
"""Seconds between two looks whether the page still waits."""


class Guard:
    """Lets in what this machine's own page asks, and nothing else."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a foreign Host or Origin; pass the rest on."""
        if scope["type"] == "http":
            refusal = self._refusal(Headers(scope=scope))
            if refusal:
                await PlainTextResponse(refusal, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self._hosts:
            return f"this studio is not {one_line(host, 80)}"
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            return "another page's question"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "another site's question"
        return ""


def make_app(session: Session, token: str, port: int) -> ASGIApp:
    """The studio of a session as an ASGI application.

    Args:
        session: what it answers from.
        token: with which every address begins.
        port: at which it will listen, for the check of Host.
    """

    tag = html_tag().encode()

    async def page(request: Request) -> Response:
        if not _is_ours(request, token):
            return _wrong_token()
        name = request.path_params.get("name") or "index.html"
        if name not in PAGE_FILES:
            return PlainTextResponse("no such page", 404)
        text = served_file(name)
        if name == "index.html":
            text = text.replace(b'<html lang="en">', tag)
        return Response(text, media_type=_KINDS[name.rpartition(".")[2]], headers=_HEADERS)

    async def question(request: Request) -> Response:
        if not _is_ours(request, token):
            return _wrong_token()
        body = b""
        if request.method == "POST":
            async for piece in request.stream():
                body += piece
                if len(body) > _MOST_BODY:
                    return _error("too much was sent", "send less", 413)
        query = Query(dict(request.query_params), body)
        return await _answer(session, request, request.path_params["name"], query)

    for name in PAGE_FILES:
        served_file(name)  # now, so that a later installation cannot mix two versions
    app = Starlette(
        routes=[
            Route("/{token}/api/{name}", question, methods=["GET", "POST"]),
            Route("/{token}/", page),
            Route("/{token}/{name}", page),
        ]
    )
    return Guard(app, port)


_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _is_ours(request: Request, token: str) -> bool:
    return secrets.compare_digest(request.path_params["token"].encode(), token.encode())


def _wrong_token() -> Response:
    return PlainTextResponse(
        "This address has no valid token. Use the address that eyeshot studio printed.", 403
    )


async def _answer(session: Session, request: Request, name: str, query: Query) -> Response:
    """The answer, computed beside the loop; given up when the page has gone."""
    gone = threading.Event()

    def check() -> None:
        if gone.is_set():
            raise Cancelled

    def work() -> bytes:
        return session.answer(name, query, check).to_bytes()

    task = asyncio.ensure_future(run_in_threadpool(work))
    while not task.done():
        await asyncio.wait([task], timeout=_LOOK_UP)
        if not task.done() and await request.is_disconnected():
            gone.set()
    try:
        content = task.result()
    except Cancelled:
        return Response(status_code=499)
    except EyeshotError as error:
        status = 400 if isinstance(error, UserError) else 500
        return JSONResponse(refusal(error), status, headers=_HEADERS)
    except MemoryError:
        return _error("out of memory", "use a smaller picture", 500)
    return Response(content, media_type="application/octet-stream", headers=_HEADERS)


def _error(fact: str, cure: str, status: int) -> Response:
    return JSONResponse({"error": fact, "cure": cure}, status, headers=_HEADERS)


class Server:
    """A studio that listens.

    Attributes:
        address: to be opened in a browser.
    """

    def __init__(self, session: Session, port: int = 0) -> None:
        self._socket = _listen(port)
        number = int(self._socket.getsockname()[1])
        token = secrets.token_urlsafe(16)
        self.address = f"http://127.0.0.1:{number}/{token}/"
        config = uvicorn.Config(
            make_app(session, token, number),
            log_level="error",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        self._server = uvicorn.Server(config)

    def run(self, ready: Callable[[], Any] | None = None) -> None:
        """Serve until it is stopped, by ^C or :meth:`stop`; ``ready`` is called once it listens."""
        if ready is not None:
            threading.Timer(0.1, ready).start()
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End :meth:`run`, from another thread."""
        self._server.should_exit = True


def _listen(port: int) -> socket.socket:
    """A socket on the loopback.

    Raises:
        Failure: the port is taken.
    """
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise Failure(
            f"port {port}: {reason}", cure="choose another, or leave --port out"
        ) from None
    found.listen(64)
    return found
