"""A WebSocket that its app has neither accepted nor refused: what came early, and how it ends."""

import math
from typing import TYPE_CHECKING

from wsgate.asgi import websocket as asgi
from wsgate.asgi.http import Response, State as ResponseState
from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.http.h1.connection import Http1, Upgrade
from wsgate.http.request import Request
from wsgate.observe import logs
from wsgate.server.backpressure import Waiters
from wsgate.types import Message, WebSocketEvent
from wsgate.ws.codes import ABNORMAL
from wsgate.ws.handshake import Handshake, lines_of, response as switching_protocols

if TYPE_CHECKING:
    from wsgate.server.connection import Connection

EARLY = 65_536  # bytes that may come before the app accepts until reading is paused


class Opening:
    """The connection's driver from the handshake until the app's decision.

    conversation: the app's side of it. handshake: what the client asks for. end: the code and
    reason that the app is told, None while there is no end. All of it is gone once the WebSocket is
    open.
    """

    __slots__ = (
        "_connection",
        "_deadline",
        "_denial",
        "_early",
        "_http1",
        "_is_told",
        "_upgrade",
        "_woken",
        "conversation",
        "end",
        "handshake",
    )

    def __init__(
        self, connection: "Connection", http1: Http1, upgrade: Upgrade, handshake: Handshake
    ) -> None:
        self._connection = connection
        self._http1 = http1
        self._upgrade = upgrade
        self.handshake = handshake
        self._denial: Response | None = None
        self._early = upgrade.trailing
        self._woken: Waiters | None = None
        self._is_told = False  # the app has had its websocket.connect
        self.conversation = asgi.Conversation(handshake)
        self.end: tuple[int, str] | None = None
        self._deadline = math.inf

    def start(self) -> None:
        """Give the app its time to decide; end at once where the client has ended its half."""
        connection = self._connection
        context = connection.context
        self._deadline = context.clock() + context.config.ws_handshake_timeout
        context.deadlines.arm(connection, self._deadline)
        if self._early:
            self._pause_if_full()
        if connection.has_eof:  # it came while a request in front was being answered
            self.eof()

    # -- the app's decision ----------------------------------------------------------------------

    def tells_first(self) -> bool:
        """Say once that the app is to have its websocket.connect."""
        was_told, self._is_told = self._is_told, True
        return not was_told

    async def receive(self) -> WebSocketEvent | None:
        """Return the end, again and again; None where the WebSocket was accepted."""
        while self.end is None:
            if self.conversation.state is asgi.OPEN:
                return None
            self._woken = self._woken or Waiters()
            await self._woken.wait()
        return asgi.disconnect_event(*self.end)

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.wake()

    @property
    def request(self) -> Request:
        """The request that asks for the WebSocket."""
        return self._upgrade.request

    def accept(self, wish: asgi.Accept) -> bytes:
        """Send the 101; return what came early."""
        context = self._connection.context
        lines = context.default_lines
        if wish.headers:
            names = {name for name, _ in wish.headers}
            own = [header for header in context.default_headers if header[0] not in names]
            lines = lines_of([*own, *wish.headers])
        self._connection.write(switching_protocols(self.handshake, wish.subprotocol, lines))
        self._wake()
        return self._early

    def refuse(self, refused: RequestRefused, end: tuple[int, str] = (ABNORMAL, "")) -> None:
        """Answer the handshake with a response of the server's own."""
        self._finish(refused.status, end)
        defaults = self._connection.context.default_headers
        self._connection.write(self._http1.refusal(refused, defaults))
        self._connection.close()

    async def deny(self, message: Message) -> None:
        """Send a piece of the app's own response to the handshake."""
        gate = self._connection.gate
        if self._denial is None:
            self._deadline = math.inf  # it has decided in time
            self._denial = Response(self._http1, "GET", asgi.DENIAL)
        if gate.is_shut:
            await gate.passed()
        try:
            data = self._denial.send(message, self._connection.context.default_headers)
        except InvalidMessage:
            if self._denial.state is ResponseState.WAITING:
                self.conversation.revert_denial()
            raise
        self._connection.write(data)
        if self._denial.state is ResponseState.COMPLETE:
            self._denied(self._denial)
        if gate.is_shut:
            await gate.passed()

    def _denied(self, denial: Response) -> None:
        self.conversation.end_denial()
        self._finish(denial.status, (ABNORMAL, ""))
        self._connection.close()

    def _finish(self, status: int, end: tuple[int, str]) -> None:
        self._deadline = math.inf
        self.end = end
        log, client = self._connection.context.access_log, self._connection.client
        log.websocket_refused(client, self._upgrade.request, status)
        self._wake()

    def undecided(self, error: BaseException | None) -> None:
        """Answer for an app that has ended without a decision, or within its response."""
        if self._denial is not None and self._denial.left:
            self._denied(self._denial)
            return
        if error is None:
            logs.error.error("ASGI callable returned without accepting or refusing")
        self.refuse(RequestRefused(500, "the application failed"))

    # -- what the connection tells ---------------------------------------------------------------

    def data(self, data: bytes) -> None:
        """Keep what comes before the app has accepted."""
        self._early += data
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if len(self._early) >= EARLY:
            self._connection.pause_reading()

    def eof(self) -> None:
        """Take the client's half-close for its end."""
        self.lost()
        self._connection.close()

    def lost(self) -> None:
        """Tell the app that its client is gone."""
        self.end = self.end or (ABNORMAL, "")
        self._wake()
        self._connection.gate.wake()

    def writable(self) -> None:
        """Do nothing: who sends waits at the gate."""

    def check(self, now: float) -> float:
        """Refuse for an app that takes too long; return when to ask again."""
        if now >= self._deadline:
            self._deadline = math.inf
            self.refuse(RequestRefused(503, "the application did not accept in time"))
        return min(self._deadline, self._check_denial(now))

    def _check_denial(self, now: float) -> float:
        """Drop a client that does not read the denial that it is sent."""
        if not self._connection.gate.is_shut:
            return math.inf
        if now >= self._connection.sends_until:
            self._connection.abort()
        return self._connection.sends_until

    def stop(self) -> None:
        """Refuse with 503, unless the app's own response is on its way."""
        if self.end is None and not (self._denial and self._denial.left):
            refused = RequestRefused(503, "the server stops", [(b"retry-after", b"1")])
            self.refuse(refused, (1012, "service restart"))
