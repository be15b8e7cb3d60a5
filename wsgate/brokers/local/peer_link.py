"""Connects to another worker, and again after each end of the connection."""

import asyncio
from collections.abc import Callable

from wsgate.brokers.local.backoff import Backoff
from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.observe.throttled_log import throttled
from wsgate.topics.messages import Message


class PeerLink:
    """The connection to one worker, until nobody listens at its socket.

    Args:
        path: Of its socket.
        on_start: Called with each new connection.
        on_message: Called with each message. It may raise WireError to end the connection.
        on_end: Called once when a connection has ended.
        on_gone: Called when nobody listens at the path any more.
    """

    def __init__(
        self,
        path: str,
        on_start: Callable[[FrameConnection], object],
        on_message: Callable[[FrameConnection, Message], object],
        on_end: Callable[[FrameConnection], object],
        on_gone: Callable[[], object],
    ) -> None:
        self._path = path
        self._on_start = on_start
        self._on_message = on_message
        self._on_end = on_end
        self._on_gone = on_gone
        self._backoff = Backoff()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Connect, and again after each end, until nobody listens there."""
        while True:
            try:
                await self._serve_one_connection()
            except (FileNotFoundError, ConnectionRefusedError):
                self._on_gone()
                return
            except OSError as error:
                throttled.warning("A connection to another worker failed: %s", error)
            await asyncio.sleep(self._backoff.next_pause())

    async def _serve_one_connection(self) -> None:
        """Connect, and return when the connection has ended."""
        self._ended.clear()
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(self._new, self._path)
        await self._ended.wait()

    def _new(self) -> FrameConnection:
        return FrameConnection(self._on_start, self._take, self._end)

    def _take(self, connection: FrameConnection, message: Message) -> None:
        self._backoff.reset()
        self._on_message(connection, message)

    def _end(self, connection: FrameConnection) -> None:
        self._ended.set()
        self._on_end(connection)
