"""A TCP proxy that can be cut, or moved to another server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Forwarder:
    """Forwards TCP connections to a port, as an address that moves to another server does.

    Attributes:
        target: The port; 0 for none, as in a tunnel.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, in both directions."""
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, forth}
        await asyncio.gather(self._copy(reader, forth), self._copy(back, writer))
        self._writers -= {writer, forth}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        writer.close()

    def move(self, target: int) -> None:
        """Forward to another port; all connections end."""
        self.target = target
        for writer in self._writers:
            writer.close()


@contextlib.asynccontextmanager
async def forwarder(target: int) -> AsyncIterator[tuple[Forwarder, str]]:
    """Run a forwarder; yield it and its address: host and port."""
    one = Forwarder(target)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    try:
        yield one, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        one.move(0)
        await server.wait_closed()
