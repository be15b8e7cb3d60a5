"""One session: its states, what it answers itself, and what it counts."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings, strategies as st

from tests.frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RSV1,
    TEXT,
    ServerFrame,
    close,
    deflated,
    fragments,
    frame,
    parsed,
    ways,
)
from wsgate.errors import ClientDisconnected
from wsgate.ws.codecs import fast_codec
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.deflate.wsproto_extension import MessageExtension
from wsgate.ws.frames.wsproto_codec import WsprotoCodec
from wsgate.ws.limits import MessageLimits
from wsgate.ws.session import TRANSITIONS, ClosedBy, Session, State, Trigger

FRESH = Agreement(DeflateSettings(threshold=0), True, True)
BAD = frame(0x3)
PROTOCOL_ERROR = (1002).to_bytes(2, "big") + b"protocol error"


CODECS = ("wsproto", "fast")
codec_name = CODECS[0]


@pytest.fixture(scope="module", autouse=True, params=CODECS)
def over_each_codec(request: pytest.FixtureRequest) -> None:
    """Run every test over both codecs."""
    global codec_name  # noqa: PLW0603  # functions that take no fixture open sessions, too
    codec_name = request.param


def opened(agreement: Agreement | None = None, slice_size: int | None = None) -> Session:
    """Return a session over the codec whose turn it is; slices are wsproto's alone."""
    limits = MessageLimits(size=100_000)
    if codec_name == "fast" and slice_size is None:
        return Session(fast_codec(limits, agreement, Compressors(6)))
    deflate = MessageExtension(limits, agreement, Compressors(6))
    return Session(WsprotoCodec(deflate, slice_size or 16_384))


def taken(session: Session, limit: int = 100) -> list[str | bytes]:
    """Take as long as anything is pending."""
    messages: list[str | bytes] = []
    while session.pending:
        messages += session.take(limit)
    return messages


def fed(data: bytes) -> Iterator[tuple[Session, list[str | bytes], bytes]]:
    """Feed a new session in every way; yield it with the messages and replies."""
    for pieces in ways(data):
        for slice_size in (None, 5):
            session, messages, replies = opened(slice_size=slice_size), [], b""
            for piece in pieces:
                session.feed(piece)
                messages += taken(session)
                replies += session.take_replies()
            yield session, messages, replies


def closing_frame(code: int, reason: str = "") -> ServerFrame:
    return ServerFrame(CLOSE, code.to_bytes(2, "big") + reason.encode())


# -- the table ---------------------------------------------------------------------------------


def failing() -> Session:
    session = opened()
    session.feed(BAD)
    session.take(1)
    return session


def closing() -> Session:
    session = opened()
    session.close(1000, "")
    return session


def closed() -> Session:
    session = opened()
    session.feed_eof()
    return session


STATES: dict[State, Callable[[], Session]] = {
    State.OPEN: opened,
    State.FAILING: failing,
    State.CLOSING: closing,
    State.CLOSED: closed,
}


def bring(session: Session, trigger: Trigger) -> None:
    if trigger is Trigger.CLOSE_SENT:
        session.close(1000, "")
    elif trigger is Trigger.LOST:
        session.feed_eof()
    else:
        session.feed(BAD if trigger is Trigger.FAULT else close(1000))
        taken(session)


@pytest.mark.parametrize("state", State)
def test_each_state_can_be_reached(state: State) -> None:
    assert STATES[state]().state is state


@pytest.mark.parametrize(("state", "trigger"), TRANSITIONS, ids=lambda value: value.name)
def test_each_transition_leads_to_its_state(state: State, trigger: Trigger) -> None:
    session = STATES[state]()
    bring(session, trigger)
    assert session.state is TRANSITIONS[state, trigger]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", Trigger)
def test_a_trigger_without_a_transition_changes_nothing(state: State, trigger: Trigger) -> None:
    session = STATES[state]()
    bring(session, trigger)
    assert session.state is TRANSITIONS.get((state, trigger), state)


def test_the_table_has_nine_transitions_and_none_from_closed() -> None:
    assert not any(state is State.CLOSED for state, _ in TRANSITIONS)
    assert len(TRANSITIONS) == 9


# -- messages ----------------------------------------------------------------------------------


def test_messages_arrive_in_order() -> None:
    data = frame(TEXT, "one") + b"".join(fragments(BINARY, [b"t", b"wo"])) + frame(TEXT, "")
    for session, messages, replies in fed(data):
        assert messages == ["one", b"two", ""]
        assert replies == b""
        assert session.state is State.OPEN


def test_compressed_messages_are_read_and_written() -> None:
    session = opened(FRESH)
    session.feed(frame(TEXT, deflated(b"Hello"), rsv=RSV1))
    assert taken(session) == ["Hello"]
    (sent,) = parsed(session.write_message(b"x" * 100))
    assert sent.rsv == RSV1


def test_take_without_data_returns_nothing() -> None:
    session = opened()
    assert not session.pending
    assert not session.take(10)
    session.feed(b"")
    assert not session.pending


def test_pending_is_true_while_there_is_something_to_parse() -> None:
    session = opened()
    session.feed(frame(TEXT, "a") + frame(TEXT, "b"))
    assert session.pending
    assert session.take(1) == ["a"]
    assert session.pending
    assert session.take(1) == ["b"]
    assert taken(session) == []  # wsproto's codec cannot know yet


def test_take_parses_one_slice() -> None:
    session = opened(slice_size=10)
    data = frame(TEXT, "abcd") * 3  # of ten bytes each
    session.feed(data)
    assert session.codec.buffered == 30
    assert session.take(100) == ["abcd"]
    assert session.codec.buffered == 20
    assert session.take(100) == ["abcd"]
    assert session.take(100) == ["abcd"]
    assert not session.pending


def test_an_empty_result_is_not_the_end() -> None:
    session = opened(slice_size=4)
    session.feed(frame(TEXT, "abcd"))
    assert not session.take(100)
    assert session.pending
    assert taken(session) == ["abcd"]


def test_no_slice_is_parsed_while_the_last_one_has_more_items() -> None:
    session = opened(slice_size=16)
    session.feed(frame(TEXT, "a") + frame(TEXT, "b") + frame(TEXT, "c") * 4)
    left = session.codec.buffered
    assert session.take(1) == ["a"]
    assert session.codec.buffered == left - 16
    assert session.take(1) == ["b"]
    assert session.codec.buffered == left - 16
    assert taken(session, 1) == ["c"] * 4


def test_control_frames_count_towards_the_limit_of_a_take() -> None:
    session = opened()
    session.feed(frame(PING) + frame(TEXT, "a"))
    assert not session.take(1)
    assert session.pending
    assert session.take(1) == ["a"]


def test_messages_are_written_and_counted() -> None:
    session = opened()
    out = session.write_message("grüß") + session.write_message(b"\0")
    assert parsed(out) == [ServerFrame(TEXT, "grüß".encode()), ServerFrame(BINARY, b"\0")]


def test_a_lone_surrogate_raises_and_changes_nothing() -> None:
    session = opened()
    with pytest.raises(UnicodeEncodeError):
        session.write_message("\ud800")
    assert session.state is State.OPEN
    assert parsed(session.write_message("good")) == [ServerFrame(TEXT, b"good")]


# -- pings -------------------------------------------------------------------------------------


def test_pings_are_answered_in_order() -> None:
    data = frame(PING, b"1") + frame(TEXT, "a") + frame(PING, b"2") + frame(PING)
    for session, messages, replies in fed(data):
        assert messages == ["a"]
        answers = [ServerFrame(PONG, payload) for payload in (b"1", b"2", b"")]
        assert parsed(replies) == answers
        assert session.take_replies() == b""


def test_only_the_latest_held_ping_is_answered() -> None:
    session = opened()
    session.feed(frame(PING, b"1") + frame(PING, b"2") + frame(PING, b"3"))
    assert taken(session) == []
    assert session.take_replies(hold_pongs=True) == b""
    session.feed(frame(PING, b"4"))
    assert taken(session) == []
    assert session.take_replies(hold_pongs=True) == b""
    assert parsed(session.take_replies()) == [ServerFrame(PONG, b"4")]
    assert session.take_replies() == b""


def test_without_pings_there_is_nothing_to_answer() -> None:
    session = opened()
    session.feed(frame(PONG, b"unasked") + frame(TEXT, "a"))
    assert taken(session) == ["a"]
    assert session.take_replies() == session.take_replies(hold_pongs=True) == b""


def test_a_ping_between_fragments_is_answered() -> None:
    one, two = fragments(TEXT, [b"a", b"b"])
    for _, messages, replies in fed(one + frame(PING, b"x") + two):
        assert messages == ["ab"]
        assert parsed(replies) == [ServerFrame(PONG, b"x")]


def test_a_ping_from_the_server_is_counted() -> None:
    session = opened()
    ping = session.ping(b"are you there")
    assert parsed(ping) == [ServerFrame(PING, b"are you there")]


@pytest.mark.parametrize("state", [State.CLOSING, State.CLOSED])
def test_no_ping_is_written_after_a_close(state: State) -> None:
    session = STATES[state]()
    assert session.ping(b"") == b""


# -- the peer closes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code", "reason", "payload"),
    [
        (close(1000, "done"), 1000, "done", b"\x03\xe8"),
        (close(1014, "no"), 1014, "no", b"\x03\xf6"),
        (close(4321), 4321, "", b"\x10\xe1"),
        (close(), 1005, "", b""),
    ],
)
def test_the_peers_close_is_echoed(sent: bytes, code: int, reason: str, payload: bytes) -> None:
    data = frame(TEXT, "before") + sent + frame(TEXT, "after")
    for session, messages, replies in fed(data):
        assert messages == ["before"]
        assert parsed(replies) == [ServerFrame(CLOSE, payload)]
        assert (session.state, session.close_code, session.close_reason) == (
            State.CLOSED,
            code,
            reason,
        )
        assert not session.pending
        assert not session.can_send
        assert session.close(1000, "") == session.ping(b"") == session.take_replies() == b""
        with pytest.raises(ClientDisconnected, match="closed"):
            session.write_message("late")


def test_a_ping_just_before_the_peers_close_needs_no_answer() -> None:
    # A Close that came sets us free of the Pong (RFC 6455 section 5.5.2).
    for session, messages, replies in fed(frame(TEXT, "a") + frame(PING, b"x") + close(1001)):
        assert messages == ["a"]
        *pongs, last = parsed(replies)
        assert last == closing_frame(1001)
        assert pongs in ([], [ServerFrame(PONG, b"x")])
        assert session.state is State.CLOSED


def test_messages_before_the_peers_close_can_still_be_taken() -> None:
    session = opened()
    session.feed(frame(TEXT, "a") + frame(TEXT, "b") + close(1000))
    assert session.take(1) == ["a"]
    assert session.can_send
    session.write_message("still open")
    assert taken(session) == ["b"]
    assert not session.can_send


def test_data_after_the_peers_close_is_ignored() -> None:
    session = opened()
    session.feed(close(1000))
    session.take(1)
    session.feed(frame(TEXT, "late"))
    assert (session.codec.buffered, session.pending) == (0, False)
    assert not session.take(1)


# -- we close ----------------------------------------------------------------------------------


def test_the_server_closes() -> None:
    session = opened()
    sent = session.close(1001, "going away")
    assert parsed(sent) == [closing_frame(1001, "going away")]
    assert (session.state, session.can_send) == (State.CLOSING, False)
    assert (session.close_code, session.close_reason) == (1001, "going away")
    assert session.close(1000, "") == b""
    with pytest.raises(ClientDisconnected, match="closing"):
        session.write_message("late")
    session.feed(close(1002, "mine"))
    assert taken(session) == []
    assert session.state is State.CLOSED
    assert (session.close_code, session.close_reason) == (1001, "going away")
    assert session.take_replies() == b""


def test_pings_before_our_close_are_answered_with_it() -> None:
    session = opened()
    session.feed(frame(PING, b"x") + frame(PING, b"y"))
    assert taken(session) == []
    sent = session.close(1000, "")
    pongs = [ServerFrame(PONG, b"x"), ServerFrame(PONG, b"y")]
    assert parsed(sent) == [*pongs, closing_frame(1000)]
    assert session.take_replies() == b""


def test_messages_after_our_close_are_discarded() -> None:
    session = opened()
    session.feed(frame(TEXT, "before"))
    assert session.take(10) == ["before"]
    session.close(1000, "")
    session.feed(frame(TEXT, "late") + frame(PING) + frame(PONG) + frame(TEXT, "later"))
    assert session.pending
    assert taken(session) == []
    assert session.take_replies() == b""
    assert session.state is State.CLOSING


def test_input_before_our_close_is_still_parsed() -> None:
    session = opened(slice_size=8)
    session.feed(frame(TEXT, "not taken yet") + close(1000))
    session.close(1000, "")
    assert session.pending
    assert taken(session) == []
    assert session.state is State.CLOSED


def test_a_fault_after_our_close_ends_the_session() -> None:
    session = closing()
    session.feed(BAD + frame(TEXT, "x"))
    assert taken(session) == []
    assert (session.state, session.close_code, session.take_replies()) == (State.CLOSED, 1000, b"")


# -- a fault -----------------------------------------------------------------------------------


def test_a_fault_does_not_affect_earlier_messages() -> None:
    data = frame(TEXT, "a") + frame(PING, b"x") + frame(TEXT, "b") + BAD + frame(TEXT, "c")
    for session, messages, replies in fed(data):
        assert messages == ["a", "b"]
        assert parsed(replies) == [ServerFrame(PONG, b"x")]
        assert (session.state, session.pending, session.codec.buffered) == (State.FAILING, False, 0)
        # The answers still leave, and then the Close with the fault, whatever is asked for.
        assert session.can_send
        assert parsed(session.write_message("answer")) == [ServerFrame(TEXT, b"answer")]
        assert parsed(session.ping(b"")) == [ServerFrame(PING, b"")]
        assert parsed(session.close(1000, "bye")) == [ServerFrame(CLOSE, PROTOCOL_ERROR)]
        assert (session.state, session.close_code) == (State.CLOSED, 1002)
        assert session.close_reason == "protocol error"


def test_pings_before_a_fault_are_answered_with_the_close() -> None:
    session = opened()
    session.feed(frame(PING, b"x") + BAD)
    assert taken(session) == []
    sent = session.close(1002, "")
    assert parsed(sent) == [ServerFrame(PONG, b"x"), ServerFrame(CLOSE, PROTOCOL_ERROR)]


@pytest.mark.parametrize(
    ("bad", "code", "reason"),
    [
        (BAD, 1002, "protocol error"),
        (frame(TEXT, b"\xff"), 1007, "invalid payload"),
        (close(1000, b"\xff"), 1007, "invalid payload"),
        (frame(BINARY, declared=100_001), 1009, "message too big"),
        (frame(CONT, b""), 1002, "protocol error"),
    ],
)
def test_each_fault_has_its_code(bad: bytes, code: int, reason: str) -> None:
    for session, _, _ in fed(bad):
        assert (session.close_code, session.close_reason) == (code, reason)
        assert parsed(session.close(1011, "")) == [closing_frame(code, reason)]


def test_data_after_a_fault_is_ignored() -> None:
    session = failing()
    session.feed(b"x" * 1_000)
    assert (session.codec.buffered, session.pending) == (0, False)
    assert not session.take(10)


def test_messages_before_a_fault_can_still_be_taken() -> None:
    session = opened()
    session.feed(frame(TEXT, "a") + frame(TEXT, "b") + BAD)
    assert session.take(1) == ["a"]
    assert session.take(1) == ["b"]
    assert session.pending
    assert not session.take(1)
    assert session.state is State.FAILING


# -- the end of the TCP connection -------------------------------------------------------------


def test_the_connection_ends_while_idle() -> None:
    session = opened()
    session.feed_eof()
    assert (session.state, session.close_code, session.close_reason) == (State.CLOSED, 1006, "")
    assert not session.can_send
    with pytest.raises(ClientDisconnected):
        session.write_message("late")
    session.feed_eof()
    assert session.state is State.CLOSED


def test_the_connection_ends_after_messages() -> None:
    session = opened(slice_size=8)
    session.feed(frame(TEXT, "a") + frame(PING) + frame(TEXT, "b") + frame(TEXT, "cut")[:-1])
    session.feed_eof()
    assert (session.state, session.can_send, session.pending) == (State.OPEN, False, True)
    assert session.close(1000, "") == session.ping(b"") == b""
    with pytest.raises(ClientDisconnected):
        session.write_message("late")
    assert taken(session, 1) == ["a", "b"]
    assert (session.state, session.close_code) == (State.CLOSED, 1006)
    assert session.take_replies() == b""


def test_the_connection_ends_after_the_peers_close() -> None:
    session = opened()
    session.feed(frame(TEXT, "a") + close(1001, "tab closed"))
    session.feed_eof()
    assert taken(session) == ["a"]
    assert (session.close_code, session.close_reason) == (1001, "tab closed")
    session.feed_eof()
    assert session.state is State.CLOSED


def test_the_connection_ends_after_a_fault() -> None:
    session = failing()
    session.feed_eof()
    assert (session.state, session.close_code) == (State.CLOSED, 1002)
    assert session.close(1000, "") == b""


def test_the_connection_ends_with_a_fault_not_yet_parsed() -> None:
    session = opened()
    session.feed(frame(TEXT, "a") + BAD)
    session.feed_eof()
    assert taken(session) == ["a"]
    assert (session.state, session.close_code) == (State.CLOSED, 1002)


def test_the_connection_ends_after_our_close() -> None:
    session = closing()
    session.feed_eof()
    assert (session.state, session.close_code) == (State.CLOSED, 1000)


def test_the_connection_ends_with_the_answer_to_our_close_not_yet_parsed() -> None:
    session = closing()
    session.feed(close(1000))
    session.feed_eof()
    assert session.pending
    assert taken(session) == []
    assert session.state is State.CLOSED


# -- who closed it -----------------------------------------------------------------------------


def test_an_open_session_has_no_closing_side() -> None:
    assert opened().closed_by is None


@pytest.mark.parametrize(
    ("trigger", "closed_by"),
    [
        (Trigger.FAULT, ClosedBy.SERVER),
        (Trigger.CLOSE_SENT, ClosedBy.SERVER),
        (Trigger.CLOSE_RECEIVED, ClosedBy.CLIENT),
        (Trigger.LOST, ClosedBy.LOST),
    ],
)
def test_the_first_trigger_says_who_closed(trigger: Trigger, closed_by: ClosedBy) -> None:
    for later in Trigger:
        session = opened()
        bring(session, trigger)
        assert session.closed_by is closed_by
        bring(session, later)
        assert session.closed_by is closed_by


# -- flags -------------------------------------------------------------------------------------


def test_an_open_session_without_data_is_idle_over_the_fast_codec() -> None:
    session = opened()
    is_fast = codec_name == "fast"
    assert (session.is_idle, session.has_work, session.can_send) == (is_fast, False, True)
    session.feed(frame(TEXT, "cut")[:-1])
    assert (session.is_idle, session.has_work) == (False, True)
    taken(session)
    assert (session.is_idle, session.has_work) == (False, False)
    assert list(session.take(1, frame(TEXT, "cut")[-1:])) == ["cut"]
    assert (session.is_idle, session.has_work) == (is_fast, False)


def test_a_ping_is_work_until_it_is_answered() -> None:
    session = opened()
    session.feed(frame(PING, b"x"))
    taken(session)
    assert session.has_work
    assert session.take_replies(hold_pongs=True) == b""
    assert session.has_work
    assert session.take_replies()
    assert not session.has_work


@pytest.mark.parametrize("state", [State.FAILING, State.CLOSING, State.CLOSED])
def test_a_session_that_ends_has_work_and_is_not_idle(state: State) -> None:
    session = STATES[state]()
    assert (session.is_idle, session.has_work) == (False, True)
    assert session.can_send is (state is State.FAILING)


# -- any sequence of events --------------------------------------------------------------------

CHUNKS = st.sampled_from(
    [
        frame(TEXT, "text"),
        frame(PING, b"p"),
        frame(PONG),
        *fragments(BINARY, [b"one", b"two"]),
        close(1000),
        BAD,
        frame(TEXT, "some more text")[:9],
    ]
)
ACTS = st.one_of(
    st.tuples(st.just("feed"), CHUNKS),
    st.tuples(st.just("feed"), CHUNKS),
    st.tuples(st.just("take"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["replies", "message", "ping", "close", "eof"]), st.none()),
)
ORDER = [State.OPEN, State.FAILING, State.CLOSING, State.CLOSED]


@settings(deadline=None, max_examples=120)
@given(st.lists(ACTS, max_size=25), st.integers(1, 20))
def test_no_order_of_events_raises(
    acts: list[tuple[str, bytes | int | None]], slice_size: int
) -> None:
    session = opened(slice_size=slice_size)
    out, ended = b"", False
    for act, argument in acts:
        before = session.state
        if act == "feed" and isinstance(argument, bytes) and not ended:
            session.feed(argument)
        elif act == "take" and isinstance(argument, int):
            assert len(session.take(argument)) <= argument
        elif act == "replies":
            out += session.take_replies()
        elif act == "message" and session.can_send:
            out += session.write_message("out")
        elif act == "ping":
            out += session.ping(b"")
        elif act == "close":
            out += session.close(1000, "")
        elif act == "eof":
            session.feed_eof()
            ended = True
        assert ORDER.index(session.state) >= ORDER.index(before)
        assert not (session.pending and session.state in (State.FAILING, State.CLOSED))
        assert session.can_send <= (session.state in (State.OPEN, State.FAILING))
    taken(session)
    out += session.take_replies()
    sent = parsed(out)
    assert all(one.opcode != CLOSE for one in sent[:-1]), "nothing follows a Close"
    if ended:
        assert session.state is State.CLOSED
