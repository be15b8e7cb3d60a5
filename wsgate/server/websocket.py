"""A connection that speaks WebSocket: the app's receive and send, and the way it ends."""

import asyncio
import math
from typing import TYPE_CHECKING

from wsgate.asgi import websocket as asgi
from wsgate.asgi.scope import websocket_scope
from wsgate.errors import ClientDisconnected, InvalidMessage, RequestRefused
from wsgate.http.h1.connection import Http1, Upgrade
from wsgate.server import app_call
from wsgate.server.deadlines import LINGER
from wsgate.server.liveness import Watch
from wsgate.server.message_reader import Inbox
from wsgate.server.pending_websocket import Opening
from wsgate.types import Message, WebSocketEvent
from wsgate.ws.handshake import Handshake
from wsgate.ws.session import CLOSED, FAILING, OPEN, Session

if TYPE_CHECKING:
    from wsgate.server.connection import Connection

FAULT_GRACE = 5.0  # seconds for the answers to what came before a bad frame


class WebSocketDriver:
    """One call of an app for a WebSocket, and the connection's driver once that is open."""

    __slots__ = (
        "_connection",
        "_conversation",
        "_deadline",
        "_inbox",
        "_opening",
        "_session",
        "_target",
        "_watch",
    )

    def __init__(
        self, connection: "Connection", http1: Http1, upgrade: Upgrade, handshake: Handshake
    ) -> None:
        self._connection = connection
        self._opening: Opening | None = Opening(connection, http1, upgrade, handshake)
        self._conversation = self._opening.conversation
        self._deadline = math.inf
        self._target: bytes | None = None  # of a WebSocket whose end is yet to be logged
        # From the accept on:
        self._session: Session
        self._inbox: Inbox
        self._watch: Watch

    def start(self) -> None:
        """Take the connection over and call the app."""
        connection, opening = self._connection, self._opening
        assert opening is not None  # nobody has accepted yet
        connection.hand_to(opening, opening)
        opening.start()
        subprotocols = opening.handshake.subprotocols
        scope = websocket_scope(
            opening.request, connection.client, connection.endpoint, subprotocols
        )
        app_call.start(connection.context, scope, self)

    # -- the app awaits --------------------------------------------------------------------------

    async def receive(self) -> WebSocketEvent:
        """Return what comes next: the connect, messages, and the disconnect again and again."""
        if (opening := self._opening) is not None:
            if opening.tells_first():
                return {"type": "websocket.connect"}
            if (event := await opening.receive()) is not None:
                return event
        inbox = self._inbox
        while True:
            if (arrival := inbox.expect()) is None:
                if (event := self._ready()) is not None:
                    return event
                arrival = inbox.arrival()
            try:
                payload = await arrival
            except asyncio.CancelledError:
                inbox.give_back(arrival)
                raise
            # As asgi.receive_event, without the call: each message passes here.
            if isinstance(payload, str):
                return {"type": "websocket.receive", "text": payload}
            if payload is not None:
                return {"type": "websocket.receive", "bytes": payload}

    def _ready(self) -> WebSocketEvent | None:
        """Return what need not be waited for: a message of the queue, or the end behind them."""
        session = self._session
        if self._inbox.queue is not None:
            return asgi.receive_event(self._inbox.pop())
        if session.state is OPEN:
            return None
        if session.state is FAILING:  # the app has asked for more than there is
            self.close(session.close_code, session.close_reason)
        return asgi.disconnect_event(session.close_code, session.close_reason)

    async def send(self, message: Message) -> None:
        """Take the app's message; return once the client keeps up with it."""
        if self._opening is not None:
            if (piece := self._decide(self._opening, message)) is not None:
                await self._opening.deny(piece.message)
            return
        if not self._inbox.put(message):
            await self._send(message)
        if self._connection.gate.is_shut:
            await self._keep_pace()

    async def _send(self, message: Message) -> None:
        """Take a message that is not the usual one, or that has to wait."""
        if self._client_has_left:
            raise ClientDisconnected("the client has left")
        wish = self._conversation.handle(message)
        if isinstance(wish, asgi.Close):
            self.close(wish.code, wish.reason)
            return
        assert isinstance(wish, (str, bytes))  # an open conversation has no other wish
        await self._keep_pace()
        try:
            frame = self._session.write_message(wish)
        except UnicodeEncodeError:
            raise InvalidMessage("text has a lone surrogate, which UTF-8 cannot hold") from None
        self._connection.write(frame)

    async def _keep_pace(self) -> None:
        """Wait until the client has read enough, or will read nothing more."""
        while self._connection.gate.is_shut and self._session.can_send:
            await self._connection.gate.wait()

    @property
    def _client_has_left(self) -> bool:
        """Whether nothing reaches the client any more, by no wish of the app's."""
        if self._conversation.state is asgi.CLOSED:
            return False
        if self._opening is not None:
            return self._opening.end is not None
        return not self._session.can_send

    # -- the handshake ---------------------------------------------------------------------------

    def _decide(self, opening: Opening, message: Message) -> asgi.Deny | None:
        """Take the app's answer to the handshake; return a piece of a response that is its own."""
        if opening.end is not None and self._client_has_left:
            raise ClientDisconnected("the client has left")
        wish = self._conversation.handle(message)
        if isinstance(wish, asgi.Accept):
            self._accept(opening, wish)
            return None
        if isinstance(wish, asgi.Refuse):
            opening.refuse(RequestRefused(403, "the application refused the WebSocket"))
            return None
        assert isinstance(wish, asgi.Deny)  # there is nothing else to say yet
        return wish

    def _accept(self, opening: Opening, wish: asgi.Accept) -> None:
        connection = self._connection
        context = connection.context
        now = context.clock()
        early = opening.accept(wish)
        self._opening = None
        session = self._session = Session(context.codec(opening.handshake.deflate))
        inbox = self._inbox = Inbox(connection, session)
        self._watch = Watch(connection, session, now)
        context.deadlines.arm(connection, now + context.first_look)
        if context.access_log.tells_websockets():
            self._target = opening.request.target
            context.access_log.websocket_opened(connection.client, opening.request.target)
        connection.hand_to(self, inbox)
        if early:
            inbox.data(early)

    # -- what the connection tells ---------------------------------------------------------------

    def eof(self) -> None:
        """Take the client's half-close for its end: a WebSocket has no use for half of one."""
        self._leave()
        self._settle()

    def lost(self) -> None:
        """Tell the app that its client is gone, once it has had what came before."""
        if self._session.state is not CLOSED:
            self._leave()
        self._log_end()

    def writable(self) -> None:
        """Answer the Ping that had to wait."""
        self._inbox.reply()

    def _leave(self) -> None:
        self._session.feed_eof()
        self._inbox.wake()
        self._connection.gate.wake()

    def progress(self) -> None:
        """Do what the session's state asks for, and let the app look at it."""
        if self._inbox.is_over_rate:
            self.close(1008, "message rate exceeded")
        if self._session.state is not OPEN:
            self._settle()
            self._connection.gate.wake()
            self._inbox.wake()

    def _settle(self) -> None:
        """Do what the session's state asks of the connection."""
        state = self._session.state
        if state is FAILING and self._deadline == math.inf:
            self._give(FAULT_GRACE)
        elif state is CLOSED:
            self._log_end()
            if self._session.is_closed_by_both:
                self._deadline = self._connection.finish()
            else:
                self._connection.close()

    def _give(self, seconds: float) -> None:
        context = self._connection.context
        self._deadline = context.clock() + seconds
        context.deadlines.arm(self._connection, self._deadline)

    # -- the end ---------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Send our Close; the peer has its time to answer with its own."""
        frame = self._session.close(code, reason)
        if not frame:
            return
        self._connection.write(frame)
        self._give(self._connection.context.config.ws_close_timeout)
        self._inbox.wake()
        self._connection.gate.wake()
        if self._session.state is CLOSED:
            self._settle()
        else:
            self._inbox.pump()  # the peer's Close may wait behind what had no room

    def give_up(self, code: int, reason: str) -> None:
        """Send our Close to a peer that does not read, or gives no sign of life.

        It is not given the time to answer: TCP ends within the time that a closed connection has.
        """
        self.close(code, reason)
        if self._session.state is CLOSED:
            self._connection.give_up()
        else:
            self._give(min(LINGER, self._connection.context.config.ws_close_timeout))

    def stop(self) -> None:
        """Close with 1012, so that the client comes back."""
        self.close(1012, "service restart")

    def done(self, error: BaseException | None) -> None:
        """Answer for an app that has ended."""
        left = self._client_has_left or self._connection.is_lost
        if error is not None:
            app_call.report(error, client_left=left)
        if left or self._conversation.state is asgi.CLOSED:
            return
        if self._opening is not None:
            self._opening.undecided(error)
        elif error is not None:
            self.close(1011, "internal error")
        else:
            self.close(1000, "")

    def _log_end(self) -> None:
        target, self._target = self._target, None
        if target is None:
            return
        self._inbox.tally()
        session = self._session
        self._connection.context.access_log.websocket_closed(
            self._connection.client,
            target,
            code=session.close_code,
            reason=session.close_reason,
            seconds=self._connection.context.clock() - self._watch.opened_at,
            received=(session.received, session.bytes_in),
            sent=(session.sent, session.bytes_out),
        )

    # -- deadlines -------------------------------------------------------------------------------

    def check(self, now: float) -> float:
        """Do what is due; return when to ask again."""
        if now >= self._deadline:
            self._deadline = math.inf
            self._out_of_time()
        if not self._session.can_send:
            return self._deadline
        self._inbox.tally()
        at = self._watch.check(now, self)
        return min(self._deadline, at)  # which may be new: the watch may have closed

    def _out_of_time(self) -> None:
        if self._session.state is FAILING:
            self.close(self._session.close_code, self._session.close_reason)
        else:
            self._connection.abort()
