"""A TLS client that reads only when a test asks for it."""

import contextlib
import ssl
from collections.abc import AsyncIterator

from tests.abuse.flow import Socket, connecting
from tests.abuse.harness import Target
from tests.harness.tls import TlsClient


class Peer:
    """A TLS client that reads only when a test asks for it."""

    def __init__(self, socket: Socket, context: ssl.SSLContext) -> None:
        self.socket = socket
        self.tls = TlsClient(context)

    async def shake_hands(self) -> None:
        """Complete the handshake."""
        await self.socket.send(self.tls.output())
        while not self.tls.is_open:
            self.tls.receive(await self.socket.read())
            await self.socket.send(self.tls.output())

    async def send(self, data: bytes) -> None:
        """Send a plaintext."""
        await self.socket.send(self.tls.write(data))

    async def read(self) -> bytes:
        """Return at least one byte of plaintext; raises EOFError at the end."""
        while not self.tls.received:
            if self.tls.is_ended:
                raise EOFError
            self.tls.receive(await self.socket.read())
        data = bytes(self.tls.received)
        self.tls.received.clear()
        return data


@contextlib.asynccontextmanager
async def peer(server: Target, context: ssl.SSLContext, *, window: int = 0) -> AsyncIterator[Peer]:
    """Connect a client and complete its handshake; close TCP at the end."""
    async with connecting(server, window=window) as socket:
        found = Peer(socket, context)
        await found.shake_hands()
        yield found


@contextlib.asynccontextmanager
async def peers(
    server: Target, context: ssl.SSLContext, count: int, *, window: int = 0
) -> AsyncIterator[list[Peer]]:
    """Connect clients, as `peer`."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(peer(server, context, window=window))
            for _ in range(count)
        ]
