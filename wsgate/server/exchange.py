"""One HTTP request and its response: what the app awaits."""

import asyncio
from typing import TYPE_CHECKING

from wsgate import loggers
from wsgate.asgi.http import COMPLETE, Response, request_event
from wsgate.asgi.scope import http_scope
from wsgate.errors import ClientDisconnected, RequestRefused
from wsgate.http.events import ClientClosed, RequestBody, RequestEnd, RequestEvent
from wsgate.http.request import Request
from wsgate.observe.events import RequestDone
from wsgate.server import app_call
from wsgate.server.backpressure import Waiters
from wsgate.types import HTTPEvent, Message

if TYPE_CHECKING:
    from wsgate.asgi.scope import Peer
    from wsgate.http.stream import HttpStream
    from wsgate.server.http1_driver import Http1Driver

PIECE = 65_536  # bytes of a body that the app gets at once,
PIECES = 64  # of so many of the client's chunks


class Exchange:
    """One request, from its head to the end of the app's call.

    is_answered: its response is complete, or never will be.
    """

    __slots__ = (
        "_came",
        "_driver",
        "_has_left",
        "_has_received",
        "_peeked",
        "_peer",
        "_request",
        "_request_ended",
        "_response",
        "_stream",
        "_wire",
        "_worker",
        "is_answered",
    )

    def __init__(self, driver: "Http1Driver", request: Request, peer: "Peer") -> None:
        self._driver = driver
        self._worker = driver.worker
        self._wire = driver.wire
        self._stream: HttpStream = driver.http1
        self._peer = peer
        self._request = request
        self._response = Response(request.method, Response.HTTP)
        self._came: Waiters | None = None  # for an app that waits, which many never do
        self._peeked: RequestEvent | None = None
        self._request_ended = False
        self._has_received = False
        self._has_left = False
        self.is_answered = False

    def start(self) -> None:
        """Call the app."""
        worker = self._worker
        scope = http_scope(self._request, self._peer, worker.mount)
        app_call.start(worker, scope, self, worker.exchanges)

    # -- the app awaits ----------------------------------------------------------------------------

    async def receive(self) -> HTTPEvent:
        """Return the next piece of the body, then, once it has come, the end of the client."""
        if self._has_received and not self._request_ended:
            # A body in a thousand tiny chunks is there at once: others have their turn in between.
            await asyncio.sleep(0)
        self._has_received = True
        while True:
            if self._has_left or self.is_answered:
                return {"type": "http.disconnect"}
            self._wire.write(self._stream.send_continue())
            message = self._next_piece()
            if message is not None:
                return message
            if not self._request_ended:
                self._driver.wait_for_body()
            self._came = self._came or Waiters()
            await self._came.wait()

    def _next_piece(self) -> HTTPEvent | None:
        event = self._take()
        if isinstance(event, RequestBody):
            data = self._joined(event)
            self._driver.body_arrived()
            if isinstance(self._peeked, RequestEnd):
                self._peeked, self._request_ended = None, True
            return request_event(data, more=not self._request_ended)
        if isinstance(event, RequestEnd):
            self._driver.body_arrived()
            self._request_ended = True
            return request_event(b"", more=False)
        if isinstance(event, ClientClosed):
            self._has_left = True
            return {"type": "http.disconnect"}
        return None

    def _joined(self, first: RequestBody) -> bytes:
        """Return a piece with those that are there behind it, and peek at what comes next."""
        pieces, size = [first.data], len(first.data)
        while isinstance(event := self._take(), RequestBody):
            if size + len(event.data) > PIECE or len(pieces) == PIECES:
                break
            pieces.append(event.data)
            size += len(event.data)
        self._peeked = event
        return b"".join(pieces)

    def _take(self) -> RequestEvent | None:
        if self._peeked is not None:
            event, self._peeked = self._peeked, None
            return event
        if self._request_ended:
            return ClientClosed() if self._wire.has_eof else None
        try:
            return self._stream.take()
        except RequestRefused as refused:
            self._fail(refused)
            return ClientClosed()

    async def send(self, message: Message) -> None:
        """Send a piece of the response; return once the client keeps up with it."""
        wire, response = self._wire, self._response
        gate = wire.gate
        if gate.is_shut:
            await gate.passed()
        # A client that only ended its half may still read: `_has_left` alone does not end sending.
        if wire.is_lost or (self.is_answered and response.state is not COMPLETE):
            raise ClientDisconnected("the client has left")
        event = response.send(message)
        if event is None:
            return  # the head waits for the body, or trailers for more of them
        wire.write(self._stream.send(event, self._worker.default_headers))
        if response.state is COMPLETE:
            self._answered()
        if gate.is_shut:
            await gate.passed()

    # -- the driver tells --------------------------------------------------------------------------

    def more_came(self) -> None:
        """Have the app look: bytes, or the client's end."""
        self._wake()

    def _wake(self) -> None:
        if self._came is not None:
            self._came.wake()

    def lost(self) -> None:
        """Tell the app that its client is gone."""
        self._has_left = True
        self._wake()

    def end_slow_body(self) -> None:
        """End a request whose body does not come, though the app waits for it or has answered."""
        if self._came or self.is_answered:
            self._fail(RequestRefused(408, "the request's body took too long"))

    # -- the end -----------------------------------------------------------------------------------

    def _answered(self) -> None:
        self._end()
        self._log(self._response.status)
        self._driver.answered()

    def _end(self) -> None:
        self.is_answered = True
        if self._came is not None:
            self._came.wake()

    def _log(self, status: int) -> None:
        if observers := self._worker.observers:
            client, request = self._peer.client, self._request
            observers.notify(
                RequestDone(client, request.method, request.target, request.version, status)
            )

    def _fail(self, refused: RequestRefused) -> None:
        self._has_left = True
        self._end()
        if self._response.has_started:
            self._wire.close()
        else:
            self._driver.refuse(refused)

    def done(self, error: BaseException | None) -> None:
        """Answer for an app that has ended without a whole response."""
        left = self._has_left or self._wire.is_lost
        if error is not None:
            app_call.report(error, client_left=left)
        if self.is_answered:
            return
        self._end()
        if error is None and not left:
            loggers.error.error("ASGI callable returned without completing its response")
        if self._response.has_started:
            self._log(self._response.status)
        elif error is not None or not left:
            self._answer_500()
        self._wire.close()

    def _answer_500(self) -> None:
        if not self._wire.is_lost:
            refused = RequestRefused(500, "the application failed")
            defaults = self._worker.default_headers
            self._wire.write(self._stream.refuse(refused, defaults))
            self._log(500)
