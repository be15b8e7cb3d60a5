"""The codec that wsproto drives: bounded, lazy, and the one place that knows wsproto."""

from typing import Any

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

from wsgate.protocol.codec import Fail, Item, PeerClose, Ping, Pong
from wsgate.protocol.deflate import Deflate

# wsproto's own texts speak of positions within the chunk of bytes that it was fed.
_REASONS = {
    1002: "protocol error",
    1007: "invalid payload",
    1009: "message too big",
}
_PEER_CLOSED = (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED)
_PIECES = 512


class WsprotoCodec:
    """A `FrameCodec` over wsproto.

    deflate: the extension that bounds messages and inflates them; every connection has one.
    """

    __slots__ = ("_parts", "_pieces", "_wsproto")

    def __init__(self, deflate: Deflate) -> None:
        # The handshake is done: the connection is made directly with what was agreed.
        self._wsproto = Connection(ConnectionType.SERVER, [deflate])
        # Of one message, which is text or binary throughout.
        self._pieces: list[Any] = []
        self._parts: list[Any] = []

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; what comes behind its Close is ignored."""
        # RFC 6455 section 5.5.1: after a Close, "any data received MUST be discarded".
        if self._wsproto.state not in _PEER_CLOSED:
            self._wsproto.receive_data(data)

    def take(self, limit: int) -> list[Item]:
        """Return the next items, at most `limit`; fewer mean that more bytes are needed."""
        items: list[Item] = []
        for event in self._wsproto.events():
            if isinstance(event, Message):
                self._collect(event.data)
                if event.message_finished:
                    items.append(self._whole(event.data))
            elif isinstance(event, PingEvent):
                items.append(Ping(bytes(event.payload)))
            elif isinstance(event, PongEvent):
                items.append(Pong(bytes(event.payload)))
            else:
                assert isinstance(event, CloseConnection)  # behind the handshake there is no other
                items.append(self._ending(event))
            if len(items) >= limit:
                break
        return items

    def _collect(self, data: str | bytes) -> None:
        # A message may come in a million pieces: joined now and then, they cost what they hold.
        self._pieces.append(data)
        if len(self._pieces) >= _PIECES:
            self._parts.append(data[:0].join(self._pieces))
            self._pieces = []

    def _whole(self, data: str | bytes) -> str | bytes:
        pieces = [*self._parts, *self._pieces]
        self._parts, self._pieces = [], []
        whole = data[:0].join(pieces)
        return whole if isinstance(whole, str) else bytes(whole)

    def _ending(self, event: CloseConnection) -> Fail | PeerClose:
        # wsproto reports a parse error with the event of a peer's Close; only its state tells.
        code = int(event.code)
        if self._wsproto.state in _PEER_CLOSED:
            return PeerClose(code, event.reason or "")
        return Fail(code, _REASONS[code])

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
