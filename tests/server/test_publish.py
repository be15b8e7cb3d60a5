"""Publishing to a WebSocket: order, and what happens while its client does not read."""

import asyncio
import contextlib
from typing import Any

import pytest

from tests.harness.app import close, text
from tests.harness.memory import Peer, opened
from tests.harness.waiting import turns, until
from wsgate.errors import ClientDisconnected, InvalidMessage
from wsgate.observe.causes import Cause
from wsgate.server.websocket import WebSocket
from wsgate.topics.outlet import MIN_COUNTED
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Slow
from wsgate.ws.frames.fast_codec import FastCodec

LARGE = "x" * 100_000  # above the mark of the write buffer


def publish(websocket: WebSocket, data: str | bytes, slow: Slow = Slow.CLOSE) -> tuple[int, bool]:
    return websocket.publish(Publication("room", data), slow)


def websocket_of(ws: Peer) -> WebSocket:
    (websocket,) = ws.client.worker.websockets.values()
    return websocket


async def stall(ws: Peer) -> WebSocket:
    """Have the client stop reading, with the write buffer above its mark."""
    websocket = websocket_of(ws)
    ws.client.stall()
    sending = ws.call.start_send(text(LARGE))
    await until(lambda: websocket.gate.is_shut)
    assert not sending.done()
    return websocket


async def resume(ws: Peer) -> list[str]:
    """Have the client read on; return the texts after the large one."""
    ws.client.read_on()
    assert (await ws.read_texts(1))[0] == LARGE
    await turns()
    texts = []
    while ws.client.received:
        texts += await ws.read_texts(1)
    return texts


async def test_a_published_message_is_sent_at_once() -> None:
    async with opened() as ws:
        websocket = websocket_of(ws)
        publish(websocket, "one")
        await ws.call.send(text("two"))
        publish(websocket, "three")
        assert await ws.read_texts(3) == ["one", "two", "three"]
        assert websocket.sent_messages == 3


async def test_messages_leave_in_the_order_in_which_they_were_given() -> None:
    async with opened() as ws:
        websocket = await stall(ws)
        publish(websocket, "one")
        second = ws.call.start_send(text("two"))
        await turns()
        publish(websocket, "three")
        fourth = ws.call.start_send(text("four"))
        await turns()
        assert not second.done()
        assert await resume(ws) == ["one", "two", "three", "four"]
        await asyncio.gather(second, fourth)
        publish(websocket, "five")
        assert await ws.read_texts(1) == ["five"]


async def test_one_frame_serves_all_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    framed: list[str | bytes] = []
    message = FastCodec.message

    def counting(payload: str | bytes) -> bytes:
        framed.append(payload)
        return message(payload)

    monkeypatch.setattr(FastCodec, "message", staticmethod(counting))
    publication = Publication("room", "shared")
    async with opened() as one, opened() as other:
        for ws in (one, other):
            websocket_of(ws).publish(publication, Slow.CLOSE)
        assert await one.read_texts(1) == await other.read_texts(1) == ["shared"]
    assert framed == ["shared"]


LIMITED = {"topics_max_outlet": 3 * MIN_COUNTED}


@pytest.mark.parametrize(
    ("slow", "kept", "dropped"), [(Slow.DROP, ["1", "2", "3"], 1), (Slow.CONFLATE, ["4"], 3)]
)
async def test_above_the_limit_messages_are_dropped(
    slow: Slow, kept: list[str], dropped: int
) -> None:
    async with opened(**LIMITED) as ws:
        websocket = await stall(ws)
        outcomes = [publish(websocket, number, slow) for number in "1234"]
        assert outcomes == [(0, False)] * 3 + [(dropped, False)]
        assert await resume(ws) == kept
        assert websocket.dropped_messages == dropped


async def test_above_the_limit_a_client_may_be_disconnected() -> None:
    async with opened(**LIMITED) as ws:
        websocket = await stall(ws)
        waiting = ws.call.start_send(text("late"))
        await turns()
        outcomes = [publish(websocket, "x") for _ in range(4)]
        assert outcomes == [(0, False)] * 3 + [(0, True)]
        assert await ws.receive_disconnect() == (1013, "slow consumer")
        with pytest.raises(ClientDisconnected):
            await waiting
        assert publish(websocket, "after the end") == (1, False)


async def test_a_cancelled_send_leaves_no_message() -> None:
    async with opened() as ws:
        websocket = await stall(ws)
        cancelled = ws.call.start_send(text("cancelled"))
        await turns()
        publish(websocket, "kept")
        cancelled.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cancelled
        assert await resume(ws) == ["kept"]


@pytest.mark.parametrize(
    ("end", "reason"), [("drop", "the client has left"), ("close", "the WebSocket was closed")]
)
async def test_the_end_resumes_waiting_senders(end: str, reason: str) -> None:
    async with opened() as ws:
        websocket = await stall(ws)
        publish(websocket, "lost")
        waiting = ws.call.start_send(text("late"))
        await turns()
        if end == "drop":
            ws.client.drop()
        else:
            websocket.close(1000, "", Cause.OPERATOR)
        with pytest.raises(ClientDisconnected, match=reason):
            await waiting
        publish(websocket, "after the end")


@pytest.mark.parametrize("way", ["app closes", "app returns", "app raises", "drain"])
async def test_what_was_published_is_sent_before_our_close(way: str) -> None:
    async with opened() as ws:
        websocket = await stall(ws)
        late = ws.call.start_send(text("late"))
        await turns()
        publish(websocket, "published")
        if way == "app closes":
            await ws.call.send(close(4001))
        elif way == "drain":
            websocket.drain()
        else:
            ws.call.finish(KeyError() if way == "app raises" else None)
        await turns()
        with pytest.raises(ClientDisconnected):
            await late
        ws.client.read_on()
        assert await ws.read_texts(2) == [LARGE, "published"]
        codes = {"app closes": 4001, "app returns": 1000, "app raises": 1011, "drain": 1012}
        assert (await ws.read_close())[0] == codes[way]


async def test_a_message_that_cannot_be_framed_does_not_keep_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = FastCodec.message

    def failing(payload: str | bytes) -> bytes:
        if payload in ("bad", "bad too"):
            raise MemoryError
        return message(payload)

    async with opened() as ws:
        websocket = await stall(ws)
        monkeypatch.setattr(FastCodec, "message", staticmethod(failing))
        bad = ws.call.start_send(text("bad"))
        await turns()
        publish(websocket, "bad too", Slow.DROP)
        good = ws.call.start_send(text("good"))
        await turns()
        assert await resume(ws) == ["good"]
        await good
        with pytest.raises(MemoryError):
            await bad
        assert ws.log.errors == ["A published message could not be sent"]


async def test_a_socket_that_would_miss_a_message_of_a_history_is_aborted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(payload: str | bytes) -> bytes:
        raise MemoryError

    async with opened() as ws:
        websocket = await stall(ws)
        publish(websocket, "bad", Slow.CLOSE)
        monkeypatch.setattr(FastCodec, "message", staticmethod(failing))
        ws.client.read_on()
        assert (await ws.call.receive())["code"] == 1006
        assert ws.log.errors == ["A published message could not be sent"]


async def test_a_sender_that_is_cancelled_as_its_message_leaves_disturbs_no_one() -> None:
    async with opened() as ws:
        websocket = await stall(ws)
        cancelled = ws.call.start_send(text("sent"))
        await turns()
        websocket._flush_outlet()  # nothing: the gate is shut
        ws.client.read_on()
        await until(lambda: not websocket.gate.is_shut)
        cancelled.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cancelled
        await ws.call.send(text("after"))
        assert (await ws.read_texts(3))[1:] == ["sent", "after"]


@pytest.mark.parametrize("is_slow", [False, True])
async def test_a_lone_surrogate_is_refused(is_slow: bool) -> None:
    async with opened() as ws:
        if is_slow:
            await stall(ws)
        sending: Any = ws.call.start_send(text("\ud800"))
        with pytest.raises(InvalidMessage, match="surrogate"):
            await sending
