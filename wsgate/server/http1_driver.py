"""A connection that speaks HTTP: its requests in order, and the deadlines between them."""

import math
from typing import TYPE_CHECKING

from wsgate.errors import RequestRefused
from wsgate.http.events import ClientClosed, RequestBody, RequestEvent, UpgradeRequest
from wsgate.http.request import Request
from wsgate.observe import logs
from wsgate.server.exchange import Exchange
from wsgate.server.websocket import WebSocketDriver
from wsgate.ws import handshake

if TYPE_CHECKING:
    from wsgate.server.connection import Connection

READ_AHEAD = 65_536  # bytes that may wait to be parsed before reading is paused
DRAIN = 65_536  # bytes of an unread body that are thrown away so that the connection can go on


class HttpDriver:
    """The HTTP phase of a connection: it ends with the connection, or in a WebSocket."""

    __slots__ = ("_connection", "_deadline", "_drained", "_exchange", "_http1", "_is_idle")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._http1 = connection.context.http1(connection.context.head_limits, handshake.PROTOCOL)
        self._exchange: Exchange | None = None
        self._drained = 0
        self._is_idle = True  # not a byte of the next request has come
        self._deadline = math.inf

    def start(self) -> None:
        """Wait for the first request, which has the time of a head; later ones have more time."""
        self._give(self._connection.context.config.ws_handshake_timeout)

    def _give(self, seconds: float) -> None:
        context = self._connection.context
        self._deadline = context.clock() + seconds
        context.deadlines.arm(self._connection, self._deadline)

    # -- what the connection tells ---------------------------------------------------------------

    def data(self, data: bytes) -> None:
        """Take bytes of the request under way, or of the next one."""
        self._http1.feed(data)
        self._read()

    def eof(self) -> None:
        """Take note that no further request comes; the response under way still leaves."""
        self._http1.feed_eof()
        self._read()

    def lost(self) -> None:
        """Tell the app under way that its client is gone."""
        if self._exchange is not None:
            self._exchange.lost()

    def writable(self) -> None:
        """Do nothing: who sends waits at the gate."""

    def check(self, now: float) -> float:
        """Judge the client's pace; return when to ask again."""
        if self._connection.gate.is_shut:
            until = self._connection.sends_until
            if now >= until:
                self._connection.abort()
                return math.inf
            return min(until, self._deadline if now < self._deadline else math.inf)
        if now >= self._deadline:
            self._too_slow()
            return math.inf
        return self._deadline

    def stop(self) -> None:
        """Let the response under way be the last; without one, close."""
        if self._exchange is None or self._exchange.is_answered:
            self._connection.close()
        else:
            self._http1.close_after_response()

    # -- requests --------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._exchange is None:
            self._next()
        elif self._exchange.is_answered:
            self._drain()
        else:
            self._exchange.more_came()
            self._pause_if_full()

    def _pause_if_full(self) -> None:
        if self._http1.buffered >= READ_AHEAD:
            self._connection.pause_reading()

    def _next(self) -> None:
        try:
            event = self._http1.take()
            self._handle(event)
        except RequestRefused as refused:
            self.refuse(refused)

    def _handle(self, event: RequestEvent | None) -> None:
        if isinstance(event, Request):
            self._begin(event)
        elif isinstance(event, UpgradeRequest):
            self._upgrade(event)
        elif isinstance(event, ClientClosed):
            self._connection.close()
        elif self._http1.buffered and self._is_idle:
            self._is_idle = False
            self._give(self._connection.context.config.ws_handshake_timeout)

    def _begin(self, request: Request) -> None:
        if self._connection.context.is_full:
            self._connection.context.access_log.request_done(self._connection.client, request, 503)
            self._answer(_full())
            return
        self._deadline = math.inf
        self._exchange = Exchange(self, self._connection, self._http1, request)
        if self._http1.buffered:
            self._pause_if_full()
        self._exchange.start()  # an eager task may end it here

    def _upgrade(self, upgrade: UpgradeRequest) -> None:
        # What follows a handshake that fails may be frames: the connection ends behind the answer.
        self._http1.close_after_response()
        connection = self._connection
        context = connection.context
        try:
            if context.is_full:
                raise _full()
            agreed = handshake.check_handshake(upgrade.request, context.deflate, context.origins)
        except RequestRefused as refused:
            context.access_log.websocket_refused(connection.client, upgrade.request, refused.status)
            self._answer(refused)
            return
        WebSocketDriver(connection, self._http1, upgrade, agreed).start()

    def turn_away(self) -> None:
        """Answer a connection that is one too many, whatever it asks for."""
        logs.throttled.warning("A limit of connections is reached: answering with 503")
        self._answer(_full())

    def refuse(self, refused: RequestRefused) -> None:
        """Answer what must not be served, log it, and close."""
        logs.error.warning(
            "%s - Invalid HTTP request received: %d %s",
            logs.address(self._connection.client),
            refused.status,
            logs.escaped(refused.detail),
        )
        self._answer(refused)

    def _answer(self, refused: RequestRefused) -> None:
        defaults = self._connection.context.default_headers
        self._connection.write(self._http1.refuse(refused, defaults))
        self._connection.close()

    def _too_slow(self) -> None:
        if self._exchange is not None:
            self._exchange.too_slow()
        elif self._is_idle:
            self._connection.close()  # nothing was asked, so there is nothing to answer
        else:
            self.refuse(RequestRefused(408, "the request took too long"))

    # -- the exchange under way speaks -----------------------------------------------------------

    def body_wanted(self) -> None:
        """Read on, for the app waits for a body; the client has its time for the next bytes."""
        self._connection.resume_reading()
        self._give(self._connection.context.config.timeout_request_body)

    def body_came(self) -> None:
        """Stop the client's clock, and read ahead again once there is room."""
        self._deadline = math.inf
        if self._http1.buffered < READ_AHEAD:
            self._connection.resume_reading()

    def answered(self) -> None:
        """Go on to what is pipelined behind a complete response, or close."""
        if not self._http1.keeps_alive or self._connection.context.stopping:
            self._finish()
        else:
            self._drained = 0
            self._connection.resume_reading()
            exchange = self._exchange
            self._drain()
            if self._exchange is exchange:  # the rest of its body is yet to come
                self._give(self._connection.context.config.ws_handshake_timeout)

    def _finish(self) -> None:
        self._exchange = None
        self._connection.close()

    def _drain(self) -> None:
        """Throw the rest of a body away that the app did not read, within a bound."""
        try:
            while isinstance(event := self._http1.take(), RequestBody):
                self._drained += len(event.data)
                if self._drained > DRAIN:
                    self._finish()
                    return
        except RequestRefused:
            self._finish()
            return
        if isinstance(event, ClientClosed):
            self._finish()
        elif self._http1.next_request():
            self._renew()

    def _renew(self) -> None:
        self._exchange = None
        self._is_idle = True
        self._give(self._connection.context.config.timeout_keep_alive)
        if self._http1.buffered or self._connection.has_eof:
            # Not here: this runs within the app's `send`. The next call would have its context,
            # and with eager tasks as many calls as were pipelined would be nested in each other.
            self._connection.context.call_soon(self._next_pipelined)

    def _next_pipelined(self) -> None:
        if self._exchange is None and self._connection.driver is self:
            self._next()


def _full() -> RequestRefused:
    return RequestRefused(503, "the server is at its limit", [(b"retry-after", b"5")])
