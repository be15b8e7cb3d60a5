"""A TCP client that sends any bytes; each of its reads has a timeout."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests import frames
from tests.frames import ServerFrame
from tests.harness.client import close_code, handshake
from tests.harness.waiting import soon

PATIENCE = 60.0  # timeout in seconds for another process on a loaded machine


@dataclass(frozen=True, slots=True)
class Response:
    """A response: its head, and its body if it has a Content-Length."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def get(self, name: str) -> str | None:
        """Return the value of a header that occurs at most once; its name in lower case."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, values
        return values[0] if values else None


class TcpClient:
    """A TCP connection to a server. Each read fails after PATIENCE."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send bytes without waiting until the server reads them."""
        self.writer.write(data)

    async def drain(self) -> None:
        """Wait until nearly everything is sent."""
        await soon(self.writer.drain(), PATIENCE)

    def send_eof(self) -> None:
        """Close our half of the connection."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Abort the connection so that the server gets RST instead of FIN."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def read_exactly(self, size: int) -> bytes:
        """Return so many bytes."""
        return await soon(self.reader.readexactly(size), PATIENCE)

    async def read_until(self, separator: bytes) -> bytes:
        """Return all bytes up to the separator and the separator."""
        return await soon(self.reader.readuntil(separator), PATIENCE)

    async def read_rest(self) -> bytes:
        """Return all bytes until the server closes its half."""
        return await soon(self.reader.read(), PATIENCE)

    async def read_rest_or_reset(self) -> bytes:
        """Return all bytes until the server closes its half or resets the connection."""
        found = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := await soon(self.reader.read(65_536), PATIENCE):
                found += data
        return bytes(found)

    async def response(self) -> Response:
        """Return the next response."""
        lines = (await self.read_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        pairs = (line.partition(":") for line in lines[1:])
        headers = [(name.lower(), value.strip()) for name, _, value in pairs]
        found = Response(int(lines[0].split()[1]), headers)
        size = int(found.get("content-length") or 0)
        if not size:
            return found
        return Response(found.status, headers, await self.read_exactly(size))

    async def ask(self, data: bytes) -> Response:
        """Send the bytes of a request and return the response."""
        self.send(data)
        return await self.response()

    async def open(self, *headers: str, target: str = "/", rest: bytes = b"") -> Response:
        """Send a valid handshake and further bytes at once; return the response, a 101."""
        response = await self.ask(handshake(*headers, target=target) + rest)
        assert response.status == 101, response
        return response

    async def read_frame(self) -> ServerFrame:
        """Return the server's next frame."""
        head = await self.read_exactly(2)
        extended = {126: 2, 127: 8}.get(head[1], 0)
        head += await self.read_exactly(extended)
        length = int.from_bytes(head[2:], "big") if extended else head[1]
        (frame,) = frames.parsed(head + await self.read_exactly(length))
        return frame

    async def read_text(self) -> str:
        """Return the next text, in one uncompressed frame; answer the Pings before it."""
        while (frame := await self.read_frame()).opcode == frames.PING:
            self.send(frames.frame(frames.PONG, frame.payload))
        assert frame.opcode == frames.TEXT, frame
        assert frame.fin, frame
        assert not frame.rsv, frame
        return frame.payload.decode()

    async def read_close(self) -> tuple[int, str]:
        """Return the code and the reason of the server's Close, which must be its next frame."""
        return close_code(await self.read_frame())

    async def read_close_code(self) -> int:
        """Return the code of the server's Close; skip the frames before it."""
        while (frame := await self.read_frame()).opcode != frames.CLOSE:
            pass
        return close_code(frame)[0]

    async def echoes(self, text: str = "still here") -> None:
        """Check that the WebSocket still echoes."""
        self.send(frames.frame(frames.TEXT, text))
        assert await self.read_text() == text


@contextlib.asynccontextmanager
async def connect_tcp(
    port: int, host: str = "127.0.0.1", *, context: ssl.SSLContext | None = None
) -> AsyncIterator[TcpClient]:
    """Connect a client; close the connection at the end, abort it if the test fails.

    context: for a connection with TLS.
    """
    reader, writer = await soon(asyncio.open_connection(host, port, ssl=context), PATIENCE)
    try:
        yield TcpClient(reader, writer)
    except BaseException:
        writer.transport.abort()
        raise
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await soon(writer.wait_closed(), PATIENCE)
