"""permessage-deflate (RFC 7692) and the bounds on a message, as one wsproto extension.

wsproto asks its extensions about every frame's header and hands them every piece of payload, which
makes this the place where sizes are counted before anything is kept. So the extension is always
installed, whether deflate was agreed or not.
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

from wsgate.ws.deflate.compression import Compressors, Inflater
from wsgate.ws.deflate.negotiation import NAME, Agreement

NO_RSV = RsvBits(rsv1=False, rsv2=False, rsv3=False)
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
        self._rsv = NO_RSV if agreement is None else _RSV1
        self._compression = compressors.compression(agreement) if agreement else None
        self._inflater: Inflater | None = None
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
            return NO_RSV
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
        return NO_RSV

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
            self._inflater = Inflater(self._agreement)
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
