"""Whole messages in single frames, read and written: the plain twin of _messages.c.

These few functions process every byte from the peer, which is most of the time that a message
takes outside the app. So they are compiled where a compiler was found, and this file is used where
there was none. The same tests run over both.
Sources: RFC 6455 sections 5.2 (framing) and 5.3 (masking).
"""

from wsgate.ws.frames.header import (
    BINARY,
    COMPRESSED_BINARY,
    COMPRESSED_TEXT,
    MASK_SIZE,
    MAX_CONTROL_SIZE,
    PONG,
    TEXT,
    FrameHeader,
    read_header,
    write_header,
)


def read_messages(
    data: bytes, start: int, limit: int, max_size: int
) -> tuple[list[str | bytes], int]:
    """Return the messages in `data` from `start` on, at most `limit`, and where reading stopped.

    Reading stops before the first frame that is anything but a complete, final, masked text or
    binary frame without reserved bits, of at most `max_size` bytes, with a minimal length, and
    valid UTF-8 if it is text.
    """
    messages: list[str | bytes] = []
    while len(messages) < limit:
        header = read_header(data, start)
        if header is None or header.first not in (TEXT, BINARY):
            break
        payload = _read_payload(data, header, max_size)
        if payload is None:
            break
        try:
            messages.append(payload.decode() if header.first == TEXT else payload)
        except UnicodeDecodeError:
            break
        start = header.payload_start + header.length
    return messages, start


def read_message(data: bytes, max_size: int) -> str | bytes | None:
    """Return the message if `data` is exactly one frame as in `read_messages`, else None."""
    messages, end = read_messages(data, 0, 1, max_size)
    return messages[0] if messages and end == len(data) else None


def is_pong(data: bytes) -> bool:
    """Return whether `data` is exactly one valid Pong; its payload means nothing to us."""
    header = read_header(data, 0)
    return (
        header is not None
        and header.first == PONG
        and header.is_masked
        and header.is_minimal
        and header.length <= MAX_CONTROL_SIZE
        and header.payload_start + header.length == len(data)
    )


def read_compressed(data: bytes, max_size: int) -> bytes | None:
    """Return the payload if `data` is exactly one frame with a compressed message, else None.

    Such a frame has RSV1 (RFC 7692 section 6); its payload, still compressed, has at most
    `max_size` bytes.
    """
    header = read_header(data, 0)
    if header is None or header.first not in (COMPRESSED_TEXT, COMPRESSED_BINARY):
        return None
    if header.payload_start + header.length != len(data):
        return None
    return _read_payload(data, header, max_size)


def _read_payload(data: bytes, header: FrameHeader, max_size: int) -> bytes | None:
    """Return the unmasked payload; None if it is unmasked, too long, incomplete or not minimal."""
    start, end = header.payload_start, header.payload_start + header.length
    if not header.is_masked or not header.is_minimal:
        return None
    if header.length > max_size or end > len(data):
        return None
    return unmask(data[start:end], data[start - MASK_SIZE : start])


def unmask(data: bytes, mask: bytes) -> bytes:
    """Return `data` XORed with the four octets of `mask`, repeated (RFC 6455 section 5.3)."""
    size = len(data)
    key = mask * (size // MASK_SIZE + 1)
    unmasked = int.from_bytes(data, "little") ^ int.from_bytes(key[:size], "little")
    return unmasked.to_bytes(size, "little")


def data_frame(payload: str | bytes) -> bytes:
    """Return a message as one frame. Raises UnicodeEncodeError for text with a lone surrogate."""
    if isinstance(payload, str):
        data = payload.encode()
        return write_header(TEXT, len(data)) + data
    return write_header(BINARY, len(payload)) + payload
