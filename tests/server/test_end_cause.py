"""Why a WebSocket has ended: failures that are staged, each of which the event names right."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests import frames
from tests.frames import BINARY, CLOSE, CONT, MASK, PING, PONG, RSV1, RSV2, TEXT, frame
from tests.harness.app import close, text
from tests.harness.client import text_frame
from tests.harness.memory import Peer, opened, peer
from tests.harness.waiting import soon, turns
from wsgate.observe.causes import CAUSES, Cause
from wsgate.observe.events import Event, WebSocketClosed
from wsgate.observe.observers import Observers
from wsgate.server.close_request import CloseRequest
from wsgate.server.liveness import RECEIVE_TIMEOUT
from wsgate.server.websocket import WebSocket
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Slow
from wsgate.ws import rules

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
LARGE = "x" * 200_000
Stage = Callable[[Peer], Awaitable[object]]


def observe(ws: Peer) -> list[Event]:
    """Return the list that gets all events from now on."""
    events: list[Event] = []
    ws.client.worker.observers = Observers([events.append])
    return events


def websocket_of(ws: Peer) -> WebSocket:
    (websocket,) = ws.client.worker.websockets.values()
    return websocket


async def ended(ws: Peer, events: list[Event]) -> WebSocketClosed:
    """Let everything end, and return the only event of an end."""
    ws.client.drop()
    await turns()
    if not ws.call.ended.done():
        ws.call.finish()
    await ws.wait_closed()
    (closed,) = [one for one in events if isinstance(one, WebSocketClosed)]
    return closed


async def staged(stage: Stage, *headers: str, **options: Any) -> WebSocketClosed:
    """Open a WebSocket, stage its end, and return the event."""
    async with peer(**options) as ws:
        events = observe(ws)
        await ws.open(*headers)
        await stage(ws)
        return await ended(ws, events)


# -- the client ------------------------------------------------------------------------------------


async def test_a_close_of_the_client() -> None:
    async def stage(ws: Peer) -> None:
        ws.client.send(frames.close(1001, "left the page"))

    closed = await staged(stage)
    assert (closed.cause, closed.code, closed.reason) == (
        Cause.CLIENT_CLOSED,
        1001,
        "left the page",
    )


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (None, ""),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (TimeoutError(110, "Connection timed out"), "Connection timed out"),
        (RuntimeError("of the loop"), "of the loop"),
    ],
)
async def test_a_client_that_vanished(error: Exception | None, detail: str) -> None:
    async def stage(ws: Peer) -> None:
        ws.client.connection.connection_lost(error)
        ws.client.connection.is_lost = True

    async with opened() as ws:
        events = observe(ws)
        websocket_of(ws)._target = b"/"
        await stage(ws)
        ws.call.finish()
        await turns()
    (closed,) = events
    assert isinstance(closed, WebSocketClosed)
    assert (closed.cause, closed.code, closed.detail) == (Cause.CLIENT_VANISHED, 1006, detail)


async def test_a_half_close() -> None:
    async def stage(ws: Peer) -> None:
        ws.client.eof()

    closed = await staged(stage)
    assert (closed.cause, closed.code) == (Cause.CLIENT_VANISHED, 1006)


# -- bad data --------------------------------------------------------------------------------------

UNKNOWN = 0x3
BAD_DATA = {
    rules.MASK: frame(TEXT, "a", mask=None),
    rules.OPCODE: frame(UNKNOWN, "a"),
    rules.RESERVED_BIT: frame(TEXT, "a", rsv=RSV2),
    rules.LENGTH: frame(TEXT, "a", length_octets=2),
    rules.HUGE_LENGTH: b"\x82\xff" + b"\xff" * 8 + MASK,
    rules.FIRST_FRAGMENT: frame(CONT, "a"),
    rules.INTERLEAVED: frame(TEXT, "a", fin=False) + frame(TEXT, "b"),
    rules.CONTROL_FRAGMENT: frame(PING, "a", fin=False),
    rules.CONTROL_SIZE: frame(PING, "a" * 126),
    rules.CLOSE_SIZE: frame(CLOSE, b"\x03"),
    rules.CLOSE_CODE: frames.close(1005),
    rules.CLOSE_REASON: frames.close(1000, b"\xff"),
    rules.UTF8: frame(TEXT, b"\xff"),
    rules.DEFLATE: frame(BINARY, b"\xff\xff\xff\xff\xff", rsv=RSV1),
    rules.SIZE: frame(BINARY, b"a" * 1001),
    rules.FRAGMENTS: b"".join(frames.fragments(BINARY, [b"a"] * 9)),
}
TOO_BIG = {rules.SIZE, rules.FRAGMENTS}


def test_there_is_bad_data_for_each_rule() -> None:
    phrases = {value for name, value in vars(rules).items() if name.isupper() and name[0] != "_"}
    assert phrases == set(BAD_DATA)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("rule", BAD_DATA)
async def test_bad_data_with_the_rule_that_it_breaks(rule: str, fast: bool) -> None:
    async def stage(ws: Peer) -> None:
        ws.client.send(BAD_DATA[rule])
        await turns()
        ws.client.drop()
        await turns()

    headers = [DEFLATE] if rule == rules.DEFLATE else []
    limits = {"ws_max_size": 1000, "ws_max_fragments": 8}
    closed = await staged(stage, *headers, ws_fast_path=fast, **limits)
    cause = Cause.MESSAGE_TOO_BIG if rule in TOO_BIG else Cause.PROTOCOL_ERROR
    assert (closed.cause, closed.detail) == (cause, rule)
    assert closed.code in CAUSES[cause].codes


async def test_text_that_is_not_utf8_in_pieces() -> None:
    async def stage(ws: Peer) -> None:
        data = frame(TEXT, b"\xc3" + b"a" * 99)
        ws.client.send(data[:50])
        await turns()
        ws.client.send(data[50:])
        await turns()

    closed = await staged(stage)
    assert (closed.cause, closed.detail) == (Cause.PROTOCOL_ERROR, rules.UTF8)


def test_an_unknown_text_of_wsproto_names_no_rule() -> None:
    assert rules.rule_of("something new") == ""


# -- limits and timeouts ---------------------------------------------------------------------------


async def test_a_ping_that_is_not_answered() -> None:
    async def stage(ws: Peer) -> None:
        await ws.client.advance(41)

    closed = await staged(stage, ws_ping_interval=20, ws_ping_timeout=20)
    assert (closed.cause, closed.code) == (Cause.PING_TIMEOUT, 1011)
    assert closed.initiator == "server"


async def test_a_client_that_does_not_read() -> None:
    async def stage(ws: Peer) -> None:
        ws.client.stall()
        sending = ws.call.start_send(text(LARGE))
        await turns()
        await ws.client.advance(70)
        await soon(sending)

    closed = await staged(stage, ws_ping_interval=0)
    assert (closed.cause, closed.code) == (Cause.SLOW_CONSUMER, 1013)
    assert closed.detail == "the write buffer was full for --ws-send-timeout"


async def test_more_is_published_than_the_outlet_holds() -> None:
    async def stage(ws: Peer) -> None:
        ws.client.stall()
        websocket = websocket_of(ws)
        for _ in range(20):
            websocket.publish(Publication("room", LARGE), Slow.CLOSE)
        await turns()

    closed = await staged(stage)
    assert (closed.cause, closed.code) == (Cause.SLOW_CONSUMER, 1013)
    assert closed.detail == "more than --topics-max-outlet waited for it"


async def test_too_many_messages() -> None:
    async def stage(ws: Peer) -> None:
        ws.client.send(text_frame("a") * 20)
        await turns()

    closed = await staged(stage, ws_max_message_rate=1, ws_max_message_burst=2)
    assert (closed.cause, closed.code) == (Cause.POLICY, 1008)


async def test_nothing_is_said_for_long() -> None:
    closed = await staged(lambda ws: ws.client.advance(70), ws_idle_timeout=60, ws_ping_interval=0)
    assert (closed.cause, closed.code) == (Cause.IDLE, 1001)


async def test_the_lifetime_is_over() -> None:
    closed = await staged(lambda ws: ws.client.advance(70), ws_max_lifetime=60, ws_ping_interval=0)
    assert (closed.cause, closed.code) == (Cause.LIFETIME, 1012)


# -- the app ---------------------------------------------------------------------------------------


async def test_a_close_of_the_app() -> None:
    closed = await staged(lambda ws: ws.call.send(close(3000, reason="bye")))
    assert (closed.cause, closed.code, closed.reason) == (Cause.APP_CLOSED, 3000, "bye")


@pytest.mark.parametrize(
    ("error", "cause", "detail"),
    [
        (None, Cause.APP_RETURNED, ""),
        (ValueError("x"), Cause.APP_FAILED, "ValueError"),
        (asyncio.CancelledError(), Cause.APP_FAILED, "CancelledError"),
    ],
)
async def test_the_end_of_the_call(error: BaseException | None, cause: Cause, detail: str) -> None:
    async def stage(ws: Peer) -> None:
        ws.call.finish(error)
        await turns()

    closed = await staged(stage)
    assert (closed.cause, closed.detail) == (cause, detail)
    assert (closed.initiator, closed.code) == ("app", 1000 if error is None else 1011)


async def test_an_app_that_does_not_receive() -> None:
    async def stage(ws: Peer) -> None:
        ws.client.send(text_frame("a") * 5)
        await ws.client.advance(RECEIVE_TIMEOUT * 1.3)

    closed = await staged(stage, ws_max_queue=1, ws_ping_interval=0)
    assert (closed.cause, closed.code) == (Cause.APP_STUCK, 1011)


# -- the server ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_replaced", [True, False])
async def test_a_stop(is_replaced: bool) -> None:
    async def stage(ws: Peer) -> None:
        ws.client.worker.is_replaced = is_replaced
        websocket_of(ws).drain()

    closed = await staged(stage)
    cause = Cause.WORKER_RESTART if is_replaced else Cause.SERVER_STOPPING
    assert (closed.cause, closed.code) == (cause, 1012)


async def test_an_operator() -> None:
    async def stage(ws: Peer) -> None:
        CloseRequest(1008, "abuse").close(ws.client.connection)

    closed = await staged(stage)
    assert (closed.cause, closed.code, closed.reason) == (Cause.OPERATOR, 1008, "abuse")


async def test_messages_of_its_topics_are_lost() -> None:
    async def stage(ws: Peer) -> None:
        websocket_of(ws).close_to_recover()

    closed = await staged(stage)
    assert (closed.cause, closed.code) == (Cause.MESSAGES_LOST, 1012)


async def test_a_message_that_it_would_miss() -> None:
    async def stage(ws: Peer) -> None:
        websocket_of(ws).abort(Cause.MESSAGES_LOST)
        await turns()

    closed = await staged(stage)
    assert (closed.cause, closed.code) == (Cause.MESSAGES_LOST, 1006)


async def test_the_first_cause_counts() -> None:
    async def stage(ws: Peer) -> None:
        await ws.call.send(close(3000))
        websocket_of(ws).drain()
        websocket_of(ws).abort(Cause.MESSAGES_LOST)
        await turns()

    assert (await staged(stage)).cause is Cause.APP_CLOSED


# -- the round trip --------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False])
async def test_the_round_trip_is_that_of_the_first_pong_after_a_ping(fast: bool) -> None:
    async def stage(ws: Peer) -> None:
        ws.client.send(frame(PONG))  # before any Ping
        while not ws.client.received:  # the first Ping comes at a random time
            await ws.client.advance(0.25)
        assert (await ws.read_frame()).opcode == PING
        ws.client.send(frame(TEXT, "no Pong"))
        await ws.client.advance(0.25)
        ws.client.send(frame(PONG))
        await ws.client.advance(1)
        ws.client.send(frame(PONG))  # unasked

    closed = await staged(stage, ws_ping_interval=20, ws_fast_path=fast)
    assert closed.round_trip == pytest.approx(0.25, abs=0.25)


async def test_there_is_no_round_trip_without_a_pong() -> None:
    closed = await staged(lambda ws: ws.client.advance(5), ws_ping_interval=20)
    assert closed.round_trip is None


# -- the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", Cause)
def test_each_cause_is_explained(cause: Cause) -> None:
    explained = CAUSES[cause]
    assert cause.value == cause.name.lower()
    assert explained.sentence[-1] != "."
    assert explained.advice[-1] == "."
    assert explained.codes
    assert set(explained.codes) <= set(range(1000, 1016))


def test_the_sentence_has_the_detail() -> None:
    fields: Any = SimpleNamespace(cause=Cause.PROTOCOL_ERROR, detail=rules.MASK)
    sentence = WebSocketClosed.sentence.fget(fields)  # type: ignore[attr-defined]  # a property
    assert sentence == f"the client broke the protocol: {rules.MASK}"
