"""A WebSocket that its app has neither accepted nor refused yet: the wire's driver until then."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsgate import loggers
from wsgate.asgi import websocket as asgi
from wsgate.asgi.http import Response, State as ResponseState
from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.http.request import Request
from wsgate.http.stream import HttpStream
from wsgate.observe.events import HandshakeRefused
from wsgate.server.backpressure import Waiters
from wsgate.types import Message, WebSocketEvent
from wsgate.ws.codes import ABNORMAL, SERVICE_RESTART
from wsgate.ws.handshake import Handshake, lines_of, response as switching_protocols

if TYPE_CHECKING:
    from wsgate.asgi.scope import Peer
    from wsgate.server.wire import Wire
    from wsgate.server.worker import Worker

EARLY = 65_536  # bytes that may arrive before the app accepts until reading is paused


@dataclass(slots=True)
class Offer:
    """A checked handshake that its app may accept.

    peer: who is at both ends, as the request's headers say. trailing: bytes after the request.
    """

    request: Request
    peer: "Peer"
    handshake: Handshake
    trailing: bytes


class PendingWebSocket:
    """The wire's driver from the handshake until the app's decision.

    offer: what the client asks for. conversation: the app's side of it. end: the code and
    reason of the app's disconnect, None while there is none. All of it is dropped once the
    WebSocket is open.
    """

    __slots__ = (
        "_deadline",
        "_denial",
        "_early",
        "_has_connected",
        "_stream",
        "_waiters",
        "_wire",
        "_worker",
        "conversation",
        "end",
        "offer",
    )

    def __init__(self, worker: "Worker", wire: "Wire", stream: HttpStream, offer: Offer) -> None:
        self._worker = worker
        self._wire = wire
        self._stream = stream
        self.offer = offer
        self._denial: Response | None = None
        self._early = offer.trailing
        self._waiters: Waiters | None = None
        self._has_connected = False  # the app has had its websocket.connect
        self.conversation = asgi.Conversation(offer.handshake)
        self.end: tuple[int, str] | None = None
        self._deadline = math.inf

    def start(self) -> None:
        """Give the app its time to decide; end at once if the client has ended its half."""
        worker = self._worker
        self._deadline = worker.clock() + worker.config.ws_handshake_timeout
        self._wire.check_at(self._deadline)
        if self._early:
            self._pause_if_full()
        if self._wire.has_eof:  # it arrived while a request before was being answered
            self.eof()

    # -- the app's decision ------------------------------------------------------------------------

    def take_connect(self) -> bool:
        """Return True once: the app is to receive its websocket.connect."""
        had_it, self._has_connected = self._has_connected, True
        return not had_it

    async def receive(self) -> WebSocketEvent | None:
        """Return the disconnect, again and again; None if the WebSocket was accepted."""
        while self.end is None:
            if self.conversation.state is asgi.OPEN:
                return None
            self._waiters = self._waiters or Waiters()
            await self._waiters.wait()
        return asgi.disconnect_event(*self.end)

    def _wake(self) -> None:
        if self._waiters is not None:
            self._waiters.wake()

    def accept(self, wish: asgi.Accept) -> bytes:
        """Send the 101; return what came early."""
        worker = self._worker
        lines = worker.default_lines
        if wish.headers:
            names = {name for name, _ in wish.headers}
            own = [header for header in worker.default_headers if header[0] not in names]
            lines = lines_of([*own, *wish.headers])
        self._wire.write(switching_protocols(self.offer.handshake, wish.subprotocol, lines))
        self._wake()
        return self._early

    def refuse(self, refused: RequestRefused, end: tuple[int, str] = (ABNORMAL, "")) -> None:
        """Answer the handshake with a response of the server's own."""
        self._finish(refused.status, refused.detail, end)
        defaults = self._worker.default_headers
        self._wire.write(self._stream.refuse(refused, defaults))
        self._wire.close()

    async def deny(self, message: Message) -> None:
        """Send a piece of the app's own response to the handshake."""
        gate = self._wire.gate
        if self._denial is None:
            self._deadline = math.inf  # it has decided in time
            self._denial = Response("GET", Response.DENIAL)
        if gate.is_shut:
            await gate.passed()
        try:
            event = self._denial.send(message)
        except InvalidMessage:
            if self._denial.state is ResponseState.WAITING:
                self.conversation.revert_denial()
            raise
        if event is None:
            return  # the head waits for the body
        self._wire.write(self._stream.send(event, self._worker.default_headers))
        if self._denial.state is ResponseState.COMPLETE:
            self._denied(self._denial)
        if gate.is_shut:
            await gate.passed()

    def _denied(self, denial: Response) -> None:
        self.conversation.end_denial()
        reason = "the application sent its own response"
        self._finish(denial.status, reason, (ABNORMAL, ""))
        self._wire.close()

    def _finish(self, status: int, reason: str, end: tuple[int, str]) -> None:
        self._deadline = math.inf
        self.end = end
        if observers := self._worker.observers:
            offer = self.offer
            observers.notify(
                HandshakeRefused(offer.peer.client, offer.request.target, status, reason)
            )
        self._wake()

    def answer_for_app(self, error: BaseException | None) -> None:
        """Answer for an app that has ended without a decision, or within its response."""
        if self._denial is not None and self._denial.has_started:
            self._denied(self._denial)
            return
        if error is None:
            loggers.error.error("ASGI callable returned without accepting or refusing")
        self.refuse(RequestRefused(500, "the application failed"))

    # -- what the wire reports ---------------------------------------------------------------------

    def data(self, data: bytes) -> None:
        """Keep what arrives before the app has accepted."""
        self._early += data
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if len(self._early) >= EARLY:
            self._wire.pause_reading()

    def eof(self) -> None:
        """Take the client's half-close for its end."""
        self.lost()
        self._wire.close()

    def lost(self) -> None:
        """Notify the app that its client is gone."""
        self.end = self.end or (ABNORMAL, "")
        self._wake()
        self._wire.gate.wake()

    def writable(self) -> None:
        """Do nothing: senders wait at the gate."""

    def check(self, now: float) -> float:
        """Refuse for an app that takes too long; return when to ask again."""
        if now >= self._deadline:
            self._deadline = math.inf
            self.refuse(RequestRefused(503, "the application did not accept in time"))
        return min(self._deadline, self._check_denial(now))

    def _check_denial(self, now: float) -> float:
        """Drop a client that does not read the denial that it is sent."""
        if not self._wire.gate.is_shut:
            return math.inf
        if now >= self._wire.read_deadline:
            self._wire.abort()
        return self._wire.read_deadline

    def stop(self) -> None:
        """Accept no further request, which cannot follow a handshake anyway."""

    def drain(self) -> None:
        """Refuse with 503, unless the app's own response is being sent."""
        if self.end is None and not (self._denial and self._denial.has_started):
            refused = RequestRefused(503, "the server stops", [(b"retry-after", b"1")])
            self.refuse(refused, (SERVICE_RESTART, "service restart"))
