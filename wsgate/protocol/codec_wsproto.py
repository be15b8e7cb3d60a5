"""The codec that wsproto drives: bounded and lazy.

wsproto's `FrameProtocol` is driven without the `Connection` around it, which makes an event of
each frame and looks for another one behind the last. What that knew besides is known here: that
nothing is read behind a Close or a fault.
"""

from typing import Any

from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode, ParseFailed

from wsgate.protocol.codec import SLICE, Fail, Item, PeerClose, Ping, Pong
from wsgate.protocol.deflate import Deflate
from wsgate.protocol.pieces import Pieces

# wsproto's own texts speak of positions within the chunk of bytes that it was fed.
_REASONS = {
    1002: "protocol error",
    1007: "invalid payload",
    1009: "message too big",
}
# Opcode.TEXT is a call in CPython 3.11.
_TEXT, _BINARY, _PING, _PONG = Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG
_NO_STATUS = CloseReason.NO_STATUS_RCVD


class WsprotoCodec:
    """A `FrameCodec` over wsproto.

    deflate: the extension that bounds messages and inflates them; every connection has one.
    slice_size: bytes that one `take` gives to wsproto at the most, which parses them all.
    """

    __slots__ = ("_deflate", "_input", "_is_drained", "_is_over", "_pieces", "_slice", "_wsproto")

    def __init__(self, deflate: Deflate, slice_size: int = SLICE) -> None:
        # The handshake is done: the protocol is made directly with what was agreed.
        self._wsproto = FrameProtocol(client=False, extensions=[deflate])
        self._deflate = deflate
        self._slice = slice_size
        self._input = bytearray()
        self._is_drained = True  # wsproto has no frame left
        self._is_over = False  # nothing more is read
        self._pieces: Pieces | None = None  # of a message of which the end is still to come

    def read_message(self, data: bytes, most: int) -> None:  # the interface's
        """Read nothing: wsproto reads every frame, so that the codec is never at rest."""

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; what comes behind its Close or a fault is dropped."""
        # RFC 6455 section 5.5.1: after a Close, "any data received MUST be discarded".
        if not self._is_over:
            self._input += data

    @property
    def pending(self) -> bool:
        """Whether `take` has something left to look at; else it needs more bytes."""
        return bool(self._input) or not self._is_drained

    @property
    def is_at_rest(self) -> bool:
        """Say that wsproto reads every frame."""
        return False

    @property
    def buffered(self) -> int:
        """How many bytes wait to be looked at."""
        return len(self._input)

    def take(self, limit: int, data: bytes = b"") -> list[Item]:
        """Add bytes and return the items of one slice, at most `limit`."""
        if self._input or not self._is_drained or len(data) > self._slice:
            self.feed(data)
            self._parse_slice()
        elif data and not self._is_over:
            self._wsproto.receive_bytes(data)
        items: list[Item] = []
        self._is_drained = True
        payload: Any  # only a Close's is no message's
        try:
            for opcode, payload, _, is_whole in self._wsproto.received_frames():
                if opcode is not _BINARY and opcode is not _TEXT:
                    items.append(self._control(opcode, payload))
                elif not is_whole:
                    self._add(payload)
                    continue
                else:
                    items.append(
                        payload if self._pieces is None else self._joined(self._pieces, payload)
                    )
                if self._deflate.is_at_end:
                    break
                if len(items) >= limit:
                    self._is_drained = self._is_over
                    break
        except ParseFailed as error:
            code = int(error.code)
            items.append(self._end(Fail(code, _REASONS[code])))
        return items

    def _parse_slice(self) -> None:
        if self._is_drained:
            self._wsproto.receive_bytes(bytes(self._input[: self._slice]))
            del self._input[: self._slice]

    def _add(self, piece: str | bytes) -> None:
        if self._pieces is None:
            self._pieces = Pieces()
        self._pieces.add(piece)

    def _joined(self, pieces: Pieces, last: str | bytes) -> str | bytes:
        self._pieces = None
        pieces.add(last)
        return pieces.joined()

    def _control(self, opcode: Opcode, payload: Any) -> Item:
        if opcode is _PING:
            return Ping(payload)
        if opcode is _PONG:
            return Pong(payload)
        code, reason = payload  # wsproto has taken the Close apart
        return self._end(PeerClose(int(code), reason))

    def _end(self, item: Fail | PeerClose) -> Item:
        """Read nothing more."""
        self._is_over = True
        self.drop()
        return item

    def drop(self) -> None:
        """Forget what waits to be looked at."""
        self._input.clear()
        self._is_drained = True

    def message(self, payload: str | bytes) -> bytes:
        """Return a data message. Raises UnicodeEncodeError for text with a lone surrogate."""
        return bytes(self._wsproto.send_data(payload))

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping of at most 125 bytes."""
        return bytes(self._wsproto.ping(payload))

    def pong(self, payload: bytes) -> bytes:
        """Return a Pong of at most 125 bytes."""
        return bytes(self._wsproto.pong(payload))

    def close(self, code: int, reason: str) -> bytes:
        """Return a Close; 1005 for one without code, then nothing but Close can be sent."""
        known = _NO_STATUS if code == _NO_STATUS else code
        return bytes(self._wsproto.close(known, reason or None))
