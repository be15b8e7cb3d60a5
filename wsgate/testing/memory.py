"""A connection in memory and a clock that the test sets, so that tests of timeouts do not wait."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from wsgate.config import Config
from wsgate.server.connection import Connection
from wsgate.server.deadlines import TICK
from wsgate.server.listener import Listener
from wsgate.server.worker import Worker
from wsgate.types import App

_CLIENT = "client"  # the transport's extra information that is its client
_TIMEOUT = 5.0  # seconds of real time after which a test stops waiting and fails


class ManualClock:
    """A clock that only advances when a test changes `now`.

    Attributes:
        now: the time in seconds.
    """

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class MemoryTransport(asyncio.Transport):
    """The server's end of a connection to a `MemoryClient`."""

    def __init__(self, client: "MemoryClient") -> None:
        super().__init__(
            {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8_000), _CLIENT: client}
        )
        self._client = client
        self._protocol: asyncio.Protocol | None = None
        self._unread = bytearray()  # written by the server, not read by the client yet
        self._high, self._low = 65_536, 16_384
        self._is_writing_paused = False
        self._closing = False
        self._eof = False  # the server's half closes after what the client has not read yet
        self.is_paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol that receives data and events."""
        assert isinstance(protocol, asyncio.Protocol)  # the server has no other
        self._protocol = protocol

    def get_protocol(self) -> asyncio.Protocol:
        """Return the protocol that receives data and events."""
        assert self._protocol is not None  # MemoryClient sets it at once
        return self._protocol

    # -- called by the server ---------------------------------------------------------------------

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """Send data to the client; buffer it while the client does not read."""
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")  # as asyncio's does
        if self._closing:
            return
        self._unread += data
        self._flush()
        if len(self._unread) > self._high and not self._is_writing_paused:
            self._is_writing_paused = True
            self.get_protocol().pause_writing()

    def _flush(self) -> None:
        if self._client.reads:
            self._client.take(bytes(self._unread))
            self._unread.clear()
        if self._eof and not self._unread:
            self._client.end()
        if self._is_writing_paused and len(self._unread) <= self._low:
            self._is_writing_paused = False
            self.get_protocol().resume_writing()

    def flush(self) -> None:
        """Deliver all buffered data."""
        self._flush()
        if self._closing and not self._unread:
            self._end()

    def flush_some(self, count: int) -> None:
        """Deliver the first `count` bytes of the buffered data."""
        self._client.take(bytes(self._unread[:count]))
        del self._unread[:count]
        self._flush()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the sizes in bytes at which the server's writing is paused and resumed."""
        self._high = 65_536 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the client has not read."""
        return len(self._unread)

    def can_write_eof(self) -> bool:
        """Return True: the connection can be half-closed."""
        return True

    def write_eof(self) -> None:
        """Close the server's half after all data is read."""
        self._eof = True
        self._flush()

    def pause_reading(self) -> None:
        """Stop receiving from the client."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Deliver the bytes that the client has sent, and deliver later ones at once."""
        self.is_paused = False
        asyncio.get_running_loop().call_soon(self._client.deliver)

    def is_closing(self) -> bool:
        """Return whether the connection is being closed or is closed."""
        return self._closing

    def close(self) -> None:
        """Close the connection after all data is read."""
        if not self._closing:
            self._closing = True
            if not self._unread:
                self._end()

    def abort(self) -> None:
        """Close the connection now; buffered data is lost."""
        self._closing = True
        self._unread.clear()
        self._end()

    def _end(self) -> None:
        asyncio.get_running_loop().call_soon(self._client.lose)


class MemoryClient:
    """The client of a connection in memory.

    Attributes:
        received: the bytes that the server has sent and no method has returned yet.
        is_ended: the server has closed its half or the whole connection.
        is_lost: the whole connection is closed.
        reads: while it is False, the server's bytes stay in its write buffer.
        clock: the server's clock.
        connection, worker: internals of the server.
    """

    def __init__(self, worker: Worker, clock: ManualClock) -> None:
        self.worker = worker
        self.clock = clock
        self.received = bytearray()
        self.is_ended = False
        self.is_lost = False
        self.reads = True
        self.transport = MemoryTransport(self)
        self._outbox = bytearray()
        self._has_eof = False  # the client has closed its half; not delivered to the server yet
        self._changed = asyncio.Event()
        protocol = Listener(worker, None).protocol()
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        self._connection = self._find_connection()

    @property
    def connection(self) -> Connection:
        """The server's connection, once a PROXY header has arrived if one is expected."""
        self._connection = self._connection or self._find_connection()
        assert self._connection is not None
        return self._connection

    def _find_connection(self) -> Connection | None:
        """Return the connection over the transport, or over the TLS of the transport."""
        for one in self.worker.connections:
            if isinstance(one, Connection) and one.transport.get_extra_info(_CLIENT) is self:
                return one
        return None

    # -- called by a test -------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send bytes; while the server has paused reading, they wait as in a socket's buffer."""
        self._outbox += data
        self.deliver()

    def eof(self) -> None:
        """Close the client's half after the bytes it has sent."""
        self._has_eof = True
        self.deliver()

    def drop(self) -> None:
        """Break the connection, as a TCP reset does."""
        self.transport.abort()

    def stall(self) -> None:
        """Stop reading, so that the server's write buffer fills."""
        self.reads = False

    def read_on(self) -> None:
        """Read all that is buffered, and continue to read."""
        self.reads = True
        self.transport.flush()

    def read_some(self, count: int) -> None:
        """Read `count` bytes of what is buffered, and no more."""
        self.transport.flush_some(count)

    async def advance(self, seconds: float) -> None:
        """Move the clock forward; the server checks its timeouts as it would in that time.

        Args:
            seconds: by how much.
        """
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + TICK)
            while not self.worker.tick():
                pass
            await asyncio.sleep(0)

    async def until(self, wanted: bytes) -> bytes:
        """Wait until the server has sent `wanted`; remove all up to its end from `received`.

        Returns:
            The removed bytes, `wanted` included.

        Raises:
            AssertionError: it was not sent within 5 seconds.
        """
        await self._wait_for(lambda: wanted in self.received)
        return self._take(self.received.index(wanted) + len(wanted))

    async def exactly(self, count: int) -> bytes:
        """Wait for `count` bytes; remove them from `received` and return them.

        Raises:
            AssertionError: they were not sent within 5 seconds.
        """
        await self._wait_for(lambda: len(self.received) >= count)
        return self._take(count)

    async def ended(self) -> bytes:
        """Wait until the server has closed its half or the connection.

        Returns:
            All bytes left in `received`, which is emptied.

        Raises:
            AssertionError: the server did not close within 5 seconds.
        """
        await self._wait_for(lambda: self.is_ended)
        return self._take(len(self.received))

    def _take(self, count: int) -> bytes:
        data = bytes(self.received[:count])
        del self.received[:count]
        return data

    async def _wait_for(self, holds: Any) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"timeout; received: {bytes(self.received)!r}") from None

    # -- called by the transport ------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Receive bytes from the server."""
        self.received += data
        self._changed.set()

    def deliver(self) -> None:
        """Pass the server what the client has sent, unless it has paused reading or closed."""
        if self._outbox and self._can_deliver:
            data, self._outbox = bytes(self._outbox), bytearray()
            self.transport.get_protocol().data_received(data)
        if self._has_eof and self._can_deliver:
            self._has_eof = False
            self.transport.get_protocol().eof_received()

    @property
    def _can_deliver(self) -> bool:
        return not (self.transport.is_paused or self.transport.is_closing() or self.is_lost)

    def end(self) -> None:
        """Handle the server's half-close."""
        self.is_ended = True
        self._changed.set()

    def lose(self) -> None:
        """Handle the end of the connection, and notify the server's protocol."""
        if not self.is_lost:
            self.is_lost = True
            self.transport.get_protocol().connection_lost(None)
            self.end()


@contextlib.asynccontextmanager
async def connect(app: App, **options: Any) -> AsyncIterator[MemoryClient]:
    """Connect a client in memory to an app.

    When the context ends, the connection is dropped and calls of the app are cancelled.

    Args:
        app: the ASGI app; its lifespan is not run.
        options: those of `wsgate.Config`. With a certificate, the client's bytes are those of TLS.

    Yields:
        The client.

    Raises:
        ConfigError: a setting cannot be used.
    """
    clock = ManualClock()
    worker = Worker(app, Config(**options), clock)
    if worker.certificates is not None:
        worker.certificates.load()
    await worker.topics.start()
    client = MemoryClient(worker, clock)
    try:
        yield client
    finally:
        client.drop()
        for task in list(worker.tasks):
            task.cancel()
        if worker.tasks:
            await asyncio.wait(list(worker.tasks), timeout=_TIMEOUT)
        await asyncio.sleep(0)
        await worker.topics.stop()
