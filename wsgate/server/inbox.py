"""What comes in on a WebSocket: parsed lazily into the app's queue, reading paused behind it."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsgate.protocol.rate import MessageRate
from wsgate.protocol.websocket import Session, State
from wsgate.server.context import Context
from wsgate.server.flow import ReceiveQueue

if TYPE_CHECKING:
    from wsgate.server.connection import Connection

Arrival = asyncio.Future[str | bytes | None]
"""Of a message, or of None where only the session's state has moved."""

TURN = 0.005  # seconds of parsing after which the loop gets its turn,
TURN_TAKES = 64  # or so many looks at what is there


class Inbox:
    """The messages of one session on their way to the app.

    is_over_rate: the client has sent more messages than --ws-max-message-rate allows; what was over
    it is dropped. queue: those that nobody waited for, None without any.
    """

    __slots__ = (
        "_connection",
        "_loop",
        "_most",
        "_most_bytes",
        "_rate",
        "_receiver",
        "_receivers",
        "_session",
        "_turn",
        "is_over_rate",
        "queue",
    )

    def __init__(self, connection: "Connection", session: Session) -> None:
        context = connection.context
        self._connection = connection
        self._loop = context.loop
        self._session = session
        self._most = context.config.ws_max_queue
        self._most_bytes = context.config.ws_max_size
        self.queue: ReceiveQueue | None = None  # only while messages wait
        self._receiver: Arrival | None = None
        self._receivers: Sequence[Arrival] = ()  # more than one are rare
        self._turn: asyncio.Handle | None = None
        self._rate = _rate(context)
        self.is_over_rate = False

    # -- the app's side ----------------------------------------------------------------------------

    def pop(self) -> str | bytes:
        """Return the next message of the queue.

        What is still to be parsed waits for a turn of the loop, so that an app which finds its
        queue full again and again does not keep everyone else from theirs.
        """
        assert self.queue is not None  # who calls has looked
        message = self.queue.pop()
        if not self.queue:
            self.queue = None
        if self._session.pending or self._connection.paused_since is not None:
            self._go_on()
        return message

    def arrival(self) -> Arrival:
        """Return the arrival of what comes next."""
        future = self._loop.create_future()
        if self._receiver is None or self._receiver.done():
            self._receiver = future
        else:
            self._receivers = [*(one for one in self._receivers if not one.done()), future]
        return future

    def give_back(self, arrival: Arrival) -> None:
        """Keep the message of a receiver that was cancelled just as it came."""
        if arrival.cancelled() or not arrival.done() or (message := arrival.result()) is None:
            return
        receiver = self._next_receiver()
        if receiver is not None:
            receiver.set_result(message)
        else:
            self._queued().put_back(message)

    def wake(self) -> None:
        """Let all receivers look at the session's state."""
        while (receiver := self._next_receiver()) is not None:
            receiver.set_result(None)

    def _next_receiver(self) -> Arrival | None:
        """Return the first of those who wait, who waits no more."""
        receiver, self._receiver = self._receiver, None
        if self._receivers:
            receiver = self._line_up(receiver)
        return receiver if receiver is not None and not receiver.done() else None

    def _line_up(self, first: Arrival | None) -> Arrival | None:
        """Have those behind the first move up; return the first who still waits."""
        behind = [one for one in self._receivers if not one.done()]
        if first is None or first.done():
            first = behind.pop(0) if behind else None
        self._receiver = behind.pop(0) if behind else None
        self._receivers = behind
        return first

    def _queued(self) -> ReceiveQueue:
        if self.queue is None:
            config = self._connection.context.config
            self.queue = ReceiveQueue(config.ws_max_queue, config.ws_max_queue_size)
        return self.queue

    # -- the client's side -------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes that came in: nearly always one message, which somebody waits for.

        That is the way through this file which is written for speed: the same as `_feed` does, with
        the calls in between left out.
        """
        session, receiver = self._session, self._receiver
        if session.is_calm and receiver is not None and self._rate is None:
            message = session.codec.read_message(data, self._most_bytes)
            if message is not None and not receiver.done() and not self._receivers:
                session.bytes_in += len(data)
                session.received += 1
                self._receiver = None
                receiver.set_result(message)
                return
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        session = self._session
        if self.queue is None:
            self._put(session.take(self._most, data))
        else:
            session.feed(data)
        if self.queue is not None or session.is_stirred or self.is_over_rate:
            self.pump()

    def pump(self) -> None:
        """Parse what came, as far as the queue has room and the loop's turn goes."""
        session, clock = self._session, self._connection.context.clock
        takes, until = TURN_TAKES, clock() + TURN
        while takes and session.pending and (room := self._room) and self._put(session.take(room)):
            takes = takes - 1 if clock() < until else 0
        self.reply()
        if self.is_over_rate or session.state is not State.OPEN:
            self._connection.session_moved()
        self._pace()

    def _put(self, messages: Sequence[str | bytes]) -> bool:
        """Let messages in; False where they are over the rate."""
        if self._rate is not None and messages and not self._is_within(self._rate, len(messages)):
            self.is_over_rate = True
            return False
        for message in messages:
            receiver, self._receiver = self._receiver, None
            if self._receivers:
                receiver = self._line_up(receiver)
            if receiver is not None and not receiver.done():
                receiver.set_result(message)
            else:
                self._queued().put(message)
        return True

    @property
    def _room(self) -> int:
        # Behind our Close the messages are thrown away: the peer's Close is all that matters.
        if self._session.state is State.CLOSING or self.queue is None:
            return self._most
        return self.queue.room

    def _is_within(self, rate: MessageRate, messages: int) -> bool:
        return rate.allows(messages, self._connection.context.clock())

    def reply(self) -> None:
        """Answer Pings and the peer's Close; above the write mark the latest Ping has to wait."""
        self._connection.write(self._session.replies(hold_pongs=self._connection.gate.is_shut))

    def _pace(self) -> None:
        """Read on, or stop while the queue is full; what is left has its turn later."""
        has_room = self._room > 0
        if has_room and not self._session.pending:
            self._connection.resume_reading()
            return
        self._connection.pause_reading()
        if has_room:
            self._go_on()

    def _go_on(self) -> None:
        if self._turn is None:
            self._turn = self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        self.pump()


def _rate(context: Context) -> MessageRate | None:
    config, rate = context.config, context.config.ws_max_message_rate
    if not rate:
        return None
    burst = config.ws_max_message_burst or max(1, int(2 * rate))
    return MessageRate(rate, burst, context.clock())
