"""What comes in on a WebSocket: parsed lazily into the app's queue, reading paused behind it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsgate.server.backpressure import ReceiveQueue
from wsgate.server.fast_path import SEVERAL, Arrival, PlainLane, Several
from wsgate.server.worker import Context
from wsgate.ws.rate import MessageRate
from wsgate.ws.session import CLOSED, CLOSING, OPEN, Session

if TYPE_CHECKING:
    import asyncio

    from wsgate.server.connection import Connection

try:
    from wsgate.server._fast_path import Lane
except ImportError:  # no compiler was found where wsgate was installed
    Lane = PlainLane  # type: ignore[assignment, misc]  # the same class

TURN = 0.005  # seconds of parsing after which the loop gets its turn,
TURN_TAKES = 64  # or so many looks at what is there


class Inbox(Lane):
    """The messages of one session on their way to the app: all but the usual, which is the lane's.

    is_over_rate: the client has sent more messages than --ws-max-message-rate allows; what was over
    it is dropped.
    """

    __slots__ = (
        "_connection",
        "_rate",
        "_receivers",
        "_turn",
        "is_over_rate",
    )

    def __init__(self, connection: "Connection", session: Session) -> None:
        context = connection.context
        outbox = context.outbox
        self._connection = connection
        self.session = session
        self.gate = connection.gate
        self.most = context.config.ws_max_size
        self.codec = session.codec
        self.transport = connection.transport
        self.outbox = outbox
        self.waiting = outbox.waiting
        self.create_future = context.create_future
        self._receivers: Sequence[Arrival] = ()  # where several wait; then the lane has none
        self._turn: asyncio.Handle | None = None
        self._rate = _rate(context) if context.config.ws_max_message_rate else None
        self.is_counted = self._rate is not None
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
        if self.session.pending or self._connection.paused_since is not None:
            self._go_on()
        return message

    def arrival(self) -> Arrival:
        """Return the arrival of what comes next."""
        future = self.create_future()
        if self._receivers or (self.receiver is not None and not self.receiver.done()):
            self._receivers = [*self._waiting(), future]
            self.receiver = SEVERAL
        else:
            self.receiver = future
        return future

    def _waiting(self) -> list[Arrival]:
        """Return those who wait, the first of them first."""
        first = self.receiver
        alone = () if first is None or isinstance(first, Several) else (first,)
        return [one for one in (*alone, *self._receivers) if not one.done()]

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
        while self.receiver is not None:
            receiver = self._next_receiver()
            if receiver is not None:
                receiver.set_result(None)

    def _next_receiver(self) -> Arrival | None:
        """Return the first of those who wait, who waits no more."""
        if self._receivers:
            first, *self._receivers = self._waiting() or (None,)
            self.receiver = SEVERAL if self._receivers else None
            return first
        receiver, self.receiver = self.receiver, None
        if receiver is None or isinstance(receiver, Several) or receiver.done():
            return None
        return receiver

    def _queued(self) -> ReceiveQueue:
        if self.queue is None:
            config = self._connection.context.config
            self.queue = ReceiveQueue(config.ws_max_queue, config.ws_max_queue_size)
        return self.queue

    # -- the client's side -------------------------------------------------------------------------

    def feed_other(self, data: bytes) -> None:
        """Take bytes that are not one whole message for an app that waits."""
        session = self.session
        if self.queue is not None:
            session.feed(data)
        elif messages := session.take(self._connection.context.config.ws_max_queue, data):
            self._put(messages)
        if self.queue is not None or session.has_work or self.is_over_rate:
            self.pump()

    def tally(self) -> None:
        """Add to the session's counts what went past it."""
        session = self.session
        session.received += self.messages_in
        session.bytes_in += self.octets_in
        session.sent += self.messages_out
        session.bytes_out += self.octets_out
        self.messages_in = self.octets_in = self.messages_out = self.octets_out = 0

    def broken(self) -> None:
        """Have senders wait: connection_lost will tell of it once they let the loop go on."""
        self._connection.pause_writing()

    def pump(self) -> None:
        """Parse what came, as far as the queue has room and the loop's turn goes."""
        session = self.session
        if session.pending:
            self._parse()
        self.reply()
        if self.is_over_rate or session.state is not OPEN:
            self._connection.session_moved()
        if session.state is not CLOSED:
            self._pace()

    def _parse(self) -> None:
        session, clock = self.session, self._connection.context.clock
        takes, until = TURN_TAKES, clock() + TURN
        while takes and session.pending and (room := self._room) and self._put(session.take(room)):
            takes = takes - 1 if clock() < until else 0

    def _put(self, messages: Sequence[str | bytes]) -> bool:
        """Let messages in; False where they are over the rate."""
        if self._rate is not None and messages and not self._is_within(self._rate, len(messages)):
            self.is_over_rate = True
            return False
        for message in messages:
            receiver = self._next_receiver()
            if receiver is not None:
                receiver.set_result(message)
            else:
                self._queued().put(message)
        return True

    @property
    def _room(self) -> int:
        # Behind our Close the messages are thrown away: the peer's Close is all that matters.
        if self.session.state is CLOSING or self.queue is None:
            return self._connection.context.config.ws_max_queue
        return self.queue.room

    def _is_within(self, rate: MessageRate, messages: int) -> bool:
        return rate.allows(messages, self._connection.context.clock())

    def reply(self) -> None:
        """Answer Pings and the peer's Close; above the write mark the latest Ping has to wait."""
        self._connection.write(self.session.replies(hold_pongs=self._connection.gate.is_shut))

    def _pace(self) -> None:
        """Read on, or stop while the queue is full; what is left has its turn later."""
        has_room = self._room > 0
        if has_room and not self.session.pending:
            self._connection.resume_reading()
            return
        self._connection.pause_reading()
        if has_room:
            self._go_on()

    def _go_on(self) -> None:
        if self._turn is None:
            self._turn = self._connection.context.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        self.pump()


def _rate(context: Context) -> MessageRate:
    config, rate = context.config, context.config.ws_max_message_rate
    burst = config.ws_max_message_burst or max(1, int(2 * rate))
    return MessageRate(rate, burst, context.clock())
