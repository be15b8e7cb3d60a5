import asyncio
import logging
from typing import Any

import pytest

from tests.harness.client import text_frame
from tests.harness.waiting import turns, until
from wsgate.observe.causes import Cause
from wsgate.observe.events import (
    Event,
    HandshakeRefused,
    RequestDone,
    ServerStarted,
    WebSocketClosed,
    WebSocketOpened,
)
from wsgate.observe.observers import Observers
from wsgate.testing import MemoryClient, connect
from wsgate.types import Receive, Scope, Send
from wsgate.ws import rules

REQUEST = RequestDone(("127.0.0.1", 50_000), "GET", b"/", "1.1", 200)
CLIENT = ("127.0.0.1", 50_000)
HANDSHAKE = (
    b"GET /chat?x=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(autouse=True)
def _propagate_to_caplog(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wsgate", "wsgate.error"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)


# -- observers -------------------------------------------------------------------------------------


def test_observers_are_false_without_any() -> None:
    assert not Observers()
    assert Observers([print])


def test_each_observer_gets_each_event_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    observers = Observers([first.append, second.append])
    events: list[Event] = [ServerStarted(("http://127.0.0.1:8000",)), REQUEST]
    for event in events:
        observers.notify(event)
    assert first == second == events


def test_failing_observer_is_logged_once_and_does_not_affect_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(event: Event) -> None:
        raise ValueError("no")

    received: list[Event] = []
    observers = Observers([fail, received.append])
    for _ in range(3):
        observers.notify(REQUEST)
    assert received == [REQUEST] * 3
    (record,) = caplog.records
    assert record.name == "wsgate.error"
    assert record.getMessage().startswith("Observer <function test_failing_observer")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


def test_each_failing_observer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> None:
        raise ValueError("no")

    def fail_too(event: Event) -> None:
        raise KeyError("no")

    observers = Observers([fail, fail_too])
    observers.notify(REQUEST)
    observers.notify(REQUEST)
    assert len(caplog.records) == 2


# -- the events of a server ------------------------------------------------------------------------


def observe(client: MemoryClient) -> list[Event]:
    """Collect the server's events in a list; return it."""
    events: list[Event] = []
    client.worker.observers = Observers([events.append])
    return events


async def accept(receive: Any, send: Any) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Echo messages; close on "close", fail on "fail", return on "return"."""
    await accept(receive, send)
    while (message := await receive())["type"] != "websocket.disconnect":
        text = message["text"]
        if text == "return":
            return
        if text == "fail":
            raise ValueError(text)
        if text == "close":
            await send({"type": "websocket.close", "code": 3000, "reason": "bye"})
            continue
        await send({"type": "websocket.send", "text": text})


def frame(first: int, payload: bytes) -> bytes:
    """Return a client's frame with an all-zero mask."""
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload


CLOSE = frame(0x88, b"\x03\xe9")  # 1001


async def test_event_of_a_request() -> None:
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await client.advance(2.0)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"bc"})

    async with connect(app) as client:
        events = observe(client)
        client.send(b"GET /a%20b?c HTTP/1.0\r\nHost: a\r\n\r\n")
        await client.ended()
    (event,) = events
    assert isinstance(event, RequestDone)
    assert event[:5] == (CLIENT, "GET", b"/a%20b?c", "1.0", 204)
    assert event.connection == scopes[0]["extensions"]["wsgate"]["connection_id"]
    assert event.headers == [(b"host", b"a")]
    assert (event.duration, event.sent_bytes) == (2.0, 3)


async def test_event_of_a_request_beyond_the_limit() -> None:
    async with connect(echo, limit_concurrency=1) as first:
        first.send(HANDSHAKE)
        await first.until(b"\r\n\r\n")
        events = observe(first)
        client = MemoryClient(first.worker, first.clock)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.ended()
        assert len(events) == 1
    assert events[0][:5] == (CLIENT, "GET", b"/", "1.1", 503)


async def test_event_of_a_handshake_that_the_server_refuses() -> None:
    async with connect(echo, ws_origins=["https://b"]) as client:
        events = observe(client)
        client.send(HANDSHAKE.replace(b"\r\n\r\n", b"\r\nOrigin: https://c\r\n\r\n"))
        await client.ended()
    (event,) = events
    assert isinstance(event, HandshakeRefused)
    assert event[:3] == (CLIENT, b"/chat?x=1", 403)
    assert event.reason


async def test_event_of_a_handshake_that_the_app_refuses() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    async with connect(app) as client:
        events = observe(client)
        client.send(HANDSHAKE)
        await client.ended()
    reason = "the application refused the WebSocket"
    assert [event[:4] for event in events] == [(CLIENT, b"/chat?x=1", 403, reason)]


async def test_event_of_a_handshake_that_the_app_answers_itself() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 404})
        await send({"type": "websocket.http.response.body"})

    async with connect(app) as client:
        events = observe(client)
        client.send(HANDSHAKE)
        await client.ended()
    reason = "the application sent its own response"
    assert [event[:4] for event in events] == [(CLIENT, b"/chat?x=1", 404, reason)]


async def closed_event(client: MemoryClient, *sent: bytes) -> WebSocketClosed:
    """Open a WebSocket, send frames, the next one after an answer; return the last event."""
    events = observe(client)
    client.send(HANDSHAKE)
    await client.until(b"\r\n\r\n")
    for data in sent[:-1]:
        client.send(data)
        await client.exactly(1)
    client.send(sent[-1])
    await client.ended()
    opened, closed = events
    assert isinstance(opened, WebSocketOpened)
    assert opened[:2] == (CLIENT, b"/chat?x=1")
    assert isinstance(closed, WebSocketClosed)
    assert (opened.connection, opened.headers) == (closed.connection, closed.headers)
    assert closed.connection
    return closed


async def test_event_of_a_websocket_counts_messages_and_bytes() -> None:
    async with connect(echo) as client:
        closed = await closed_event(client, frame(0x81, b"hello"), CLOSE)
    assert closed[:7] == (CLIENT, b"/chat?x=1", 1001, "", Cause.CLIENT_CLOSED, "", 0.0)
    assert closed[7:12] == (1, 11 + 8, 1, 7 + 4, 0)
    assert (b"host", b"a") in closed.headers


@pytest.mark.parametrize(
    ("text", "code", "reason", "cause"),
    [
        ("close", 3000, "bye", Cause.APP_CLOSED),
        ("return", 1000, "", Cause.APP_RETURNED),
        ("fail", 1011, "internal error", Cause.APP_FAILED),
    ],
)
async def test_closed_by_the_app(text: str, code: int, reason: str, cause: Cause) -> None:
    async with connect(echo) as client:
        closed = await closed_event(client, frame(0x81, text.encode()), CLOSE)
    assert (closed.code, closed.reason, closed.cause) == (code, reason, cause)
    assert closed.initiator == "app"


async def test_closed_by_the_server_on_a_bad_frame() -> None:
    async with connect(echo) as client:
        closed = await closed_event(client, frame(0xF1, b""))
    assert (closed.code, closed.cause) == (1002, Cause.PROTOCOL_ERROR)
    assert closed.detail == rules.RESERVED_BIT


async def test_closed_by_the_server_on_a_bad_frame_although_the_app_closes() -> None:
    bad_frame_sent = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await bad_frame_sent.wait()
        await send({"type": "websocket.close", "code": 3000})

    async with connect(app) as client:
        events = observe(client)
        client.send(HANDSHAKE)
        await client.until(b"\r\n\r\n")
        client.send(frame(0xF1, b""))
        bad_frame_sent.set()
        await client.ended()
    closed = events[-1]
    assert isinstance(closed, WebSocketClosed)
    assert (closed.code, closed.cause) == (1002, Cause.PROTOCOL_ERROR)
    assert closed.detail == rules.RESERVED_BIT


async def test_closed_by_the_server_if_the_client_leaves_after_a_bad_frame() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await asyncio.Event().wait()

    async with connect(app) as client:
        events = observe(client)
        client.send(HANDSHAKE)
        await client.until(b"\r\n\r\n")
        client.send(frame(0xF1, b""))
        client.drop()
        await client.ended()
    closed = events[-1]
    assert isinstance(closed, WebSocketClosed)
    assert (closed.code, closed.cause) == (1002, Cause.PROTOCOL_ERROR)
    assert closed.detail == rules.RESERVED_BIT


async def test_closed_by_the_server_when_it_stops() -> None:
    async with connect(echo) as client:
        events = observe(client)
        client.send(HANDSHAKE)
        await client.until(b"\r\n\r\n")
        (websocket,) = client.worker.websockets.values()
        websocket.drain()
        client.send(CLOSE)
        await client.ended()
    closed = events[-1]
    assert isinstance(closed, WebSocketClosed)
    assert (closed.code, closed.cause) == (1012, Cause.SERVER_STOPPING)
    assert closed.initiator == "server"


async def test_a_close_that_is_not_parsed_yet_counts_though_the_connection_is_lost() -> None:
    received: list[int] = []
    proceed = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await proceed.wait()
        while (message := await receive())["type"] == "websocket.receive":
            pass
        received.append(message["code"])

    async with connect(slow, ws_max_queue=2) as client:
        events = observe(client)
        client.send(HANDSHAKE)
        await client.until(b"\r\n\r\n")
        client.send(text_frame("a") * 6 + CLOSE)
        client.drop()
        await turns()
        before = list(events)
        proceed.set()
        await until(lambda: received)
    assert not any(isinstance(event, WebSocketClosed) for event in before)
    closed = events[-1]
    assert isinstance(closed, WebSocketClosed)
    assert (closed.code, closed.cause) == (1001, Cause.CLIENT_CLOSED)
    assert closed.received_messages == 6
    assert received == [1001]


@pytest.mark.parametrize("error", [None, ValueError("of the app")])
async def test_an_app_that_ends_with_messages_left_has_lost_its_client(
    error: Exception | None,
) -> None:
    proceed = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await proceed.wait()
        if error is not None:
            raise error

    async with connect(app, ws_max_queue=1) as client:
        events = observe(client)
        client.send(HANDSHAKE)
        await client.until(b"\r\n\r\n")
        client.send(text_frame("a") * 6 + CLOSE)
        client.drop()
        await turns()
        proceed.set()
        await until(lambda: isinstance(events[-1], WebSocketClosed))
    closed = events[-1]
    assert isinstance(closed, WebSocketClosed)
    assert (closed.code, closed.cause) == (1006, Cause.CLIENT_VANISHED)


async def test_lost_without_a_close_frame() -> None:
    async with connect(echo) as client:
        events = observe(client)
        client.send(HANDSHAKE)
        await client.until(b"\r\n\r\n")
        await client.advance(3.0)
        client.drop()
        await client.ended()
    closed = events[-1]
    assert isinstance(closed, WebSocketClosed)
    assert (closed.code, closed.cause) == (1006, Cause.CLIENT_VANISHED)
    assert closed.duration == pytest.approx(3.0)


async def test_failing_observer_does_not_reach_the_app() -> None:
    ends: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        ends.append("ok")

    def fail(event: Event) -> None:
        raise ValueError("no")

    async with connect(app) as client:
        client.worker.observers = Observers([fail])
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert (await client.ended()).startswith(b"HTTP/1.1 204")
    assert ends == ["ok"]
