"""The limit: what a protocol in Python can reach on uvloop when it does next to nothing.

    python -m benchmarks.limit PORT      (or --fd FD)

It knows no app, no task, no UTF-8 and no limits. It agrees to whatever is offered, takes a frame's
length, and sends the payload back as it came, still masked, behind a new header. No protocol in
Python that does its work can be as fast; how near a server comes is what the ratios say.
"""

import argparse
import asyncio
import socket
from typing import cast

import uvloop

HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"  # of RFC 6455's example key
)
DEFLATE = (
    b"Sec-WebSocket-Extensions: permessage-deflate; "
    b"server_no_context_takeover; client_no_context_takeover\r\n"
)
SMALL, LARGE = 126, 127  # the codes of lengths in two and in eight octets
CLOSE = 0x88


class Limit(asyncio.Protocol):
    """A connection."""

    transport: asyncio.Transport
    is_open = False
    missing = 0  # bytes of a frame that comes in several reads: each goes back as it comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer a request, or a frame; the load generator sends one at a time."""
        if not self.is_open:
            self.request(data)
            return
        if self.missing:
            self.missing -= len(data)
            self.transport.write(data)
            return
        code = data[1] & 127
        if code < SMALL:
            start, size = 6, code
            head = data[:1] + bytes((code,))
        elif code == SMALL:
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

    def request(self, data: bytes) -> None:
        """Answer a request: a handshake with a 101, and all else with the greeting."""
        if b"Upgrade: " not in data:
            self.transport.write(HELLO)
            return
        self.is_open = True
        deflate = DEFLATE if b"permessage-deflate" in data else b""
        self.transport.write(ACCEPT + deflate + b"\r\n")


async def main() -> None:
    """Listen until the process is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int, nargs="?")
    parser.add_argument("--fd", type=int)
    arguments = parser.parse_args()
    loop = asyncio.get_running_loop()
    if arguments.fd is not None:
        listener = socket.socket(fileno=arguments.fd)
        server = await loop.create_server(Limit, sock=listener, backlog=4096)
    else:
        server = await loop.create_server(Limit, "127.0.0.1", arguments.port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
