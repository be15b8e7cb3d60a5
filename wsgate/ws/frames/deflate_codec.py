"""The fast lane where permessage-deflate is agreed: whole messages compressed and inflated here.

Source: RFC 7692 section 7.2.
"""

from collections.abc import Sequence

from wsgate.ws.deflate.compression import Compressors, inflated, raw_window
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.deflate.wsproto_extension import MessageLimits
from wsgate.ws.frames.codec import Item
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.frames.messages import BINARY, RSV1, TEXT, head, measure

# A larger compressed message is inflated slice by slice, with the loop free in between.
_MOST_COMPRESSED = 65_536
_MOST_INFLATED = 1_048_576
_COMPRESSED_BINARY = BINARY | RSV1


class DeflatingCodec(FastCodec):
    """A fast lane that compresses its messages where it pays."""

    __slots__ = ("_compression", "encoding")

    _data_frame = staticmethod(FastCodec.message)

    def __init__(
        self, limits: MessageLimits, agreement: Agreement, compressors: Compressors
    ) -> None:
        super().__init__(limits, agreement, compressors)
        self._compression = compressors.compression(agreement)
        self.encoding = self._compression if agreement.server_no_context_takeover else None

    def message(self, payload: str | bytes) -> bytes:
        """Return a data message. Raises UnicodeEncodeError for text with a lone surrogate."""
        if 4 * len(payload) >= self._compression.threshold:  # a character has up to four octets
            data = payload.encode() if isinstance(payload, str) else payload
            compressed = self._compression.compressed(data)
            if compressed is not None:
                first = (TEXT if isinstance(payload, str) else BINARY) | RSV1
                return head(first, len(compressed)) + compressed
        return self._data_frame(payload)


class InflatingCodec(DeflatingCodec):
    """The same where the client keeps no window: it inflates whole messages by itself."""

    __slots__ = ("_most_inflated", "_window")

    _read_message = staticmethod(FastCodec.read_message)

    def __init__(
        self, limits: MessageLimits, agreement: Agreement, compressors: Compressors
    ) -> None:
        super().__init__(limits, agreement, compressors)
        self._window = raw_window(agreement.client_max_window_bits)
        self._most_inflated = min(self._most, _MOST_INFLATED)

    def read_message(self, data: bytes, most: int) -> str | bytes | None:
        """Return the message that `data` is, None where it is anything but one such frame."""
        payload = self._read_compressed(data, _MOST_COMPRESSED)
        if payload is None:
            return self._read_message(data, most)
        message = inflated(payload, self._window, self._most_inflated)
        if message is None or data[0] == _COMPRESSED_BINARY:
            return message
        try:
            return message.decode()
        except UnicodeDecodeError:
            return None

    def _take_compressed(self, data: bytes, at: int) -> Sequence[Item]:
        start, length = measure(data, at)
        if len(data) < start and length < _MOST_COMPRESSED:
            return self._wait()
        end = start + length
        if length > _MOST_COMPRESSED or len(data) < end:
            return self._hand_over()
        item = self.read_message(data[at:end], self._most)
        if item is None:
            return self._hand_over()
        self._advance(end)
        return (item,)


def fast_codec(
    limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
) -> FastCodec:
    """Return the codec for what was agreed of permessage-deflate, None without it."""
    if agreement is None:
        return FastCodec(limits, None, compressors)
    kind = InflatingCodec if agreement.client_no_context_takeover else DeflatingCodec
    return kind(limits, agreement, compressors)
