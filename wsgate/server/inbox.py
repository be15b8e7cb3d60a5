"""What comes in on a WebSocket: parsed lazily into the app's queue, reading paused behind it."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from wsgate.protocol.websocket import Session, State
from wsgate.server.flow import ReceiveQueue

if TYPE_CHECKING:
    from wsgate.server.connection import Connection

TURN = 4  # slices of input that are parsed before the loop gets its turn
_ANY = 1_000  # messages in one go where they are only thrown away


class Inbox:
    """The messages of one session on their way to the app.

    progress: called when messages have come in or the session's state has moved.
    """

    __slots__ = ("_connection", "_progress", "_queue", "_session", "_turn")

    def __init__(
        self, connection: "Connection", session: Session, progress: Callable[[], None]
    ) -> None:
        config = connection.context.config
        self._connection = connection
        self._session = session
        self._progress = progress
        self._queue = ReceiveQueue(config.ws_max_queue, config.ws_max_queue_size)
        self._turn: asyncio.Handle | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes that came in."""
        self._session.feed(data)
        self.pump()

    def pop(self) -> str | bytes | None:
        """Return the next message, None where there is none yet."""
        if not self._queue and self._session.pending:
            self.pump()
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
        session = self._session
        slices = TURN
        while slices and session.pending and (room := self._room):
            for message in session.take(room):
                self._queue.put(message)
            slices -= 1
        self._connection.write(session.replies(latest_only=self._connection.gate.is_shut))
        if self._queue or session.state is not State.OPEN:
            self._progress()
        self._pace()

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
