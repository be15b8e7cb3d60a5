"""Writes the seed corpus: python -m fuzz.seeds.

The files are committed. Inputs that found a fault can be added to them by hand.
"""

import base64
import zlib
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
MASK = b"\x12\x34\x56\x78"
KEY = base64.b64encode(bytes(16))

HTTP = {
    "get": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "pipelined": b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2?q HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "length": b"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;x=y\r\nhello\r\n0\r\nT: v\r\n\r\n",
    "absolute": b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "options": b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "ambiguous": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, websocket\r\nConnection: x\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + KEY
    + b"\r\n\r\n\x81",
}


def frame(first: int, payload: bytes) -> bytes:
    """Return a masked frame. first: its first octet (FIN, RSV and opcode)."""
    masked = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))
    length = len(payload)
    if length < 126:  # noqa: PLR2004  # RFC 6455 section 5.2
        return bytes((first, 0x80 | length)) + MASK + masked
    return bytes((first, 0xFE)) + length.to_bytes(2, "big") + MASK + masked


def compress(data: bytes) -> bytes:
    """Return the payload of a compressed message (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


FRAMES = {
    "text": frame(0x81, "żółw 🐢".encode()),
    "binary": frame(0x82, bytes(200)),
    "fragments": frame(0x01, b"a\xf0\x9f") + frame(0x89, b"ping") + frame(0x80, b"\x90\xa2"),
    "compressed": frame(0xC1, compress(b"hello hello hello")),
    "compressed-fragments": frame(0x41, compress(b"x" * 99)[:4])
    + frame(0x89, b"")
    + frame(0x80, compress(b"x" * 99)[4:]),
    "bomb": frame(0xC2, compress(bytes(100_000))),
    "final-block": frame(0xC1, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),
    "close": frame(0x88, b"\x03\xe8bye"),
    "bad-utf8": frame(0x81, b"\xed\xa0\x80"),
    "reserved": frame(0xB3, b""),
    "unmasked": b"\x81\x01a",
    "not-minimal": b"\x81\xfe\x00\x01" + MASK + b"s",
}


def main() -> None:
    """Write the seeds of all targets."""
    for name, data in HTTP.items():
        _write("http", name, b"\x00\x07" + data)
    for name, data in FRAMES.items():
        for options in (0, 1, 6):
            _write("codec", f"{name}-{options}", bytes((options, 5)) + data)
        steps = b"".join(b"\x1f" + data[i : i + 31] for i in range(0, len(data), 31))
        _write("session", name, b"\x00" + steps + b"\x04\x06")


def _write(target: str, name: str, data: bytes) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
