"""permessage-deflate (RFC 7692) and the limits on a message, as one wsproto extension.

wsproto passes every frame's header and every piece of payload to its extensions, so sizes can be
counted here before anything is buffered. The extension is always installed, whether or not deflate
was agreed.
"""

import zlib

from wsproto.extensions import Extension
from wsproto.frame_protocol import (
    CloseReason,
    FrameDecoder,
    FrameProtocol,
    Opcode,
    RsvBits,
)

from wsgate.ws import rules
from wsgate.ws.codes import INVALID_PAYLOAD, MESSAGE_TOO_BIG, PROTOCOL_ERROR
from wsgate.ws.deflate.compression import Compressors, Inflater
from wsgate.ws.deflate.negotiation import NAME, Agreement
from wsgate.ws.encoded import PLAIN, Encoding
from wsgate.ws.limits import MessageLimits
from wsgate.ws.utf8 import ends_in_surrogate

NO_RSV = RsvBits(rsv1=False, rsv2=False, rsv3=False)
_RSV1 = RsvBits(rsv1=True, rsv2=False, rsv3=False)
# Opcode.TEXT is a call in CPython 3.11, and so is its `iscontrol`: from CLOSE on all are control.
_CONTINUATION, _TEXT, _CLOSE = Opcode.CONTINUATION, Opcode.TEXT, Opcode.CLOSE
_PROTOCOL_ERROR = CloseReason(PROTOCOL_ERROR)
_INVALID_PAYLOAD = CloseReason(INVALID_PAYLOAD)
_TOO_BIG = CloseReason(MESSAGE_TOO_BIG)


class MessageExtension(Extension):
    """Counts, limits, inflates and compresses the messages of one connection.

    max_size: bytes of one message. message_opcode: the opcode of the current message, None between
    messages. encoding: as of a `FrameCodec`. broken_rule: the rule that a frame has broken, empty
    before, and where wsproto finds the fault. Between messages, a whole plain message that has
    arrived completely and is within the limit may bypass the extension.
    """

    __slots__ = (
        "_agreement",
        "_compression",
        "_fragments",
        "_has_rsv1",
        "_inflater",
        "_is_compressed",
        "_last_byte",
        "_limits",
        "_opcode",
        "_rsv",
        "_size",
        "broken_rule",
        "encoding",
        "max_size",
        "message_opcode",
    )

    name = NAME
    encoding: Encoding | None

    def __init__(
        self, limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
    ) -> None:
        self._limits = limits
        self.max_size = limits.size
        self._agreement = agreement
        # RFC 7692 section 6.1: only the first frame of a message carries the bit.
        self._rsv = NO_RSV if agreement is None else _RSV1
        self._compression = compressors.compression(agreement) if agreement else None
        self.encoding = self._compression.encoding if self._compression else PLAIN
        self._inflater: Inflater | None = None
        self._opcode = _CLOSE  # of the current frame
        self._has_rsv1 = False  # the first frame of the message
        self.message_opcode: Opcode | None = None
        self._is_compressed = False
        self._size = 0
        self._fragments = 0
        self._last_byte = b""
        self.broken_rule = ""

    @property
    def outgoing(self) -> list[Extension]:
        """The extensions that messages to the client need."""
        return [] if self._compression is None else [self]

    def enabled(self) -> bool:
        """Return True: the extension is always part of the connection."""
        return True

    def offer(self) -> bool | str:
        """Offer nothing: wsproto's handshake is not used."""
        return False

    # -- incoming messages ---------------------------------------------------------------------

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  # wsproto's interface
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Check a frame's header before any of its payload is buffered.

        wsproto calls this again each time more of one header arrives, so nothing is counted here.
        """
        self._opcode = opcode
        if opcode >= _CLOSE:
            return NO_RSV
        if opcode is _CONTINUATION:
            return self._check_continuation(payload_length)
        # RFC 6455 section 5.4: "The fragments of one message MUST NOT be interleaved between the
        # fragments of another message".
        if self.message_opcode is not None:
            return self._fail(_PROTOCOL_ERROR, rules.INTERLEAVED)
        self._has_rsv1 = has_rsv1 = rsv[0]
        if payload_length > self.max_size and not has_rsv1:
            return self._fail(_TOO_BIG, rules.SIZE)
        return self._rsv

    def _fail(self, code: CloseReason, rule: str) -> CloseReason:
        """Return the code, and keep the rule that was broken."""
        self.broken_rule = rule
        return code

    def _check_continuation(self, payload_length: int) -> CloseReason | RsvBits:
        if self.message_opcode is None:
            return self._fail(_PROTOCOL_ERROR, rules.FIRST_FRAGMENT)
        if not self._is_compressed and self._size + payload_length > self.max_size:
            return self._fail(_TOO_BIG, rules.SIZE)
        return NO_RSV

    def frame_inbound_payload_data(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  # wsproto's interface
        data: bytes,
    ) -> bytes | CloseReason:
        """Read a piece of a frame's payload; wsproto calls this at least once for every frame."""
        if self._opcode >= _CLOSE:
            return data
        if self.message_opcode is None:
            self.message_opcode = self._opcode
            self._is_compressed = self._has_rsv1
            self._last_byte = b""
        return self._inflate(data) if self._is_compressed else self._count(data)

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  # wsproto's interface
        fin: bool,
    ) -> bytes | CloseReason | None:
        """Read the end of a frame; return the rest of a compressed message."""
        if self._opcode >= _CLOSE:
            return None
        if not fin:
            self._fragments += 1
            if self._fragments >= self._limits.fragments:
                return self._fail(_TOO_BIG, rules.FRAGMENTS)
            return None
        rest = self._finish_inflating() if self._is_compressed else None
        self.message_opcode = None
        self._size = self._fragments = 0
        return rest

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        if self._inflater is None:
            assert self._agreement is not None  # without it the bit is an error
            self._inflater = Inflater(self._agreement)
        try:
            return self._count(self._inflater.inflate(data, self.max_size - self._size))
        except zlib.error:
            return self._fail(_INVALID_PAYLOAD, rules.DEFLATE)

    def _finish_inflating(self) -> bytes | CloseReason:
        assert self._inflater is not None  # every frame's payload has passed `_inflate`
        try:
            return self._count(self._inflater.finish(self.max_size - self._size))
        except zlib.error:
            return self._fail(_INVALID_PAYLOAD, rules.DEFLATE)

    def _count(self, data: bytes) -> bytes | CloseReason:
        """Return the data if the message is within its limit and, if text, may be UTF-8."""
        self._size += len(data)
        if self._size > self.max_size:
            return self._fail(_TOO_BIG, rules.SIZE)
        if self.message_opcode is _TEXT and data:
            end = self._last_byte + data[-2:]
            self._last_byte = data[-1:]
            if ends_in_surrogate(end):
                return self._fail(_INVALID_PAYLOAD, rules.UTF8)
        return data

    # -- outgoing messages ---------------------------------------------------------------------

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002  # wsproto's interface
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,  # noqa: ARG002  # our messages are one frame each
    ) -> tuple[RsvBits, bytes]:
        """Compress a message if that was agreed and makes it smaller."""
        compression = self._compression
        if compression is None or len(data) < compression.threshold or opcode >= _CLOSE:
            return rsv, data
        compressed = compression.compress(data)
        return (rsv, data) if compressed is None else (_RSV1, compressed)
