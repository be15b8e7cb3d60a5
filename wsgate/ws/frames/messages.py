"""Whole frames of messages, read and written: the plain twin of _messages.c, which does the same.

A stranger's bytes run through these few functions, and nearly all the time that a message takes
outside the app: so they are the one compiled part of wsgate, where a compiler was found. The same
tests run over both.
Source: RFC 6455 sections 5.2 (framing) and 5.3 (masking).
"""

TEXT = 0x81  # FIN and the opcode
BINARY = 0x82
RSV1 = 0x40
COMPRESSED = (TEXT | RSV1, BINARY | RSV1)
_MASKED = 0x80
EXTENDED = {126: (2, 126), 127: (8, 65_536)}  # octets of such a length, and its least
_BEYOND = 1 << 64


def read_messages(data: bytes, start: int, limit: int, most: int) -> tuple[list[str | bytes], int]:
    """Return the messages that stand in `data` from `start` on, and where the reading stopped.

    That is in front of the first frame which is not whole, final, masked, text or binary without
    reserved bits, of at most `most` bytes, its length in the shortest form, and if text valid; or
    behind `limit` messages.
    """
    messages: list[str | bytes] = []
    end = len(data)
    while len(messages) < limit and end - start >= 6:  # noqa: PLR2004  # the shortest header
        first = data[start]
        if first not in (TEXT, BINARY) or data[start + 1] < _MASKED:
            break
        at, length = measure(data, start)
        if length > most or end - at < length:
            break
        payload = unmask(data[at : at + length], data[at - 4 : at])
        try:
            messages.append(payload.decode() if first == TEXT else payload)
        except UnicodeDecodeError:
            break
        start = at + length
    return messages, start


def read_message(data: bytes, most: int) -> str | bytes | None:
    """Return the message that `data` is, None where it is anything but one such frame."""
    messages, end = read_messages(data, 0, 1, most)
    return messages[0] if messages and end == len(data) else None


def read_compressed(data: bytes, most: int) -> bytes | None:
    """Return the payload of the compressed message that `data` is, None where it is anything else.

    That is one such frame with RSV1 (RFC 7692 section 6), its payload of at most `most` bytes.
    """
    if len(data) < 6 or data[0] not in COMPRESSED or data[1] < _MASKED:  # noqa: PLR2004  # as above
        return None
    at, length = measure(data, 0)
    if length > most or len(data) - at != length:
        return None
    return unmask(data[at:], data[at - 4 : at])


def measure(data: bytes, start: int) -> tuple[int, int]:
    """Return where the payload of the masked frame at `start` stands, and its length.

    The length is beyond all bounds where it is in more octets than it needs, and 0 behind the end
    of `data` where not all of it is there. Two octets must be.
    """
    length = data[start + 1] & 0x7F
    if length not in EXTENDED:
        return start + 6, length
    octets, least = EXTENDED[length]
    at = start + 2 + octets
    if len(data) < at:
        return at + 4, 0
    length = int.from_bytes(data[start + 2 : at], "big")
    # RFC 6455 section 5.2: "the minimal number of bytes MUST be used to encode the length".
    return at + 4, length if length >= least else _BEYOND


def unmask(data: bytes, mask: bytes) -> bytes:
    """Return `data` with each octet XORed with the mask's, in turn; four octets of mask."""
    size = len(data)
    key = mask * (size // 4 + 1)
    whole = int.from_bytes(data, "little") ^ int.from_bytes(key[:size], "little")
    return whole.to_bytes(size, "little")


def data_frame(payload: str | bytes) -> bytes:
    """Return a message as one frame. Raises UnicodeEncodeError for text with a lone surrogate."""
    if isinstance(payload, str):
        data = payload.encode()
        return head(TEXT, len(data)) + data
    return head(BINARY, len(payload)) + payload


def head(first: int, length: int) -> bytes:
    """Return the header of a frame of ours, which is never masked."""
    if length < 126:  # noqa: PLR2004  # RFC 6455 section 5.2
        return bytes((first, length))
    if length < 65_536:  # noqa: PLR2004  # the same
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")
