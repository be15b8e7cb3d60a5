"""The app: /metrics, /healthz, /readyz, the page at / and its WebSocket at /live."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from wsgate.metrics.exposition import expose
from wsgate.metrics.samples import Samples, read_part
from wsgate.status.health import reasons_not_ready
from wsgate.status.live import Viewer
from wsgate.status.page import load_page
from wsgate.status.sampler import Sampler
from wsgate.status.source import Refused, Source
from wsgate.types import Header, Receive, Scope, Send

LIVE_PATH = "/live"
MOST_PAGES = 32  # that are open: connections are left for scrapers and probes
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_HEADERS: list[Header] = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


class Answer(NamedTuple):
    """The response to a request. headers: besides those that each has."""

    status: int
    media_type: str
    body: bytes
    headers: tuple[Header, ...] = ()


Route = Callable[[Scope], Awaitable[Answer]]

_NOT_FOUND = Answer(404, _TEXT, b"there are /metrics, /healthz, /readyz and /\n")
_NOT_ALLOWED = Answer(405, _TEXT, b"GET and HEAD only\n", ((b"allow", b"GET, HEAD"),))


class StatusApp:
    """The app of the metrics' address.

    Args:
        source: The server.
        token: With which the page may act; None if it may not.
        broker_grace: Seconds for which the broker may be out of reach before /readyz says so.
    """

    def __init__(self, source: Source, token: str | None, broker_grace: float) -> None:
        self._source = source
        self._broker_grace = broker_grace
        self._sampler = Sampler(source, broker_grace)
        self._token = token
        self._pages = 0  # that are open
        self._routes: dict[str, Route] = {
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/": self._page,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or serve the page's WebSocket."""
        if scope["type"] == "websocket":
            await self._serve_live(scope, receive, send)
        else:
            await _respond(scope, send, await self._answer(scope))

    # -- requests ----------------------------------------------------------------------------------

    async def _answer(self, scope: Scope) -> Answer:
        route = self._routes.get(scope["path"])
        if route is None:
            return _NOT_FOUND
        return await route(scope) if scope["method"] in ("GET", "HEAD") else _NOT_ALLOWED

    async def _metrics(self, scope: Scope) -> Answer:
        samples: list[Samples] = []
        try:
            async for part in self._source.ask("metrics", {}):
                samples += read_part(part["samples"])
        except Refused as refused:
            return Answer(503, _TEXT, f"{refused}\n".encode())
        accept = b", ".join(value for name, value in scope["headers"] if name == b"accept")
        query = scope["query_string"].decode("latin-1")
        # In a thread: thousands of samples of the app take a while.
        text, media_type = await asyncio.to_thread(expose, samples, accept.decode("latin-1"), query)
        return Answer(200, media_type, text)

    async def _healthz(self, _: Scope) -> Answer:
        return Answer(200, _TEXT, b"ok\n")

    async def _readyz(self, _: Scope) -> Answer:
        async for status in self._source.ask("status", {}):
            if reasons := reasons_not_ready(status, self._broker_grace):
                return Answer(503, _TEXT, f"not ready: {'; '.join(reasons)}\n".encode())
        return Answer(200, _TEXT, b"ready\n")

    async def _page(self, _: Scope) -> Answer:
        page = await asyncio.to_thread(load_page)
        return Answer(200, _HTML, page.html, ((b"content-security-policy", page.policy),))

    # -- the page's WebSocket ----------------------------------------------------------------------

    async def _serve_live(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != LIVE_PATH or self._pages >= MOST_PAGES:
            await send({"type": "websocket.close"})
            return
        self._pages += 1
        try:
            await receive()  # websocket.connect
            await send({"type": "websocket.accept"})
            await Viewer(self._sampler, self._source, self._token).serve(receive, send)
        finally:
            self._pages -= 1


async def _respond(scope: Scope, send: Send, answer: Answer) -> None:
    headers: list[Header] = [
        (b"content-type", answer.media_type.encode("ascii")),
        (b"content-length", str(len(answer.body)).encode()),
        *_HEADERS,
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})
