"""The codec that wsproto drives: bounded, lazy, and the one place that knows wsproto."""

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Message,
    Ping as PingEvent,
    Pong as PongEvent,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason

from wsgate.protocol.codec import SLICE, Fail, Item, PeerClose, Ping, Pong
from wsgate.protocol.deflate import Deflate
from wsgate.protocol.pieces import Pieces

# wsproto's own texts speak of positions within the chunk of bytes that it was fed.
_REASONS = {
    1002: "protocol error",
    1007: "invalid payload",
    1009: "message too big",
}
_PEER_CLOSED = (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED)


class WsprotoCodec:
    """A `FrameCodec` over wsproto.

    deflate: the extension that bounds messages and inflates them; every connection has one.
    slice_size: bytes that one `take` gives to wsproto at the most, which parses them all.
    """

    __slots__ = ("_input", "_is_drained", "_pieces", "_slice", "_wsproto")

    def __init__(self, deflate: Deflate, slice_size: int = SLICE) -> None:
        # The handshake is done: the connection is made directly with what was agreed.
        self._wsproto = Connection(ConnectionType.SERVER, [deflate])
        self._slice = slice_size
        self._input = bytearray()
        self._is_drained = True  # wsproto has no event left
        self._pieces: Pieces | None = None  # of a message of which the end is still to come

    def read_message(self, data: bytes, most: int) -> None:  # the interface's
        """Read nothing: wsproto reads every frame, so that the codec is never at rest."""

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; what comes behind its Close or a fault is dropped."""
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
            self._input += data
            self._parse_slice()
        elif data:
            self._parse(data)
        items: list[Item] = []
        for event in self._wsproto.events():
            if isinstance(event, Message):
                if event.message_finished:
                    items.append(self._whole(event.data))
                else:
                    self._pieces = self._pieces or Pieces()
                    self._pieces.add(event.data)
            elif isinstance(event, PingEvent):
                items.append(Ping(bytes(event.payload)))
            elif isinstance(event, PongEvent):
                items.append(Pong(bytes(event.payload)))
            else:
                assert isinstance(event, CloseConnection)  # behind the handshake there is no other
                items.append(self._ending(event))
            if len(items) >= limit:
                break
        self._is_drained = len(items) < limit
        return items

    def _parse_slice(self) -> None:
        if self._is_drained:
            self._parse(bytes(self._input[: self._slice]))
            del self._input[: self._slice]

    def _whole(self, last: str | bytes | bytearray) -> str | bytes:
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            return last if isinstance(last, str) else bytes(last)
        pieces.add(last)
        return pieces.joined()

    def _parse(self, data: bytes) -> None:
        # RFC 6455 section 5.5.1: after a Close, "any data received MUST be discarded".
        if self._wsproto.state not in _PEER_CLOSED:
            self._wsproto.receive_data(data)

    def _ending(self, event: CloseConnection) -> Fail | PeerClose:
        # wsproto reports a parse error with the event of a peer's Close; only its state tells.
        code = int(event.code)
        if self._wsproto.state in _PEER_CLOSED:
            return PeerClose(code, event.reason or "")
        return Fail(code, _REASONS[code])

    def drop(self) -> None:
        """Forget what waits to be looked at."""
        self._input.clear()
        self._is_drained = True

    def message(self, payload: str | bytes) -> bytes:
        """Return a data message. Raises UnicodeEncodeError for text with a lone surrogate."""
        if isinstance(payload, str):
            return bytes(self._wsproto.send(TextMessage(data=payload)))
        return bytes(self._wsproto.send(BytesMessage(data=payload)))

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping of at most 125 bytes."""
        return bytes(self._wsproto.send(PingEvent(payload=payload)))

    def pong(self, payload: bytes) -> bytes:
        """Return a Pong of at most 125 bytes."""
        return bytes(self._wsproto.send(PongEvent(payload=payload)))

    def close(self, code: int, reason: str) -> bytes:
        """Return a Close; 1005 for one without code, then nothing but Close can be sent."""
        known = CloseReason.NO_STATUS_RCVD if code == CloseReason.NO_STATUS_RCVD else code
        return bytes(self._wsproto.send(CloseConnection(code=known, reason=reason or None)))
