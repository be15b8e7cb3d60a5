"""Helpers of the liveness and flood tests: a socket without read-ahead, and the app's counts.

The streams of the harness read ahead; `Socket` reads from the kernel only when a test asks for it.
"""

import asyncio
import contextlib
import math
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from tests import frames
from tests.abuse.harness import Target, run_target
from tests.frames import ServerFrame
from tests.harness.client import handshake
from tests.harness.tcp import PATIENCE
from tests.harness.waiting import pause, soon

APP = "tests.apps.abuse_flow:app"
WINDOW = 4_096  # bytes of receive buffer of a client that does not read
SEGMENT = 1_000  # bytes of a TCP segment to it: small ones also keep the send buffer small


@dataclass(frozen=True, slots=True)
class Counts:
    """What the app has counted in its calls of one name.

    started, ended: calls. received: messages. max_sent: maximum number of messages that one call
    has sent. codes: count of disconnects for each code. repeated: calls whose second disconnect was
    equal to the first.
    """

    started: int
    ended: int
    received: int
    max_sent: int
    codes: dict[int, int]
    repeated: int


async def wait_for_calls(target: Target, what: str, name: str, count: int) -> Counts:
    """Wait until `count` calls of a name have "started" or "ended", or "sent" that many messages.

    See tests/apps/abuse_flow.py.
    """
    found = {
        key: int(value) for key, value in (await target.ask(f"/{what}/{name}/{count}")).items()
    }
    codes = {int(key): found.pop(key) for key in list(found) if key.isdigit()}
    return Counts(**found, codes=codes)


class Socket:
    """A client that reads only when a test asks for it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()

    async def send(self, data: bytes) -> None:
        """Send bytes; return when the kernel has all of them."""
        await soon(self._loop.sock_sendall(self.sock, data), PATIENCE)

    async def read(self, size: int = 262_144) -> bytes:
        """Return at least one byte of what arrives next; raises EOFError at the end."""
        data = await soon(self._loop.sock_recv(self.sock, size), PATIENCE)
        if not data:
            raise EOFError
        return data

    async def _more(self) -> None:
        self._read += await self.read()

    async def read_head(self) -> int:
        """Return the status of the response; its body, if any, is left to `read_end`."""
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            await self._more()
        status = int(self._read.split(b" ", 2)[1])
        del self._read[: end + 4]
        return status

    async def _exactly(self, count: int) -> bytes:
        while len(self._read) < count:
            await self._more()
        found = bytes(self._read[:count])
        del self._read[:count]
        return found

    async def read_frame(self) -> ServerFrame:
        """Return the server's next frame."""
        head = await self._exactly(2)
        extended = {126: 2, 127: 8}.get(head[1], 0)
        head += await self._exactly(extended)
        length = int.from_bytes(head[2:], "big") if extended else head[1]
        (frame,) = frames.parsed(head + await self._exactly(length))
        return frame

    async def read_until(self, opcode: int) -> ServerFrame:
        """Return the next frame with this opcode; skip frames before it."""
        while (frame := await self.read_frame()).opcode != opcode:
            pass
        return frame

    async def read_end(self) -> None:
        """Read and discard until the server ends the connection, with or without a reset."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                await self._more()
                self._read.clear()

    def reset(self) -> None:
        """Close with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


async def connected(target: Target, *, window: int = 0, source: str = "127.0.0.1") -> Socket:
    """Connect. window: size of the receive buffer in bytes. source: the local address."""
    sock = socket.socket()
    try:
        sock.setblocking(False)
        if window:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        sock.bind((source, 0))
        address = ("127.0.0.1", target.process.port)
        await soon(asyncio.get_running_loop().sock_connect(sock, address), PATIENCE)
    except BaseException:
        sock.close()
        raise
    return Socket(sock)


@contextlib.asynccontextmanager
async def connecting(
    target: Target, *, window: int = 0, source: str = "127.0.0.1"
) -> AsyncIterator[Socket]:
    """Connect as `connected`; close at the end."""
    client = await connected(target, window=window, source=source)
    try:
        yield client
    finally:
        client.sock.close()


@contextlib.asynccontextmanager
async def opened(target: Target, path: str, *, window: int = 0) -> AsyncIterator[Socket]:
    """Open a WebSocket; close TCP at the end."""
    async with connecting(target, window=window) as client:
        await client.send(handshake(target=path))
        assert await client.read_head() == 101
        yield client


@contextlib.asynccontextmanager
async def serving(loop: str, *options: str, hasty: bool = False) -> AsyncIterator[Target]:
    """Run a separate server for one test; check at the end that it has released everything.

    hasty: also shorten the timeouts that have no option.
    """
    app = ("tests.apps.abuse_flow:hasty", "--factory") if hasty else (APP,)
    async with run_target(loop, *app[1:], *options, app=app[0]) as target:
        yield target
        await target.check_released()


async def send_to_the_end(target: Target, data: bytes) -> None:
    """Send bytes; wait until the server closes the connection."""
    async with connecting(target) as client:
        with contextlib.suppress(ConnectionError):
            await client.send(data)
        await client.read_end()


async def flood(target: Target, data: bytes, clients: int) -> None:
    """Send the same from many clients at once; three times, one after another."""
    for _ in range(3):
        await asyncio.gather(*(send_to_the_end(target, data) for _ in range(clients)))


async def drip_to_the_end(target: Target, data: bytes) -> None:
    """Send five bytes a second until the server closes the connection."""
    async with connecting(target) as client:
        end = asyncio.ensure_future(client.read_end())
        for at in range(len(data)):
            if not end.done():
                with contextlib.suppress(ConnectionError):
                    await client.send(data[at : at + 1])
                await asyncio.wait([end], timeout=0.2)
        await end


@contextlib.asynccontextmanager
async def others_served(target: Target) -> AsyncIterator[list[float]]:
    """Connect well-behaved clients inside the context, one after another.

    Yields the seconds that each echo took; at the end there is at least one.
    """
    times: list[float] = []
    is_over = asyncio.Event()

    async def echo() -> None:
        while not (times and is_over.is_set()):
            times.append(await target.echo())
            await pause(0.05)

    echoes = asyncio.ensure_future(echo())
    try:
        yield times
    finally:
        is_over.set()
        await echoes


@contextlib.contextmanager
def throttled_log(target: Target) -> Iterator[None]:
    """Check at the end that the log has each line at most once a second, whatever its numbers."""
    start, began = len(target.process.log), time.monotonic()
    yield
    allowed = time.monotonic() - began + 1
    lines = Counter(re.sub(r"\d+", "N", line) for line in target.process.log[start:])
    assert max(lines.values(), default=0) <= allowed, lines


def percentile(times: list[float], share: float) -> float:
    """Return the percentile of times. share: 0.99 for the 99th."""
    return sorted(times)[math.ceil(len(times) * share) - 1]
