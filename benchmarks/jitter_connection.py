"""The client's end of a WebSocket, whose network can be lost: for the load "jitter"."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import cast

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101"
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A  # whole messages
NO_MASK = bytes(4)  # a masking key of zeros
ANSWER_SECONDS = 15.0


class Connection(asyncio.Protocol):
    """The client's end of one WebSocket.

    Args:
        path: The path and the query.
        take: Called with each text.

    Attributes:
        ended: Set when the server or the network has ended it, with None or an exception.
        close_code: The code of the server's Close; 1006 without one.
    """

    transport: asyncio.Transport

    def __init__(self, path: str, take: Callable[[str], None]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._path = path
        self._take = take
        self._data = b""
        self._has_closed = False
        self.close_code = 1006

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(HANDSHAKE.format(path=self._path).encode())

    def data_received(self, data: bytes) -> None:
        """Take what is complete."""
        self._data += data
        if not self.opened.done() and not self._read_head():
            return
        while len(self._data) > 1 and len(self._data) >= (end := 2 + self._data[1]):
            opcode, payload = self._data[0], self._data[2:end]
            self._data = self._data[end:]
            self._take_frame(opcode, payload)

    def _read_head(self) -> bool:
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if end and head.startswith(SWITCHED):
            self._data = rest
            self.opened.set_result(None)
            return True
        if end:
            self.transport.abort()
        return False

    def _take_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._take(payload.decode())
        elif opcode == PING:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2]) or self.close_code
            if not self._has_closed:
                self._send(CLOSE, payload[:2])
            self.transport.close()
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        """Report the end."""
        del error
        self._end()

    def _end(self) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("no handshake"))
        if not self.ended.done():
            self.ended.set_result(None)

    def send(self, text: str) -> None:
        """Send a text."""
        self._send(TEXT, text.encode())

    def close(self, code: int) -> None:
        """Send a Close frame; the server answers with its own."""
        self._has_closed = True
        self._send(CLOSE, code.to_bytes(2))

    def _send(self, opcode: int, payload: bytes) -> None:
        self.transport.write(bytes((opcode, 0x80 | len(payload))) + NO_MASK + payload)

    def reset(self) -> None:
        """End it with RST."""
        self.forget()
        sock: socket.socket = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # it has ended at this moment
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def fall_silent(self) -> None:
        """Neither read nor write any more."""
        self.forget()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def forget(self) -> None:
        """Take no more texts."""
        self._take = lambda _: None


async def connect(
    port: int, path: str, take: Callable[[str], None], seconds: float = ANSWER_SECONDS
) -> Connection:
    """Open a WebSocket.

    Args:
        port: Of the server, on this machine.
        path: The path and the query.
        take: Called with each text.
        seconds: How long to wait for the answer.

    Raises:
        OSError: It is refused, or there is no answer.
    """
    loop = asyncio.get_running_loop()
    connection: Connection | None = None
    try:
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(
                lambda: Connection(path, take), "127.0.0.1", port
            )
            await connection.opened
    except BaseException:
        if connection is not None:
            connection.transport.abort()
        raise
    return connection
