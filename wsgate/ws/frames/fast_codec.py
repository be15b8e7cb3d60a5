"""The fast lane: a codec that reads what is usual by itself, and has wsproto read the rest.

Nearly every frame of a chat is one whole message, a Ping, a Pong or a Close. wsproto takes some
ten microseconds for each; here they take two. What is neither whole nor usual (fragments, large
compressed messages, whatever is wrong) goes to a wsproto codec from the start of its frame on, up
to the end of its message: so that faults are judged in one place, and nothing of wsproto is there
while a connection rests.
Sources: RFC 6455 section 5 (frames), RFC 7692 section 7.2 (compressed messages).
"""

from collections.abc import Sequence

from wsgate.ws.codes import INVALID_PAYLOAD, NO_STATUS, failure, read_close
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.deflate.wsproto_extension import Deflate, MessageLimits
from wsgate.ws.frames.codec import SLICE, Fail, Item, PeerClose, Ping, Pong
from wsgate.ws.frames.fragments import Partial
from wsgate.ws.frames.messages import BINARY, COMPRESSED, TEXT, head, measure
from wsgate.ws.frames.splitter import Boundaries
from wsgate.ws.frames.wsproto_codec import WsprotoCodec

try:
    from wsgate.ws.frames import _messages as compiled
except ImportError:  # no compiler was found where wsgate was installed
    from wsgate.ws.frames import messages as compiled  # type: ignore[no-redef]  # the same functions

_CLOSE, _PING, _PONG = 0x88, 0x89, 0x8A
_CONTROLS = frozenset({_CLOSE, _PING, _PONG})
_LONGEST_CONTROL = 125  # octets of its payload: RFC 6455 section 5.5
_MASKED = 0x80
_LONGEST = (1 << 63) - 1  # RFC 6455 section 5.2: "the most significant bit MUST be 0"


class FastCodec:
    """A `FrameCodec` with a fast lane over wsproto; its own messages are not compressed.

    agreement: of permessage-deflate, None without it. Each connection has one of its own; the
    other two are shared. pending: whether `take` has something left to look at.
    """

    __slots__ = (
        "_agreement",
        "_at",
        "_boundaries",
        "_compressors",
        "_input",
        "_is_busy",
        "_is_over",
        "_limits",
        "_most",
        "_partial",
        "_wsproto",
        "pending",
    )

    encoding: object | None = "plain"
    # Class attributes, so that the tests can run the plain twin, and a call goes straight there.
    read_message = staticmethod(compiled.read_message)
    _read_messages = staticmethod(compiled.read_messages)
    _read_compressed = staticmethod(compiled.read_compressed)
    _unmask = staticmethod(compiled.unmask)
    message = staticmethod(compiled.data_frame)

    def __init__(
        self, limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
    ) -> None:
        self._limits = limits
        self._most = min(limits.size, _LONGEST)
        self._agreement = agreement
        self._compressors = compressors
        self._input = b""
        self._at = 0  # where in the input the next frame begins
        self._is_busy = False  # there is input, or a message of which the end is still to come
        self._is_over = False  # nothing more is read
        self.pending = False
        self._partial: Partial | None = None  # a message of which the end is still to come
        self._wsproto: WsprotoCodec | None = None  # has the input while there are boundaries
        self._boundaries: Boundaries | None = None

    # -- what comes in -------------------------------------------------------------------------

    def take(self, limit: int, data: bytes = b"") -> Sequence[Item]:
        """Add bytes; return the messages that are whole, or what stands there instead."""
        if self._is_busy:
            return self._take_more(limit, data)
        if data and data[0] in _CONTROLS and (item := self._lone_control(data)) is not None:
            return (item,) if isinstance(item, (Ping, Pong)) else self._end(item)
        items, at = self._read_messages(data, 0, limit, self._most)
        if at != len(data):
            self._is_busy = self.pending = True
            self._input, self._at = data, at
            if not items:
                return self._take_other(data, at)
        return items

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; what comes behind its Close or a fault is dropped."""
        if data and not self._is_over:
            self._input = self._input[self._at :] + data if self._input else data
            self._at = 0
            self._is_busy = self.pending = True

    @property
    def is_at_rest(self) -> bool:
        """Whether no message is under way and nothing waits, so that `take` may be left out."""
        return not self._is_busy

    @property
    def buffered(self) -> int:
        """How many bytes wait to be looked at."""
        return len(self._input) - self._at

    def drop(self) -> None:
        """Forget what waits to be looked at."""
        self._input, self._at, self.pending = b"", 0, False

    def _take_more(self, limit: int, data: bytes) -> Sequence[Item]:
        """Go on behind what waits already, or in the middle of a message."""
        self.feed(data)
        if not self.pending:
            return ()
        if self._partial is not None:
            return self._take_partial(self._partial)
        if self._boundaries is not None:
            assert self._wsproto is not None  # they come together
            return self._take_from_wsproto(self._wsproto, self._boundaries)
        items, at = self._read_messages(self._input, self._at, limit, self._most)
        self._advance(at)
        if self._input and not items:
            return self._take_other(self._input, at)
        return items

    def _advance(self, at: int) -> None:
        """Have the input go on at `at`; at its end, and that of a message, all is as at first."""
        self._at = at
        if at == len(self._input):
            self.drop()
            self._is_busy = self._partial is not None or self._boundaries is not None

    def _take_other(self, data: bytes, at: int) -> Sequence[Item]:
        """Take what stands at `at` and is no whole plain message."""
        if len(data) - at < 2:  # noqa: PLR2004  # the first two octets tell of the rest
            return self._wait()
        first, second = data[at], data[at + 1]
        if second & _MASKED:
            if first in (TEXT, BINARY):
                return self._take_cut_short(data, at)
            if first in COMPRESSED:
                return self._take_compressed(data, at)
            if first in _CONTROLS and second & 0x7F <= _LONGEST_CONTROL:
                return self._take_control(data, at)
        return self._hand_over()

    def _wait(self) -> Sequence[Item]:
        # A frame's beginning is kept, and not all that came in one piece with it.
        self._input, self._at = self._input[self._at :], 0
        self.pending = False
        return ()

    # -- control frames ------------------------------------------------------------------------

    def _lone_control(self, data: bytes) -> Ping | Pong | PeerClose | Fail | None:
        """Return what the control frame says that `data` is, None where it is anything else."""
        size = len(data) - 6
        if not 0 <= size <= _LONGEST_CONTROL or data[1] != _MASKED | size:
            return None
        return _control(data[0], self._unmask(data[6:], data[2:6]))

    def _take_control(self, data: bytes, at: int) -> Sequence[Item]:
        end = at + 6 + (data[at + 1] & 0x7F)
        if len(data) < end:
            return self._wait()
        item = _control(data[at], self._unmask(data[at + 6 : end], data[at + 2 : at + 6]))
        if not isinstance(item, (Ping, Pong)):
            return self._end(item)
        self._advance(end)
        return (item,)

    def _end(self, item: Fail | PeerClose) -> Sequence[Item]:
        """Read nothing more."""
        self._is_over = self._is_busy = True
        self._partial = self._wsproto = self._boundaries = None
        self.drop()
        return (item,)

    # -- messages that are not whole, or compressed --------------------------------------------

    def _take_cut_short(self, data: bytes, at: int) -> Sequence[Item]:
        """Begin a plain message of which a part has come; wsproto judges what is wrong with it."""
        start, length = measure(data, at)
        if length > self._most or len(data) - start >= length > 0:
            return self._hand_over()  # too long, or whole, and then no text
        if len(data) < start:
            return self._wait()
        self._partial = Partial(data[at] == TEXT, data[start - 4 : start], length)
        self._at = start
        return self._take_partial(self._partial)

    def _take_partial(self, partial: Partial) -> Sequence[Item]:
        piece = self._input[self._at : self._at + partial.left]
        is_text_yet = partial.add(self._unmask(piece, partial.mask))
        if not partial.left:
            self._partial = None
        self._advance(self._at + len(piece))
        if not is_text_yet:
            return self._end(failure(INVALID_PAYLOAD))
        return () if partial.left else (partial.whole(),)

    def _take_compressed(self, data: bytes, at: int) -> Sequence[Item]:  # noqa: ARG002  # for those who inflate
        """Leave it to wsproto, which has the window that the client keeps, or finds the fault."""
        return self._hand_over()

    # -- wsproto's turn ------------------------------------------------------------------------

    def _hand_over(self) -> Sequence[Item]:
        """Have wsproto read from here on, up to the end of the message."""
        if self._wsproto is None:
            deflate = Deflate(self._limits, self._agreement, self._compressors)
            self._wsproto = WsprotoCodec(deflate)
        self._boundaries = Boundaries()
        return self._take_from_wsproto(self._wsproto, self._boundaries)

    def _take_from_wsproto(self, wsproto: WsprotoCodec, boundaries: Boundaries) -> Sequence[Item]:
        items: list[Item] = []
        end = min(len(self._input), self._at + SLICE)
        while self._at < end and not items and not boundaries.is_between:
            piece = boundaries.passed(self._input, self._at, end)
            self._at += len(piece)
            items += wsproto.take(2, piece)  # a frame makes one item
        if boundaries.is_between:
            self._boundaries = None
            if self._agreement is None or self._agreement.client_no_context_takeover:
                self._wsproto = None  # nothing of it is needed for the next message
        self._advance(self._at)
        if items and isinstance(items[-1], (Fail, PeerClose)):
            return self._end(items[-1])
        return items

    # -- what goes out -------------------------------------------------------------------------

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping of at most 125 bytes."""
        return head(_PING, len(payload)) + payload

    def pong(self, payload: bytes) -> bytes:
        """Return a Pong of at most 125 bytes."""
        return head(_PONG, len(payload)) + payload

    def close(self, code: int, reason: str) -> bytes:
        """Return a Close; 1005 for one without code, then nothing but Close can be sent."""
        payload = b"" if code == NO_STATUS else code.to_bytes(2, "big") + reason.encode()
        return head(_CLOSE, len(payload)) + payload


def _control(first: int, payload: bytes) -> Ping | Pong | PeerClose | Fail:
    """Return what a control frame says."""
    if first == _CLOSE:
        return read_close(payload)
    return Ping(payload) if first == _PING else Pong(payload)
