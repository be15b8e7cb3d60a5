"""The program of the hub: reads messages from its connections, asks `Hub`, writes the answers."""

import asyncio
import itertools
import math
import socket
from collections.abc import Callable

from wsgate import loggers
from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.brokers.local.frame_server import FrameServer
from wsgate.topics.hub import Hub, Outgoing
from wsgate.topics.messages import Message
from wsgate.topics.wire_format import WireError, encode

MAX_QUEUE = 16 * 2**20  # bytes that may wait for one connection, besides one large message
MAX_CONNECTIONS = 1024
_MIN_PAUSE = 0.02  # seconds between two calls of `Hub.expire`


class HubServer:
    """Serves a hub to the connections of a socket.

    A connection that does not read is dropped when its queue is full: it holds up nobody, and a
    worker connects again when it runs again.

    Args:
        hub: The hub.
        report: Called with a line for the log.
    """

    def __init__(self, hub: Hub, report: Callable[[str], object] = loggers.error.warning) -> None:
        self._hub = hub
        self._report = report
        self._numbers = itertools.count(1)
        self._by_number: dict[int, FrameConnection] = {}
        self._number_of: dict[FrameConnection, int] = {}
        self._loop = asyncio.get_running_loop()
        self._server = FrameServer(self._add, self._handle, self._remove)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a socket that listens; it belongs to the server from now on."""
        await self._server.start(sock)
        self._plan()

    async def stop(self) -> None:
        """End all connections."""
        await self._server.stop()
        if self._timer is not None:
            self._timer.cancel()

    # -- connections -------------------------------------------------------------------------------

    def _add(self, connection: FrameConnection) -> None:
        if len(self._by_number) >= MAX_CONNECTIONS:
            connection.abort()
            return
        number = next(self._numbers)
        self._by_number[number] = connection
        self._number_of[connection] = number

    def _handle(self, connection: FrameConnection, message: Message) -> None:
        number = self._number_of[connection]
        try:
            self._send(self._hub.handle(number, message, self._loop.time()))
        except WireError:
            raise
        except Exception:  # noqa: BLE001  # the other connections must be served
            loggers.error.exception("The topics hub cannot handle a message")
            connection.abort()
        self._plan()

    def _remove(self, connection: FrameConnection) -> None:
        number = self._number_of.pop(connection, None)
        if number is not None:
            del self._by_number[number]
            self._send(self._hub.disconnect(number, self._loop.time()))
            self._plan()

    def _send(self, out: Outgoing) -> None:
        """Send messages; one that goes to several connections is encoded once."""
        last: Message | None = None
        frame = b""
        for number, message in out:
            connection = self._by_number.get(number)
            if connection is None or connection.is_closing:
                continue
            if message is not last:
                frame, last = encode(message), message
            if connection.backlog > MAX_QUEUE:
                self._report(f"A worker does not read its topics ({MAX_QUEUE:,} bytes wait)")
                connection.abort()
            else:
                connection.send_frame(frame)

    # -- time --------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Call `expire` when something is due."""
        now = self._loop.time()
        at = max(self._hub.next_due(), now + _MIN_PAUSE)
        if at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        self._timer_at = math.inf
        self._send(self._hub.expire(self._loop.time()))
        self._plan()
