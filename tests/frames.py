"""The other side of a WebSocket: client frames with every bit settable, server frames read.

Written from RFC 6455 section 5 and RFC 7692 section 7.2 without a line of wsgate or wsproto, so
that a mistake of theirs is not repeated here.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1, RSV2, RSV3 = 0b100, 0b010, 0b001
MASK = bytes.fromhex("37fa213d")  # the one of the examples in RFC 6455 section 5.7
TAIL = bytes.fromhex("0000ffff")


def frame(
    opcode: int,
    payload: str | bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    declared: int | None = None,
    length_octets: int | None = None,
) -> bytes:
    """Return a frame.

    mask: None for an unmasked frame. declared: the payload's length as the header declares it.
    length_octets: 0, 2 or 8 octets of extended length; the fewest that do without it.
    """
    payload = payload.encode() if isinstance(payload, str) else payload
    length = len(payload) if declared is None else declared
    if length_octets is None:
        length_octets = 0 if length < 126 else 2 if length < 65_536 else 8
    short = {0: length, 2: 126, 8: 127}[length_octets]
    head = bytes([fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short])
    extended = {0: b"", 2: struct.pack("!H", length & 0xFFFF), 8: struct.pack("!Q", length)}
    sent = payload if mask is None else mask + masked(payload, mask)
    return head + extended[length_octets] + sent


def masked(payload: bytes, mask: bytes) -> bytes:
    """Return the payload masked, or a masked one as it was (RFC 6455 section 5.3)."""
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return mixed.to_bytes(len(payload), "big")


def close(code: int | None = None, reason: str | bytes = b"") -> bytes:
    """Return a Close frame, without payload where there is no code."""
    reason = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def fragments(opcode: int, pieces: list[bytes], *, rsv: int = 0) -> list[bytes]:
    """Return one message in as many frames as there are pieces."""
    last = len(pieces) - 1
    return [
        frame(opcode if at == 0 else CONT, piece, fin=at == last, rsv=rsv if at == 0 else 0)
        for at, piece in enumerate(pieces)
    ]


class ServerFrame(NamedTuple):
    """A frame that came from a server."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def parsed(data: bytes) -> list[ServerFrame]:
    """Return the server's frames in `data`, which must be whole, unmasked and minimal in length."""
    found = []
    while data:
        first, length, data = data[0], data[1], data[2:]
        assert length < 128, "a server masks nothing"
        if length == 126:
            (length,), data = struct.unpack("!H", data[:2]), data[2:]
            assert length >= 126, "the length is not minimal"
        elif length == 127:
            (length,), data = struct.unpack("!Q", data[:8]), data[8:]
            assert length >= 65_536, "the length is not minimal"
        assert len(data) >= length, "the frame is not whole"
        payload, data = data[:length], data[length:]
        found.append(ServerFrame(first & 0xF, payload, first >= 128, first >> 4 & 0b111))
    return found


class Deflater:
    """A client's compressor; with `keep` its window is kept for the next message."""

    def __init__(self, *, keep: bool = False, bits: int = 15, level: int = 6) -> None:
        self._keep = keep
        self._bits = bits
        self._level = level
        self._zlib = self._new()

    def _new(self) -> "zlib._Compress":
        return zlib.compressobj(self._level, zlib.DEFLATED, -self._bits)

    def begin(self) -> None:
        """Begin a message."""
        if not self._keep:
            self._zlib = self._new()

    def add(self, piece: bytes, *, fin: bool) -> bytes:
        """Return a frame's payload that can be inflated at once."""
        out = self._zlib.compress(piece) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        assert out.endswith(TAIL)
        return out.removesuffix(TAIL) if fin else out

    def pieces(self, *pieces: bytes) -> list[bytes]:
        """Return the payloads of all frames of a message."""
        self.begin()
        last = len(pieces) - 1
        return [self.add(piece, fin=at == last) for at, piece in enumerate(pieces)]

    def whole(self, data: bytes) -> bytes:
        """Return the payload of a message in one frame."""
        return self.pieces(data)[0]


def deflated(data: bytes, *, bits: int = 15, level: int = 6) -> bytes:
    """Return a compressed payload that refers to no other; level 0 makes stored blocks."""
    return Deflater(bits=bits, level=level).whole(data)


class Inflater:
    """A client's decompressor; with `keep` its window is kept for the next message."""

    def __init__(self, *, keep: bool = False, bits: int = 15) -> None:
        self._keep = keep
        self._bits = bits
        self._zlib = zlib.decompressobj(-bits)

    def whole(self, payload: bytes) -> bytes:
        """Return the message of one frame's payload."""
        if not self._keep:
            self._zlib = zlib.decompressobj(-self._bits)
        return self._zlib.decompress(payload + TAIL)


def inflated(payload: bytes, *, bits: int = 15) -> bytes:
    """Return the message of a payload that refers to no other."""
    return Inflater(bits=bits).whole(payload)


def ways(data: bytes) -> Iterator[list[bytes]]:
    """Yield `data` whole, byte by byte and in odd pieces; in larger ones where it is long."""
    yield [data]
    for step in (1, 7) if len(data) < 4_096 else (997, 5_003):
        yield [data[at : at + step] for at in range(0, len(data), step)]
