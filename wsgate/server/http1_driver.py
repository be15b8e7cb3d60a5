"""The HTTP/1.1 driver of a wire: serves requests in order and enforces their deadlines."""

import math
from typing import TYPE_CHECKING

from wsgate import loggers
from wsgate.asgi.scope import ForwardedPeer
from wsgate.errors import Refusal, RefusedAtStop, RequestRefused
from wsgate.http.events import ClientClosed, RequestBody, RequestEvent, UpgradeRequest
from wsgate.http.request import Request
from wsgate.observe.events import HandshakeRefused, RequestDone
from wsgate.observe.log_format import escape, format_address
from wsgate.observe.throttled_log import throttled
from wsgate.server.connection_info import ConnectionInfo, Kind
from wsgate.server.exchange import Exchange
from wsgate.server.pending_websocket import Offer, PendingWebSocket, report_refusal
from wsgate.server.websocket import WebSocket
from wsgate.ws import handshake

if TYPE_CHECKING:
    from wsgate.asgi.scope import Peer
    from wsgate.server.wire import Wire
    from wsgate.server.worker import Worker
    from wsgate.types import Address

READ_AHEAD = 65_536  # bytes buffered for the parser at which reading is paused
DRAIN = 65_536  # bytes of an unread body that are discarded to keep the connection open
_LAST_REQUEST = 5.0  # seconds that a worker that is replaced waits for a client's next request


class Http1Driver:
    """The HTTP phase of a connection. It ends with the connection or with a WebSocket upgrade.

    http1: the parser and serializer of this connection. wire: the connection to the client.
    """

    __slots__ = (
        "_deadline",
        "_drained",
        "_exchange",
        "_is_idle",
        "_next_check",
        "_opened_at",
        "http1",
        "wire",
        "worker",
    )

    def __init__(self, worker: "Worker", wire: "Wire") -> None:
        self.worker = worker
        self.wire = wire
        self.http1 = worker.http1(worker.head_limits, worker.upgrade_to)
        self._exchange: Exchange | None = None
        self._drained = 0
        self._opened_at = worker.ticked_at
        self._is_idle = True  # no byte of the next request has arrived
        self._deadline = math.inf
        self._next_check = math.inf  # the latest time at which the wire calls `check`

    def start(self) -> None:
        """Wait for the first request; its timeout is that of a head, not the keep-alive timeout."""
        self._set_deadline(self.worker.config.ws_handshake_timeout)

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = deadline = self.worker.clock() + seconds
        if deadline < self._next_check:  # rare: most deadlines move to a later time
            self._next_check = deadline
            self.wire.check_at(deadline)

    # -- what the wire reports ---------------------------------------------------------------------

    def data(self, data: bytes) -> None:
        """Process bytes of the current request, or of the next one."""
        self.http1.feed(data)
        self._read()

    def eof(self) -> None:
        """Handle the client's half-close: no request follows, but the current response is sent."""
        self.http1.feed_eof()
        if self._exchange is not None:
            self.worker.topics.leave(self._exchange)  # its app gets an http.disconnect
        self._read()

    def lost(self) -> None:
        """Notify the app that its client has disconnected."""
        if self._exchange is not None:
            self._exchange.lost()

    def writable(self) -> None:
        """Do nothing: senders wait on the gate."""

    def check(self, now: float) -> float:
        """Enforce the deadlines.

        Args:
            now: Time of the worker's clock in seconds.

        Returns:
            When to check again, infinity for never.
        """
        self._next_check = math.inf  # this check was it: a deadline set meanwhile needs another
        at = self._check(now)
        self._next_check = next_check = min(self._next_check, at)
        return next_check

    def _check(self, now: float) -> float:
        if self.wire.gate.is_shut:
            until = self.wire.read_deadline
            if now >= until:
                self.wire.abort()
                return math.inf
            return min(until, self._deadline if now < self._deadline else math.inf)
        if now >= self._deadline:
            self._end_slow_request()
            return math.inf
        return self._deadline

    def wait_at_most(self, seconds: float) -> None:
        """Shorten the time in which a request has to arrive."""
        self._set_deadline(min(seconds, self._deadline - self.worker.clock()))

    def stop(self) -> None:
        """Close after the current response, or at once if there is none.

        If the worker is replaced, then after the next response: a client that has sent its request
        at this moment would find its connection closed.
        """
        if self._exchange is not None and not self._exchange.is_answered:
            self.http1.close_after_response()
        elif self.worker.is_replaced:
            self.wait_at_most(_LAST_REQUEST)
        else:
            self.wire.close()

    def info(self) -> ConnectionInfo:
        """Return what an operator sees of the connection."""
        if self._exchange is None:
            return ConnectionInfo(Kind.IDLE, self.wire.peer.client, None, self._opened_at)
        return self._exchange.info(self._opened_at)

    # -- requests ----------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._exchange is None:
            self._process_next_event()
        elif self._exchange.is_answered:
            self._drain()
        else:
            self._exchange.wake_receivers()
            self._pause_if_full()

    def _pause_if_full(self) -> None:
        if len(self.http1.buffer) >= READ_AHEAD:
            self.wire.pause_reading()

    def _process_next_event(self) -> None:
        try:
            event = self.http1.take()
            self._handle(event)
        except RequestRefused as refused:
            self.refuse(refused, self.wire.peer.client)

    def _handle(self, event: RequestEvent | None) -> None:
        if isinstance(event, Request):
            self.serve_request(event, self.wire.peer)
        elif isinstance(event, UpgradeRequest):
            self.upgrade(event, self.wire.peer)
        elif isinstance(event, ClientClosed):
            self.wire.close()
        elif self.http1.buffer and self._is_idle:
            self._is_idle = False
            self._set_deadline(self.worker.config.ws_handshake_timeout)

    def serve_request(self, request: Request, peer: "Peer") -> bool:
        """Call the app for a request; return False if it is refused instead."""
        worker = self.worker
        if worker.is_full:
            self.refuse_request(request, peer)
            return False
        if worker.stopping:
            self.http1.close_after_response()
        self.begin_exchange(request, peer).start()  # an eager task may end it here
        return True

    def refuse_request(self, request: Request, peer: "Peer") -> None:
        """Send 503 to a request above a limit, and close."""
        if observers := self.worker.observers:
            client, method, target = peer.client, request.method, request.target
            version, connection = request.version, self.wire.connection_id
            headers = request.headers
            observers.notify(RequestDone(client, method, target, version, 503, connection, headers))
        self._send_refusal(service_unavailable())

    def begin_exchange(self, request: Request, peer: "Peer") -> Exchange:
        """Return the exchange of a request, as the current one."""
        self._deadline = math.inf
        self._exchange = exchange = Exchange(self, request, peer)
        if self.http1.buffer:
            self._pause_if_full()
        return exchange

    def upgrade(self, upgrade: UpgradeRequest, peer: "Peer") -> bool:
        """Call the app for a WebSocket; return False if its handshake is refused instead."""
        worker = self.worker
        try:
            if not worker.opens_websockets:
                raise RefusedAtStop
            if worker.is_full:
                raise service_unavailable()
            request = upgrade.request
            # Requests with one head may differ in it: the head's template leaves Forwarded out.
            host = request.host if type(peer) is ForwardedPeer else None
            agreed = handshake.check_handshake(
                request, worker.deflate, worker.origins, peer.scheme, host
            )
        except RequestRefused as refused:
            self.refuse_handshake(upgrade, peer, refused)
            return False
        self.http1.close_after_response()
        offer = Offer(upgrade.request, peer, agreed, upgrade.trailing)
        pending = PendingWebSocket(worker, self.wire, self.http1, offer)
        WebSocket(worker, self.wire, pending).start()
        return True

    def refuse_handshake(
        self, upgrade: UpgradeRequest, peer: "Peer", refused: RequestRefused
    ) -> None:
        """Send an error response to a handshake, and close: frames may follow it."""
        if observers := self.worker.observers:
            request, connection = upgrade.request, self.wire.connection_id
            observers.notify(
                HandshakeRefused(
                    *(peer.client, request.target, refused.status, refused.detail),
                    *(refused.refusal, connection, request.headers),
                )
            )
        report_refusal(refused, upgrade.request, peer.client)
        self._send_refusal(refused)

    def turn_away(self) -> None:
        """Reject a connection above a connection limit: send 503 without reading a request."""
        report_full()
        self._send_refusal(service_unavailable())

    def refuse(self, refused: RequestRefused, client: "Address | None") -> None:
        """Send an error response to a request that is not served, log it, and close."""
        loggers.error.warning(
            "%s - Invalid HTTP request received: %d %s",
            format_address(client),
            refused.status,
            escape(refused.detail),
        )
        if self.worker.meter is not None:
            self.worker.meter.count_bad_request(refused.status)
        self._send_refusal(refused)

    def _send_refusal(self, refused: RequestRefused) -> None:
        defaults = self.worker.default_headers
        self.wire.write(self.http1.refuse(refused, defaults))
        self.wire.close()

    def _end_slow_request(self) -> None:
        if self._exchange is not None:
            self._exchange.end_slow_body()
        elif self._is_idle:
            self.wire.close()  # no request has started, so there is none to respond to
        else:
            late = RequestRefused(408, "the request took too long")
            self.refuse(late, self.wire.peer.client)

    # -- what the current exchange reports ---------------------------------------------------------

    def wait_for_body(self) -> None:
        """Resume reading and start the body timeout: the app waits for more of the body."""
        self.wire.resume_reading()
        self._set_deadline(self.worker.config.timeout_request_body)

    def body_arrived(self) -> None:
        """Stop the body timeout, and read ahead again if there is room."""
        self._deadline = math.inf
        if len(self.http1.buffer) < READ_AHEAD:
            self.wire.resume_reading()

    def response_sent(self) -> None:
        """Continue with the next request after a complete response, or close."""
        worker = self.worker
        if not self.http1.keeps_alive or (worker.stopping and not worker.is_replaced):
            self._finish()
        else:
            self._drained = 0
            self.wire.resume_reading()
            exchange = self._exchange
            self._drain()
            if self._exchange is exchange:  # the rest of its body has not arrived yet
                self._set_deadline(self.worker.config.ws_handshake_timeout)

    def _finish(self) -> None:
        self._exchange = None
        self.wire.close()

    def _drain(self) -> None:
        """Discard the rest of a body that the app did not read; close if it exceeds `DRAIN`."""
        try:
            while isinstance(event := self.http1.take(), RequestBody):
                self._drained += len(event.data)
                if self._drained > DRAIN:
                    self._finish()
                    return
        except RequestRefused:
            self._finish()
            return
        if isinstance(event, ClientClosed):
            self._finish()
        elif self.http1.next_request():
            self._await_next_request()

    def _await_next_request(self) -> None:
        self._exchange = None
        self._is_idle = True
        self._set_deadline(self.worker.config.timeout_keep_alive)
        if self.worker.stopping:
            self.wait_at_most(_LAST_REQUEST)
        if self.http1.buffer or self.wire.has_eof:
            # Not here: this runs within the app's `send`. The next call would get its context, and
            # with eager tasks the calls of all pipelined requests would be nested in each other.
            self.worker.call_soon(self._process_pipelined)

    def _process_pipelined(self) -> None:
        if self._exchange is None and self.wire.driver is self:
            self._process_next_event()


def report_full() -> None:
    """Log that a connection is one too many."""
    throttled.warning("A limit of connections is reached: answering with 503")


def service_unavailable() -> RequestRefused:
    """Return the refusal of a request above a limit of the server."""
    headers = [(b"retry-after", b"5")]
    return RequestRefused(503, "the server is at its limit", headers, refusal=Refusal.LIMIT)
