"""Writes the seed corpus: python -m fuzz.seeds.

The files are committed. Inputs that found a fault can be added to them by hand.
"""

import base64
import zlib
from pathlib import Path

from fuzz.proxy_checks import NAMES
from wsgate.proxies.proxy_protocol import crc32c

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


def proxy_v2(command: int, family: int, block: bytes) -> bytes:
    """Return a header of version 2 of the PROXY protocol."""
    head = b"\r\n\r\n\x00\r\nQUIT\n" + bytes((command, family))
    return head + len(block).to_bytes(2, "big") + block


def proxy_v2_with_checksum(block: bytes) -> bytes:
    """Return a header of version 2 with a TLV of its checksum after the block."""
    header = proxy_v2(0x21, 0x11, block + b"\x03\x00\x04" + bytes(4))
    return header[:-4] + crc32c(header).to_bytes(4, "big")


IPV4 = bytes((192, 0, 2, 7, 198, 51, 100, 1)) + b"\xdc\x04\x01\xbb"
IPV6 = bytes.fromhex("20010db8" + "00" * 11 + "01") * 2 + b"\xdc\x04\x01\xbb"
MAPPED = bytes.fromhex("00" * 10 + "ffffc0000207") * 2 + b"\xdc\x04\x01\xbb"
UNIX = b"/client".ljust(108, b"\0") + b"/app".ljust(108, b"\0")
PROXY_HEADERS = {
    "v1": b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET",
    "v1-ipv6": b"PROXY TCP6 2001:db8::7 ::ffff:192.0.2.1 1 65535\r\n",
    "v1-unknown": b"PROXY UNKNOWN ffff:f...f:ffff 65535\r\n\x16\x03",
    "v1-port": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 0443\r\n",
    "v1-long": b"PROXY UNKNOWN " + bytes(91) + b"\r\n",
    "v2": proxy_v2(0x21, 0x11, IPV4) + b"GET",
    "v2-ipv6": proxy_v2(0x21, 0x21, IPV6),
    "v2-mapped": proxy_v2(0x21, 0x21, MAPPED),
    "v2-unix": proxy_v2(0x21, 0x31, UNIX),
    "v2-abstract": proxy_v2(0x21, 0x31, b"\0a".ljust(108, b"\0") + b"\0b".ljust(108, b"\0")),
    "v2-datagram": proxy_v2(0x21, 0x12, IPV4),
    "v2-local": proxy_v2(0x20, 0x00, b"\x04\x00\x01\x00"),
    "v2-unspecified": proxy_v2(0x21, 0x00, b"\x04\xff"),
    "v2-tls": proxy_v2(0x21, 0x11, IPV4 + b"\x20\x00\x0a\x01\0\0\0\0\x21\x00\x02v1"),
    "v2-checksum": proxy_v2_with_checksum(IPV4 + b"\x02\x00\x01a"),
    "v2-short-tlv": proxy_v2(0x21, 0x11, IPV4 + b"\x01\x00\x09h2"),
    "v2-long": proxy_v2(0x21, 0x11, IPV4)[:14] + b"\xff\xff",
}
# The first byte chooses what is trusted, and which values are read.
FORWARDED = {
    "for": (0, [("for", b"192.0.2.1, 127.0.0.1")]),
    "for-port": (1, [("for", b"[2001:db9::1]:80"), ("for", b"10.1.2.3:9")]),
    "for-mapped": (4, [("for", b"::ffff:192.0.2.1,::ffff:10.0.0.1"), ("proto", b"https,http")]),
    "hidden": (3, [("for", b"unknown, _a:_b"), ("host", b"a:8443"), ("port", b"443")]),
    "all": (5, [("for", b"1.2.3.4"), ("proto", b"wss"), ("host", b"a"), ("prefix", b"/a/b")]),
    "prefix": (4, [("prefix", b"/a/..;/%2e"), ("port", b"65536"), ("host", b"[::1]")]),
    "element": (0, [("", b'for="[2001:db8::1]:80";proto=https;host=a, for=127.0.0.1')]),
    "quoted": (4, [("", b'for="_a\\"b";HOST="a:1" , ,By=x'), ("", b"for=10.0.0.1 ; proto=http")]),
    "malformed": (3, [("", b'for="'), ("", b"for=1.2.3.4;for=1.2.3.4")]),
    "both": (3, [("proto", b"https"), ("", b"for=1.2.3.4;host=b")]),
    "everyone": (2, [("for", b"9.9.9.9, 8.8.8.8"), ("proto", b"https")]),
}


def forwarded_lines(headers: list[tuple[str, bytes]]) -> bytes:
    """Return headers as lines of an input. Their names: after X-Forwarded-, "" for Forwarded."""
    lines = []
    for name, value in headers:
        full = f"x-forwarded-{name}" if name else "forwarded"
        lines.append(bytes((NAMES.index(full.encode()),)) + value)
    return b"\n".join(lines)


def main() -> None:
    """Write the seeds of all targets."""
    for name, data in HTTP.items():
        _write("http", name, b"\x00\x07" + data)
    for name, data in FRAMES.items():
        for options in (0, 1, 6):
            _write("codec", f"{name}-{options}", bytes((options, 5)) + data)
        steps = b"".join(b"\x1f" + data[i : i + 31] for i in range(0, len(data), 31))
        _write("session", name, b"\x00" + steps + b"\x04\x06")
    for name, data in PROXY_HEADERS.items():
        _write("proxy_header", name, b"\x00\x07" + data)
    for name, (settings, headers) in FORWARDED.items():
        _write("forwarded", name, bytes((settings,)) + forwarded_lines(headers))


def _write(target: str, name: str, data: bytes) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
