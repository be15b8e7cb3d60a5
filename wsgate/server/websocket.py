"""A connection that speaks WebSocket: the app's receive and send, and the session's deadlines."""

import math
from typing import TYPE_CHECKING

from wsgate.asgi import websocket as asgi
from wsgate.asgi.http import Response, State as ResponseState
from wsgate.asgi.scope import websocket_scope
from wsgate.errors import ClientDisconnected, InvalidMessage, RequestRefused
from wsgate.protocol.codec_wsproto import WsprotoCodec
from wsgate.protocol.deflate import Deflate
from wsgate.protocol.handshake import Handshake, response as switching_protocols
from wsgate.protocol.http1 import Http1, Upgrade
from wsgate.protocol.websocket import ABNORMAL, Session, State
from wsgate.server import cycle, logs
from wsgate.server.flow import Waiters
from wsgate.server.inbox import Inbox
from wsgate.server.watch import Watch
from wsgate.types import Message, WebSocketEvent

if TYPE_CHECKING:
    from wsgate.server.connection import Connection

EARLY = 65_536  # bytes that may come before the app accepts until reading is paused
FAULT_GRACE = 5.0  # seconds for the answers to what came before a bad frame


class WebSocketDriver:
    """One WebSocket from its handshake to its end."""

    __slots__ = (
        "_connection",
        "_conversation",
        "_deadline",
        "_denial",
        "_early",
        "_ended",
        "_handshake",
        "_http1",
        "_inbox",
        "_is_told",
        "_opened_at",
        "_request",
        "_session",
        "_watch",
        "_woken",
    )

    def __init__(
        self, connection: "Connection", http1: Http1, upgrade: Upgrade, handshake: Handshake
    ) -> None:
        self._connection = connection
        self._http1 = http1
        self._request = upgrade.request
        self._handshake = handshake
        self._conversation = asgi.Conversation(handshake)
        self._denial: Response | None = None
        self._early = bytearray(upgrade.trailing)
        self._session: Session | None = None
        self._inbox: Inbox | None = None
        self._watch: Watch | None = None
        self._woken = Waiters()
        self._deadline = math.inf
        self._is_told = False  # the app has had its websocket.connect
        self._ended: tuple[int, str] | None = None  # how it ended without a session
        self._opened_at = 0.0
        self._give(connection.context.config.ws_handshake_timeout)
        scope = websocket_scope(self._request, connection.endpoint, handshake.subprotocols)
        cycle.start(connection.context, scope, self.receive, self.send, self._done)

    # -- the app awaits --------------------------------------------------------------------------

    async def receive(self) -> WebSocketEvent:
        """Return what comes next: the connect, messages, and the disconnect again and again."""
        if not self._is_told:
            self._is_told = True
            return {"type": "websocket.connect"}
        while True:
            if self._inbox is not None:
                if (payload := self._inbox.pop()) is not None:
                    return asgi.receive_event(payload)
                if self._opened.state is State.FAILING:
                    self._close(*self._fault)  # the app has asked for more than there is
            if (end := self._end()) is not None:
                return asgi.disconnect_event(*end)
            await self._woken.wait()

    async def send(self, message: Message) -> None:
        """Take the app's message; return once the client keeps up with it."""
        if self._client_has_left:
            raise ClientDisconnected("the client has left")
        wish = self._conversation.say(message)
        if isinstance(wish, (str, bytes)):
            await self._send_message(wish)
        elif isinstance(wish, asgi.Accept):
            self._accept(wish)
        elif isinstance(wish, asgi.Close):
            self._close(wish.code, wish.reason)
        elif isinstance(wish, asgi.Refuse):
            self._refuse(RequestRefused(403, "the application refused the WebSocket"))
        else:
            await self._deny(wish.message)

    async def _send_message(self, payload: str | bytes) -> None:
        gate = self._connection.gate
        if gate.is_shut:
            await self._keep_pace()
        try:
            frame = self._opened.message(payload)
        except UnicodeEncodeError:
            raise InvalidMessage("text has a lone surrogate, which UTF-8 cannot hold") from None
        self._connection.write(frame)
        if gate.is_shut:
            await self._keep_pace()

    async def _keep_pace(self) -> None:
        """Wait until the client has read enough, or will read nothing more."""
        while self._connection.gate.is_shut and self._opened.can_send:
            await self._connection.gate.wait()

    @property
    def _client_has_left(self) -> bool:
        """Whether nothing reaches the client any more, by no wish of the app's."""
        if self._conversation.state is asgi.State.CLOSED:
            return False
        if self._session is not None:
            return not self._session.can_send
        return self._ended is not None

    def _end(self) -> tuple[int, str] | None:
        """Return the code and reason that the app is told, None while there is no end."""
        if self._session is None:
            return self._ended
        if self._session.state in (State.OPEN, State.FAILING):
            return None
        return self._session.close_code, self._session.close_reason

    # -- the handshake ---------------------------------------------------------------------------

    def _accept(self, wish: asgi.Accept) -> None:
        connection, context = self._connection, self._connection.context
        names = {name for name, _ in wish.headers}
        defaults = [header for header in context.default_headers if header[0] not in names]
        headers = [*defaults, *wish.headers]
        connection.write(switching_protocols(self._handshake, wish.subprotocol, headers))
        deflate = Deflate(context.message_limits, self._handshake.deflate, context.compressors)
        self._session = Session(WsprotoCodec(deflate))
        self._inbox = Inbox(connection, self._session, self._progress)
        self._opened_at = context.clock()
        self._deadline = math.inf
        self._watch = Watch(connection, self._session, self._close)
        logs.websocket_opened(connection.endpoint.client, self._request)
        early = bytes(self._early)
        self._early.clear()
        self._inbox.feed(early)

    def _refuse(self, refused: RequestRefused) -> None:
        """Answer the handshake with a response of the server's own."""
        self._deadline = math.inf
        self._ended = (ABNORMAL, "")
        logs.websocket_refused(self._connection.endpoint.client, self._request, refused.status)
        defaults = self._connection.context.default_headers
        self._connection.write(self._http1.refusal(refused, defaults))
        self._connection.close()
        self._woken.wake()

    async def _deny(self, message: Message) -> None:
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
                self._conversation.state = asgi.State.CONNECTING  # it stays as it was
            raise
        self._connection.write(data)
        if self._denial.state is ResponseState.COMPLETE:
            self._denied(self._denial.status)
        if gate.is_shut:
            await gate.passed()

    def _denied(self, status: int) -> None:
        self._conversation.state = asgi.State.CLOSED
        self._ended = (ABNORMAL, "")
        logs.websocket_refused(self._connection.endpoint.client, self._request, status)
        self._connection.close()
        self._woken.wake()

    # -- what comes in ---------------------------------------------------------------------------

    def data(self, data: bytes) -> None:
        """Take frames, or what comes before the app has accepted."""
        if self._inbox is None or self._watch is None:  # they come together
            self._early += data
            if len(self._early) >= EARLY:
                self._connection.pause_reading()
            return
        self._watch.heard()
        self._inbox.feed(data)

    def eof(self) -> None:
        """Take the client's half-close for its end: a WebSocket has no use for half of one."""
        self._leave()
        if self._session is None:
            self._connection.close()
        else:
            self._settle()

    def lost(self) -> None:
        """Tell the app that its client is gone, once it has had what came before."""
        self._leave()
        self._log_end()

    def writable(self) -> None:
        """Answer the Ping that had to wait."""
        if self._inbox is not None:
            self._inbox.reply()

    def _leave(self) -> None:
        if self._session is None:
            self._ended = self._ended or (ABNORMAL, "")
        else:
            self._session.feed_eof()
        self._woken.wake()
        self._connection.gate.wake()

    @property
    def _opened(self) -> Session:
        assert self._session is not None  # the conversation's state says so
        return self._session

    def _progress(self) -> None:
        """Let the app look at what has come, and do what the session's state asks for."""
        if self._inbox is not None and self._inbox.is_over_rate:
            self._close(1008, "message rate exceeded")
        if self._opened.state is not State.OPEN:
            self._settle()
            self._connection.gate.wake()
        self._woken.wake()

    def _settle(self) -> None:
        """Do what the session's state asks of the connection."""
        state = self._opened.state
        if state is State.FAILING and self._deadline == math.inf:
            self._give(FAULT_GRACE)
        elif state is State.CLOSED:
            self._log_end()
            self._connection.close()

    def _give(self, seconds: float) -> None:
        self._deadline = self._connection.context.clock() + seconds
        self._connection.look_at(self._deadline)

    # -- the end ---------------------------------------------------------------------------------

    @property
    def _fault(self) -> tuple[int, str]:
        return self._opened.close_code, self._opened.close_reason

    def _close(self, code: int, reason: str) -> None:
        """Send our Close; the peer has its time to answer with its own."""
        session = self._opened
        frame = session.close(code, reason)
        if not frame:
            return
        self._connection.write(frame)
        self._give(self._connection.context.config.ws_close_timeout)
        self._woken.wake()
        self._connection.gate.wake()
        if session.state is State.CLOSED:
            self._settle()
        else:
            assert self._inbox is not None  # it came with the session
            self._inbox.pump()  # the peer's Close may wait behind what had no room

    def stop(self) -> None:
        """Close with 1012, so that the client comes back; refuse one that waits for the app."""
        if self._session is not None:
            self._close(1012, "service restart")
        elif self._ended is None and not (self._denial and self._denial.left):
            self._refuse(RequestRefused(503, "the server stops", [(b"retry-after", b"1")]))
            self._ended = (1012, "service restart")

    def _done(self, error: BaseException | None) -> None:
        """Answer for an app that has ended."""
        left = self._client_has_left or self._connection.is_lost
        if error is not None:
            cycle.report(error, client_left=left)
        if left or self._conversation.state is asgi.State.CLOSED:
            return
        if self._session is not None:
            self._close(*((1011, "internal error") if error else (1000, "")))
        elif self._denial is not None and self._denial.left:
            self._denied(self._denial.status)
        else:
            if error is None:
                logs.error.error("ASGI callable returned without accepting or refusing")
            self._refuse(RequestRefused(500, "the application failed"))

    def _log_end(self) -> None:
        session = self._session
        if session is None or not self._opened_at:
            return
        logs.websocket_closed(
            self._connection.endpoint.client,
            self._request,
            code=session.close_code,
            reason=session.close_reason,
            seconds=self._connection.context.clock() - self._opened_at,
            received=(session.received, session.bytes_in),
            sent=(session.sent, session.bytes_out),
        )
        self._opened_at = 0.0

    # -- deadlines -------------------------------------------------------------------------------

    def check(self, now: float) -> float:
        """Do what is due; return when to ask again."""
        if now >= self._deadline:
            self._deadline = math.inf
            self._out_of_time()
        if self._session is None:
            return min(self._deadline, self._check_denial(now))
        if self._watch is None or not self._session.can_send:
            return self._deadline
        at = self._watch.check(now)
        return min(self._deadline, at)  # which may be new: the watch may have closed

    def _out_of_time(self) -> None:
        if self._session is None:
            self._refuse(RequestRefused(503, "the application did not accept in time"))
        elif self._session.state is State.FAILING:
            self._close(*self._fault)
        else:
            self._connection.abort()

    def _check_denial(self, now: float) -> float:
        """Drop a client that does not read the denial that it is sent."""
        if not self._connection.gate.is_shut:
            return math.inf
        if now >= self._connection.sends_until:
            self._connection.abort()
        return self._connection.sends_until
