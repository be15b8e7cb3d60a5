"""WebSockets of a server that stops: closed with 1012, refused with 503, at last aborted."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests import frames
from tests.harness.app import ScriptedApp, denial, denial_body, respond_path, text
from tests.harness.client import BAD_FRAME, GET, close_code, handshake, text_frame
from tests.harness.log import LogCapture, capture_log
from tests.harness.memory import opened, peer, stop
from tests.harness.waiting import PATIENCE, soon, turns
from wsgate.errors import ClientDisconnected
from wsgate.testing import LiveServer, serve
from wsgate.types import App, Message

# -- one connection, in memory --------------------------------------------------------------------


async def test_open_websocket_is_closed_with_1012() -> None:
    async with opened() as ws:
        waiting = ws.call.start_receive()
        await turns()
        stop(ws.client)
        stop(ws.client)
        assert await ws.read_close() == (1012, "service restart")
        assert (await soon(waiting))["code"] == 1012
        assert await ws.receive_disconnect() == (1012, "service restart")
        with pytest.raises(ClientDisconnected) as caught:
            await ws.call.send(text("a"))
        ws.call.finish(caught.value)
        ws.client.send(frames.close(1012))
        assert await ws.client.ended() == b""
        assert "[closed] 1012 service restart" in ws.log.access[1]
        stop(ws.client)
        assert not ws.log.problems


async def test_messages_before_the_stop_are_delivered() -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") + text_frame("b"))
        stop(ws.client)
        assert await ws.call.receive_payloads(2) == ["a", "b"]
        assert await ws.receive_disconnect() == (1012, "service restart")


async def test_waiting_sender_ends() -> None:
    async with opened() as ws:
        ws.client.stall()
        wrote, waits = ws.call.start_send(text("a" * 70_000)), ws.call.start_send(text("b"))
        await turns()
        stop(ws.client)
        await soon(wrote)
        with pytest.raises(ClientDisconnected):
            await soon(waits)


async def test_closing_handshake_continues() -> None:
    async with opened() as ws:
        await ws.call.send({"type": "websocket.close", "code": 4000})
        stop(ws.client)
        assert await ws.read_close() == (4000, "")
        ws.client.send(frames.close(4000))
        assert await ws.client.ended() == b""


async def test_protocol_error_keeps_its_code() -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") + BAD_FRAME)
        stop(ws.client)
        assert await ws.read_close() == (1002, "protocol error")
        assert await ws.call.receive_payloads(1) == ["a"]
        assert await ws.receive_disconnect() == (1002, "protocol error")


@pytest.mark.parametrize("held", [False, True])
async def test_handshake_not_yet_accepted_is_refused_with_503(held: bool) -> None:
    async with peer() as ws:
        await ws.request()
        assert (await ws.call.receive())["type"] == "websocket.connect"
        if held:  # none of it has left
            await ws.call.send(denial())
        waiting = ws.call.start_receive()
        await turns()
        stop(ws.client)
        answer = await ws.client.ended()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        refusal = '127.0.0.1:50000 - "WebSocket /" 503 Service Unavailable (the server stops)'
        assert ws.log.access == [refusal]
        assert (await soon(waiting))["code"] == 1012
        assert await ws.receive_disconnect() == (1012, "service restart")
        stop(ws.client)
        message: Message = denial_body() if held else {"type": "websocket.accept"}
        with pytest.raises(ClientDisconnected) as caught:
            await ws.call.send(message)
        ws.call.finish(caught.value)
        await turns()
        assert not ws.client.received
        assert not ws.log.problems  # it is not an error of the app


@pytest.mark.parametrize("error", [None, KeyError("mine")])
async def test_app_that_ends_after_the_503(error: Exception | None) -> None:
    async with peer() as ws:
        await ws.request()
        stop(ws.client)
        ws.call.finish(error)
        assert (await ws.client.ended()).count(b"HTTP/1.1 ") == 1
        await turns()
        assert len(ws.log.access) == 1
        assert len(ws.log.problems) == (0 if error is None else 1)


async def test_started_denial_continues() -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send(denial())
        await ws.call.send(denial_body(b"go", more_body=True))
        stop(ws.client)
        await ws.call.send(denial_body(b"way"))
        assert (await ws.client.ended()).endswith(b"2\r\ngo\r\n3\r\nway\r\n0\r\n\r\n")


async def test_refused_handshake_gets_no_second_response() -> None:
    async with peer() as ws:
        await ws.request()
        await ws.call.send({"type": "websocket.close"})
        stop(ws.client)
        assert (await ws.client.ended()).count(b"HTTP/1.1 ") == 1


# -- a whole server -------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def live(app: App, **options: Any) -> AsyncIterator[tuple[LiveServer, LogCapture]]:
    """Serve; check that nothing is left after the server has stopped."""
    tasks = asyncio.all_tasks()
    with capture_log() as log:
        async with serve(app, **{"lifespan": "off", **options}) as server:
            yield server, log
        assert (server.connections, server.tasks) == (0, 0)
    assert asyncio.all_tasks() == tasks


async def reason_of(ws: ClientConnection) -> tuple[int, str]:
    """Return the code and the reason of the server's Close."""
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
    """An app that accepts and, after the disconnect, waits until the test sets `go`."""

    def __init__(self, *, swallows: bool = False) -> None:
        self.accepted = asyncio.Event()
        self.notified = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = 0
        self._swallows = swallows

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.accepted.set()
        assert (await receive())["code"] == 1012
        self.notified.set()
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if not self._swallows:
                    raise


async def test_all_websockets_are_closed_with_1012_and_their_apps_awaited() -> None:
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
        await soon(app.notified.wait())
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
            "Timeout graceful shutdown exceeded: cancelling 1 app call, dropping 1 connection",
            "An app's call was cancelled before it ended",
        ]
        writer.close()


async def test_app_that_swallows_its_cancellation_does_not_hang_the_stop() -> None:
    app = Slow(swallows=True)
    tasks = asyncio.all_tasks()
    with capture_log() as log:
        async with serve(app, lifespan="off", timeout_graceful_shutdown=0) as server:
            _, writer = await raw(server)
            await soon(app.accepted.wait())
            await soon(server.stop())
            assert (server.connections, server.tasks) == (0, 1)
            assert app.cancelled == 1
            assert log.problems[-1] == "App calls that ignore their cancellation: 1"
        app.go.set()
        await soon(server.settled())
        writer.close()
        await turns()
    assert asyncio.all_tasks() == tasks


async def test_handshake_not_accepted_is_refused_and_its_app_awaited() -> None:
    app = ScriptedApp()
    async with live(app) as (server, log):
        reader, writer = await raw(server)
        call = await app.called()
        stopping = asyncio.ensure_future(server.stop())
        assert (await soon(reader.read())).startswith(b"HTTP/1.1 503 ")
        writer.close()
        await turns()
        assert not stopping.done()
        call.finish()
        await soon(stopping)
        assert not log.problems


async def test_drain_spreads_open_websockets_and_refuses_handshakes_at_once() -> None:
    app = ScriptedApp()
    async with live(app, drain_seconds=1_000) as (server, log):
        writers, calls = [], []
        for _ in range(2):  # the first is closed at once, the second not in the test's time
            reader, writer = await raw(server)
            calls.append(await app.called())
            await calls[-1].accept()
            await soon(reader.readuntil(b"\r\n\r\n"))
            writers.append(writer)
        pending, writer = await raw(server)
        calls.append(await app.called())
        stopping = asyncio.ensure_future(server.stop())
        answer = await soon(pending.read())
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert not stopping.done()
        for call in calls:
            call.finish()
        for each in (*writers, writer):
            each.close()
        await soon(stopping)
        assert not log.problems


async def test_handshake_in_the_backlog_is_refused_and_its_request_is_answered() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await respond_path(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.accept"})

    async with live(app) as (server, log):
        with socket.socket() as ws, socket.socket() as http:
            for sock, data in ((ws, handshake()), (http, GET)):  # no loop iteration accepts them
                sock.connect((server.host, server.port))
                sock.sendall(data)
                sock.setblocking(False)
            stopping = asyncio.ensure_future(server.stop())
            loop = asyncio.get_running_loop()
            answer = await soon(loop.sock_recv(ws, 65_536))
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 1\r\n" in answer
            assert (await soon(loop.sock_recv(http, 65_536))).startswith(b"HTTP/1.1 200 ")
        await soon(stopping)
        assert 'WebSocket /" 503' in "".join(log.access)
        assert not log.problems


async def test_app_that_never_accepts_is_cancelled() -> None:
    app = ScriptedApp()
    async with live(app, timeout_graceful_shutdown=0.1) as (server, log):
        reader, writer = await raw(server)
        await app.called()
        await soon(server.stop())
        assert (await soon(reader.read())).startswith(b"HTTP/1.1 503 ")
        writer.close()
        assert log.problems[1:] == ["An app's call was cancelled before it ended"]


async def test_denial_that_takes_too_long_is_truncated() -> None:
    app = ScriptedApp()
    async with live(app, timeout_graceful_shutdown=0.1) as (server, _):
        reader, writer = await raw(server)
        call = await app.called()
        await call.send(denial())
        await call.send(denial_body(b"go", more_body=True))
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
            "Timeout graceful shutdown exceeded: cancelling 0 app calls, dropping 1 connection"
        ]
        writer.close()
