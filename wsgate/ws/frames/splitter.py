"""Splits a stream of frames at their ends, for the codec that reads them with wsproto."""

from wsgate.ws.frames.header import CONTROL, FIN, MAX_HEADER_SIZE, read_header


class FrameSplitter:
    """Splits the frames of one message from what follows (RFC 6455 sections 5.2 and 5.4).

    Control frames between the fragments are among them. is_message_complete: the last piece ended
    the message, or was a control frame before the message began.
    """

    __slots__ = ("_header", "_is_in_message", "_remaining", "is_message_complete")

    def __init__(self) -> None:
        self._header = b""  # of the current frame, as far as it has arrived
        self._remaining: int | None = None  # bytes of its payload, None within the header
        self._is_in_message = False  # the final fragment is still to come
        self.is_message_complete = False

    def next_piece(self, data: bytes, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end` that belong to one frame, and count them."""
        payload_start = start
        if self._remaining is None:
            payload_start = self._read_header(data, start, end)
            if self._remaining is None:
                return data[start:end]
        size = min(self._remaining, end - payload_start)
        self._remaining -= size
        if not self._remaining:
            self._header, self._remaining = b"", None
            self.is_message_complete = not self._is_in_message
        return data[start : payload_start + size]

    def _read_header(self, data: bytes, start: int, end: int) -> int:
        """Read on in the header; return where the payload begins, `end` while it is incomplete."""
        known = len(self._header)
        self._header += data[start : min(end, start + MAX_HEADER_SIZE - known)]
        header = read_header(self._header, 0)
        if header is None or len(self._header) < header.payload_start:
            return end
        self._remaining = header.length
        if not header.first & CONTROL:
            self._is_in_message = not header.first & FIN
        return start + header.payload_start - known
