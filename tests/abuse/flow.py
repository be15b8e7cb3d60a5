"""What the tests of liveness and floods share: a socket that nobody reads, and what the app says.

The streams of the harness read ahead; here not a byte leaves the kernel before a test asks for it.
"""

import asyncio
import contextlib
import math
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests import frames
from tests.abuse.harness import Target, targeted
from tests.frames import ServerFrame
from tests.harness.client import handshake
from tests.harness.tcp import PATIENCE
from tests.harness.waiting import soon

APP = "tests.apps.abuse_flow:app"
WINDOW = 4_096  # bytes that the kernel is to keep for a client that does not read
SEGMENT = (
    1_000  # bytes of a TCP segment to it: with small ones, the server's kernel keeps less, too
)


@dataclass(frozen=True, slots=True)
class Told:
    """What the app knows of its calls of one name.

    begun, ended: calls. received: messages. most_sent: messages that one call has sent, at most.
    codes: of the disconnects, with their counts. again: calls that had the same disconnect again.
    """

    begun: int
    ended: int
    received: int
    most_sent: int
    codes: dict[int, int]
    again: int


async def told(target: Target, what: str, name: str, count: int) -> Told:
    """Wait until the app has so much of a name (see tests/apps/abuse_flow.py)."""
    found = {
        key: int(value) for key, value in (await target.ask(f"/{what}/{name}/{count}")).items()
    }
    codes = {int(key): found.pop(key) for key in list(found) if key.isdigit()}
    return Told(**found, codes=codes)


class Socket:
    """A client that reads when it is told to, and no byte earlier."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()

    async def send(self, data: bytes) -> None:
        """Send bytes; the kernel has them all behind it."""
        await soon(self._loop.sock_sendall(self.sock, data), PATIENCE)

    async def _more(self) -> None:
        data = await soon(self._loop.sock_recv(self.sock, 262_144), PATIENCE)
        if not data:
            raise EOFError
        self._read += data

    async def read_head(self) -> int:
        """Return the status of the answer; its body, if any, is left to `read_end`."""
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
        """Return the next frame of a kind, whatever comes before it."""
        while (frame := await self.read_frame()).opcode != opcode:
            pass
        return frame

    async def read_end(self) -> None:
        """Read and throw away until the server ends the connection, by a reset or not."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                await self._more()
                self._read.clear()

    def reset(self) -> None:
        """Break off with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


async def connected(target: Target, *, window: int = 0, source: str = "127.0.0.1") -> Socket:
    """Connect. window: bytes that the kernel keeps for us. source: our address."""
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
    """Connect, as `connected`; closed behind it."""
    client = await connected(target, window=window, source=source)
    try:
        yield client
    finally:
        client.sock.close()


@contextlib.asynccontextmanager
async def opened(target: Target, path: str, *, window: int = 0) -> AsyncIterator[Socket]:
    """Open a WebSocket; closed behind it."""
    async with connecting(target, window=window) as client:
        await client.send(handshake(target=path))
        assert await client.read_head() == 101
        yield client


@contextlib.asynccontextmanager
async def serving(loop: str, *options: str, hasty: bool = False) -> AsyncIterator[Target]:
    """Run a server of its own for one test, looked at behind it.

    hasty: with what no option shortens shortened, too.
    """
    app = ("tests.apps.abuse_flow:hasty", "--factory") if hasty else (APP,)
    async with targeted(loop, *app[1:], *options, app=app[0]) as target:
        yield target
        await target.calm()


def percentile(times: list[float], share: float) -> float:
    """Return the time below which a share of them lies."""
    return sorted(times)[math.ceil(len(times) * share) - 1]
