"""The fast codec with permessage-deflate: compresses and inflates whole messages.

Source: RFC 7692 section 7.2.
"""

from collections.abc import Sequence

from wsgate.ws.deflate.compression import Compressors, inflate_message, raw_window
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.encoded import Encoding
from wsgate.ws.frames.codec import Item
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.frames.header import (
    BINARY,
    COMPRESSED_BINARY,
    COMPRESSED_TEXT,
    TEXT,
    FrameHeader,
    write_header,
)
from wsgate.ws.limits import MessageLimits

# Larger compressed messages are left to wsproto, which inflates slice by slice, so that the event
# loop is not blocked.
_MAX_COMPRESSED = 65_536
_MAX_INFLATED = 1_048_576


class CompressingCodec(FastCodec):
    """A fast codec that compresses messages; compressed ones from the client go to wsproto."""

    __slots__ = ("_compression", "encoding")

    encoding: Encoding | None

    _plain_message = staticmethod(FastCodec.message)

    def __init__(
        self, limits: MessageLimits, agreement: Agreement, compressors: Compressors
    ) -> None:
        super().__init__(limits, agreement, compressors)
        self._compression = compressors.compression(agreement)
        self.encoding = self._compression.encoding

    def message(self, payload: str | bytes) -> bytes:
        """Return a message as a frame. Raises UnicodeEncodeError for text with a lone surrogate."""
        if 4 * len(payload) >= self._compression.threshold:  # a character has up to four bytes
            data = payload.encode() if isinstance(payload, str) else payload
            compressed = self._compression.compress(data)
            if compressed is not None:
                first = COMPRESSED_TEXT if isinstance(payload, str) else COMPRESSED_BINARY
                return write_header(first, len(compressed)) + compressed
        return self._plain_message(payload)


class DeflateCodec(CompressingCodec):
    """A fast codec that compresses and inflates: for clients without context takeover."""

    __slots__ = ("_max_inflated", "_window")

    _read_here = frozenset({TEXT, BINARY, COMPRESSED_TEXT, COMPRESSED_BINARY})
    _read_plain = staticmethod(FastCodec.read_message)

    def __init__(
        self, limits: MessageLimits, agreement: Agreement, compressors: Compressors
    ) -> None:
        super().__init__(limits, agreement, compressors)
        self._window = raw_window(agreement.client_max_window_bits)
        self._max_inflated = min(self._max_size, _MAX_INFLATED)

    def read_message(self, data: bytes, max_size: int) -> str | bytes | None:
        """Return the message if `data` is exactly one frame that can be read here, else None."""
        payload = self._read_compressed(data, _MAX_COMPRESSED)
        if payload is None:
            return self._read_plain(data, max_size)
        message = inflate_message(payload, self._window, self._max_inflated)
        if message is None or data[0] == COMPRESSED_BINARY:
            return message
        try:
            return message.decode()
        except UnicodeDecodeError:
            return None

    def _take_compressed(self, header: FrameHeader) -> Sequence[Item]:
        data, end = self._input, header.payload_start + header.length
        if header.length > _MAX_COMPRESSED:
            return self._hand_over()
        if len(data) < header.payload_start:
            return self._wait()
        if len(data) < end:
            return self._hand_over()
        item = self.read_message(data[self._position : end], self._max_size)
        if item is None:
            return self._hand_over()
        self._advance(end)
        return (item,)
