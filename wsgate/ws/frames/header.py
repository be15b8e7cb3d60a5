"""The header of a frame: its fields, read and written (RFC 6455 section 5.2).

`read_header` is the only header reader in Python, except for wsproto's own. `read_header` in
_messages.c is its compiled twin.
"""

from typing import NamedTuple

# The first octet: FIN, three reserved bits, four bits of opcode.
FIN = 0x80
RSV1 = 0x40  # RFC 7692 section 6: the message is compressed
CONTROL = 0x08  # set in the opcodes of control frames
# First octets of frames that are a whole message, and of control frames.
TEXT = FIN | 0x1
BINARY = FIN | 0x2
CLOSE = FIN | 0x8
PING = FIN | 0x9
PONG = FIN | 0xA
COMPRESSED_TEXT = TEXT | RSV1
COMPRESSED_BINARY = BINARY | RSV1
# The second octet: the mask bit, seven bits of length.
MASKED = 0x80

MASK_SIZE = 4  # octets of a masking key
MAX_HEADER_SIZE = 14  # octets: two, eight of extended length, the masking key
MAX_CONTROL_SIZE = 125  # bytes of a control frame's payload: RFC 6455 section 5.5

_TWO_OCTETS = 126  # the short length that announces an extended one of two octets
_EIGHT_OCTETS = 127
_MIN_IN_EIGHT = 65_536


class FrameHeader(NamedTuple):
    """The header of one frame.

    first: the first octet. length: bytes of the payload. payload_start: index of the payload in
    the data that was read; the masking key, if any, is the four octets before it. is_minimal: the
    length is written in the fewest octets; RFC 6455 section 5.2: "the minimal number of bytes MUST
    be used to encode the length".
    """

    first: int
    is_masked: bool
    length: int
    payload_start: int
    is_minimal: bool


def read_header(data: bytes, start: int) -> FrameHeader | None:
    """Return the header at `start`, None while octets of its length are missing.

    The masking key may be incomplete: `payload_start` may be beyond the end of `data`. Most errors
    are in the octets before it, and must be reported as soon as these have arrived.
    """
    size = len(data) - start
    if size < 2:  # noqa: PLR2004  # the two octets that every header has
        return None
    first, second = data[start], data[start + 1]
    is_masked = second >= MASKED
    length = second & 0x7F
    end, is_minimal = start + 2, True
    if length >= _TWO_OCTETS:
        octets, minimum = (2, _TWO_OCTETS) if length == _TWO_OCTETS else (8, _MIN_IN_EIGHT)
        if size < 2 + octets:
            return None
        length = int.from_bytes(data[end : end + octets], "big")
        end, is_minimal = end + octets, length >= minimum
    return FrameHeader(first, is_masked, length, end + MASK_SIZE * is_masked, is_minimal)


def write_header(first: int, length: int) -> bytes:
    """Return the header of a frame from the server, which is never masked (section 5.1)."""
    if length < _TWO_OCTETS:
        return bytes((first, length))
    if length < _MIN_IN_EIGHT:
        return bytes((first, _TWO_OCTETS)) + length.to_bytes(2, "big")
    return bytes((first, _EIGHT_OCTETS)) + length.to_bytes(8, "big")
