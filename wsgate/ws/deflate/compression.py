"""Messages compressed and inflated with zlib (RFC 7692 section 7.2).

By default both sides agree to no context takeover. Then an idle connection keeps no window: one
compressor serves all connections with the same window size, and an inflater lives for one message.
"""

import zlib
from typing import Protocol

from wsgate.ws.deflate.negotiation import MIN_WINDOW_BITS, Agreement
from wsgate.ws.encoded import Encoding

# RFC 7692 section 7.2.1: these four octets end every flush; the sender removes them, the receiver
# appends them.
_TAIL = b"\x00\x00\xff\xff"
# An empty block with BFINAL: an inflater that is between blocks ends on it.
_FINAL_BLOCK = b"\x03\x00"
_END = _TAIL + _FINAL_BLOCK


# -- compressing -------------------------------------------------------------------------------


class Compression(Protocol):
    """Compresses the messages of a connection."""

    @property
    def encoding(self) -> Encoding | None:
        """Shared by all connections that compress alike; None with context takeover."""

    @property
    def threshold(self) -> int:
        """Messages of fewer bytes are not compressed."""

    def compress(self, data: bytes) -> bytes | None:
        """Return `data` as the payload of a compressed message, None to send it uncompressed."""


class Compressors:
    """The compressors of one worker: one for each window size, shared by all connections.

    A shared compressor is flushed with Z_FULL_FLUSH after each message. So no message refers to
    another, and each result may be sent to every client that agreed on that window.
    level: zlib's, 1 to 9.
    """

    def __init__(self, level: int) -> None:
        self._level = level
        self._by_bits: dict[int, zlib._Compress] = {}
        self._shared: dict[tuple[int, int], SharedCompression] = {}

    def compression(self, agreement: Agreement) -> Compression:
        """Return the compression for an agreement.

        Without context takeover it is the same object for all agreements with the same window size
        and threshold.
        """
        if not agreement.server_no_context_takeover:
            return ContextCompression(agreement)
        bits, threshold = agreement.server_max_window_bits, agreement.settings.threshold
        shared = self._shared.get((bits, threshold))
        if shared is None:
            shared = self._shared[bits, threshold] = SharedCompression(self, bits, threshold)
        return shared

    def compress(self, data: bytes, bits: int) -> bytes:
        """Return `data` as the payload of a compressed message, for a window of 2**bits bytes."""
        # Removed while in use: if memory runs out, the data left in it must not become part of
        # another connection's message.
        compressor = self._by_bits.pop(bits, None)
        if compressor is None:
            compressor = zlib.compressobj(self._level, zlib.DEFLATED, -bits)
        out = compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)[: -len(_TAIL)]
        self._by_bits[bits] = compressor
        return out


class SharedCompression:
    """Compresses each message on its own, for all connections with one window size."""

    __slots__ = ("_bits", "_compressors", "encoding", "threshold")

    def __init__(self, compressors: Compressors, bits: int, threshold: int) -> None:
        self._compressors = compressors
        self._bits = bits
        self.threshold = threshold
        self.encoding: Encoding | None = Encoding(f"deflate with {bits} window bits")

    def compress(self, data: bytes) -> bytes | None:
        """Return `data` compressed; None if it is below the threshold or would not get smaller."""
        if len(data) < self.threshold:
            return None
        compressed = self._compressors.compress(data, self._bits)
        return compressed if len(compressed) < len(data) else None


class ContextCompression:
    """Compresses the messages of one connection with a window that is kept between them."""

    __slots__ = ("_bits", "_compressor", "_level", "encoding", "threshold")

    def __init__(self, agreement: Agreement) -> None:
        self._bits = agreement.server_max_window_bits
        self._level = agreement.settings.level
        self.threshold = agreement.settings.threshold
        self.encoding: Encoding | None = None
        self._compressor: zlib._Compress | None = None  # made for the first message

    def compress(self, data: bytes) -> bytes | None:
        """Return `data` compressed, also if that is longer; None if it is below the threshold."""
        if len(data) < self.threshold:
            return None
        if self._compressor is None:
            self._compressor = zlib.compressobj(self._level, zlib.DEFLATED, -self._bits)
        out = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return out[: -len(_TAIL)]


# -- inflating ---------------------------------------------------------------------------------


def raw_window(bits: int) -> int:
    """Return zlib's `wbits` to inflate raw deflate data from a sender with this window size."""
    # zlib cannot compress with 8 bits: a sender that agreed to 8 and uses zlib compresses with 9.
    return -max(bits, MIN_WINDOW_BITS)


def inflate_message(data: bytes, window: int, max_size: int) -> bytes | None:
    """Return the inflated payload of one whole message, for a sender without context takeover.

    window: from `raw_window`. Returns None if it is more than `max_size` bytes, is not deflate
    data, contains a final block or ends in an uncommon way; an `Inflater` tells these apart.
    """
    inflater = zlib.decompressobj(window)
    try:
        out = inflater.decompress(data, max_size + 1)
        # A message that ends where the sender flushed ends the stream with the final block. An
        # unfinished block returns data here, or does not end; one with BFINAL leaves data unused.
        if len(out) > max_size or inflater.decompress(_END, 1):
            return None
    except zlib.error:
        return None
    return out if inflater.eof and not inflater.unused_data else None


def _is_between_blocks(inflater: "zlib._Decompress") -> bool:
    """Return whether no block is unfinished. This ends the stream."""
    # A stored block that lacks a few octets would consume the probe as data, and return it.
    return not inflater.decompress(_FINAL_BLOCK, 1) and inflater.eof and not inflater.unused_data


class Inflater:
    """Inflates the messages of one connection, never beyond a limit."""

    __slots__ = ("_keeps_window", "_window", "_zlib")

    def __init__(self, agreement: Agreement) -> None:
        self._keeps_window = not agreement.client_no_context_takeover
        self._window = raw_window(agreement.client_max_window_bits)
        self._zlib: zlib._Decompress | None = None

    def inflate(self, data: bytes, max_size: int) -> bytes:
        """Return a piece of a message inflated, at most `max_size` + 1 bytes.

        The one byte more shows that the limit is exceeded. Raises zlib.error.
        """
        if self._zlib is None:
            self._zlib = zlib.decompressobj(self._window)
        out = self._zlib.decompress(data, max_size + 1)
        while self._zlib.eof and self._zlib.unused_data and len(out) <= max_size:
            # RFC 7692 section 7.2.3.4: a block with BFINAL may end before the message does. The
            # rest needs a new inflater: zlib would only collect it, without limit.
            data = self._zlib.unused_data
            self._zlib = zlib.decompressobj(self._window)
            out += self._zlib.decompress(data, max_size - len(out) + 1)
        return out

    def finish(self, max_size: int) -> bytes:
        """Return the rest of the message, limited as in `inflate`; drop the window unless kept.

        Raises zlib.error, also for a message that ends within a block.
        """
        assert self._zlib is not None  # every frame's payload has passed `inflate`
        out = b"" if self._zlib.eof else self.inflate(_TAIL, max_size)
        if len(out) <= max_size:
            # An empty final block ends the stream only between blocks. A window that is kept must
            # not end, so the probe is a copy.
            probe = self._zlib.copy() if self._keeps_window else self._zlib
            if not probe.eof and not _is_between_blocks(probe):
                raise zlib.error("the message ends within a block")
        if not self._keeps_window:
            self._zlib = None
        return out
