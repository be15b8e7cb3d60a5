"""The fast codec: reads the common frames itself and hands all others to wsproto.

Nearly every frame of a chat is a whole message, a Ping, a Pong or a Close. wsproto takes some ten
microseconds for each; this codec takes two. Everything else (fragments, large compressed messages,
any fault) goes to a `WsprotoCodec`, from the start of its frame to the end of its message. So
faults are found in one place, and an idle connection holds nothing of wsproto.
Sources: RFC 6455 section 5 (frames), RFC 7692 section 7.2 (compressed messages).
"""

from collections.abc import Sequence

from wsgate.ws import rules
from wsgate.ws.codes import INVALID_PAYLOAD, close_payload, failure, read_close
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.deflate.wsproto_extension import MessageExtension
from wsgate.ws.encoded import PLAIN, Encoding
from wsgate.ws.frames.codec import SLICE, Fail, Item, PeerClose, Ping, Pong
from wsgate.ws.frames.fragments import PartialFrame
from wsgate.ws.frames.header import (
    BINARY,
    CLOSE,
    COMPRESSED_BINARY,
    COMPRESSED_TEXT,
    MASK_SIZE,
    MASKED,
    MAX_CONTROL_SIZE,
    PING,
    PONG,
    TEXT,
    FrameHeader,
    read_header,
    write_header,
)
from wsgate.ws.frames.splitter import FrameSplitter
from wsgate.ws.frames.wsproto_codec import WsprotoCodec
from wsgate.ws.limits import MessageLimits

try:
    from wsgate.ws.frames import _messages as compiled
except ImportError:  # no compiler was found where wsgate was installed
    from wsgate.ws.frames import messages as compiled  # type: ignore[no-redef]  # the same functions

_CONTROLS = frozenset({CLOSE, PING, PONG})
_MESSAGES = frozenset({TEXT, BINARY})
_COMPRESSED = frozenset({COMPRESSED_TEXT, COMPRESSED_BINARY})
_PING = write_header(PING, 0)  # without a payload: the same object for all connections
_MAX_LENGTH = (1 << 63) - 1  # RFC 6455 section 5.2: "the most significant bit MUST be 0"


class FastCodec:
    """A `FrameCodec` that needs wsproto only for uncommon frames; it does not compress.

    agreement: on permessage-deflate, None without it. pending: whether `take` has anything left to
    parse. Each connection has its own codec; limits and compressors are shared.
    """

    __slots__ = (
        "_agreement",
        "_compressors",
        "_input",
        "_is_busy",
        "_is_over",
        "_limits",
        "_max_size",
        "_partial",
        "_position",
        "_splitter",
        "_wsproto",
        "pending",
    )

    encoding: Encoding | None = PLAIN
    # Class attributes: tests replace them by the plain twins, and calls go straight to C.
    read_message = staticmethod(compiled.read_message)
    is_pong = staticmethod(compiled.is_pong)
    _read_messages = staticmethod(compiled.read_messages)
    _read_compressed = staticmethod(compiled.read_compressed)
    _unmask = staticmethod(compiled.unmask)
    _read_here = _MESSAGES  # first octets of the messages that need no wsproto
    message = staticmethod(compiled.data_frame)

    def __init__(
        self, limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
    ) -> None:
        self._limits = limits
        self._max_size = min(limits.size, _MAX_LENGTH)
        self._agreement = agreement
        self._compressors = compressors
        self._input = b""
        self._position = 0  # in the input, of the next frame
        self._is_busy = False  # bytes are buffered, a message is incomplete, or reading is over
        self._is_over = False  # nothing more is read
        self.pending = False
        self._partial: PartialFrame | None = None  # of which the end is still to come
        # wsproto reads the input while there is a splitter, which ends where its message ends.
        self._wsproto: WsprotoCodec | None = None
        self._splitter: FrameSplitter | None = None

    # -- reading -------------------------------------------------------------------------------

    def take(self, limit: int, data: bytes = b"") -> Sequence[Item]:
        """Add bytes; return whole messages, at most `limit`, or else the items of one frame."""
        if self._is_busy:
            return self._take_buffered(limit, data)
        if data and data[0] in _CONTROLS and (item := self._read_lone_control(data)) is not None:
            return (item,) if isinstance(item, (Ping, Pong)) else self._end(item)
        items, position = self._read_messages(data, 0, limit, self._max_size)
        if position != len(data):
            self._is_busy = self.pending = True
            self._input, self._position = data, position
            if not items:
                return self._take_other()
        return items

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; they are dropped after its Close or a fault."""
        if data and not self._is_over:
            self._input = self._input[self._position :] + data if self._input else data
            self._position = 0
            self._is_busy = self.pending = True

    @property
    def is_idle(self) -> bool:
        """Whether nothing is buffered and no message is incomplete."""
        return not self._is_busy

    @property
    def buffered(self) -> int:
        """Number of bytes that are not parsed yet."""
        return len(self._input) - self._position

    def drop(self) -> None:
        """Discard the bytes that are not parsed yet."""
        self._input, self._position, self.pending = b"", 0, False

    def _take_buffered(self, limit: int, data: bytes) -> Sequence[Item]:
        """Continue with buffered bytes, or within a message."""
        self.feed(data)
        if not self.pending:
            return ()
        if self._partial is not None:
            return self._continue_partial(self._partial)
        if self._splitter is not None:
            assert self._wsproto is not None  # they are set together
            return self._take_from_wsproto(self._wsproto, self._splitter)
        items, position = self._read_messages(self._input, self._position, limit, self._max_size)
        self._advance(position)
        if self._input and not items:
            return self._take_other()
        return items

    def _advance(self, position: int) -> None:
        """Continue at `position`; at the end of the input, drop it."""
        self._position = position
        if position == len(self._input):
            self.drop()
            self._is_busy = self._partial is not None or self._splitter is not None

    def _take_other(self) -> Sequence[Item]:
        """Take a frame that is not a whole plain message."""
        header = read_header(self._input, self._position)
        if header is None:
            return self._wait() if self._may_be_common else self._hand_over()
        if header.is_masked and header.is_minimal:
            if header.first in _MESSAGES:
                return self._take_partial(header)
            if header.first in _COMPRESSED:
                return self._take_compressed(header)
        return self._take_control(header) if _is_valid_control(header) else self._hand_over()

    @property
    def _may_be_common(self) -> bool:
        """Whether an incomplete header may become that of a message which is read here.

        If not, it may have a fault that wsproto finds in the first two octets, and has to find now.
        """
        start = self._input[self._position : self._position + 2]
        # After two octets an extended length is to come, which no control frame has.
        return len(start) == 1 or (start[0] in self._read_here and start[1] >= MASKED)

    def _wait(self) -> Sequence[Item]:
        """Keep the beginning of a frame, but not the data that arrived before it."""
        self._input, self._position = self._input[self._position :], 0
        self.pending = False
        return ()

    def _end(self, item: Fail | PeerClose) -> Sequence[Item]:
        """Read nothing more."""
        self._is_over = self._is_busy = True
        self._partial = self._wsproto = self._splitter = None
        self.drop()
        return (item,)

    # -- control frames ------------------------------------------------------------------------

    def _read_lone_control(self, data: bytes) -> Ping | Pong | PeerClose | Fail | None:
        """Return the control frame if `data` is exactly one, else None."""
        header = read_header(data, 0)
        if header is None or header.payload_start + header.length != len(data):
            return None
        return self._read_control(data, header) if _is_valid_control(header) else None

    def _read_control(self, data: bytes, header: FrameHeader) -> Ping | Pong | PeerClose | Fail:
        start, end = header.payload_start, header.payload_start + header.length
        payload = self._unmask(data[start:end], data[start - MASK_SIZE : start])
        if header.first == CLOSE:
            return read_close(payload)
        return Ping(payload) if header.first == PING else Pong(payload)

    def _take_control(self, header: FrameHeader) -> Sequence[Item]:
        end = header.payload_start + header.length
        if len(self._input) < end:
            return self._wait()
        item = self._read_control(self._input, header)
        if not isinstance(item, (Ping, Pong)):
            return self._end(item)
        self._advance(end)
        return (item,)

    # -- incomplete and compressed messages ----------------------------------------------------

    def _take_partial(self, header: FrameHeader) -> Sequence[Item]:
        """Begin a plain message that is incomplete; any fault is left to wsproto."""
        data, start = self._input, header.payload_start
        if header.length > self._max_size:
            return self._hand_over()
        if len(data) < start:
            return self._wait()
        if len(data) - start >= header.length:
            return self._hand_over()  # it is complete, so it is text that is not UTF-8
        mask = data[start - MASK_SIZE : start]
        self._partial = PartialFrame(header.first == TEXT, mask, header.length)
        self._position = start
        return self._continue_partial(self._partial)

    def _continue_partial(self, partial: PartialFrame) -> Sequence[Item]:
        piece = self._input[self._position : self._position + partial.remaining]
        is_valid = partial.append(self._unmask(piece, partial.mask))
        if not partial.remaining:
            self._partial = None
        self._advance(self._position + len(piece))
        if not is_valid:
            return self._end(failure(INVALID_PAYLOAD, rules.UTF8))
        return () if partial.remaining else (partial.message(),)

    def _take_compressed(self, header: FrameHeader) -> Sequence[Item]:  # noqa: ARG002  # for the subclass
        """Leave it to wsproto, which keeps the client's window, or finds the fault."""
        return self._hand_over()

    # -- everything else: read by wsproto ------------------------------------------------------

    def _hand_over(self) -> Sequence[Item]:
        """Let wsproto read from here to the end of the message."""
        if self._wsproto is None:
            extension = MessageExtension(self._limits, self._agreement, self._compressors)
            self._wsproto = WsprotoCodec(extension)
        self._splitter = FrameSplitter()
        return self._take_from_wsproto(self._wsproto, self._splitter)

    def _take_from_wsproto(self, wsproto: WsprotoCodec, splitter: FrameSplitter) -> Sequence[Item]:
        items: list[Item] = []
        end = min(len(self._input), self._position + SLICE)
        while self._position < end and not items and not splitter.is_message_complete:
            piece = splitter.next_piece(self._input, self._position, end)
            self._position += len(piece)
            items += wsproto.take(2, piece)  # a frame makes one item
        if splitter.is_message_complete:
            self._splitter = None
            if self._agreement is None or self._agreement.client_no_context_takeover:
                self._wsproto = None  # the next message needs nothing of it
        self._advance(self._position)
        if items and isinstance(items[-1], (Fail, PeerClose)):
            return self._end(items[-1])
        return items

    # -- writing -------------------------------------------------------------------------------

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping of at most 125 bytes."""
        return write_header(PING, len(payload)) + payload if payload else _PING

    def pong(self, payload: bytes) -> bytes:
        """Return a Pong of at most 125 bytes."""
        return write_header(PONG, len(payload)) + payload

    def close(self, code: int, reason: str) -> bytes:
        """Return a Close, without a code for 1005. Only another Close may be sent after it."""
        payload = close_payload(code, reason)
        return write_header(CLOSE, len(payload)) + payload


def _is_valid_control(header: FrameHeader) -> bool:
    """Return whether this is the header of a valid Close, Ping or Pong from a client."""
    return (
        header.first in _CONTROLS
        and header.is_masked
        and header.is_minimal
        and header.length <= MAX_CONTROL_SIZE
    )
