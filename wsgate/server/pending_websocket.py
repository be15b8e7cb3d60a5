"""A WebSocket that its app has neither accepted nor refused yet."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsgate.asgi import websocket as asgi
from wsgate.asgi.http import FileRequest, Response, State as ResponseState
from wsgate.asgi.websocket import OPEN as CONVERSATION_OPEN
from wsgate.errors import (
    ClientDisconnected,
    InvalidMessage,
    Refusal,
    RefusedAtStop,
    RequestRefused,
)
from wsgate.fields import values_of
from wsgate.http.request import Request
from wsgate.http.stream import HttpStream
from wsgate.observe.cross_site_log import cross_site_log
from wsgate.observe.events import HandshakeRefused
from wsgate.observe.log_format import escape, format_address
from wsgate.observe.throttled_log import throttled
from wsgate.server.backpressure import SendOrder, Waiters
from wsgate.server.connection_info import ConnectionInfo, Kind
from wsgate.types import Address, Message, WebSocketEvent
from wsgate.ws.codes import ABNORMAL, SERVICE_RESTART
from wsgate.ws.handshake import Handshake, lines_of, response as switching_protocols

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsgate.asgi.scope import Peer
    from wsgate.server.wire import Wire
    from wsgate.server.worker import Worker

EARLY = 65_536  # bytes received before the app accepts at which reading is paused
_FORBIDDEN = 403


@dataclass(slots=True)
class Offer:
    """A checked handshake that its app may accept.

    peer: the addresses of both ends. trailing: bytes that arrived after the request.
    """

    request: Request
    peer: "Peer"
    handshake: Handshake
    trailing: bytes


class PendingWebSocket:
    """The wire's driver from the handshake until the app's decision.

    offer: the handshake. conversation: the state of the app's ASGI messages. end: the code and
    reason of the app's disconnect event, None until there is one. on_end: called when there is. The
    whole object is dropped once the WebSocket is open.
    """

    __slots__ = (
        "_deadline",
        "_denial",
        "_early",
        "_has_connected",
        "_opened_at",
        "_order",
        "_stream",
        "_waiters",
        "_wire",
        "_worker",
        "conversation",
        "end",
        "offer",
        "on_end",
    )

    def __init__(self, worker: "Worker", wire: "Wire", stream: HttpStream, offer: Offer) -> None:
        self._worker = worker
        self._wire = wire
        self._stream = stream
        self.offer = offer
        self._denial: Response | None = None
        self._order: SendOrder | None = None  # created by the first part that has to wait
        self._early = offer.trailing
        self._opened_at = worker.ticked_at
        self._waiters: Waiters | None = None
        self._has_connected = False  # the app has received its websocket.connect
        self.conversation = asgi.Conversation(offer.handshake)
        self.end: tuple[int, str] | None = None
        self.on_end: Callable[[], object] | None = None
        self._deadline = math.inf

    def start(self) -> None:
        """Start the app's timeout; end at once if the client has half-closed the connection."""
        worker = self._worker
        self._deadline = worker.clock() + worker.config.ws_handshake_timeout
        self._wire.check_at(self._deadline)
        if self._early:
            self._pause_if_full()
        if self._wire.has_eof:  # it arrived during the response to an earlier request
            self.eof()

    # -- the app's decision ------------------------------------------------------------------------

    def take_connect(self) -> bool:
        """Return True at the first call: the app has not received its websocket.connect yet."""
        was_connected, self._has_connected = self._has_connected, True
        return not was_connected

    async def receive(self) -> WebSocketEvent | None:
        """Wait for the end of the handshake.

        Returns:
            The disconnect event, at every call; None if the WebSocket was accepted.
        """
        while self.end is None:
            if self.conversation.state is CONVERSATION_OPEN:
                return None
            self._waiters = self._waiters or Waiters()
            await self._waiters.wait()
        return asgi.disconnect_event(*self.end)

    def _wake(self) -> None:
        if self._waiters is not None:
            self._waiters.wake()
        if self.end is not None and self.on_end is not None:
            self.on_end()

    def accept(self, accept: asgi.Accept) -> bytes:
        """Send the 101 response.

        Args:
            accept: The app's subprotocol and headers; its headers replace default ones.

        Returns:
            The bytes that arrived before, to be parsed as frames.
        """
        worker = self._worker
        lines = worker.default_lines
        if accept.headers:
            names = {name for name, _ in accept.headers}
            defaults = [header for header in worker.default_headers if header[0] not in names]
            lines = lines_of([*defaults, *accept.headers])
        offer = self.offer
        self._wire.write(switching_protocols(offer.handshake, accept.subprotocol, lines))
        if offer.handshake.cross_site is not None:
            cross_site_log.report(*offer.handshake.cross_site)
        self._wake()
        return self._early

    def refuse(self, refused: RequestRefused, end: tuple[int, str] = (ABNORMAL, "")) -> None:
        """Reject the handshake with a response made by the server, and close.

        Args:
            refused: The response.
            end: The code and reason of the app's disconnect event.
        """
        defaults = self._worker.default_headers
        self._wire.write(self._stream.refuse(refused, defaults))
        self._finish(refused, end)
        self._wire.close()

    async def deny(self, message: Message) -> None:
        """Send a part of the app's denial response; wait while the write buffer is full.

        Raises:
            ClientDisconnected: The client has disconnected.
            IllegalMessage: The message is not allowed in this state.
            InvalidMessage: The message is malformed.
        """
        gate, order = self._wire.gate, self._order
        if self._denial is None:
            self._deadline = math.inf  # the app has decided in time
            self._denial = Response("GET", Response.DENIAL)
        if gate.is_shut or order is not None:
            order = self._order = order or SendOrder(gate)
            await order.enter()
        try:
            # While this part waited, the client may have left, or the server may have refused it.
            if self.end is not None and self._denial.state is not ResponseState.COMPLETE:
                raise ClientDisconnected("the client has left")
            self._send_denial(self._denial, message)
        finally:
            if order is not None:
                order.leave()
        if gate.is_shut:
            await gate.wait_until_open()

    def _send_denial(self, denial: Response, message: Message) -> None:
        state = denial.state
        try:
            event = denial.send(message)
            if event is None:
                return  # the head waits for the body
            assert not isinstance(event, FileRequest)  # a denial has no message for files
            data = self._stream.send(event, self._worker.default_headers)
        except InvalidMessage:
            denial.revert(state)  # the stream may have refused the event
            if state is ResponseState.WAITING:
                self.conversation.revert_denial()
            raise
        self._wire.write(data)
        if denial.state is ResponseState.COMPLETE:
            self._finish_denial(denial)

    def _finish_denial(self, denial: Response) -> None:
        self.conversation.end_denial()
        reason = "the application sent its own response"
        denied = RequestRefused(denial.status, reason, refusal=Refusal.APP_REFUSED)
        self._finish(denied, (ABNORMAL, ""))
        self._wire.close()

    def _finish(self, refused: RequestRefused, end: tuple[int, str]) -> None:
        self._deadline = math.inf
        self.end = end
        if observers := self._worker.observers:
            client, request = self.offer.peer.client, self.offer.request
            connection = self._wire.connection_id
            observers.notify(
                HandshakeRefused(
                    *(client, request.target, refused.status, refused.detail),
                    *(refused.refusal, connection, request.headers),
                )
            )
        self._wake()

    def handle_app_end(self, error: BaseException | None) -> None:
        """End the handshake after the app's call ended without a decision or a whole response.

        Args:
            error: What the app raised, None if it returned.
        """
        if self.end is not None:
            self._wire.close()  # in case the app was at its recursion limit when it refused
            return
        if self._denial is not None and self._denial.has_started:
            self._finish_denial(self._denial)
            return
        if error is None:
            throttled.error("ASGI callable returned without accepting or refusing")
        self.refuse(RequestRefused(500, "the application failed", refusal=Refusal.APP_FAILED))

    # -- what the wire reports ---------------------------------------------------------------------

    def data(self, data: bytes) -> None:
        """Buffer bytes that arrive before the app accepts."""
        self._early += data
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if len(self._early) >= EARLY:
            self._wire.pause_reading()

    def eof(self) -> None:
        """Close: a client that has ended its half cannot open a WebSocket."""
        self.lost()
        self._wire.close()

    def lost(self) -> None:
        """Notify the app that its client has disconnected."""
        self.end = self.end or (ABNORMAL, "")
        self._wake()
        self._wire.gate.wake()

    def writable(self) -> None:
        """Do nothing: senders wait on the gate."""

    def check(self, now: float) -> float:
        """Send 503 if the app takes too long.

        Args:
            now: Time of the worker's clock in seconds.

        Returns:
            When to check again, infinity for never.
        """
        if now >= self._deadline:
            self._deadline = math.inf
            reason = "the application did not accept in time"
            late = RequestRefused(503, reason, refusal=Refusal.APP_TIMEOUT)
            report_refusal(late, self.offer.request, self.offer.peer.client)
            self.refuse(late)
        return min(self._deadline, self._check_denial(now))

    def _check_denial(self, now: float) -> float:
        """Abort if the client does not read the denial response."""
        if not self._wire.gate.is_shut:
            return math.inf
        if now >= self._wire.read_deadline:
            self._wire.abort()
        return self._wire.read_deadline

    def stop(self) -> None:
        """Send 503 at once: a client that is not connected yet need not wait for the drain.

        If the worker is replaced, the app may accept it, and then it gets 1012.
        """
        if not self._worker.is_replaced:
            self.drain()

    def info(self) -> ConnectionInfo:
        """Return what an operator sees of the connection."""
        offer = self.offer
        return ConnectionInfo(
            Kind.WEBSOCKET, offer.peer.client, offer.request.raw_path, self._opened_at
        )

    def drain(self) -> None:
        """Send 503, unless the app has started a denial response."""
        if self.end is None and not (self._denial and self._denial.has_started):
            self.refuse(RefusedAtStop(), (SERVICE_RESTART, "service restart"))


def report_refusal(refused: RequestRefused, request: Request, client: Address | None) -> None:
    """Log why the server has refused a handshake, unless it is because it stops."""
    if isinstance(refused, RefusedAtStop):
        return
    origins = values_of(request.headers, b"origin") if refused.status == _FORBIDDEN else ()
    listed = b", ".join(origins).decode("latin-1") or "missing"
    throttled.info(
        "%s - WebSocket handshake refused: %d %s%s",
        format_address(client),
        refused.status,
        escape(refused.detail),
        f" (Origin: {escape(listed)})" if refused.status == _FORBIDDEN else "",
    )
