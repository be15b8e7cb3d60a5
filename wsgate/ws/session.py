"""One WebSocket session behind its handshake: bytes in, messages out, and the way it ends.

The session answers Pings and Closes by itself (`replies`) and never raises for what the peer sent.
Source: RFC 6455 sections 5.5 (control frames) and 7 (closing).
"""

from collections.abc import Sequence
from enum import Enum

from wsgate.errors import ClientDisconnected
from wsgate.ws.codes import ABNORMAL
from wsgate.ws.frames.codec import Fail, FrameCodec, Item, PeerClose, Ping


class State(Enum):
    """Where a session stands.

    FAILING: a bad frame came; nothing more is parsed, while what came before it still reaches the
    app and its answers still leave. CLOSING: our Close is out, the peer's is awaited. CLOSED: no
    frame goes either way any more, so the TCP connection is to be closed.
    """

    OPEN = "open"
    FAILING = "failing"
    CLOSING = "closing"
    CLOSED = "closed"

    __hash__ = object.__hash__  # Enum's own is a call of Python's


OPEN, FAILING, CLOSING, CLOSED = State  # State.OPEN is a call in CPython 3.11


class Cause(Enum):
    """What moves a session on."""

    FAULT = "a bad frame came"
    CLOSE_SENT = "our Close is out"
    CLOSE_RECEIVED = "the peer's Close came"
    LOST = "the TCP connection ended"

    __hash__ = object.__hash__  # as above


_FAULT, _CLOSE_SENT, _CLOSE_RECEIVED, _LOST = Cause

# A Close that answers a Close, or a fault, ends the session at once: RFC 6455 section 7.1.1 lets
# the server close TCP first, and behind a fault nothing of what comes could be understood.
NEXT: dict[tuple[State, Cause], State] = {
    (State.OPEN, Cause.FAULT): State.FAILING,
    (State.OPEN, Cause.CLOSE_SENT): State.CLOSING,
    (State.OPEN, Cause.CLOSE_RECEIVED): State.CLOSED,
    (State.OPEN, Cause.LOST): State.CLOSED,
    (State.FAILING, Cause.CLOSE_SENT): State.CLOSED,
    (State.FAILING, Cause.LOST): State.CLOSED,
    (State.CLOSING, Cause.FAULT): State.CLOSED,
    (State.CLOSING, Cause.CLOSE_RECEIVED): State.CLOSED,
    (State.CLOSING, Cause.LOST): State.CLOSED,
}


class Session:
    """One session.

    codec: reads and writes the frames. received, sent: messages. bytes_in, bytes_out: of frames, on
    the wire. close_code and close_reason: what the app is to be told of the end, once it has come;
    the code is the first that either side gave, 1006 when there was none.

    can_send: a message still reaches the peer.
    is_calm: it is open, and all that came is dealt with: a whole message may be read past it by the
    codec's `read_message`, if it is counted. is_stirred: something is left to be parsed, to be
    answered or to be ended. is_closed_by_both: the closing handshake is done (section 7.1.4), and
    the peer sends no more.
    """

    __slots__ = (
        "_eof",
        "_pings",
        "_replies",
        "bytes_in",
        "bytes_out",
        "can_send",
        "close_code",
        "close_reason",
        "codec",
        "is_calm",
        "is_closed_by_both",
        "is_stirred",
        "received",
        "sent",
        "state",
    )

    def __init__(self, codec: FrameCodec) -> None:
        self.codec = codec
        self._eof = False
        self._pings: Sequence[bytes] = ()
        self._replies = b""
        self.state = OPEN
        self.is_calm = codec.is_at_rest
        self.is_stirred = False
        self.can_send = True
        self.is_closed_by_both = False
        self.close_code = ABNORMAL
        self.close_reason = ""
        self.received = self.sent = 0
        self.bytes_in = self.bytes_out = 0

    # -- what comes in -------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; they are parsed by `take`."""
        if self.state is OPEN or self.state is CLOSING:
            self.bytes_in += len(data)
            self.codec.feed(data)
            self.is_calm = False

    def feed_eof(self) -> None:
        """Note that the TCP connection has ended; what came before is still there to `take`."""
        self._eof = True
        self.is_calm = self.can_send = False
        self._end_if_lost()

    @property
    def pending(self) -> bool:
        """Whether `take` has something left to look at."""
        return self.codec.pending  # which is fed in OPEN and CLOSING alone, and dropped behind them

    @property
    def buffered(self) -> int:
        """How many bytes wait to be parsed."""
        return self.codec.buffered

    def take(self, limit: int, data: bytes = b"") -> Sequence[str | bytes]:
        """Add bytes, parse a bounded part of what is there; return at most `limit` messages.

        No message is not the end: as long as `pending`, there is more to look at.
        """
        if self.state is not OPEN:
            return self._take_ending(limit, data)
        self.bytes_in += len(data)
        items = self.codec.take(limit, data)
        for item in items:
            if item.__class__ is not str and item.__class__ is not bytes:
                return self._sorted(items)
        self.received += len(items)
        self.is_stirred = self.codec.pending
        self.is_calm = self.codec.is_at_rest and not self._eof
        if self._eof:
            self._end_if_lost()
        return items  # type: ignore[return-value]  # as the loop has seen

    def _sorted(self, items: Sequence[Item]) -> Sequence[str | bytes]:
        """Return the messages among the items, and do what the others ask for."""
        messages = [item for item in items if isinstance(item, (str, bytes))]
        self.received += len(messages)
        self._obey(items)
        return messages

    def _take_ending(self, limit: int, data: bytes) -> Sequence[str | bytes]:
        """Look for the peer's Close; behind ours its messages reach nobody."""
        self.feed(data)
        if self.pending:
            self._obey(self.codec.take(limit))
        return ()

    def _obey(self, items: Sequence[Item]) -> None:
        self.is_stirred = True
        for item in items:
            if isinstance(item, PeerClose):
                self._peer_closed(item)
            elif isinstance(item, Ping):
                self._pings = [*self._pings, item.payload]
            elif isinstance(item, Fail):
                self._end(_FAULT, item.code, item.reason)
        self.is_calm = self.state is OPEN and self.codec.is_at_rest and not self._eof
        if self._eof:
            self._end_if_lost()

    def _peer_closed(self, close: PeerClose) -> None:
        if self.state is OPEN:
            # RFC 6455 section 5.5.1: "When sending a Close frame in response, the endpoint
            # typically echos the status code it received." Pings that came just before it stay
            # unanswered: section 5.5.2 asks for a Pong only "unless it already received a Close".
            self._replies = self.codec.close(close.code, "")
        self.is_closed_by_both = True
        self._end(_CLOSE_RECEIVED, close.code, close.reason)

    def _end_if_lost(self) -> None:
        if self._eof and self.state is not CLOSED and not self.pending:
            self._end(_LOST, ABNORMAL, "")

    def _end(self, cause: Cause, code: int, reason: str) -> None:
        if self.state is OPEN:
            self.close_code, self.close_reason = code, reason
        self.state = NEXT[self.state, cause]
        self.is_stirred, self.is_calm = True, False
        self.can_send = self.state is FAILING and not self._eof
        if self.state is not CLOSING:
            self.codec.drop()  # nothing more is parsed

    # -- what goes out -------------------------------------------------------------------------

    def replies(self, *, hold_pongs: bool = False) -> bytes:
        """Return what the session itself has to say to the bytes taken so far, once.

        hold_pongs: keep the answer to the last Ping for later, and drop those before it. RFC 6455
        section 5.5.3: an endpoint "MAY elect to send a Pong frame for only the most recently
        processed Ping frame".
        """
        out, self._replies = self._replies, b""
        if self._pings:
            if hold_pongs and self.can_send:
                self._pings = self._pings[-1:]
            else:
                pings, self._pings = self._pings, ()
                if self.can_send:
                    out = b"".join(map(self.codec.pong, pings)) + out
        self.bytes_out += len(out)
        return out

    def message(self, payload: str | bytes) -> bytes:
        """Return a data message.

        Raises ClientDisconnected once the session is closing, UnicodeEncodeError for a lone
        surrogate.
        """
        if not self.can_send:
            raise ClientDisconnected(f"the WebSocket is {self.state.value}")
        frame = self.codec.message(payload)
        self.sent += 1
        self.bytes_out += len(frame)
        return frame

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping, or nothing where none can be sent any more."""
        frame = self.codec.ping(payload) if self.can_send else b""
        self.bytes_out += len(frame)
        return frame

    def close(self, code: int, reason: str) -> bytes:
        """Return our Close, or nothing where one is out already.

        In FAILING the Close tells of the fault, whatever was asked for.
        """
        if not self.can_send:
            return b""
        if self.state is FAILING:
            code, reason = self.close_code, self.close_reason
        pongs = self.replies()
        frame = self.codec.close(code, reason)
        self.bytes_out += len(frame)
        self._end(_CLOSE_SENT, code, reason)
        return pongs + frame
