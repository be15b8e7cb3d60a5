"""permessage-deflate (RFC 7692), and with the bounds on a message as one wsproto extension.

wsproto asks its extensions about every frame's header and hands them every piece of payload, which
makes this the place where sizes are counted before anything is kept. So the extension is always
installed, whether deflate was agreed or not.

At rest a connection keeps no window: by default both sides agree to no context takeover, one
compressor serves all connections with the same window, and an inflater lives for one message.
"""

import zlib
from dataclasses import dataclass

from wsproto.extensions import Extension
from wsproto.frame_protocol import (
    CloseReason,
    FrameDecoder,
    FrameProtocol,
    Opcode,
    RsvBits,
)

from wsgate.protocol.negotiation import MIN_WINDOW_BITS, NAME, Agreement

# RFC 7692 section 7.2.1: these four octets end every flush; the sender removes them, the receiver
# puts them back.
_TAIL = b"\x00\x00\xff\xff"
# An empty block with BFINAL: an inflater that stands at a block's boundary ends on it.
_FINAL_BLOCK = b"\x03\x00"
_END = _TAIL + _FINAL_BLOCK

_NO_RSV = RsvBits(rsv1=False, rsv2=False, rsv3=False)
_RSV1 = RsvBits(rsv1=True, rsv2=False, rsv3=False)
# Opcode.TEXT is a call in CPython 3.11, and so is its `iscontrol`: from Close on all are.
_CONTINUATION, _TEXT, _CLOSE = Opcode.CONTINUATION, Opcode.TEXT, Opcode.CLOSE
_PROTOCOL_ERROR = CloseReason.PROTOCOL_ERROR
_INVALID_PAYLOAD = CloseReason.INVALID_FRAME_PAYLOAD_DATA
_TOO_BIG = CloseReason.MESSAGE_TOO_BIG


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """Bounds on one incoming message: bytes (whole, inflated) and frames; over them, 1009."""

    size: int = 16 * 1024 * 1024
    fragments: int = 131_072


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


def inflated(data: bytes, bits: int, most: int) -> bytes | None:
    """Return what one message inflates to that needs no window from before.

    bits: of the sender's window. None where that is more than `most` bytes, no deflate data, holds
    a final block or ends in an unusual way: whoever has to know which takes an `_Inflater`.
    """
    # As _inflating, without the call: each compressed message passes here.
    inflater = zlib.decompressobj(-bits if bits > MIN_WINDOW_BITS else -MIN_WINDOW_BITS)
    try:
        out = inflater.decompress(data, most + 1)
        # A block that is under way gives something out here, or goes on behind it; one with BFINAL
        # leaves it over. So does none that ends where the sender flushed.
        if len(out) > most or inflater.decompress(_END, 1):
            return None
    except zlib.error:
        return None
    return out if inflater.eof and not inflater.unused_data else None


def _inflating(bits: int) -> "zlib._Decompress":
    # A sender that was told 8 bits and uses zlib compresses with 9.
    return zlib.decompressobj(-bits if bits > MIN_WINDOW_BITS else -MIN_WINDOW_BITS)


def _is_between_blocks(inflater: "zlib._Decompress") -> bool:
    """Tell whether no block is under way; with that the stream ends."""
    # A stored block that lacks a few octets would take the probe for them, and give it out.
    return not inflater.decompress(_FINAL_BLOCK, 1) and inflater.eof and not inflater.unused_data


class _Inflater:
    """Turns the compressed payload of messages back, never past a bound."""

    __slots__ = ("_bits", "_keep", "_zlib")

    def __init__(self, agreement: Agreement) -> None:
        self._keep = not agreement.client_no_context_takeover
        self._bits = agreement.client_max_window_bits
        self._zlib: zlib._Decompress | None = None

    def inflate(self, data: bytes, most: int) -> bytes:
        """Return what `data` inflates to, at most `most` + 1 bytes: one more shows the excess.

        Raises zlib.error.
        """
        if self._zlib is None:
            self._zlib = _inflating(self._bits)
        out = self._zlib.decompress(data, most + 1)
        while self._zlib.eof and self._zlib.unused_data and len(out) <= most:
            # RFC 7692 section 7.2.3.4: a block with BFINAL may end before the message does. What
            # follows starts afresh: zlib would only collect it, without bound.
            data = self._zlib.unused_data
            self._zlib = _inflating(self._bits)
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


# -- the extension -----------------------------------------------------------------------------


class Deflate(Extension):
    """Counts, bounds, inflates and compresses the messages of one connection.

    most: bytes of one message. within: the kind of the message under way, None between two. Where
    there is none, a plain frame that has come whole, is a message and within the bound needs
    nothing of this.
    """

    __slots__ = (
        "_agreement",
        "_compressed",
        "_compression",
        "_fragments",
        "_inflater",
        "_is_marked",
        "_last",
        "_limits",
        "_opcode",
        "_rsv",
        "_size",
        "most",
        "within",
    )

    name = NAME

    def __init__(
        self, limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
    ) -> None:
        self._limits = limits
        self.most = limits.size
        self._agreement = agreement
        # RFC 7692 section 6.1: only the first frame of a message carries the bit.
        self._rsv = _NO_RSV if agreement is None else _RSV1
        self._compression = compressors.compression(agreement) if agreement else None
        self._inflater: _Inflater | None = None
        self._opcode = _CLOSE  # of the frame under way, and whether that carries RSV1
        self._is_marked = False
        self.within: Opcode | None = None  # the kind of message under way
        self._compressed = False
        self._size = 0
        self._fragments = 0
        self._last = b""

    @property
    def writing(self) -> list[Extension]:
        """The extensions that what goes out needs."""
        return [] if self._compression is None else [self]

    def enabled(self) -> bool:
        """Say that this is always part of the connection."""
        return True

    def offer(self) -> bool | str:
        """Offer nothing: the handshake is not wsproto's here."""
        return False

    # -- what comes in -------------------------------------------------------------------------

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  # wsproto's interface
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Judge a frame by its header alone, before any of its payload is kept.

        wsproto calls this again each time more of one header has come, so nothing is counted here.
        """
        self._opcode = opcode
        if opcode >= _CLOSE:
            return _NO_RSV
        if opcode is _CONTINUATION:
            return self._judged_continuation(payload_length)
        # RFC 6455 section 5.4: "The fragments of one message MUST NOT be interleaved between the
        # fragments of another message".
        if self.within is not None:
            return _PROTOCOL_ERROR
        self._is_marked = is_marked = rsv[0]
        if payload_length > self.most and not is_marked:
            return _TOO_BIG
        return self._rsv

    def _judged_continuation(self, payload_length: int) -> CloseReason | RsvBits:
        if self.within is None:
            return _PROTOCOL_ERROR
        if not self._compressed and self._size + payload_length > self.most:
            return _TOO_BIG
        return _NO_RSV

    def frame_inbound_payload_data(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  # wsproto's interface
        data: bytes,
    ) -> bytes | CloseReason:
        """Take a piece of a frame's payload; wsproto calls this at least once for every frame."""
        if self._opcode >= _CLOSE:
            return data
        if self.within is None:
            self.within = self._opcode
            self._compressed = self._is_marked
            self._last = b""
        return self._inflated(data) if self._compressed else self._counted(data)

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  # wsproto's interface
        fin: bool,
    ) -> bytes | CloseReason | None:
        """Take the end of a frame."""
        if self._opcode >= _CLOSE:
            return None
        if not fin:
            self._fragments += 1
            return _TOO_BIG if self._fragments >= self._limits.fragments else None
        rest = self._finished() if self._compressed else None
        self.within = None
        self._size = self._fragments = 0
        return rest

    def _inflated(self, data: bytes) -> bytes | CloseReason:
        if self._inflater is None:
            assert self._agreement is not None  # without it the bit is an error
            self._inflater = _Inflater(self._agreement)
        try:
            return self._counted(self._inflater.inflate(data, self.most - self._size))
        except zlib.error:
            return _INVALID_PAYLOAD

    def _finished(self) -> bytes | CloseReason:
        assert self._inflater is not None  # every frame's payload has passed `_inflated`
        try:
            return self._counted(self._inflater.finish(self.most - self._size))
        except zlib.error:
            return _INVALID_PAYLOAD

    def _counted(self, data: bytes) -> bytes | CloseReason:
        self._size += len(data)
        if self._size > self.most:
            return _TOO_BIG
        if self.within is _TEXT and data:
            end = self._last + data[-2:]
            self._last = data[-1:]
            if ends_in_surrogate(end):
                return _INVALID_PAYLOAD
        return data

    # -- what goes out -------------------------------------------------------------------------

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  # wsproto's interface
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,  # noqa: ARG002  # our messages are one frame each
    ) -> tuple[RsvBits, bytes]:
        """Compress a message where that was agreed and pays."""
        compression = self._compression
        if compression is None or len(data) < compression.threshold or opcode >= _CLOSE:
            return rsv, data
        compressed = compression.compressed(data)
        return (rsv, data) if compressed is None else (_RSV1, compressed)


def ends_in_surrogate(data: bytes) -> bool:
    """Tell whether the last two octets begin what no UTF-8 has."""
    # ED A0 to ED BF begin a surrogate, which is no UTF-8 (RFC 3629 section 3). CPython's decoder
    # waits for the third byte before it says so; Autobahn and RFC 6455 section 8.1 want it now.
    return len(data) > 1 and data[-2] == 0xED and data[-1] >= 0xA0  # noqa: PLR2004  # octets
