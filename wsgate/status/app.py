"""The app: /metrics, /healthz, /readyz, the page at / and its WebSocket at /live."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from wsgate.metrics.exposition import expose
from wsgate.metrics.samples import Samples, read_part
from wsgate.status.health import reasons_not_ready
from wsgate.status.live import Live, Viewer
from wsgate.status.source import Refused, Source
from wsgate.types import Header, Receive, Scope, Send

_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
# The page has no outside resource, and nobody may frame it: it has buttons that close connections.
_POLICY = (
    b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: list[Header] = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
LIVE_PATH = "/live"

Respond = Callable[[int, str, bytes], Awaitable[None]]


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
        self._live = Live(source, broker_grace)
        self._token = token
        self._routes: dict[str, Callable[[Scope], Awaitable[tuple[int, str, bytes]]]] = {
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/": self._page,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or serve the page's WebSocket."""
        if scope["type"] == "websocket":
            await self._serve_live(scope, receive, send)
            return
        route = self._routes.get(scope["path"])
        if route is None:
            await _respond(
                scope, send, 404, _TEXT, b"there are /metrics, /healthz, /readyz and /\n"
            )
        elif scope["method"] not in ("GET", "HEAD"):
            await _respond(
                scope, send, 405, _TEXT, b"GET and HEAD only\n", (b"allow", b"GET, HEAD")
            )
        else:
            await _respond(scope, send, *await route(scope))

    # -- requests ----------------------------------------------------------------------------------

    async def _metrics(self, scope: Scope) -> tuple[int, str, bytes]:
        samples: list[Samples] = []
        try:
            async for part in self._source.ask("metrics", {}):
                samples += read_part(part["samples"])
        except Refused as refused:
            return 503, _TEXT, f"{refused}\n".encode()
        accept = b", ".join(value for name, value in scope["headers"] if name == b"accept")
        query = scope["query_string"].decode("latin-1")
        # In a thread: thousands of samples of the app take a while.
        text, media_type = await asyncio.to_thread(expose, samples, accept.decode("latin-1"), query)
        return 200, media_type, text

    async def _healthz(self, _: Scope) -> tuple[int, str, bytes]:
        return 200, _TEXT, b"ok\n"

    async def _readyz(self, _: Scope) -> tuple[int, str, bytes]:
        async for status in self._source.ask("status", {}):
            if reasons := reasons_not_ready(status, self._broker_grace):
                return 503, _TEXT, f"not ready: {'; '.join(reasons)}\n".encode()
        return 200, _TEXT, b"ready\n"

    async def _page(self, _: Scope) -> tuple[int, str, bytes]:
        page = resources.files("wsgate.status").joinpath("page.html")
        return 200, _HTML, await asyncio.to_thread(page.read_bytes)

    # -- the page's WebSocket ----------------------------------------------------------------------

    async def _serve_live(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != LIVE_PATH:
            await send({"type": "websocket.close"})
            return
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        await Viewer(self._live, self._source, self._token).serve(receive, send)


async def _respond(
    scope: Scope, send: Send, status: int, media_type: str, body: bytes, *headers: Header
) -> None:
    fields: list[Header] = [
        (b"content-type", media_type.encode("ascii")),
        (b"content-length", str(len(body)).encode()),
        *_HEADERS,
        *headers,
    ]
    if media_type == _HTML:
        fields.append((b"content-security-policy", _POLICY))
    start: dict[str, Any] = {
        "type": "http.response.start",
        "status": status,
        "headers": fields,
    }
    await send(start)
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
