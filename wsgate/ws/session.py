"""One WebSocket session after its handshake: bytes in, messages out, and the closing handshake.

The session answers Pings and Closes itself (`take_replies`). Bad data from the peer raises nothing.
Source: RFC 6455 sections 5.5 (control frames) and 7 (closing).
"""

from collections.abc import Sequence
from enum import Enum

from wsgate.errors import ClientDisconnected
from wsgate.ws.codes import ABNORMAL
from wsgate.ws.encoded import Encoded
from wsgate.ws.frames.codec import Fail, FrameCodec, Item, PeerClose, Ping, Pong


class State(Enum):
    """The state of a session.

    FAILING: a bad frame arrived. Nothing more is parsed, but messages before it still reach the app
    and its answers are still sent. CLOSING: our Close is sent, the peer's is awaited. CLOSED: no
    frame is sent or read any more, so the TCP connection is to be closed.
    """

    OPEN = "open"
    FAILING = "failing"
    CLOSING = "closing"
    CLOSED = "closed"

    __hash__ = object.__hash__  # Enum's own is a Python call


OPEN, FAILING, CLOSING, CLOSED = State  # State.OPEN is a call in CPython 3.11


class Trigger(Enum):
    """An event that changes the state of a session."""

    FAULT = "a bad frame arrived"
    CLOSE_SENT = "our Close was sent"
    CLOSE_RECEIVED = "the peer's Close arrived"
    LOST = "the TCP connection ended"

    __hash__ = object.__hash__  # as above


_FAULT, _CLOSE_SENT, _CLOSE_RECEIVED, _LOST = Trigger

# A Close that answers a Close, or a fault, ends the session at once: RFC 6455 section 7.1.1 lets
# the server close TCP first, and after a fault the rest of the stream cannot be parsed.
TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.OPEN, Trigger.FAULT): State.FAILING,
    (State.OPEN, Trigger.CLOSE_SENT): State.CLOSING,
    (State.OPEN, Trigger.CLOSE_RECEIVED): State.CLOSED,
    (State.OPEN, Trigger.LOST): State.CLOSED,
    (State.FAILING, Trigger.CLOSE_SENT): State.CLOSED,
    (State.FAILING, Trigger.LOST): State.CLOSED,
    (State.CLOSING, Trigger.FAULT): State.CLOSED,
    (State.CLOSING, Trigger.CLOSE_RECEIVED): State.CLOSED,
    (State.CLOSING, Trigger.LOST): State.CLOSED,
}


class ClosedBy(Enum):
    """Who ended a session: the first that left the state OPEN."""

    CLIENT = "client"
    SERVER = "server"
    LOST = "lost"

    __hash__ = object.__hash__  # as above


CLIENT, SERVER, LOST = ClosedBy

# The server closes a session for a fault of the client.
_CLOSED_BY = {
    _FAULT: ClosedBy.SERVER,
    _CLOSE_SENT: ClosedBy.SERVER,
    _CLOSE_RECEIVED: ClosedBy.CLIENT,
    _LOST: ClosedBy.LOST,
}


class Session:
    """One session.

    codec: reads and writes the frames. close_code, close_reason, closed_by: set when the session
    leaves OPEN, by the first Close of either side, a fault, or the end of TCP (code 1006);
    closed_by is None before. has_fault, broken_rule: whether a fault has ended it, and the rule
    that was broken, empty if that is not known. is_closed_by_both: the closing handshake is
    complete (section 7.1.4), and the peer sends no more. has_pong: a Pong has arrived; whoever
    wants to know of the next one sets it to False.

    can_send: a message still reaches the peer. is_idle: it is open and everything that arrived was
    processed: a whole message may be read past the session by the codec's `read_message`.
    has_work: there is something to parse, to answer or to end.
    """

    __slots__ = (
        "_is_eof",
        "_pings",
        "_replies",
        "broken_rule",
        "can_send",
        "close_code",
        "close_reason",
        "closed_by",
        "codec",
        "has_fault",
        "has_pong",
        "has_work",
        "is_closed_by_both",
        "is_idle",
        "state",
    )

    def __init__(self, codec: FrameCodec) -> None:
        self.codec = codec
        self._is_eof = False
        self._pings: Sequence[bytes] = ()
        self._replies = b""
        self.state = OPEN
        self.is_closed_by_both = False
        self.close_code = ABNORMAL
        self.close_reason = ""
        self.closed_by: ClosedBy | None = None
        self.broken_rule = ""
        self.has_fault = False
        self.has_pong = False
        # What `_update_flags` derives for a new codec, which has nothing pending.
        self.can_send = True
        self.is_idle = codec.is_idle
        self.has_work = False

    # -- reading -------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; they are parsed by `take`."""
        if self.state is OPEN or self.state is CLOSING:
            self.codec.feed(data)
            self._update_flags()

    def feed_eof(self) -> None:
        """Record that the TCP connection has ended; data from before can still be taken."""
        self._is_eof = True
        self._update_flags()

    @property
    def pending(self) -> bool:
        """Whether `take` has anything left to parse."""
        return self.codec.pending  # only fed in OPEN and CLOSING, and dropped after them

    def take(self, limit: int, data: bytes = b"") -> Sequence[str | bytes]:
        """Add bytes, parse a bounded part of what is buffered; return at most `limit` messages.

        An empty result does not mean that nothing is left: see `pending`.
        """
        if self.state is not OPEN:
            return self._take_while_closing(limit, data)
        items = self.codec.take(limit, data)
        for item in items:
            if item.__class__ is not str and item.__class__ is not bytes:
                return self._split_messages_and_events(items)
        self._update_flags()
        return items  # type: ignore[return-value]  # the loop has checked every item

    def _split_messages_and_events(self, items: Sequence[Item]) -> Sequence[str | bytes]:
        """Return the messages among the items; handle the others."""
        messages = [item for item in items if isinstance(item, (str, bytes))]
        self._handle_events(items)
        return messages

    def _take_while_closing(self, limit: int, data: bytes) -> Sequence[str | bytes]:
        """Wait for the peer's Close; after ours its messages are discarded."""
        self.feed(data)
        if self.pending:
            self._handle_events(self.codec.take(limit))
        return ()

    def _handle_events(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, PeerClose):
                self._handle_close(item)
            elif isinstance(item, Ping):
                self._pings = [*self._pings, item.payload]
            elif isinstance(item, Fail):
                self._handle_fault(item)
            elif isinstance(item, Pong):
                self.has_pong = True
        self._update_flags()

    def _handle_close(self, close: PeerClose) -> None:
        if self.state is OPEN:
            # RFC 6455 section 5.5.1: "When sending a Close frame in response, the endpoint
            # typically echos the status code it received." Pings just before it are not answered:
            # section 5.5.2 wants a Pong "unless it already received a Close frame".
            self._replies = self.codec.close(close.code, "")
        self.is_closed_by_both = True
        self._change_state(_CLOSE_RECEIVED, close.code, close.reason)

    def _handle_fault(self, fault: Fail) -> None:
        if self.state is OPEN:
            self.has_fault, self.broken_rule = True, fault.rule
        self._change_state(_FAULT, fault.code, fault.reason)

    # -- the state -----------------------------------------------------------------------------

    def _change_state(self, trigger: Trigger, code: int, reason: str) -> None:
        """Move to the next state; the first move records the code, the reason and who closed."""
        if self.state is OPEN:
            self.close_code, self.close_reason = code, reason
            self.closed_by = _CLOSED_BY[trigger]
        self.state = TRANSITIONS[self.state, trigger]
        if self.state is not CLOSING:
            self.codec.drop()  # nothing more is parsed

    def _update_flags(self) -> None:
        """Derive the flags from the state, the end of TCP, the codec and what is to be answered.

        If TCP has ended and everything before was parsed, the session ends first.
        """
        pending = self.codec.pending
        if self._is_eof and not pending and self.state is not CLOSED:
            self._change_state(_LOST, ABNORMAL, "")
        state = self.state
        if state is OPEN and not self._is_eof:
            self.can_send = True
            self.is_idle = self.codec.is_idle
            self.has_work = pending or bool(self._pings)
        else:
            self.can_send = state is FAILING and not self._is_eof
            self.is_idle = False
            self.has_work = True

    # -- writing -------------------------------------------------------------------------------

    def take_replies(self, *, hold_pongs: bool = False) -> bytes:
        """Remove the session's own answers to the bytes parsed so far, and return them.

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
                self._update_flags()
        return out

    def write_message(self, payload: str | bytes) -> bytes:
        """Return the frame of a message, to be sent to the peer.

        Raises ClientDisconnected once the session is closing, UnicodeEncodeError for a lone
        surrogate.
        """
        self._check_can_send()
        return self.codec.message(payload)

    def write_encoded(self, encoded: Encoded) -> bytes:
        """Return the frame of a message that is shared with other sessions.

        Raises as `write_message`.
        """
        self._check_can_send()
        return encoded.frame_for(self.codec)

    def _check_can_send(self) -> None:
        if not self.can_send:
            raise ClientDisconnected(f"the WebSocket is {self.state.value}")

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping frame, or nothing if none can be sent any more."""
        return self.codec.ping(payload) if self.can_send else b""

    def close(self, code: int, reason: str) -> bytes:
        """Return the Pongs still to be sent and our Close; nothing if a Close was sent already.

        In FAILING it has the code and reason of the fault, not those given.
        """
        if not self.can_send:
            return b""
        if self.state is FAILING:
            code, reason = self.close_code, self.close_reason
        pongs = self.take_replies()
        frame = self.codec.close(code, reason)
        self._change_state(_CLOSE_SENT, code, reason)
        self._update_flags()
        return pongs + frame
