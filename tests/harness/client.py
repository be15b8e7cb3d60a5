"""The bytes of a client: HTTP requests, WebSocket handshakes and frames."""

import struct

from tests import frames
from tests.frames import ServerFrame

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECT = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# The nonce and the answer of the example in RFC 6455 section 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
BAD_FRAME = frames.frame(0x3)  # RFC 6455 section 5.2: a reserved opcode
_REQUIRED = (
    "Host: test",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)


def handshake(*headers: str, target: str = "/", without: str = "-", method: str = "GET") -> bytes:
    """Return a WebSocket handshake with further headers.

    Args:
        without: The required headers that begin with this are left out.
    """
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [line for line in _REQUIRED if not line.startswith(without)]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def text_frame(payload: str) -> bytes:
    """Return a client's text message."""
    return frames.frame(frames.TEXT, payload)


def close_code(frame: ServerFrame) -> tuple[int, str]:
    """Return the code and the reason of a server's Close frame."""
    assert frame.opcode == frames.CLOSE, frame
    return struct.unpack("!H", frame.payload[:2])[0], frame.payload[2:].decode()
