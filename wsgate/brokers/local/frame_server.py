"""Accepts connections that carry messages, at a listening socket."""

import asyncio
import socket
from collections.abc import Callable

from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.topics.messages import Message

_SETUP_ITERATIONS = 3  # of the loop, in which asyncio sets up what it has accepted


class FrameServer:
    """Accepts connections at a socket.

    Args:
        on_start: Called with each new connection.
        on_message: Called with each message. It may raise WireError to end the connection.
        on_end: Called once when a connection has ended.
    """

    def __init__(
        self,
        on_start: Callable[[FrameConnection], object],
        on_message: Callable[[FrameConnection, Message], object],
        on_end: Callable[[FrameConnection], object],
    ) -> None:
        self._on_start = on_start
        self._on_message = on_message
        self._on_end = on_end
        self._connections: set[FrameConnection] = set()
        self._server: asyncio.Server | None = None
        self._is_stopped = False

    async def start(self, sock: socket.socket) -> None:
        """Accept connections at a socket that listens; it belongs to the server from now on."""
        loop = asyncio.get_running_loop()
        # In two steps: the first one does not suspend, so a cancellation loses no socket.
        self._server = await loop.create_unix_server(self._new, sock=sock, start_serving=False)
        await self._server.start_serving()

    async def stop(self) -> None:
        """Stop accepting, and abort all connections."""
        self._is_stopped = True
        if self._server is not None:
            await self._stop_accepting(self._server)
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # the transports end

    async def _stop_accepting(self, server: asyncio.Server) -> None:
        """Stop accepting, and wait until what was accepted are connections.

        asyncio sets up an accepted socket in a task, which fails and leaves the socket open if the
        server is closed meanwhile.
        """
        loop = asyncio.get_running_loop()
        if isinstance(loop, asyncio.SelectorEventLoop):  # uvloop sets them up at once
            for sock in server.sockets:
                loop.remove_reader(sock.fileno())
            for _ in range(_SETUP_ITERATIONS):
                await asyncio.sleep(0)

    def _new(self) -> FrameConnection:
        return FrameConnection(self._begin, self._on_message, self._end)

    def _begin(self, connection: FrameConnection) -> None:
        if self._is_stopped:
            connection.abort()
            return
        self._connections.add(connection)
        self._on_start(connection)

    def _end(self, connection: FrameConnection) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            self._on_end(connection)
