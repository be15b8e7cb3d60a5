"""An open WebSocket in memory: messages, protocol errors, and every way to end."""

import itertools
from typing import Any, cast

import pytest

from tests import frames
from tests.frames import BINARY, CONT, PING, PONG, RSV1, TEXT, frame
from tests.harness.app import DENIAL, close, denial, denial_body, text
from tests.harness.client import BAD_FRAME, DEFLATE, text_frame
from tests.harness.memory import opened, peer
from tests.harness.waiting import soon, turns
from wsgate.errors import ClientDisconnected, IllegalMessage, InvalidMessage
from wsgate.types import Message

MIB = 1 << 20


# -- messages --------------------------------------------------------------------------------------


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
            assert await ws.call.receive() == {"type": "websocket.receive", kind: payload}
            await ws.call.send({"type": "websocket.send", kind: payload})
            answer = await ws.read_frame()
            assert answer.opcode == opcode
            answered = frames.inflated(answer.payload) if answer.rsv else answer.payload
            assert answered == data
            if headers and size > 65_000:
                assert answer.rsv == RSV1
        assert not ws.log.problems


async def test_fragmented_message_is_one_message() -> None:
    async with opened() as ws:
        first, second, last = frames.fragments(TEXT, ["ä".encode()[:1], "ä".encode()[1:], b""])
        for piece in (first, frame(PING, b"between"), second):
            ws.client.send(piece)
        waiting = ws.call.start_receive()
        assert await ws.read_frame() == (PONG, b"between", True, 0)
        assert not waiting.done()
        ws.client.send(last)
        assert await soon(waiting) == {"type": "websocket.receive", "text": "ä"}


@pytest.mark.parametrize("other", [None, ...], ids=["the other is None", "the other is not there"])
@pytest.mark.parametrize("data", [b"ab", bytearray(b"ab"), memoryview(b"ab")])
async def test_send_accepts_bytes_like_objects(data: Any, other: Any) -> None:
    async with opened() as ws:
        message = {"type": "websocket.send", "bytes": data}
        await ws.call.send(message if other is ... else {**message, "text": None})
        assert await ws.read_frame() == (BINARY, b"ab", True, 0)


@pytest.mark.parametrize(
    "invalid",
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
async def test_malformed_message_raises_and_changes_nothing(invalid: Message) -> None:
    async with opened() as ws:
        with pytest.raises(InvalidMessage):
            await ws.call.send(invalid)
        await ws.call.send(text("go on"))
        assert await ws.read_texts(1) == ["go on"]


async def test_lone_surrogate_raises_and_changes_nothing() -> None:
    async with opened() as ws:
        with pytest.raises(ValueError, match="surrogate"):
            await ws.call.send(text("\ud800"))
        with pytest.raises(InvalidMessage):
            await ws.call.send(close(reason="\ud800"))
        await ws.call.send(text("go on"))
        assert await ws.read_texts(1) == ["go on"]


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
        await ws.request()
        for message in WAY[state]:
            await ws.call.send(message)
        sent = bytes(ws.client.received)
        with pytest.raises(IllegalMessage) as caught:
            await ws.call.send({"type": kind, "status": 200, "text": "a", "body": b""})
        assert repr(kind) in str(caught.value)
        assert state in str(caught.value)
        assert ws.client.received == sent


async def test_refusal_or_denial_ends_the_conversation() -> None:
    for messages in ([close()], [denial(), denial_body()]):
        async with peer() as ws:
            await ws.request()
            for message in messages:
                await ws.call.send(message)
            with pytest.raises(IllegalMessage, match="closed"):
                await ws.call.send({"type": "websocket.accept"})


# -- ended by the client ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (1000, "bye", (1000, "bye")),
        (1001, "", (1001, "")),
        (1014, "bad gateway", (1014, "bad gateway")),
        (3000, "ü" * 61, (3000, "ü" * 61)),
        (4999, "", (4999, "")),
        (None, "", (1005, "")),
    ],
)
async def test_close_of_the_client_is_echoed_and_received_repeatedly(
    code: int | None, reason: str, expected: tuple[int, str]
) -> None:
    async with opened() as ws:
        ws.client.send(frames.close(code, reason))
        echo = await ws.read_frame()
        assert echo.opcode == frames.CLOSE
        assert echo.payload == (b"" if code is None else code.to_bytes(2, "big"))
        assert await ws.client.ended() == b""
        assert await ws.receive_disconnect() == expected
        assert len(ws.log.access) == 2
        ws.client.eof()
        await ws.wait_closed()
        assert await ws.receive_disconnect() == expected
        assert len(ws.log.access) == 2


@pytest.mark.parametrize("way", ["eof", "drop"])
async def test_end_of_tcp_is_1006(way: str) -> None:
    async with opened() as ws:
        waiting = ws.call.start_receive()
        await turns()
        getattr(ws.client, way)()
        event = await soon(waiting)
        assert event == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        assert await ws.receive_disconnect() == (1006, "")
        await ws.wait_closed()
        assert [" 1006 " in line for line in ws.log.access] == [False, True]


@pytest.mark.parametrize("way", ["eof", "drop"])
async def test_end_of_tcp_before_accept_is_1006_and_leaves_no_connection(way: str) -> None:
    async with peer() as ws:
        await ws.request(rest=text_frame("never seen"))
        getattr(ws.client, way)()
        await ws.wait_closed()
        assert await ws.call.receive() == {"type": "websocket.connect"}
        assert await ws.receive_disconnect() == (1006, "")
        for message in ({"type": "websocket.accept"}, close(), denial()):
            with pytest.raises(ClientDisconnected):
                await ws.call.send(cast("Message", message))
        ws.call.finish()
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
        assert await ws.call.receive_payloads(100) == messages
        assert await ws.receive_disconnect() == (1001 if way == "close" else 1006, "")
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
                await ws.call.send(message)
            assert isinstance(caught.value, OSError)
        error: Exception = caught.value
        ws.call.finish(ExceptionGroup("tasks", [error, error]) if grouped else error)
        await turns()
        assert not ws.client.worker.tasks
        assert not ws.log.problems


async def test_send_waits_for_a_pending_connection_lost() -> None:
    async with opened() as ws:
        ws.client.drop()
        await ws.call.send(text("a"))  # kept for the flush, which drops it
        assert ws.client.worker.connections
        await soon(ws.call.send(text("b")))
        assert not ws.client.worker.connections
        with pytest.raises(ClientDisconnected):
            await ws.call.send(text("c"))


async def test_another_error_after_the_client_left_is_logged() -> None:
    async with opened() as ws:
        ws.client.drop()
        await turns()
        ws.call.finish(ExceptionGroup("tasks", [ValueError("no"), KeyError("mine")]))
        await turns()
        assert len(ws.log.problems) == 1
        assert "KeyError('mine')" in ws.log.problems[0]


async def test_data_after_the_clients_close_is_ignored() -> None:
    async with opened() as ws:
        ws.client.send(frames.close(1000) + text_frame("a") + frame(PING) + BAD_FRAME)
        assert await ws.read_close() == (1000, "")
        ws.client.send(text_frame("b") * 50_000)
        assert await ws.client.ended() == b""
        assert await ws.receive_disconnect() == (1000, "")


# -- ended by the app ------------------------------------------------------------------------------


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
        waiting = ws.call.start_receive()
        await turns()
        await ws.call.send(message)
        assert await ws.read_close() == wire
        assert (await soon(waiting))["code"] == wire[0]
        assert await ws.receive_disconnect() == wire
        assert not ws.client.is_ended
        ws.client.send(frames.close(1001, "other"))
        assert await ws.client.ended() == b""
        assert await ws.receive_disconnect() == wire
        ws.client.eof()
        await ws.wait_closed()
        assert len(ws.log.access) == 2
        assert f"[closed] {wire[0]} " in ws.log.access[1]


@pytest.mark.parametrize("way", ["eof", "drop"])
async def test_end_of_tcp_after_our_close_keeps_our_code(way: str) -> None:
    async with opened() as ws:
        await ws.call.send(close(4000))
        getattr(ws.client, way)()
        await ws.wait_closed()
        assert await ws.receive_disconnect() == (4000, "")
        assert "[closed] 4000 " in ws.log.access[1]


async def test_simultaneous_closes() -> None:
    async with opened() as ws:
        ws.client.transport.pause_reading()  # the client's is on its way
        ws.client.send(frames.close(1001))
        await ws.call.send(close(4000))
        ws.client.transport.resume_reading()
        assert await ws.read_close() == (4000, "")
        assert await ws.client.ended() == b""
        assert await ws.receive_disconnect() == (4000, "")
        with pytest.raises(IllegalMessage):
            await ws.call.send(close(4000))


async def test_close_after_the_clients_close_raises() -> None:
    async with opened() as ws:
        ws.client.send(frames.close(1001))
        with pytest.raises(ClientDisconnected):
            await ws.call.send(close(4000))
        assert await ws.read_close() == (1001, "")
        assert await ws.client.ended() == b""
        assert await ws.receive_disconnect() == (1001, "")


async def test_clients_close_is_found_after_messages_beyond_the_queue() -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") * 5_000 + frames.close(1001))
        await turns()
        assert ws.client.transport.is_paused
        await ws.call.send(close(4000))
        assert await ws.read_close() == (4000, "")
        assert await ws.client.ended() == b""
        assert await ws.call.receive_payloads(16) == ["a"] * 16
        assert await ws.receive_disconnect() == (4000, "")


async def test_after_our_close_nothing_is_answered_and_a_bad_frame_ends_it() -> None:
    async with opened() as ws:
        await ws.call.send(close(4000))
        assert await ws.read_close() == (4000, "")
        ws.client.send(text_frame("a") + frame(PING, b"x"))
        await turns()
        assert not ws.client.received
        assert not ws.client.is_ended
        ws.client.send(BAD_FRAME)
        assert await ws.client.ended() == b""
        assert await ws.receive_disconnect() == (4000, "")


async def test_return_of_the_app_closes_with_1000() -> None:
    async with opened() as ws:
        ws.call.finish()
        assert await ws.read_close() == (1000, "")
        with pytest.raises(ClientDisconnected):  # in a task that outlives the call
            await ws.call.send(text("a"))
        ws.client.send(frames.close(1000))
        await ws.client.ended()
        assert not ws.log.problems


async def test_error_of_the_app_closes_with_1011() -> None:
    async with opened() as ws:
        ws.call.finish(KeyError("mine"))
        assert await ws.read_close() == (1011, "internal error")
        assert ws.log.problems == ["Exception in ASGI application: KeyError('mine')"]


async def test_error_of_the_app_after_its_close_is_only_logged() -> None:
    async with opened() as ws:
        await ws.call.send(close(4000))
        ws.call.finish(KeyError("mine"))
        assert await ws.read_close() == (4000, "")
        await turns()
        assert not ws.client.received
        assert len(ws.log.problems) == 1


async def test_return_of_the_app_after_its_close_waits_for_the_client() -> None:
    async with opened() as ws:
        await ws.call.send(close(4000))
        ws.call.finish()
        assert await ws.read_close() == (4000, "")
        await turns()
        assert not ws.client.is_ended


@pytest.mark.parametrize("error", [None, KeyError("mine"), SystemExit(3)])
async def test_app_that_ends_before_accept_gets_500(
    error: BaseException | None,
) -> None:
    async with peer() as ws:
        await ws.request()
        ws.call.finish(error)
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"mine" not in answer
        assert len(ws.log.problems) == 1
        assert (repr(error) if error else "without accepting") in ws.log.problems[0]
        assert ws.log.access[0].endswith(
            '"WebSocket /" 500 Internal Server Error (the application failed)'
        )


# -- protocol errors of the client -----------------------------------------------------------------


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
async def test_protocol_error_is_reported_after_the_messages_before_it(
    bad: bytes, code: int
) -> None:
    async with opened(ws_max_size=MIB) as ws:
        ws.client.send(text_frame("a") + text_frame("b") + bad + text_frame("never seen"))
        await turns()
        assert not ws.client.received  # no Close yet
        for expected in ("a", "b"):
            assert await ws.call.receive_payloads(1) == [expected]
            await ws.call.send(text(expected.upper()))
        assert await ws.read_texts(2) == ["A", "B"]
        ws.client.send(text_frame("never seen"))
        event = await ws.call.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", code)
        assert (await ws.read_close())[0] == code
        assert await ws.client.ended() == b""
        assert f"[closed] {code} " in ws.log.access[1]
        with pytest.raises(ClientDisconnected):
            await ws.call.send(text("c"))
        assert not ws.log.problems


async def test_message_too_large_after_decompression() -> None:
    async with opened(DEFLATE, ws_max_size=MIB) as ws:
        ws.client.send(frame(TEXT, frames.deflated(b"a" * (MIB + 1)), rsv=RSV1))
        assert await ws.receive_disconnect() == (1009, "message too big")
        assert (await ws.read_close())[0] == 1009


async def test_protocol_error_is_reported_at_the_deadline_if_the_app_never_receives() -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") + BAD_FRAME)
        await ws.client.advance(4.5)
        await ws.call.send(text("b"))
        assert await ws.read_texts(1) == ["b"]
        assert not ws.client.received
        await ws.client.advance(1)
        assert await ws.read_close() == (1002, "protocol error")
        assert await ws.client.ended() == b""
        assert await ws.call.receive_payloads(1) == ["a"]
        assert await ws.receive_disconnect() == (1002, "protocol error")
        await ws.client.advance(3)
        await ws.wait_closed()


@pytest.mark.parametrize("way", ["close", "return", "raise"])
async def test_protocol_error_is_reported_however_the_app_ends(way: str) -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") + BAD_FRAME)
        if way == "close":
            await ws.call.send(close(4000))
        else:
            ws.call.finish(KeyError("mine") if way == "raise" else None)
        assert await ws.read_close() == (1002, "protocol error")
        assert await ws.client.ended() == b""


@pytest.mark.parametrize("way", ["eof", "drop"])
async def test_client_disconnects_after_its_protocol_error(way: str) -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") + BAD_FRAME)
        getattr(ws.client, way)()
        await ws.wait_closed()
        with pytest.raises(ClientDisconnected):
            await ws.call.send(text("b"))
        assert await ws.call.receive_payloads(1) == ["a"]
        assert await ws.receive_disconnect() == (1002, "protocol error")


# -- timeouts of the closing handshake -------------------------------------------------------------


async def test_closing_handshake_has_a_timeout() -> None:
    async with opened(ws_close_timeout=10) as ws:
        await ws.call.send(close(4000))
        await ws.client.advance(5)
        ws.client.send(text_frame("no Close"))
        await ws.client.advance(4.5)
        assert not ws.client.is_ended
        await ws.client.advance(1)
        await ws.wait_closed()
        assert await ws.receive_disconnect() == (4000, "")
        assert ws.log.access[1].startswith(
            '127.0.0.1:50000 - "WebSocket /" [closed] 4000 after 10.'
        )


async def test_server_closes_tcp_immediately_after_the_closing_handshake() -> None:
    # RFC 6455 section 7.1.1: "the server MUST close the TCP connection immediately".
    async with opened() as ws:
        ws.client.send(frames.close(1000))
        assert await ws.read_close() == (1000, "")
        await ws.wait_closed()


async def test_client_may_close_tcp_late_after_a_protocol_error() -> None:
    async with opened() as ws:
        ws.client.send(frames.frame(0x3))
        assert await ws.receive_disconnect() == (1002, "protocol error")
        assert await ws.read_close() == (1002, "protocol error")
        await ws.client.advance(1.5)
        assert ws.client.is_ended
        assert ws.client.worker.connections
        ws.client.send(b"thrown away")
        await ws.client.advance(1)
        await ws.wait_closed()


async def test_client_that_does_not_read_is_aborted_after_the_closing_handshake() -> None:
    async with opened(ws_send_timeout=30) as ws:
        ws.client.stall()
        await ws.call.send(text("a" * 1_000))
        ws.client.send(frames.close(1000))
        ws.client.eof()
        await ws.client.advance(25)
        assert ws.client.worker.connections
        await ws.client.advance(10)
        await ws.wait_closed()


# -- the access log --------------------------------------------------------------------------------


async def test_access_log_has_a_line_for_accept_and_for_close() -> None:
    async with peer() as ws:
        await ws.request(target="/a?b=%0a")
        await ws.call.accept()
        await ws.client.until(b"\r\n\r\n")
        sent = text_frame("hello") + frame(BINARY, b"ab") + frame(PING, b"abc")
        ws.client.send(sent)
        await ws.call.receive_payloads(2)
        await ws.call.send(text("hello you"))
        await ws.read_frame()
        await ws.read_frame()
        await ws.client.advance(2.5)
        last = frames.close(4000, "line\nbreak\x1b[31m ü")
        ws.client.send(last)
        echo = 4
        assert ws.log.access == [
            '127.0.0.1:50000 - "WebSocket /a?b=%0a" [accepted]',
            (
                '127.0.0.1:50000 - "WebSocket /a?b=%0a" [closed] 4000 line\\nbreak\\x1b[31m \\xfc'
                f" after 2.5 s, in 2/{len(sent + last)} B, out 1/{11 + 5 + echo} B"
                ": the client sent a Close frame"
            ),
        ]
        assert not ws.log.problems
