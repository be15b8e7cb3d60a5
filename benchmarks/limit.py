"""The limit: the rate of a uvloop protocol in Python that does almost nothing.

    python -m benchmarks.limit PORT [--ping-interval SECONDS]      (or --fd FD)

It has no app, no task, no UTF-8 check and no limits. It accepts every offer, reads the length of a
frame, and sends the payload back unchanged (still masked) after a new header. It does less than a
server has to do, so docs/performance.md compares every server with it.
"""

import argparse
import asyncio
import itertools
import socket
from typing import ClassVar, cast

import uvloop

HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"  # for RFC 6455's example key
)
DEFLATE = (
    b"Sec-WebSocket-Extensions: permessage-deflate; "
    b"server_no_context_takeover; client_no_context_takeover\r\n"
)
# RFC 6455 section 5.2: this length code announces a length in the next two octets.
SHORT_LENGTH = 126  # 127 announces eight
CLOSE = 0x88
PING = b"\x89\x00"
TICK = 0.25  # seconds


class Limit(asyncio.Protocol):
    """Echoes the frames of one connection."""

    transport: asyncio.Transport
    is_open = False
    missing = 0  # bytes still to come of a frame that needs several reads; each is echoed at once

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer a request or a frame; the load generator sends one at a time."""
        if not self.is_open:
            self.answer_request(data)
            return
        if self.missing:
            self.missing -= len(data)
            self.transport.write(data)
            return
        code = data[1] & 127
        if code < SHORT_LENGTH:
            start, size = 6, code
            head = data[:1] + bytes((code,))
        elif code == SHORT_LENGTH:
            start, size = 8, int.from_bytes(data[2:4])
            head = data[:1] + b"\x7e" + data[2:4]
        else:
            start, size = 14, int.from_bytes(data[2:10])
            head = data[:1] + b"\x7f" + data[2:10]
        if len(data) < start + size:
            self.missing = start + size - len(data)
            self.transport.write(head + data[start:])
        elif data[0] == CLOSE:
            self.transport.write(b"\x88\x02\x03\xe8")
            self.transport.close()
        else:
            self.transport.write(head + data[start:])

    def answer_request(self, data: bytes) -> None:
        """Answer a handshake with 101 and any other request with 200."""
        if b"Upgrade: " not in data:
            self.transport.write(HELLO)
            return
        self.is_open = True
        deflate = DEFLATE if b"permessage-deflate" in data else b""
        self.transport.write(ACCEPT + deflate + b"\r\n")


class Pinging(Limit):
    """Also sends a Ping at each interval, and expects nothing but Pongs."""

    everyone: ClassVar[list["Pinging"]] = []

    def data_received(self, data: bytes) -> None:
        """Answer a request, or read a Pong."""
        if not self.is_open:
            self.answer_request(data)

    def answer_request(self, data: bytes) -> None:
        """Answer a handshake and send Pings from then on, or answer another request."""
        super().answer_request(data)
        if self.is_open:
            self.everyone.append(self)


async def ping_all(interval: float) -> None:
    """Send a Ping to each connection within an interval, to some of them at each tick."""
    ticks = round(interval / TICK)
    for tick in itertools.count():
        await asyncio.sleep(TICK)
        for connection in Pinging.everyone[tick % ticks :: ticks]:
            connection.transport.write(PING)


async def main() -> None:
    """Parse the arguments and serve until the process is killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int, nargs="?")
    parser.add_argument("--fd", type=int)
    parser.add_argument("--ping-interval", type=float)
    arguments = parser.parse_args()
    protocol = Pinging if arguments.ping_interval else Limit
    loop = asyncio.get_running_loop()
    if arguments.fd is not None:
        listener = socket.socket(fileno=arguments.fd)
        server = await loop.create_server(protocol, sock=listener, backlog=4096)
    else:
        server = await loop.create_server(protocol, "127.0.0.1", arguments.port, backlog=4096)
    if arguments.ping_interval:
        await ping_all(arguments.ping_interval)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
