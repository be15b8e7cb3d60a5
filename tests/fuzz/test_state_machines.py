"""Hypothesis state machines over HTTP, the codec and a session: any input at any time."""

import base64

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fuzz.checks import HEAD, LIMITS, agreement, codec
from tests import frames
from tests.drivers import PARSERS, send_body, send_end, send_start
from wsgate.errors import ClientDisconnected, InvalidMessage, RequestRefused
from wsgate.http.events import RequestBody, RequestEnd, RequestEvent, UpgradeRequest
from wsgate.http.request import Request
from wsgate.ws.encoded import Encoded
from wsgate.ws.frames.codec import Fail, Item, PeerClose
from wsgate.ws.session import TRANSITIONS, Session, State

KEY = base64.b64encode(bytes(16))
HEADS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ]
)
BODIES = st.sampled_from([b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"hi"])


class HttpMachine(RuleBasedStateMachine):
    """One connection: the client sends anything, the server answers at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.start("h11")
        self.request: Request | None = None
        self.ended = self.refused = self.started = self.eof = False

    @initialize(driver=st.sampled_from(sorted(PARSERS)))
    def start(self, driver: str) -> None:
        self.http1 = PARSERS[driver](HEAD)

    @rule(data=st.one_of(HEADS, BODIES, st.binary(max_size=30)))
    @precondition(lambda self: not self.eof)
    def feed(self, data: bytes) -> None:
        self.http1.feed(data)

    @rule()
    def feed_eof(self) -> None:
        self.http1.feed_eof()
        self.eof = True

    def taken(self) -> RequestEvent | RequestRefused | None:
        try:
            return self.http1.take()
        except RequestRefused as refused:
            return refused

    @rule()
    def take_event(self) -> None:
        event = self.taken()
        assert event is None or not self.refused, "nothing is served after a failure"
        if isinstance(event, RequestRefused):
            assert event.status in (400, 414, 431, 501, 505)
            self.refused = True
        elif isinstance(event, Request):
            assert self.request is None, "the one before is complete"
            self.request, self.ended, self.started = event, False, False
        elif isinstance(event, RequestBody | RequestEnd):
            assert self.request is not None
            assert not self.ended
            self.ended = isinstance(event, RequestEnd)
        elif isinstance(event, UpgradeRequest):
            self.refused = True  # what follows is not HTTP
        else:
            assert event is None or self.eof

    @rule(length=st.sampled_from([None, 0, 3]), status=st.sampled_from([200, 204, 304, 404]))
    @precondition(lambda self: self.request is not None and not self.started and not self.refused)
    def respond(self, length: int | None, status: int) -> None:
        headers = [] if length is None else [(b"content-length", b"%d" % length)]
        head = send_start(self.http1, status, headers)
        assert head.startswith(b"HTTP/1.1 %d " % status)
        self.started = True
        try:
            assert self.request is not None
            if length and status in (200, 404) and self.request.method != "HEAD":
                send_body(self.http1, b"abc")
            send_end(self.http1)
        except InvalidMessage:
            self.refused = True  # a length for a status that has no body

    @rule()
    @precondition(lambda self: not self.refused)
    def start_next_request(self) -> None:
        if self.http1.next_request():
            assert self.ended
            assert self.started
            self.request = None


FIRSTS = st.one_of(st.sampled_from([0x81, 0x82, 0x01, 0x00, 0x80, 0x88, 0x89, 0xC1, 0x41]))


class CodecMachine(RuleBasedStateMachine):
    """One codec: frames whole and in pieces, good and bad, with either setting of deflate."""

    def __init__(self) -> None:
        super().__init__()
        self.codec = codec(0)
        self.over: Item | None = None

    @rule(options=st.integers(0, 23))
    def start_anew(self, options: int) -> None:
        self.codec, self.over = codec(options), None
        assert (agreement(options) is None) is bool(options & 1)

    @rule(first=FIRSTS, payload=st.binary(max_size=140), cut=st.integers(0, 150))
    def feed_frame(self, first: int, payload: bytes, cut: int) -> None:
        fin, rsv, opcode = bool(first & 0x80), first >> 4 & 7, first & 15
        data = frames.frame(opcode, payload, fin=fin, rsv=rsv)
        self.codec.feed(data[:cut])
        self.codec.feed(data[cut:])

    @rule(data=st.binary(min_size=1, max_size=30))
    def feed_bytes(self, data: bytes) -> None:
        self.codec.feed(data)

    @rule(limit=st.integers(1, 5))
    def take_items(self, limit: int) -> None:
        items = self.codec.take(limit)
        assert len(items) <= limit
        assert not items or self.over is None, "nothing after the end"
        for position, item in enumerate(items):
            if isinstance(item, Fail | PeerClose):
                assert position == len(items) - 1
                self.over = item
            elif isinstance(item, str | bytes):
                assert len(item) <= LIMITS.size

    @rule(payload=st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary()))
    @precondition(lambda self: not isinstance(self.over, PeerClose))
    def write_message(self, payload: str | bytes) -> None:
        (sent,) = frames.parsed(self.codec.message(payload))
        assert sent.opcode == (frames.TEXT if isinstance(payload, str) else frames.BINARY)


class SessionMachine(RuleBasedStateMachine):
    """One session: both sides do anything at any time, and the state follows the table."""

    def __init__(self) -> None:
        super().__init__()
        self.open(0)

    @initialize(options=st.integers(0, 23))
    def open(self, options: int) -> None:
        self.session = Session(codec(options, slice_size=16))
        self.before = State.OPEN
        self.eof = False

    @invariant()
    def state_follows_the_table(self) -> None:
        reached, found = {self.before}, {self.before}
        while found:  # one call may be two transitions
            found = {end for (start, _), end in TRANSITIONS.items() if start in found} - reached
            reached |= found
        assert self.session.state in reached
        self.before = self.session.state

    @rule(first=FIRSTS, payload=st.binary(max_size=40))
    @precondition(lambda self: not self.eof)
    def receive_frame(self, first: int, payload: bytes) -> None:
        fin, rsv, opcode = bool(first & 0x80), first >> 4 & 7, first & 15
        self.session.feed(frames.frame(opcode, payload, fin=fin, rsv=rsv))

    @rule()
    def lose_connection(self) -> None:
        self.session.feed_eof()
        self.eof = True

    @rule(limit=st.integers(1, 5), hold=st.booleans())
    def take_messages(self, limit: int, hold: bool) -> None:
        state = self.session.state
        messages = self.session.take(limit)
        assert len(messages) <= limit
        assert not messages or state is State.OPEN
        frames.parsed(self.session.take_replies(hold_pongs=hold))

    @invariant()
    def flags_match_the_state(self) -> None:
        session = self.session
        assert (session.closed_by is None) is (session.state is State.OPEN)
        assert session.can_send == (session.state in (State.OPEN, State.FAILING) and not self.eof)
        if session.is_idle:
            assert session.state is State.OPEN
            assert not session.pending
        if session.pending or session.state is not State.OPEN:
            assert session.has_work

    @rule(is_encoded=st.booleans())
    def send_message(self, is_encoded: bool) -> None:
        session, may_send = self.session, self.session.can_send
        encoded = Encoded("text" * 5)
        try:
            if is_encoded:
                frames.parsed(session.write_encoded(encoded))
            else:
                frames.parsed(session.write_message("text"))
            assert may_send
        except ClientDisconnected:
            assert not may_send

    @rule(code=st.sampled_from([1000, 1011, 1012]))
    def close(self, code: int) -> None:
        state, may_send = self.session.state, self.session.can_send
        sent = frames.parsed(self.session.close(code, ""))
        assert bool(sent) is may_send
        if may_send:
            assert sent[-1].opcode == frames.CLOSE
            assert (self.session.close_code == code) is (state is State.OPEN)


TestHttp = HttpMachine.TestCase
TestCodec = CodecMachine.TestCase
TestSession = SessionMachine.TestCase
for case in (TestHttp, TestCodec, TestSession):
    case.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
