"""A connection in memory with a clock turned by hand, so that no deadline's test has to wait."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from wsgate.config import Config
from wsgate.server.deadlines import TICK
from wsgate.server.listener import Listener
from wsgate.server.worker import Worker
from wsgate.types import App

_PATIENCE = 5.0  # real seconds after which what a test waits for will not come


class ManualClock:
    """A time in seconds that moves only when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class MemoryTransport(asyncio.Transport):
    """The server's end of a connection in memory; its client is at the other."""

    def __init__(self, client: "MemoryClient") -> None:
        super().__init__({"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8_000)})
        self._client = client
        self._protocol: asyncio.BaseProtocol | None = None
        self._unread = bytearray()  # written while the client does not read
        self._high, self._low = 65_536, 16_384
        self._is_shut = False
        self._closing = False
        self._eof = False  # the server's half is closed, or will be behind what is not read yet
        self.is_paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set who is told of what comes."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who is told of what comes."""
        assert self._protocol is not None  # connect sets it before anything comes
        return self._protocol

    # -- the server's side -----------------------------------------------------------------------

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """Send to the client, or keep it while the client does not read."""
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")  # as asyncio's does
        if self._closing:
            return
        self._unread += data
        self._flush()
        if len(self._unread) > self._high and not self._is_shut:
            self._is_shut = True
            self.get_protocol().pause_writing()

    def _flush(self) -> None:
        if self._client.reads:
            self._client.take(bytes(self._unread))
            self._unread.clear()
        if self._eof and not self._unread:
            self._client.end()
        if self._is_shut and len(self._unread) <= self._low:
            self._is_shut = False
            self.get_protocol().resume_writing()

    def flush(self) -> None:
        """Deliver what was kept: the client reads again."""
        self._flush()
        if self._closing and not self._unread:
            self._end()

    def flush_some(self, count: int) -> None:
        """Deliver the first bytes of what was kept, and keep the rest."""
        self._client.take(bytes(self._unread[:count]))
        del self._unread[:count]
        self._flush()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks."""
        self._high = 65_536 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the client has not read."""
        return len(self._unread)

    def can_write_eof(self) -> bool:
        """Say that half of the connection can be closed."""
        return True

    def write_eof(self) -> None:
        """Close the server's half once the client has read all."""
        self._eof = True
        self._flush()

    def pause_reading(self) -> None:
        """Take nothing from the client."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Take what the client has sent meanwhile."""
        self.is_paused = False
        asyncio.get_running_loop().call_soon(self._client.deliver)

    def is_closing(self) -> bool:
        """Tell whether the connection ends."""
        return self._closing

    def close(self) -> None:
        """End the connection once the client has read all."""
        if not self._closing:
            self._closing = True
            if not self._unread:
                self._end()

    def abort(self) -> None:
        """End the connection now."""
        self._closing = True
        self._unread.clear()
        self._end()

    def _end(self) -> None:
        asyncio.get_running_loop().call_soon(self._client.lose)


class MemoryClient:
    """The client of a connection in memory.

    received: all that the server has sent. is_ended: the server has closed its half, or all of it.
    reads: set False, the server's bytes stay in its write buffer. clock, connection: the server's.
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
        self._has_eof = False  # the client's half is closed, and the server is yet to be told
        self._changed = asyncio.Event()
        self.connection = Listener(worker, None).connection()
        self.transport.set_protocol(self.connection)
        self.connection.connection_made(self.transport)

    # -- what a test does ------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send bytes; while the server has paused reading, they wait as in a socket's buffer."""
        self._outbox += data
        self.deliver()

    def eof(self) -> None:
        """Close the client's half behind what it has sent."""
        self._has_eof = True
        self.deliver()

    def drop(self) -> None:
        """Break the connection, as a reset does."""
        self.transport.abort()

    def stall(self) -> None:
        """Stop reading."""
        self.reads = False

    def read_on(self) -> None:
        """Read again, what was kept first."""
        self.reads = True
        self.transport.flush()

    def read_some(self, count: int) -> None:
        """Read so many bytes of what was kept, and then stop again."""
        self.transport.flush_some(count)

    async def advance(self, seconds: float) -> None:
        """Turn the clock, with the server looking at its deadlines all the way."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + TICK)
            while not self.worker.tick():
                pass
            await asyncio.sleep(0)

    async def until(self, wanted: bytes) -> bytes:
        """Wait until the server has sent `wanted`; take all up to its end."""
        await self._wait_for(lambda: wanted in self.received)
        return self._taken(self.received.index(wanted) + len(wanted))

    async def exactly(self, count: int) -> bytes:
        """Wait for so many bytes and take them."""
        await self._wait_for(lambda: len(self.received) >= count)
        return self._taken(count)

    async def ended(self) -> bytes:
        """Wait until the server has closed its half or broken off; take what came before."""
        await self._wait_for(lambda: self.is_ended)
        return self._taken(len(self.received))

    def _taken(self, count: int) -> bytes:
        data = bytes(self.received[:count])
        del self.received[:count]
        return data

    async def _wait_for(self, holds: Any) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"it does not come; received: {bytes(self.received)!r}") from None

    # -- what the transport tells ----------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Take bytes of the server."""
        self.received += data
        self._changed.set()

    def deliver(self) -> None:
        """Hand the server what it has not taken yet, unless it has paused or closed."""
        if self._outbox and self._is_taken_from:
            data, self._outbox = bytes(self._outbox), bytearray()
            self.connection.data_received(data)
        if self._has_eof and self._is_taken_from:
            self._has_eof = False
            self.connection.eof_received()

    @property
    def _is_taken_from(self) -> bool:
        return not (self.transport.is_paused or self.transport.is_closing() or self.is_lost)

    def end(self) -> None:
        """Take the server's half-close."""
        self.is_ended = True
        self._changed.set()

    def lose(self) -> None:
        """Take the connection's end, and tell the server's side of it."""
        if not self.is_lost:
            self.is_lost = True
            self.connection.connection_lost(None)
            self.end()


@contextlib.asynccontextmanager
async def connect(app: App, **options: Any) -> AsyncIterator[MemoryClient]:
    """Connect a client in memory to an app; on leaving, both are brought to their end.

    options: those of `wsgate.Config`. The app's lifespan is not run.
    """
    clock = ManualClock()
    worker = Worker(app, Config(**options), clock)
    client = MemoryClient(worker, clock)
    try:
        yield client
    finally:
        client.drop()
        for task in list(worker.tasks):
            task.cancel()
        if worker.tasks:
            await asyncio.wait(list(worker.tasks), timeout=_PATIENCE)
        await asyncio.sleep(0)
