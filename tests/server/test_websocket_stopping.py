"""WebSockets of a server that stops: closed with 1012, refused with 503, ended by force at last."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests import frames
from tests.wsclient import (
    PATIENCE,
    Log,
    Stage,
    close_code,
    handshake,
    logged,
    opened,
    peer,
    soon,
    text,
    text_frame,
    turns,
)
from wsgate.errors import ClientDisconnected
from wsgate.testing import LiveServer, MemoryClient, serve
from wsgate.types import App, Message

DENIAL = "websocket.http.response"
BAD_FRAME = frames.frame(0x3)


def stop(client: MemoryClient) -> None:
    """Tell the connection what a server tells it that stops."""
    for connection in list(client.context.connections):
        connection.driver.stop()


# -- one connection, in memory --------------------------------------------------------------------


async def test_open_one_is_closed_with_1012() -> None:
    async with opened() as ws:
        waiting = ws.app.receiving()
        await turns()
        stop(ws.client)
        stop(ws.client)
        assert await ws.closed() == (1012, "service restart")
        assert (await soon(waiting))["code"] == 1012
        assert await ws.disconnected() == (1012, "service restart")
        with pytest.raises(ClientDisconnected) as caught:
            await ws.app.send(text("a"))
        ws.app.leave(caught.value)
        ws.client.send(frames.close(1012))
        assert await ws.client.ended() == b""
        assert "[closed] 1012 service restart" in ws.log.access[1]
        stop(ws.client)
        assert not ws.log.problems


async def test_messages_before_it_are_still_delivered() -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") + text_frame("b"))
        stop(ws.client)
        assert await ws.app.receives(2) == ["a", "b"]
        assert await ws.disconnected() == (1012, "service restart")


async def test_sender_that_waits_ends() -> None:
    async with opened() as ws:
        ws.client.stall()
        wrote, waits = ws.app.sending(text("a" * 70_000)), ws.app.sending(text("b"))
        await turns()
        stop(ws.client)
        await soon(wrote)
        with pytest.raises(ClientDisconnected):
            await soon(waits)


async def test_one_that_is_closing_goes_on_closing() -> None:
    async with opened() as ws:
        await ws.app.send({"type": "websocket.close", "code": 4000})
        stop(ws.client)
        assert await ws.closed() == (4000, "")
        ws.client.send(frames.close(4000))
        assert await ws.client.ended() == b""


async def test_one_that_fails_is_told_of_its_fault() -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") + BAD_FRAME)
        stop(ws.client)
        assert await ws.closed() == (1002, "protocol error")
        assert await ws.app.receives(1) == ["a"]
        assert await ws.disconnected() == (1002, "protocol error")


@pytest.mark.parametrize("held", [False, True])
async def test_one_not_yet_accepted_is_refused_with_503(held: bool) -> None:
    async with peer() as ws:
        await ws.ask()
        assert (await ws.app.receive())["type"] == "websocket.connect"
        if held:  # none of it has left
            await ws.app.send({"type": f"{DENIAL}.start", "status": 401})
        waiting = ws.app.receiving()
        await turns()
        stop(ws.client)
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert ws.log.access == ['127.0.0.1:50000 - "WebSocket /" 503 Service Unavailable']
        assert (await soon(waiting))["code"] == 1012
        assert await ws.disconnected() == (1012, "service restart")
        stop(ws.client)
        message: Message = {"type": f"{DENIAL}.body"} if held else {"type": "websocket.accept"}
        with pytest.raises(ClientDisconnected) as caught:
            await ws.app.send(message)
        ws.app.leave(caught.value)
        await turns()
        assert not ws.client.received
        assert not ws.log.problems  # nothing that the app has done wrong


@pytest.mark.parametrize("error", [None, KeyError("mine")])
async def test_app_that_ends_behind_the_503(error: Exception | None) -> None:
    async with peer() as ws:
        await ws.ask()
        stop(ws.client)
        ws.app.leave(error)
        assert (await ws.client.ended()).count(b"HTTP/1.1 ") == 1
        await turns()
        assert len(ws.log.access) == 1
        assert len(ws.log.problems) == (0 if error is None else 1)


async def test_denial_that_has_begun_goes_on() -> None:
    async with peer() as ws:
        await ws.ask()
        await ws.app.send({"type": f"{DENIAL}.start", "status": 401})
        await ws.app.send({"type": f"{DENIAL}.body", "body": b"go", "more_body": True})
        stop(ws.client)
        await ws.app.send({"type": f"{DENIAL}.body", "body": b"way"})
        assert (await ws.client.ended()).endswith(b"2\r\ngo\r\n3\r\nway\r\n0\r\n\r\n")


async def test_one_that_was_refused_is_left_alone() -> None:
    async with peer() as ws:
        await ws.ask()
        await ws.app.send({"type": "websocket.close"})
        stop(ws.client)
        assert (await ws.client.ended()).count(b"HTTP/1.1 ") == 1


# -- a whole server -------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def live(app: App, **options: Any) -> AsyncIterator[tuple[LiveServer, Log]]:
    """Serve; see that nothing is left once it has stopped."""
    tasks = asyncio.all_tasks()
    with logged() as log:
        async with serve(app, **{"lifespan": "off", **options}) as server:
            yield server, log
        assert (server.connections, server.tasks) == (0, 0)
    assert asyncio.all_tasks() == tasks


async def reason_of(ws: ClientConnection) -> tuple[int, str]:
    """Return code and reason with which the server closes."""
    with pytest.raises(ConnectionClosed) as caught:
        await soon(ws.recv())
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def raw(server: LiveServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect and send a handshake."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(handshake())
    return reader, writer


class Slow:
    """An app that accepts and, once told of the end, needs to be let go."""

    def __init__(self, *, swallows: bool = False) -> None:
        self.accepted = asyncio.Event()
        self.told = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = 0
        self._swallows = swallows

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.accepted.set()
        assert (await receive())["code"] == 1012
        self.told.set()
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if not self._swallows:
                    raise


async def test_all_are_closed_with_1012_and_their_apps_awaited() -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send(text("here"))
        ended.append((await receive())["code"])

    async with contextlib.AsyncExitStack() as stack:
        server, log = await stack.enter_async_context(live(app))
        clients = [
            await stack.enter_async_context(
                connect(server.ws_url, proxy=None, open_timeout=PATIENCE)
            )
            for _ in range(10)
        ]
        for ws in clients:
            assert await soon(ws.recv()) == "here"
        stopping = asyncio.ensure_future(server.stop())
        for ws in clients:
            assert await reason_of(ws) == (1012, "service restart")
        await soon(stopping)
        assert ended == [1012] * 10
        assert not log.problems
        with pytest.raises(OSError, match="onnect"):
            await asyncio.open_connection(server.host, server.port)


async def test_stop_waits_for_an_app() -> None:
    app = Slow()
    async with live(app) as (server, log):
        reader, writer = await raw(server)
        await soon(app.accepted.wait())
        stopping = asyncio.ensure_future(server.stop())
        await soon(app.told.wait())
        await soon(reader.readuntil(b"\r\n\r\n"))
        found = frames.parsed(await soon(reader.readexactly(19)))
        assert close_code(found[0]) == (1012, "service restart")
        writer.write(frames.close(1012))
        assert await soon(reader.read()) == b""
        writer.close()
        await turns()
        assert not stopping.done()
        app.go.set()
        await soon(stopping)
        assert not app.cancelled
        assert not log.problems


async def test_app_that_takes_too_long_is_cancelled() -> None:
    app = Slow()
    async with live(app, timeout_graceful_shutdown=0.1) as (server, log):
        _, writer = await raw(server)
        await soon(app.accepted.wait())
        await soon(server.stop())
        assert app.cancelled == 1
        assert log.problems == [
            "Timeout graceful shutdown exceeded: cancelling 1 app calls, dropping 1 connections",
            "An app's call was cancelled before it ended",
        ]
        writer.close()


async def test_app_that_swallows_its_cancellation_does_not_hang_the_stop() -> None:
    app = Slow(swallows=True)
    tasks = asyncio.all_tasks()
    with logged() as log:
        async with serve(app, lifespan="off", timeout_graceful_shutdown=0) as server:
            _, writer = await raw(server)
            await soon(app.accepted.wait())
            await soon(server.stop())
            assert (server.connections, server.tasks) == (0, 1)
            assert app.cancelled == 1
            assert log.problems[-1] == "1 app calls ignore their cancellation"
        app.go.set()
        await soon(server.settled())
        writer.close()
        await turns()
    assert asyncio.all_tasks() == tasks


async def test_one_not_accepted_is_refused_and_its_app_awaited() -> None:
    app = Stage()
    async with live(app) as (server, log):
        reader, writer = await raw(server)
        await app.entered()
        stopping = asyncio.ensure_future(server.stop())
        assert (await soon(reader.read())).startswith(b"HTTP/1.1 503 ")
        writer.close()
        await turns()
        assert not stopping.done()
        app.leave()
        await soon(stopping)
        assert not log.problems


async def test_app_that_never_accepts_is_cancelled() -> None:
    app = Stage()
    async with live(app, timeout_graceful_shutdown=0.1) as (server, log):
        reader, writer = await raw(server)
        await app.entered()
        await soon(server.stop())
        assert (await soon(reader.read())).startswith(b"HTTP/1.1 503 ")
        writer.close()
        assert log.problems[1:] == ["An app's call was cancelled before it ended"]


async def test_denial_that_takes_too_long_is_cut_short() -> None:
    app = Stage()
    async with live(app, timeout_graceful_shutdown=0.1) as (server, _):
        reader, writer = await raw(server)
        await app.entered()
        await app.send({"type": f"{DENIAL}.start", "status": 401})
        await app.send({"type": f"{DENIAL}.body", "body": b"go", "more_body": True})
        await soon(server.stop())
        answer = await soon(reader.read())
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.endswith(b"\r\n\r\n2\r\ngo\r\n")
        writer.close()


async def test_client_that_does_not_close_is_dropped() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async with live(app, timeout_graceful_shutdown=0.1) as (server, log):
        reader, writer = await raw(server)
        await soon(reader.readuntil(b"\r\n\r\n"))
        await soon(server.stop())
        assert log.problems == [
            "Timeout graceful shutdown exceeded: cancelling 0 app calls, dropping 1 connections"
        ]
        writer.close()
