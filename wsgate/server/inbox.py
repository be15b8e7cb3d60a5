"""What comes in on a WebSocket: parsed lazily into the app's queue, reading paused behind it."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from wsgate.config import Config
from wsgate.protocol.rate import MessageRate
from wsgate.protocol.websocket import Session, State
from wsgate.server.flow import ReceiveQueue

if TYPE_CHECKING:
    from wsgate.server.connection import Connection

TURN = 0.005  # seconds of parsing after which the loop gets its turn,
TURN_SLICES = 64  # or so many slices
_ANY = 1_000  # messages in one go where they are only thrown away


class Inbox:
    """The messages of one session on their way to the app.

    progress: called when messages have come in or the session's state has moved. is_over_rate:
    the client has sent more than --ws-max-message-rate allows; what was over it is dropped.
    """

    __slots__ = ("_connection", "_progress", "_queue", "_rate", "_session", "_turn", "is_over_rate")

    def __init__(
        self, connection: "Connection", session: Session, progress: Callable[[], None]
    ) -> None:
        config = connection.context.config
        self._connection = connection
        self._session = session
        self._progress = progress
        self._queue = ReceiveQueue(config.ws_max_queue, config.ws_max_queue_size)
        self._turn: asyncio.Handle | None = None
        self._rate = _rate(config, connection.context.clock())
        self.is_over_rate = False

    def feed(self, data: bytes) -> None:
        """Take bytes that came in."""
        self._session.feed(data)
        self.pump()

    def pop(self) -> str | bytes | None:
        """Return the next message, None where there is none yet.

        What is still to be parsed waits for a turn of the loop, so that an app which finds its
        queue full again and again does not keep everyone else from theirs.
        """
        if not self._queue:
            return None
        message = self._queue.pop()
        if self._session.pending:
            self._go_on()
        return message

    @property
    def _room(self) -> int:
        # Behind our Close the messages are thrown away: the peer's Close is all that matters.
        return _ANY if self._session.state is State.CLOSING else self._queue.room

    def pump(self) -> None:
        """Parse what came, as far as the queue has room and the loop's turn goes."""
        session, clock = self._session, self._connection.context.clock
        slices, until = TURN_SLICES, clock() + TURN
        while slices and session.pending and (room := self._room):
            messages = session.take(room)
            if messages and not self._within_rate(len(messages)):
                self.is_over_rate = True
                break
            for message in messages:
                self._queue.put(message)
            slices = slices - 1 if clock() < until else 0
        self.reply()
        if self._queue or self.is_over_rate or session.state is not State.OPEN:
            self._progress()
        self._pace()

    def _within_rate(self, messages: int) -> bool:
        if self._rate is None or self._session.state is not State.OPEN:
            return True
        return self._rate.allows(messages, self._connection.context.clock())

    def reply(self) -> None:
        """Answer Pings and the peer's Close; above the write mark the latest Ping has to wait."""
        self._connection.write(self._session.replies(hold_pongs=self._connection.gate.is_shut))

    def _pace(self) -> None:
        """Go on with what is left in a later turn, or read on."""
        if not self._session.pending:
            self._connection.resume_reading()
            return
        self._connection.pause_reading()
        if self._room:
            self._go_on()

    def _go_on(self) -> None:
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        self.pump()


def _rate(config: Config, now: float) -> MessageRate | None:
    rate = config.ws_max_message_rate
    if not rate:
        return None
    return MessageRate(rate, config.ws_max_message_burst or max(1, int(2 * rate)), now)
