"""A WebSocket before it is open, in memory: handshakes, refusals, denial responses."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from tests.harness.app import DENIAL, close, denial, denial_body
from tests.harness.client import ACCEPT, handshake, text_frame
from tests.harness.memory import Peer, peer, stop
from tests.harness.waiting import soon, turns
from wsgate.errors import ClientDisconnected, IllegalMessage, InvalidMessage, Refusal
from wsgate.http.h1.connection import ALREADY_FAILED
from wsgate.observe.events import Event, HandshakeRefused
from wsgate.observe.observers import Observers
from wsgate.server.other_workers import NoOtherWorkers
from wsgate.server.pending_websocket import EARLY
from wsgate.types import Message

MIB = 1 << 20
Stage = Callable[[Peer], Awaitable[object]]


# -- the handshake ---------------------------------------------------------------------------------


async def test_scope_has_the_fields_of_the_request() -> None:
    async with peer(root_path="/api") as ws:
        await ws.request("Sec-WebSocket-Protocol: b, a", target="/chat%20room?x=1")
        scope = ws.call.scope
        assert scope["type"] == "websocket"
        assert scope["scheme"] == "ws"
        assert scope["subprotocols"] == ["b", "a"]
        assert scope["path"] == "/api/chat room"
        assert scope["query_string"] == b"x=1"
        assert (b"host", b"test") in scope["headers"]
        assert set(scope["extensions"]) == {DENIAL, "wsgate", "wsgate.topics"}
        connection_id = ws.client.connection.connection_id
        assert scope["extensions"]["wsgate"] == {"connection_id": connection_id}


async def test_accept_answers_with_subprotocol_and_headers_in_order() -> None:
    async with peer() as ws:
        await ws.request("Sec-WebSocket-Protocol: b, a")
        await ws.call.accept(
            subprotocol="a",
            headers=[
                (b"X-B", b"1"),
                (b"set-cookie", b"a=1"),
                (b"x-a", b"2"),
                (b"Set-Cookie", b"b"),
            ],
        )
        head = await ws.client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n" in head
        assert b"\r\nSec-WebSocket-Protocol: a\r\n" in head
        assert b"Sec-WebSocket-Extensions" not in head
        assert head.endswith(
            b"\r\nx-b: 1\r\nset-cookie: a=1\r\nx-a: 2\r\nset-cookie: b\r\n\r\n",
        )


async def test_accept_sends_each_server_header_once() -> None:
    async with peer(headers=[("x-own", "1")]) as ws:
        await ws.request()
        await ws.call.accept(headers=[(b"Server", b"mine"), (b"x-own", b"2")])
        head = await ws.client.until(b"\r\n\r\n")
        assert head.count(b"\r\nserver: ") == head.count(b"\r\nx-own: ") == 1
        assert head.endswith(b"\r\nserver: mine\r\nx-own: 2\r\n\r\n")
        assert head.count(b"\r\ndate: ") == 1


async def test_subprotocol_is_none_unless_the_app_names_one() -> None:
    async with peer() as ws:
        head = await ws.open("Sec-WebSocket-Protocol: a")
        assert b"Sec-WebSocket-Protocol" not in head


@pytest.mark.parametrize(
    "invalid",
    [
        {"subprotocol": "c"},
        {"subprotocol": ""},
        {"subprotocol": b"a"},
        *(
            {"headers": [(name, b"x")]}
            for name in (
                b"sec-websocket-protocol",
                b"Sec-WebSocket-Accept",
                b"sec-websocket-extensions",
                b"sec-websocket-anything",
                b"Connection",
                b"upgrade",
                b"content-length",
                b"transfer-encoding",
                b"a b",
                b"",
            )
        ),
        {"headers": [(b"x-a", b"1\r\nx-b: 2")]},
        {"headers": [("x-a", "1")]},
        {"headers": [(b"x-a",)]},
    ],
)
async def test_invalid_accept_raises_and_does_not_change_the_state(invalid: dict[str, Any]) -> None:
    async with peer() as ws:
        await ws.request("Sec-WebSocket-Protocol: a, b")
        with pytest.raises(InvalidMessage):
            await ws.call.send({"type": "websocket.accept", **invalid})
        assert not ws.client.received
        await ws.call.accept(subprotocol="a")
        assert (await ws.client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


BAD_HANDSHAKES = {
    "not GET": (400, handshake(method="POST")),
    "no Connection": (400, handshake(without="Connection")),
    "no key": (400, handshake(without="Sec-WebSocket-Key")),
    "two keys": (400, handshake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")),
    "short key": (400, handshake("Sec-WebSocket-Key: AAAA", without="Sec-WebSocket-Key")),
    "no base64": (400, handshake("Sec-WebSocket-Key: ?", without="Sec-WebSocket-Key")),
    "a body": (400, handshake("Content-Length: 1") + b"x"),
    "same subprotocol twice": (400, handshake("Sec-WebSocket-Protocol: a, a")),
    "no version": (426, handshake(without="Sec-WebSocket-Version")),
    "old version": (426, handshake("Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version")),
    "two versions": (426, handshake("Sec-WebSocket-Version: 8")),
}


@pytest.mark.parametrize(("status", "request_"), BAD_HANDSHAKES.values(), ids=BAD_HANDSHAKES)
async def test_bad_handshake_is_answered_and_the_connection_closed(
    status: int, request_: bytes
) -> None:
    async with peer() as ws:
        ws.client.send(request_ + text_frame("never seen") + handshake())
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert (b"\r\nsec-websocket-version: 13\r\n" in answer) is (status == 426)
        assert ws.app.calls.empty()
        assert len(ws.log.access) == 1
        assert f'"WebSocket /" {status} ' in ws.log.access[0]
        assert not ws.log.problems
        ws.client.eof()
        await ws.wait_closed()


@pytest.mark.parametrize(
    "cut", ["whole", "after the head", "in the head", "in a frame", "bytes", "accepted first"]
)
async def test_bytes_after_the_handshake_arrive_once_and_in_order(cut: str) -> None:
    head = handshake()
    data = head + b"".join(map(text_frame, "abc"))
    async with peer() as ws:
        at = {"after the head": len(head), "in the head": 20, "in a frame": len(head) + 3}
        if cut == "accepted first":
            ws.client.send(head)
            await ws.wait_for_call()
            await ws.call.accept()
            ws.client.send(data[len(head) :])
        else:
            for piece in (
                [data]
                if cut == "whole"
                else [data[i : i + 1] for i in range(len(data))]
                if cut == "bytes"
                else [data[: at[cut]], data[at[cut] :]]
            ):
                ws.client.send(piece)
            await ws.wait_for_call()
            await ws.call.accept()
        assert await ws.call.receive_payloads(3) == ["a", "b", "c"]
        waiting = ws.call.start_receive()
        await turns()
        assert not waiting.done()
        ws.client.send(text_frame("d"))
        assert (await soon(waiting))["text"] == "d"


async def test_many_bytes_before_accept_pause_reading_and_arrive_in_order() -> None:
    messages = [f"{i:0100}" for i in range(1_500)]
    data = b"".join(map(text_frame, messages))
    async with peer() as ws:
        await ws.request()
        taken = 0
        for start in range(0, len(data), 4_096):
            taken += 0 if ws.client.transport.is_paused else 4_096
            ws.client.send(data[start : start + 4_096])
        assert ws.client.transport.is_paused
        assert EARLY <= taken < EARLY + 4_096
        assert len(ws.client._outbox) == len(data) - taken
        await ws.call.accept()
        assert await ws.call.receive_payloads(len(messages)) == messages
        await turns()
        assert not ws.client.transport.is_paused


async def test_a_large_message_that_has_begun_before_the_accept_is_read_to_its_end() -> None:
    payload = "x" * (3 * EARLY)
    data = text_frame(payload)
    async with peer() as ws:
        await ws.request()
        for start in range(0, len(data), 4_096):
            ws.client.send(data[start : start + 4_096])
        assert ws.client.transport.is_paused
        await ws.call.accept()
        assert await ws.call.receive_payloads(1) == [payload]


async def _forever() -> None:
    await asyncio.Event().wait()


async def test_above_limit_concurrency_answers_503() -> None:
    async with peer(limit_concurrency=1) as ws:
        held = asyncio.create_task(_forever())
        ws.client.worker.exchanges[held] = cast("Any", None)
        ws.client.send(handshake())
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 5\r\n" in answer
        assert ws.app.calls.empty()
        assert '"WebSocket /" 503 Service Unavailable' in ws.log.access[0]
        del ws.client.worker.exchanges[held]
        held.cancel()


# -- the reason of a refusal in the log ------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        (["Origin: https://a.example"], 403, "(Origin: https://a.example)"),
        (["Origin: a\\", "Origin: \xe9"], 403, "(Origin: a\\\\, \\xc3\\xa9)"),
        ([], 403, "(Origin: missing)"),
        (["Origin: https://b.example", "Sec-WebSocket-Protocol:"], 400, ""),
    ],
)
async def test_the_error_log_says_why_the_server_refuses_a_handshake(
    fields: list[str], status: int, reason: str
) -> None:
    async with peer(ws_origins=["https://b.example"]) as ws:
        ws.client.send(handshake(*fields))
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        (line,) = ws.log.messages(logging.INFO)
        assert line.startswith(f"127.0.0.1:50000 - WebSocket handshake refused: {status} ")
        assert line.endswith(reason)
        assert ("this origin may not connect" in line) == (status == 403)
        assert f" {status} " in ws.log.access[0]


async def test_the_error_log_says_that_an_app_did_not_accept_in_time() -> None:
    async with peer(ws_handshake_timeout=5) as ws:
        await ws.request()
        await ws.client.advance(6)
        assert (await ws.client.ended()).startswith(b"HTTP/1.1 503 ")
        reason = "503 the application did not accept in time"
        line = f"127.0.0.1:50000 - WebSocket handshake refused: {reason}"
        assert ws.log.messages(logging.INFO) == [line]


async def test_a_refusal_because_of_a_stop_is_not_logged() -> None:
    async with peer() as ws:
        ws.client.worker.opens_websockets = False
        ws.client.send(handshake())
        assert (await ws.client.ended()).startswith(b"HTTP/1.1 503 ")
        assert ws.log.messages(logging.INFO) == []


# -- the kind of reason, for metrics ---------------------------------------------------------------


async def _stop(ws: Peer) -> None:
    ws.client.worker.opens_websockets = False
    ws.client.send(handshake())


async def _stop_before_the_accept(ws: Peer) -> None:
    await ws.request()
    stop(ws.client)


class BusyWorkers(NoOtherWorkers):
    def calls(self) -> int:
        return 5


async def _exceed_the_limit(ws: Peer) -> None:
    ws.client.worker.other_workers = BusyWorkers()
    ws.client.send(handshake())


async def _close_before_the_accept(ws: Peer) -> None:
    await ws.request()
    await ws.call.send(close())


async def _deny(ws: Peer) -> None:
    await ws.request()
    await ws.call.send(denial())
    await ws.call.send(denial_body())


async def _fail(ws: Peer) -> None:
    await ws.request()
    ws.call.finish(KeyError("mine"))


async def _wait_too_long(ws: Peer) -> None:
    await ws.request()
    await ws.client.advance(6)


def _send(*headers: str, without: str = "-") -> Stage:
    async def stage(ws: Peer) -> None:
        ws.client.send(handshake(*headers, without=without))

    return stage


@pytest.mark.parametrize(
    ("stage", "refusal"),
    [
        (_send("Origin: https://b.example"), Refusal.ORIGIN),
        (_send(without="Sec-WebSocket-Version"), Refusal.VERSION),
        (_send(without="Sec-WebSocket-Key"), Refusal.MALFORMED),
        (_stop, Refusal.STOPPING),
        (_stop_before_the_accept, Refusal.STOPPING),
        (_exceed_the_limit, Refusal.LIMIT),
        (_close_before_the_accept, Refusal.APP_REFUSED),
        (_deny, Refusal.APP_REFUSED),
        (_fail, Refusal.APP_FAILED),
        (_wait_too_long, Refusal.APP_TIMEOUT),
    ],
)
async def test_the_event_has_the_kind_of_reason(stage: Stage, refusal: Refusal) -> None:
    events: list[Event] = []
    limits: dict[str, Any] = {"limit_concurrency": 5, "ws_handshake_timeout": 5}
    async with peer(ws_origins=["https://a.example", "none"], **limits) as ws:
        ws.client.worker.observers = Observers([events.append])
        await stage(ws)
        await ws.client.ended()
    (event,) = events
    assert isinstance(event, HandshakeRefused)
    assert event.refusal is refusal


# -- refusals and denial responses -----------------------------------------------------------------


async def test_close_before_accept_is_403() -> None:
    async with peer() as ws:
        await ws.request(rest=text_frame("never seen"))
        await ws.call.send(close(4000))
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        reason = "403 Forbidden (the application refused the WebSocket)"
        assert ws.log.access == [f'127.0.0.1:50000 - "WebSocket /" {reason}']
        assert ws.log.messages(logging.INFO) == []
        assert await ws.call.receive() == {"type": "websocket.connect"}
        assert await ws.receive_disconnect() == (1006, "")
        ws.call.finish()
        ws.client.eof()
        await ws.wait_closed()
        assert not ws.log.problems


async def test_denial_response_in_one_message() -> None:
    async with peer() as ws:
        await ws.request()
        waiting = ws.call.start_receive()
        assert (await soon(waiting))["type"] == "websocket.connect"
        waiting = ws.call.start_receive()
        await turns()
        await ws.call.send(denial(headers=[(b"X-Why", b"no"), (b"server", b"mine")]))
        assert not ws.client.received
        await ws.call.send(denial_body(b"go away"))
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b"\r\nx-why: no\r\n" in answer
        assert answer.count(b"\r\nserver: ") == 1
        assert b"\r\ncontent-length: 7\r\n" in answer
        assert answer.endswith(b"\r\n\r\ngo away")
        reason = "401 Unauthorized (the application sent its own response)"
        assert ws.log.access == [f'127.0.0.1:50000 - "WebSocket /" {reason}']
        assert (await soon(waiting))["code"] == 1006
        ws.call.finish()
        ws.client.eof()
        await ws.wait_closed()
        assert not ws.log.problems


async def test_denial_response_is_streamed() -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send(denial(599))
        await ws.call.send(denial_body(b"go", more_body=True))
        head = await ws.client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 599 \r\n")
        assert b"\r\ntransfer-encoding: chunked\r\n" in head.lower()
        assert await ws.client.exactly(7) == b"2\r\ngo\r\n"
        await ws.call.send(denial_body(more_body=True))
        await ws.call.send(denial_body(b"way"))
        assert await ws.client.ended() == b"3\r\nway\r\n0\r\n\r\n"
        reason = "599  (the application sent its own response)"
        assert ws.log.access == [f'127.0.0.1:50000 - "WebSocket /" {reason}']


@pytest.mark.parametrize("error", [None, KeyError("mine")])
async def test_app_that_ends_before_the_body_of_its_denial_gets_500(
    error: Exception | None,
) -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send(denial())
        ws.call.finish(error)
        assert (await ws.client.ended()).startswith(b"HTTP/1.1 500 ")
        assert len(ws.log.problems) == len(ws.log.access) == 1


@pytest.mark.parametrize("error", [None, KeyError("mine")])
async def test_app_that_ends_within_the_body_of_its_denial_truncates_it(
    error: Exception | None,
) -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send(denial())
        await ws.call.send(denial_body(b"go", more_body=True))
        ws.call.finish(error)
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.endswith(b"\r\n\r\n2\r\ngo\r\n")
        assert ws.log.access[0].endswith(
            " 401 Unauthorized (the application sent its own response)"
        )


@pytest.mark.parametrize(
    "invalid",
    [denial(101), denial(1000), denial(cast("int", "401")), denial(headers=[(b"a b", b"")])],
    ids=str,
)
async def test_malformed_denial_does_not_change_the_state(invalid: Message) -> None:
    for then, status in ([{"type": "websocket.accept"}], 101), ([denial(), denial_body()], 401):
        async with peer() as ws:
            await ws.request()
            with pytest.raises(InvalidMessage):
                await ws.call.send(invalid)
            with pytest.raises(IllegalMessage):
                await ws.call.send(denial_body())
            for message in then:
                await ws.call.send(cast("Message", message))
            answer = await ws.client.until(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_malformed_body_does_not_change_the_denial() -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send(denial())
        with pytest.raises(InvalidMessage):
            await ws.call.send(denial_body(cast("bytes", "text")))
        await ws.call.send(denial_body(b"go away"))
        assert (await ws.client.ended()).endswith(b"\r\n\r\ngo away")


async def test_denial_with_a_wrong_content_length_is_truncated() -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send(denial(headers=[(b"content-length", b"3")]))
        await ws.call.send(denial_body(b"a", more_body=True))
        await ws.call.send_raises(denial_body(b"b"), InvalidMessage, "Too little data")
        # Not "response complete": it is not.
        await ws.call.send_raises(denial_body(b"b"), InvalidMessage, ALREADY_FAILED)
        ws.call.finish()
        assert (await ws.client.ended()).endswith(b"\r\n\r\na")


@pytest.mark.parametrize("way", ["eof", "drop"])
async def test_client_disconnects_during_the_denial(way: str) -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send(denial())
        await ws.call.send(denial_body(b"go", more_body=True))
        getattr(ws.client, way)()
        await ws.wait_closed()
        with pytest.raises(ClientDisconnected) as caught:
            await ws.call.send(denial_body(b"way"))
        ws.call.finish(caught.value)
        await turns()
        assert not ws.log.problems


async def test_denial_waits_for_a_slow_client() -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send(denial())
        ws.client.stall()
        sending = ws.call.start_send(denial_body(b"a" * 70_000, more_body=True))
        await turns()
        assert not sending.done()
        last = ws.call.start_send(denial_body(b"b"))
        await turns()
        assert not last.done()
        ws.client.read_on()
        await soon(asyncio.gather(sending, last))
        assert (await ws.client.ended()).endswith(b"a\r\n1\r\nb\r\n0\r\n\r\n")


@pytest.mark.parametrize("cancelled", ["none", "before", "after"])
async def test_parts_of_a_denial_are_sent_in_the_order_of_the_calls(cancelled: str) -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send(denial())
        ws.client.stall()
        filling = ws.call.start_send(denial_body(b"a" * 70_000, more_body=True))
        first, second = (
            ws.call.start_send(denial_body(part, more_body=True)) for part in (b"1", b"2")
        )
        await turns()
        if cancelled == "before":
            first.cancel()
        ws.client.read_on()
        if cancelled == "after":
            first.cancel()
        await ws.call.send(denial_body(b"3"))  # in the iteration in which the gate opens
        await asyncio.gather(filling, first, second, return_exceptions=True)
        with pytest.raises(IllegalMessage):
            await ws.call.send(denial_body(b"4"))
        sent = b"1\r\n1\r\n1\r\n2\r\n1\r\n3\r\n0\r\n\r\n"[0 if cancelled == "none" else 6 :]
        assert (await ws.client.ended()).endswith(b"a\r\n" + sent)


async def test_waiting_part_of_a_denial_ends_when_the_client_leaves() -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send(denial())
        ws.client.stall()
        filling = ws.call.start_send(denial_body(b"a" * 70_000, more_body=True))
        waiting = [ws.call.start_send(denial_body(b"b", more_body=True)) for _ in range(3)]
        await turns()
        ws.client.drop()
        await soon(filling)
        for task in waiting:
            with pytest.raises(ClientDisconnected):
                await soon(task)


async def test_denial_is_aborted_for_a_client_that_does_not_read() -> None:
    async with peer(ws_send_timeout=30) as ws:
        await ws.request()
        await ws.call.send(denial())
        ws.client.stall()
        sending = ws.call.start_send(denial_body(b"a" * 70_000, more_body=True))
        await ws.client.advance(29.5)
        assert not sending.done()
        await ws.client.advance(1)
        await soon(sending)
        await ws.wait_closed()
        with pytest.raises(ClientDisconnected):
            await ws.call.send(denial_body())
