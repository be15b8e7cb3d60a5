"""Messages compressed and inflated by zlib, within bounds (RFC 7692 section 7.2).

At rest a connection keeps no window: by default both sides agree to no context takeover, one
compressor serves all connections with the same window, and an inflater lives for one message.
"""

import zlib

from wsgate.ws.deflate.negotiation import MIN_WINDOW_BITS, Agreement

# RFC 7692 section 7.2.1: these four octets end every flush; the sender removes them, the receiver
# puts them back.
_TAIL = b"\x00\x00\xff\xff"
# An empty block with BFINAL: an inflater that stands at a block's boundary ends on it.
_FINAL_BLOCK = b"\x03\x00"
_END = _TAIL + _FINAL_BLOCK


# -- compression -------------------------------------------------------------------------------


class Compressors:
    """One compressor for each window size, shared by all connections of a worker.

    It is emptied with Z_FULL_FLUSH behind each message, so no message refers back to another and
    each result may be sent to anyone who agreed on that window.
    """

    def __init__(self, level: int) -> None:
        self._level = level
        self._by_bits: dict[int, zlib._Compress] = {}
        self._compression: Compression | None = None

    def compression(self, agreement: Agreement) -> "Compression":
        """Return what compresses under an agreement; the same for all while it holds no window."""
        if self._compression is not None and self._compression.agreement is agreement:
            return self._compression
        compression = Compression(agreement, self)
        if agreement.server_no_context_takeover:
            self._compression = compression
        return compression

    def compress(self, data: bytes, bits: int) -> bytes:
        """Return `data` as the payload of a compressed message."""
        # Out of its place meanwhile: should memory run out in between, what is left in it would
        # stand in the next connection's message.
        compressor = self._by_bits.pop(bits, None)
        if compressor is None:
            compressor = zlib.compressobj(self._level, zlib.DEFLATED, -bits)
        out = compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)[:-4]
        self._by_bits[bits] = compressor
        return out


class Compression:
    """Compresses the messages of one connection, where that was agreed and pays.

    agreement: what was agreed. threshold: bytes of a message below which it does not.
    """

    __slots__ = ("_compressor", "_compressors", "agreement", "threshold")

    def __init__(self, agreement: Agreement, compressors: Compressors) -> None:
        self.threshold = agreement.settings.threshold
        self.agreement = agreement
        self._compressors = compressors
        self._compressor: zlib._Compress | None = None  # only with context takeover

    def compressed(self, data: bytes) -> bytes | None:
        """Return `data` as the payload of a compressed message, None where it is sent as it is."""
        agreement = self.agreement
        if len(data) < self.threshold:
            return None
        if not agreement.server_no_context_takeover:
            return self._with_context(data)
        smaller = self._compressors.compress(data, agreement.server_max_window_bits)
        return smaller if len(smaller) < len(data) else None

    def _with_context(self, data: bytes) -> bytes:
        if self._compressor is None:
            self._compressor = zlib.compressobj(
                self.agreement.settings.level,
                zlib.DEFLATED,
                -self.agreement.server_max_window_bits,
            )
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


# -- inflating ---------------------------------------------------------------------------------


def raw_window(bits: int) -> int:
    """Return zlib's number for a sender's window of so many bits."""
    # A sender that was told 8 bits and uses zlib compresses with 9.
    return -max(bits, MIN_WINDOW_BITS)


def inflated(data: bytes, window: int, most: int) -> bytes | None:
    """Return what one message inflates to that needs no window from before.

    window: as `raw_window` returns it. None where that is more than `most` bytes, no deflate data,
    holds a final block or ends in an unusual way: whoever has to know which takes an `Inflater`.
    """
    inflater = zlib.decompressobj(window)
    try:
        out = inflater.decompress(data, most + 1)
        # A block that is under way gives something out here, or goes on behind it; one with BFINAL
        # leaves it over. So does none that ends where the sender flushed.
        if len(out) > most or inflater.decompress(_END, 1):
            return None
    except zlib.error:
        return None
    return out if inflater.eof and not inflater.unused_data else None


def _is_between_blocks(inflater: "zlib._Decompress") -> bool:
    """Tell whether no block is under way; with that the stream ends."""
    # A stored block that lacks a few octets would take the probe for them, and give it out.
    return not inflater.decompress(_FINAL_BLOCK, 1) and inflater.eof and not inflater.unused_data


class Inflater:
    """Turns the compressed payload of messages back, never past a bound."""

    __slots__ = ("_keep", "_window", "_zlib")

    def __init__(self, agreement: Agreement) -> None:
        self._keep = not agreement.client_no_context_takeover
        self._window = raw_window(agreement.client_max_window_bits)
        self._zlib: zlib._Decompress | None = None

    def inflate(self, data: bytes, most: int) -> bytes:
        """Return what `data` inflates to, at most `most` + 1 bytes: one more shows the excess.

        Raises zlib.error.
        """
        if self._zlib is None:
            self._zlib = zlib.decompressobj(self._window)
        out = self._zlib.decompress(data, most + 1)
        while self._zlib.eof and self._zlib.unused_data and len(out) <= most:
            # RFC 7692 section 7.2.3.4: a block with BFINAL may end before the message does. What
            # follows starts afresh: zlib would only collect it, without bound.
            data = self._zlib.unused_data
            self._zlib = zlib.decompressobj(self._window)
            out += self._zlib.decompress(data, most - len(out) + 1)
        return out

    def finish(self, most: int) -> bytes:
        """Return the rest of the message, bounded as in `inflate`; let go of a window not kept.

        Raises zlib.error, also for a message that stops within a block.
        """
        assert self._zlib is not None  # every frame's payload has passed `inflate`
        out = b"" if self._zlib.eof else self.inflate(_TAIL, most)
        if len(out) <= most:
            # An empty last block ends the stream only at a block's boundary. A window that is
            # kept must not end, so a copy is asked.
            probe = self._zlib.copy() if self._keep else self._zlib
            if not probe.eof and not _is_between_blocks(probe):
                raise zlib.error("the message stops within a block")
        if not self._keep:
            self._zlib = None
        return out
