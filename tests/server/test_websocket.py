"""How a WebSocket is served, in memory: from the handshake to the end, and every deadline."""

import asyncio
import itertools
from typing import Any, cast

import pytest

from tests import frames
from tests.frames import BINARY, CONT, PING, PONG, RSV1, TEXT, frame
from tests.wsclient import (
    ACCEPT,
    DEFLATE,
    handshake,
    opened,
    peer,
    soon,
    text,
    text_frame,
    turns,
)
from wsgate.errors import ClientDisconnected, IllegalMessage, InvalidMessage
from wsgate.server.pending_websocket import EARLY
from wsgate.types import Message

MIB = 1 << 20
BAD_FRAME = frame(0x3)  # RFC 6455 section 5.2: a reserved opcode
DENIAL = "websocket.http.response"


def denial(status: int = 401, **more: Any) -> Message:
    return {"type": f"{DENIAL}.start", "status": status, **more}


def denial_body(body: bytes = b"", **more: Any) -> Message:
    return {"type": f"{DENIAL}.body", "body": body, **more}


def close(code: int = 1000, **more: Any) -> Message:
    return {"type": "websocket.close", "code": code, **more}


# -- the handshake --------------------------------------------------------------------------------


async def test_scope_tells_what_the_client_asked() -> None:
    async with peer(root_path="/api") as ws:
        await ws.ask("Sec-WebSocket-Protocol: b, a", target="/chat%20room?x=1")
        scope = ws.app.scope
        assert scope["type"] == "websocket"
        assert scope["scheme"] == "ws"
        assert scope["subprotocols"] == ["b", "a"]
        assert scope["path"] == "/api/chat room"
        assert scope["query_string"] == b"x=1"
        assert (b"host", b"test") in scope["headers"]
        assert scope["extensions"] == {DENIAL: {}}


async def test_accept_answers_with_subprotocol_and_headers_in_order() -> None:
    async with peer() as ws:
        await ws.ask("Sec-WebSocket-Protocol: b, a")
        await ws.app.accept(
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


async def test_accept_says_each_of_the_servers_own_headers_once() -> None:
    async with peer(headers=[("x-own", "1")]) as ws:
        await ws.ask()
        await ws.app.accept(headers=[(b"Server", b"mine"), (b"x-own", b"2")])
        head = await ws.client.until(b"\r\n\r\n")
        assert head.count(b"\r\nserver: ") == head.count(b"\r\nx-own: ") == 1
        assert head.endswith(b"\r\nserver: mine\r\nx-own: 2\r\n\r\n")
        assert head.count(b"\r\ndate: ") == 1


async def test_subprotocol_is_none_unless_the_app_names_one() -> None:
    async with peer() as ws:
        head = await ws.open("Sec-WebSocket-Protocol: a")
        assert b"Sec-WebSocket-Protocol" not in head


@pytest.mark.parametrize(
    "wrong",
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
async def test_wrong_accept_raises_and_leaves_the_state_as_it_was(wrong: dict[str, Any]) -> None:
    async with peer() as ws:
        await ws.ask("Sec-WebSocket-Protocol: a, b")
        with pytest.raises(InvalidMessage):
            await ws.app.send({"type": "websocket.accept", **wrong})
        assert not ws.client.received
        await ws.app.accept(subprotocol="a")
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
        assert not ws.app.is_entered
        assert len(ws.log.access) == 1
        assert f'"WebSocket /" {status} ' in ws.log.access[0]
        assert not ws.log.problems
        ws.client.eof()
        await ws.gone()


@pytest.mark.parametrize(
    "cut", ["whole", "behind the head", "in the head", "in a frame", "bytes", "accepted first"]
)
async def test_bytes_behind_the_handshake_come_once_and_in_order(cut: str) -> None:
    head = handshake()
    data = head + b"".join(map(text_frame, "abc"))
    async with peer() as ws:
        at = {"behind the head": len(head), "in the head": 20, "in a frame": len(head) + 3}
        if cut == "accepted first":
            ws.client.send(head)
            await ws.app.entered()
            await ws.app.accept()
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
            await ws.app.entered()
            await ws.app.accept()
        assert await ws.app.receives(3) == ["a", "b", "c"]
        waiting = ws.app.receiving()
        await turns()
        assert not waiting.done()
        ws.client.send(text_frame("d"))
        assert (await soon(waiting))["text"] == "d"


async def test_many_bytes_before_accept_pause_reading_and_all_come_in_order() -> None:
    messages = [f"{i:0100}" for i in range(1_500)]
    data = b"".join(map(text_frame, messages))
    async with peer() as ws:
        await ws.ask()
        taken = 0
        for start in range(0, len(data), 4_096):
            taken += 0 if ws.client.transport.is_paused else 4_096
            ws.client.send(data[start : start + 4_096])
        assert ws.client.transport.is_paused
        assert EARLY <= taken < EARLY + 4_096
        assert len(ws.client._outbox) == len(data) - taken
        await ws.app.accept()
        assert await ws.app.receives(len(messages)) == messages
        await turns()
        assert not ws.client.transport.is_paused


async def _forever() -> None:
    await asyncio.Event().wait()


async def test_above_limit_concurrency_answers_503() -> None:
    async with peer(limit_concurrency=1) as ws:
        ws.client.context.tasks.add(held := asyncio.create_task(_forever()))
        ws.client.send(handshake())
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 5\r\n" in answer
        assert not ws.app.is_entered
        assert '"WebSocket /" 503 Service Unavailable' in ws.log.access[0]
        ws.client.context.tasks.discard(held)
        held.cancel()


# -- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [(), (DEFLATE,)], ids=["plain", "deflate"])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, MIB])
@pytest.mark.parametrize("kind", ["text", "bytes"])
async def test_echo(headers: tuple[str, ...], size: int, kind: str) -> None:
    data = bytes(itertools.islice(itertools.cycle(b"abcdefg"), size))
    payload = data.decode() if kind == "text" else data
    opcode = TEXT if kind == "text" else BINARY
    async with opened(*headers) as ws:
        for deflated in (False, True)[: 2 if headers else 1]:
            body = frames.deflated(data) if deflated else data
            ws.client.send(frame(opcode, body, rsv=RSV1 if deflated else 0))
            assert await ws.app.receive() == {"type": "websocket.receive", kind: payload}
            await ws.app.send({"type": "websocket.send", kind: payload})
            answer = await ws.frame()
            assert answer.opcode == opcode
            answered = frames.inflated(answer.payload) if answer.rsv else answer.payload
            assert answered == data
            if headers and size > 65_000:
                assert answer.rsv == RSV1
        assert not ws.log.problems


async def test_message_in_pieces_is_one() -> None:
    async with opened() as ws:
        first, second, last = frames.fragments(TEXT, ["ä".encode()[:1], "ä".encode()[1:], b""])
        for piece in (first, frame(PING, b"between"), second):
            ws.client.send(piece)
        waiting = ws.app.receiving()
        assert await ws.frame() == (PONG, b"between", True, 0)
        assert not waiting.done()
        ws.client.send(last)
        assert await soon(waiting) == {"type": "websocket.receive", "text": "ä"}


@pytest.mark.parametrize("other", [None, ...], ids=["the other is None", "the other is not there"])
@pytest.mark.parametrize("data", [b"ab", bytearray(b"ab"), memoryview(b"ab")])
async def test_send_takes_what_bytes_are(data: Any, other: Any) -> None:
    async with opened() as ws:
        message = {"type": "websocket.send", "bytes": data}
        await ws.app.send(message if other is ... else {**message, "text": None})
        assert await ws.frame() == (BINARY, b"ab", True, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": None, "bytes": None},
        {"type": "websocket.send", "text": "", "bytes": b""},
        {"type": "websocket.send", "text": b"a"},
        {"type": "websocket.send", "text": 1},
        {"type": "websocket.send", "bytes": "a"},
        {"type": "websocket.send", "bytes": [1]},
        *(
            close(code)
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1, 65_536, 1 << 70)
        ),
        close(cast("int", "1000")),
        close(cast("int", None)),
        close(cast("int", 1000.0)),
        close(reason="a" * 124),
        close(reason="ä" * 62),
        close(reason=b"why"),
    ],
    ids=str,
)
async def test_malformed_message_raises_and_changes_nothing(wrong: Message) -> None:
    async with opened() as ws:
        with pytest.raises(InvalidMessage):
            await ws.app.send(wrong)
        await ws.app.send(text("go on"))
        assert await ws.texts(1) == ["go on"]


async def test_lone_surrogate_raises_and_changes_nothing() -> None:
    async with opened() as ws:
        with pytest.raises(ValueError, match="surrogate"):
            await ws.app.send(text("\ud800"))
        with pytest.raises(InvalidMessage):
            await ws.app.send(close(reason="\ud800"))
        await ws.app.send(text("go on"))
        assert await ws.texts(1) == ["go on"]


LEGAL = {
    "connecting": {"websocket.accept", "websocket.close", f"{DENIAL}.start"},
    "denying": {f"{DENIAL}.body"},
    "open": {"websocket.send", "websocket.close"},
    "closed": set[str](),
}
WAY: dict[str, list[Message]] = {
    "connecting": [],
    "denying": [denial()],
    "open": [{"type": "websocket.accept"}],
    "closed": [{"type": "websocket.accept"}, close()],
}
KINDS = {kind for kinds in LEGAL.values() for kind in kinds} | {"http.response.start", "", None}


@pytest.mark.parametrize(
    ("state", "kind"),
    [(state, kind) for state in LEGAL for kind in sorted(KINDS - LEGAL[state], key=str)],
)
async def test_illegal_message_raises_and_names_message_and_state(
    state: str, kind: str | None
) -> None:
    async with peer() as ws:
        await ws.ask()
        for message in WAY[state]:
            await ws.app.send(message)
        sent = bytes(ws.client.received)
        with pytest.raises(IllegalMessage) as caught:
            await ws.app.send({"type": kind, "status": 200, "text": "a", "body": b""})
        assert repr(kind) in str(caught.value)
        assert state in str(caught.value)
        assert ws.client.received == sent


async def test_refusal_or_denial_ends_the_conversation() -> None:
    for messages in ([close()], [denial(), denial_body()]):
        async with peer() as ws:
            await ws.ask()
            for message in messages:
                await ws.app.send(message)
            with pytest.raises(IllegalMessage, match="closed"):
                await ws.app.send({"type": "websocket.accept"})


# -- the end, by the client -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (1000, "bye", (1000, "bye")),
        (1001, "", (1001, "")),
        (1014, "bad gateway", (1014, "bad gateway")),
        (3000, "ü" * 61, (3000, "ü" * 61)),
        (4999, "", (4999, "")),
        (None, "", (1005, "")),
    ],
)
async def test_close_of_the_client_is_echoed_and_told_for_good(
    code: int | None, reason: str, told: tuple[int, str]
) -> None:
    async with opened() as ws:
        ws.client.send(frames.close(code, reason))
        echo = await ws.frame()
        assert echo.opcode == frames.CLOSE
        assert echo.payload == (b"" if code is None else code.to_bytes(2, "big"))
        assert await ws.client.ended() == b""
        assert await ws.disconnected() == told
        assert len(ws.log.access) == 2
        ws.client.eof()
        await ws.gone()
        assert await ws.disconnected() == told
        assert len(ws.log.access) == 2


@pytest.mark.parametrize("way", ["eof", "drop"])
async def test_end_of_tcp_is_1006(way: str) -> None:
    async with opened() as ws:
        waiting = ws.app.receiving()
        await turns()
        getattr(ws.client, way)()
        event = await soon(waiting)
        assert event == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        assert await ws.disconnected() == (1006, "")
        await ws.gone()
        assert [" 1006 " in line for line in ws.log.access] == [False, True]


@pytest.mark.parametrize("way", ["eof", "drop"])
async def test_end_of_tcp_before_accept_is_1006_and_leaves_no_connection(way: str) -> None:
    async with peer() as ws:
        await ws.ask(behind=text_frame("never seen"))
        getattr(ws.client, way)()
        await ws.gone()
        assert await ws.app.receive() == {"type": "websocket.connect"}
        assert await ws.disconnected() == (1006, "")
        for message in ({"type": "websocket.accept"}, close(), denial()):
            with pytest.raises(ClientDisconnected):
                await ws.app.send(cast("Message", message))
        ws.app.leave()
        await turns()
        assert not ws.client.received
        assert not ws.log.problems


@pytest.mark.parametrize("way", ["close", "eof", "drop"])
async def test_messages_before_the_end_are_still_delivered(way: str) -> None:
    messages = [str(i) for i in range(100)]
    async with opened() as ws:
        # One piece: what has no room in the queue is in the session when the end comes.
        data = b"".join(map(text_frame, messages))
        ws.client.send(data + (frames.close(1001) if way == "close" else b""))
        if way != "close":
            getattr(ws.client, way)()
        await turns()
        assert await ws.app.receives(100) == messages
        assert await ws.disconnected() == (1001 if way == "close" else 1006, "")
        await ws.client.ended()
        assert not ws.log.problems


@pytest.mark.parametrize("way", ["close", "eof", "drop"])
@pytest.mark.parametrize("grouped", [False, True])
async def test_send_after_the_client_left_raises_and_is_no_error(way: str, grouped: bool) -> None:
    async with opened() as ws:
        if way == "close":
            ws.client.send(frames.close())
        else:
            getattr(ws.client, way)()
        await turns()
        for message in (text("a"), close(), {"type": "websocket.accept"}, text("a")):
            with pytest.raises(ClientDisconnected) as caught:
                await ws.app.send(message)
            assert isinstance(caught.value, OSError)
        error: Exception = caught.value
        ws.app.leave(ExceptionGroup("tasks", [error, error]) if grouped else error)
        await turns()
        assert not ws.client.context.tasks
        assert not ws.log.problems


async def test_send_while_the_end_of_tcp_is_on_its_way_waits_for_it() -> None:
    async with opened() as ws:
        ws.client.drop()
        assert ws.client.context.connections
        await soon(ws.app.send(text("a")))
        assert not ws.client.context.connections
        with pytest.raises(ClientDisconnected):
            await ws.app.send(text("b"))


async def test_another_error_after_the_client_left_is_logged() -> None:
    async with opened() as ws:
        ws.client.drop()
        await turns()
        ws.app.leave(ExceptionGroup("tasks", [ValueError("no"), KeyError("mine")]))
        await turns()
        assert len(ws.log.problems) == 1
        assert "KeyError('mine')" in ws.log.problems[0]


async def test_what_comes_behind_the_clients_close_is_nothing() -> None:
    async with opened() as ws:
        ws.client.send(frames.close(1000) + text_frame("a") + frame(PING) + BAD_FRAME)
        assert await ws.closed() == (1000, "")
        ws.client.send(text_frame("b") * 50_000)
        assert await ws.client.ended() == b""
        assert await ws.disconnected() == (1000, "")


# -- the end, by the app --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        ({"type": "websocket.close"}, (1000, "")),
        ({"type": "websocket.close", "reason": None}, (1000, "")),
        (close(1008, reason="ü" * 61), (1008, "ü" * 61)),
        (close(1014), (1014, "")),
        (close(4999, reason="x"), (4999, "x")),
    ],
)
async def test_close_of_the_app(message: Message, wire: tuple[int, str]) -> None:
    async with opened() as ws:
        waiting = ws.app.receiving()
        await turns()
        await ws.app.send(message)
        assert await ws.closed() == wire
        assert (await soon(waiting))["code"] == wire[0]
        assert await ws.disconnected() == wire
        assert not ws.client.is_ended
        ws.client.send(frames.close(1001, "other"))
        assert await ws.client.ended() == b""
        assert await ws.disconnected() == wire
        ws.client.eof()
        await ws.gone()
        assert len(ws.log.access) == 2
        assert f"[closed] {wire[0]} " in ws.log.access[1]


@pytest.mark.parametrize("way", ["eof", "drop"])
async def test_end_of_tcp_behind_our_close_keeps_our_code(way: str) -> None:
    async with opened() as ws:
        await ws.app.send(close(4000))
        getattr(ws.client, way)()
        await ws.gone()
        assert await ws.disconnected() == (4000, "")
        assert "[closed] 4000 " in ws.log.access[1]


async def test_closes_that_cross_are_one_each() -> None:
    async with opened() as ws:
        ws.client.transport.pause_reading()  # the client's is on its way
        ws.client.send(frames.close(1001))
        await ws.app.send(close(4000))
        ws.client.transport.resume_reading()
        assert await ws.closed() == (4000, "")
        assert await ws.client.ended() == b""
        assert await ws.disconnected() == (4000, "")
        with pytest.raises(IllegalMessage):
            await ws.app.send(close(4000))


async def test_close_behind_the_clients_raises() -> None:
    async with opened() as ws:
        ws.client.send(frames.close(1001))
        with pytest.raises(ClientDisconnected):
            await ws.app.send(close(4000))
        assert await ws.closed() == (1001, "")
        assert await ws.client.ended() == b""
        assert await ws.disconnected() == (1001, "")


async def test_clients_close_is_found_behind_messages_that_had_no_room() -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") * 5_000 + frames.close(1001))
        await turns()
        assert ws.client.transport.is_paused
        await ws.app.send(close(4000))
        assert await ws.closed() == (4000, "")
        assert await ws.client.ended() == b""
        assert await ws.app.receives(16) == ["a"] * 16
        assert await ws.disconnected() == (4000, "")


async def test_behind_our_close_nothing_is_answered_and_a_bad_frame_ends_it() -> None:
    async with opened() as ws:
        await ws.app.send(close(4000))
        assert await ws.closed() == (4000, "")
        ws.client.send(text_frame("a") + frame(PING, b"x"))
        await turns()
        assert not ws.client.received
        assert not ws.client.is_ended
        ws.client.send(BAD_FRAME)
        assert await ws.client.ended() == b""
        assert await ws.disconnected() == (4000, "")


async def test_return_of_the_app_closes_with_1000() -> None:
    async with opened() as ws:
        ws.app.leave()
        assert await ws.closed() == (1000, "")
        with pytest.raises(ClientDisconnected):  # a task that it left behind
            await ws.app.send(text("a"))
        ws.client.send(frames.close(1000))
        await ws.client.ended()
        assert not ws.log.problems


async def test_error_of_the_app_closes_with_1011() -> None:
    async with opened() as ws:
        ws.app.leave(KeyError("mine"))
        assert await ws.closed() == (1011, "internal error")
        assert ws.log.problems == ["Exception in ASGI application: KeyError('mine')"]


async def test_error_of_the_app_behind_its_close_is_logged_and_says_no_more() -> None:
    async with opened() as ws:
        await ws.app.send(close(4000))
        ws.app.leave(KeyError("mine"))
        assert await ws.closed() == (4000, "")
        await turns()
        assert not ws.client.received
        assert len(ws.log.problems) == 1


async def test_return_of_the_app_behind_its_close_waits_for_the_client() -> None:
    async with opened() as ws:
        await ws.app.send(close(4000))
        ws.app.leave()
        assert await ws.closed() == (4000, "")
        await turns()
        assert not ws.client.is_ended


@pytest.mark.parametrize("error", [None, KeyError("mine"), SystemExit(3)])
async def test_app_that_ends_before_accept_is_answered_for_with_500(
    error: BaseException | None,
) -> None:
    async with peer() as ws:
        await ws.ask()
        ws.app.leave(error)
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"mine" not in answer
        assert len(ws.log.problems) == 1
        assert (repr(error) if error else "without accepting") in ws.log.problems[0]
        assert ws.log.access[0].endswith('"WebSocket /" 500 Internal Server Error')


# -- refusals -------------------------------------------------------------------------------------


async def test_close_before_accept_is_403() -> None:
    async with peer() as ws:
        await ws.ask(behind=text_frame("never seen"))
        await ws.app.send(close(4000))
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        assert ws.log.access == ['127.0.0.1:50000 - "WebSocket /" 403 Forbidden']
        assert await ws.app.receive() == {"type": "websocket.connect"}
        assert await ws.disconnected() == (1006, "")
        ws.app.leave()
        ws.client.eof()
        await ws.gone()
        assert not ws.log.problems


async def test_denial_whole() -> None:
    async with peer() as ws:
        await ws.ask()
        waiting = ws.app.receiving()
        assert (await soon(waiting))["type"] == "websocket.connect"
        waiting = ws.app.receiving()
        await turns()
        await ws.app.send(denial(headers=[(b"X-Why", b"no"), (b"server", b"mine")]))
        assert not ws.client.received
        await ws.app.send(denial_body(b"go away"))
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b"\r\nx-why: no\r\n" in answer
        assert answer.count(b"\r\nserver: ") == 1
        assert b"\r\ncontent-length: 7\r\n" in answer
        assert answer.endswith(b"\r\n\r\ngo away")
        assert ws.log.access == ['127.0.0.1:50000 - "WebSocket /" 401 Unauthorized']
        assert (await soon(waiting))["code"] == 1006
        ws.app.leave()
        ws.client.eof()
        await ws.gone()
        assert not ws.log.problems


async def test_denial_streamed() -> None:
    async with peer() as ws:
        await ws.ask()
        await ws.app.send(denial(599))
        await ws.app.send(denial_body(b"go", more_body=True))
        head = await ws.client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 599 \r\n")
        assert b"\r\ntransfer-encoding: chunked\r\n" in head.lower()
        assert await ws.client.exactly(7) == b"2\r\ngo\r\n"
        await ws.app.send(denial_body(more_body=True))
        await ws.app.send(denial_body(b"way"))
        assert await ws.client.ended() == b"3\r\nway\r\n0\r\n\r\n"
        assert ws.log.access == ['127.0.0.1:50000 - "WebSocket /" 599 ']


@pytest.mark.parametrize("error", [None, KeyError("mine")])
async def test_app_that_ends_before_the_denials_body_is_answered_for_with_500(
    error: Exception | None,
) -> None:
    async with peer() as ws:
        await ws.ask()
        await ws.app.send(denial())
        ws.app.leave(error)
        assert (await ws.client.ended()).startswith(b"HTTP/1.1 500 ")
        assert len(ws.log.problems) == len(ws.log.access) == 1


@pytest.mark.parametrize("error", [None, KeyError("mine")])
async def test_app_that_ends_within_the_denials_body_cuts_it_short(error: Exception | None) -> None:
    async with peer() as ws:
        await ws.ask()
        await ws.app.send(denial())
        await ws.app.send(denial_body(b"go", more_body=True))
        ws.app.leave(error)
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.endswith(b"\r\n\r\n2\r\ngo\r\n")
        assert ws.log.access[0].endswith(" 401 Unauthorized")


@pytest.mark.parametrize(
    "wrong",
    [denial(101), denial(1000), denial(cast("int", "401")), denial(headers=[(b"a b", b"")])],
    ids=str,
)
async def test_malformed_denial_leaves_the_state_as_it_was(wrong: Message) -> None:
    for then, status in ([{"type": "websocket.accept"}], 101), ([denial(), denial_body()], 401):
        async with peer() as ws:
            await ws.ask()
            with pytest.raises(InvalidMessage):
                await ws.app.send(wrong)
            with pytest.raises(IllegalMessage):
                await ws.app.send(denial_body())
            for message in then:
                await ws.app.send(cast("Message", message))
            answer = await ws.client.until(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_malformed_body_leaves_the_denial_as_it_was() -> None:
    async with peer() as ws:
        await ws.ask()
        await ws.app.send(denial())
        with pytest.raises(InvalidMessage):
            await ws.app.send(denial_body(cast("bytes", "text")))
        await ws.app.send(denial_body(b"go away"))
        assert (await ws.client.ended()).endswith(b"\r\n\r\ngo away")


@pytest.mark.parametrize("way", ["eof", "drop"])
async def test_client_that_leaves_within_the_denial(way: str) -> None:
    async with peer() as ws:
        await ws.ask()
        await ws.app.send(denial())
        await ws.app.send(denial_body(b"go", more_body=True))
        getattr(ws.client, way)()
        await ws.gone()
        with pytest.raises(ClientDisconnected) as caught:
            await ws.app.send(denial_body(b"way"))
        ws.app.leave(caught.value)
        await turns()
        assert not ws.log.problems


async def test_denial_waits_for_a_slow_client() -> None:
    async with peer() as ws:
        await ws.ask()
        await ws.app.send(denial())
        ws.client.stall()
        sending = ws.app.sending(denial_body(b"a" * 70_000, more_body=True))
        await turns()
        assert not sending.done()
        last = ws.app.sending(denial_body(b"b"))
        await turns()
        assert not last.done()
        ws.client.read_on()
        await soon(asyncio.gather(sending, last))
        assert (await ws.client.ended()).endswith(b"a\r\n1\r\nb\r\n0\r\n\r\n")


async def test_denial_gives_a_client_up_that_does_not_read() -> None:
    async with peer(ws_send_timeout=30) as ws:
        await ws.ask()
        await ws.app.send(denial())
        ws.client.stall()
        sending = ws.app.sending(denial_body(b"a" * 70_000, more_body=True))
        await ws.client.advance(29.5)
        assert not sending.done()
        await ws.client.advance(1)
        await soon(sending)
        await ws.gone()
        with pytest.raises(ClientDisconnected):
            await ws.app.send(denial_body())


# -- what the client does wrong -------------------------------------------------------------------

BROKEN = {
    "reserved opcode": (BAD_FRAME, 1002),
    "not masked": (frame(TEXT, "a", mask=None), 1002),
    "reserved bit": (frame(TEXT, "a", rsv=RSV1), 1002),
    "continuation of nothing": (frame(CONT, "a"), 1002),
    "long Ping": (frame(PING, b"a" * 126), 1002),
    "code that must not be sent": (frames.close(1006), 1002),
    "Close of one byte": (frame(frames.CLOSE, b"a"), 1002),
    "no UTF-8": (frame(TEXT, b"\xff"), 1007),
    "no UTF-8 in the reason": (frames.close(1000, b"\xff"), 1007),
    "too large": (frame(BINARY, b"", declared=MIB + 1), 1009),
}


@pytest.mark.parametrize(("bad", "code"), BROKEN.values(), ids=BROKEN)
async def test_bad_frame_is_told_behind_what_came_before_it(bad: bytes, code: int) -> None:
    async with opened(ws_max_size=MIB) as ws:
        ws.client.send(text_frame("a") + text_frame("b") + bad + text_frame("never seen"))
        await turns()
        assert not ws.client.received  # no Close yet
        for expected in ("a", "b"):
            assert await ws.app.receives(1) == [expected]
            await ws.app.send(text(expected.upper()))
        assert await ws.texts(2) == ["A", "B"]
        ws.client.send(text_frame("never seen"))
        event = await ws.app.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", code)
        assert (await ws.closed())[0] == code
        assert await ws.client.ended() == b""
        assert f"[closed] {code} " in ws.log.access[1]
        with pytest.raises(ClientDisconnected):
            await ws.app.send(text("c"))
        assert not ws.log.problems


async def test_message_too_large_once_inflated() -> None:
    async with opened(DEFLATE, ws_max_size=MIB) as ws:
        ws.client.send(frame(TEXT, frames.deflated(b"a" * (MIB + 1)), rsv=RSV1))
        assert await ws.disconnected() == (1009, "message too big")
        assert (await ws.closed())[0] == 1009


async def test_bad_frame_is_told_at_the_deadline_when_the_app_never_asks() -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") + BAD_FRAME)
        await ws.client.advance(4.5)
        await ws.app.send(text("b"))
        assert await ws.texts(1) == ["b"]
        assert not ws.client.received
        await ws.client.advance(1)
        assert await ws.closed() == (1002, "protocol error")
        assert await ws.client.ended() == b""
        assert await ws.app.receives(1) == ["a"]
        assert await ws.disconnected() == (1002, "protocol error")
        await ws.client.advance(3)
        await ws.gone()


@pytest.mark.parametrize("way", ["close", "return", "raise"])
async def test_bad_frame_is_told_whatever_the_app_ends_with(way: str) -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") + BAD_FRAME)
        if way == "close":
            await ws.app.send(close(4000))
        else:
            ws.app.leave(KeyError("mine") if way == "raise" else None)
        assert await ws.closed() == (1002, "protocol error")
        assert await ws.client.ended() == b""


@pytest.mark.parametrize("way", ["eof", "drop"])
async def test_client_that_leaves_behind_its_bad_frame(way: str) -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") + BAD_FRAME)
        getattr(ws.client, way)()
        await ws.gone()
        with pytest.raises(ClientDisconnected):
            await ws.app.send(text("b"))
        assert await ws.app.receives(1) == ["a"]
        assert await ws.disconnected() == (1002, "protocol error")


# -- the closing handshake's time -----------------------------------------------------------------


async def test_closing_handshake_is_bounded() -> None:
    async with opened(ws_close_timeout=10) as ws:
        await ws.app.send(close(4000))
        await ws.client.advance(5)
        ws.client.send(text_frame("no Close"))
        await ws.client.advance(4.5)
        assert not ws.client.is_ended
        await ws.client.advance(1)
        await ws.gone()
        assert await ws.disconnected() == (4000, "")
        assert ws.log.access[1].startswith(
            '127.0.0.1:50000 - "WebSocket /" [closed] 4000 after 10.'
        )


async def test_server_closes_at_once_behind_the_handshake() -> None:
    # RFC 6455 section 7.1.1: "the server MUST close the TCP connection immediately".
    async with opened() as ws:
        ws.client.send(frames.close(1000))
        assert await ws.closed() == (1000, "")
        await ws.gone()


async def test_client_has_its_time_to_close_behind_a_fault() -> None:
    async with opened() as ws:
        ws.client.send(frames.frame(0x3))
        assert await ws.disconnected() == (1002, "protocol error")
        assert await ws.closed() == (1002, "protocol error")
        await ws.client.advance(1.5)
        assert ws.client.is_ended
        assert ws.client.context.connections
        ws.client.send(b"thrown away")
        await ws.client.advance(1)
        await ws.gone()


async def test_client_that_reads_nothing_is_aborted_behind_the_handshake() -> None:
    async with opened(ws_send_timeout=30) as ws:
        ws.client.stall()
        await ws.app.send(text("a" * 1_000))
        ws.client.send(frames.close(1000))
        ws.client.eof()
        await ws.client.advance(25)
        assert ws.client.context.connections
        await ws.client.advance(10)
        await ws.gone()


# -- the access log -------------------------------------------------------------------------------


async def test_access_log_has_the_opening_and_the_end() -> None:
    async with peer() as ws:
        await ws.ask(target="/a?b=%0a")
        await ws.app.accept()
        await ws.client.until(b"\r\n\r\n")
        sent = text_frame("hello") + frame(BINARY, b"ab") + frame(PING, b"abc")
        ws.client.send(sent)
        await ws.app.receives(2)
        await ws.app.send(text("hello you"))
        await ws.frame()
        await ws.frame()
        await ws.client.advance(2.5)
        last = frames.close(4000, "line\nbreak\x1b[31m ü")
        ws.client.send(last)
        echo = 4
        assert ws.log.access == [
            '127.0.0.1:50000 - "WebSocket /a?b=%0a" [accepted]',
            (
                '127.0.0.1:50000 - "WebSocket /a?b=%0a" [closed] 4000 line\\nbreak\\x1b[31m \\xfc'
                f" after 2.5 s, in 2/{len(sent + last)} B, out 1/{11 + 5 + echo} B"
            ),
        ]
        assert not ws.log.problems
