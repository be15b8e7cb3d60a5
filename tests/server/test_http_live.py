"""HTTP on a live server with each event loop; the clients are TCP connections and httpx."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from tests.harness import loops
from tests.harness.app import END, START, ScriptedApp, piece
from tests.harness.client import GET, POST
from tests.harness.log import LogCapture
from tests.harness.tcp import TcpClient, connect_tcp
from tests.harness.waiting import is_waiting, turns, until
from wsgate.config import Config
from wsgate.errors import ClientDisconnected
from wsgate.process.server import Server
from wsgate.server.connection import HIGH_WATER, Connection
from wsgate.server.http1_driver import READ_AHEAD
from wsgate.testing import LiveServer, serve
from wsgate.types import App

PATIENCE = 10.0
MIB = 1024 * 1024


LOOPS = loops.LOOPS
pytestmark = pytest.mark.usefixtures("log", "no_task_left")


async def answer_of(client: TcpClient) -> tuple[int, bytes]:
    """Return the status and the body of the next response."""
    response = await client.response()
    return response.status, response.body


@contextlib.asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[LiveServer]:
    """Serve without lifespan; check that all calls end once the clients have disconnected."""
    async with asyncio.timeout(3 * PATIENCE), serve(app, lifespan="off", **options) as server:
        yield server
        await server.settled()


def httpx_of(server: LiveServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=server.url, timeout=2 * PATIENCE, trust_env=False, verify=False
    )


def connection_of(server: LiveServer) -> Connection:
    """Return the server's side of its only connection."""
    (connection,) = server._server.worker.connections
    assert isinstance(connection, Connection)
    return connection


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Respond with the body, part by part as it arrives."""
    await send({**START, "headers": [(b"x-method", scope["method"].encode())]})
    more = True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        await send(piece(message["body"]))
        more = message["more_body"]
    await send(END)


async def path(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path; leave the body alone."""
    await send(START)
    await send(piece(scope["path"].encode(), more=False))


async def test_each_event_loop_is_used(request: pytest.FixtureRequest) -> None:
    is_uvloop = isinstance(asyncio.get_running_loop(), uvloop.Loop)
    assert is_uvloop is ("uvloop" in request.node.name)


# -- a client we did not write ---------------------------------------------------------------------


async def test_httpx_gets_and_posts_over_one_connection() -> None:
    peers = set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        peers.add(scope["client"])
        await echo(scope, receive, send)

    async with serving(app) as server, httpx_of(server) as client:
        for body in (b"", b"a", b"x" * MIB):
            response = await client.post("/", content=body)
            assert (response.status_code, response.content) == (200, body)
        assert (await client.get("/")).headers["x-method"] == "GET"
        assert len(peers) == 1


async def test_httpx_sends_and_receives_streams() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(50):
            yield b"%d," % number
            await asyncio.sleep(0)

    async with serving(echo) as server, httpx_of(server) as client:
        async with client.stream("POST", "/", content=pieces()) as response:
            assert response.headers["transfer-encoding"] == "chunked"
            body = b"".join([chunk async for chunk in response.aiter_bytes()])
        assert body == b"".join(b"%d," % number for number in range(50))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_httpx_and_every_method(method: str) -> None:
    async with serving(echo) as server, httpx_of(server) as client:
        for _ in range(2):
            response = await client.request(method, "/")
            assert (response.status_code, response.headers["x-method"]) == (200, method)


async def test_httpx_sends_many_requests_at_once() -> None:
    async with serving(echo) as server, httpx_of(server) as client:
        bodies = [b"%d" % number * 1_000 for number in range(50)]
        answers = await asyncio.gather(*(client.post("/", content=body) for body in bodies))
        assert [answer.content for answer in answers] == bodies


async def test_httpx_disconnects_during_a_stream(log: LogCapture) -> None:
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            while True:
                await send(piece(b"x" * 1_000))
                await asyncio.sleep(0)
        except ClientDisconnected:
            ended.set()
            raise

    async with serving(app) as server:
        async with (
            httpx_of(server) as client,
            client.stream("GET", "/") as response,
        ):
            assert response.status_code == 200
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        await server.settled()
        assert not log.errors
        assert not log.warnings


async def test_httpx_detects_a_truncated_response() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"x"))
        raise ValueError("mine")

    async with serving(app) as server, httpx_of(server) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")


async def test_httpx_gets_500_for_a_failing_app() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("mine")

    async with serving(app) as server, httpx_of(server) as client:
        assert [(await client.get("/")).status_code for _ in range(2)] == [500, 500]


async def test_httpx_sends_a_body_that_the_app_does_not_read() -> None:
    async with serving(path) as server, httpx_of(server) as client:
        for size in (1_000, 5 * MIB, 1_000):
            assert (await client.post("/a", content=b"x" * size)).text == "/a"


# -- raw sockets -----------------------------------------------------------------------------------


async def test_the_scope_names_both_ends() -> None:
    app = ScriptedApp()
    async with serving(app) as server, connect_tcp(server.port) as client:
        client.send(b"GET http://other/%C3%A9?q HTTP/1.1\r\nHost: x\r\n\r\n")
        call = await app.called()
        assert call.scope["client"] == client.writer.get_extra_info("sockname")
        assert call.scope["server"] == (server.host, server.port)
        assert (call.scope["path"], call.scope["query_string"]) == ("/é", b"q")
        assert call.scope["headers"] == [(b"host", b"other")]
        await call.respond(b"fine")
        call.finish()
        assert await answer_of(client) == (200, b"fine")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(path) as server, connect_tcp(server.port) as client:
        count = 300
        for number in range(count):
            client.send(POST.replace(b"/ ", b"/%d ", 1) % (number, 5) + b"hello")
        for number in range(count):
            assert await answer_of(client) == (200, b"/%d" % number)


async def test_a_half_closed_client_gets_all_responses() -> None:
    async with serving(path) as server, connect_tcp(server.port) as client:
        client.send(GET * 3)
        client.writer.write_eof()
        assert [await answer_of(client) for _ in range(3)] == [(200, b"/")] * 3
        assert await client.read_rest() == b""


async def test_a_half_closed_client_gets_a_late_response() -> None:
    app = ScriptedApp()
    async with serving(app) as server, connect_tcp(server.port) as client:
        client.send(GET)
        client.writer.write_eof()
        call = await app.called()
        await call.receive()
        assert await call.receive() == {"type": "http.disconnect"}
        await call.respond(b"x" * MIB)
        call.finish()
        assert await answer_of(client) == (200, b"x" * MIB)
        assert await client.read_rest() == b""


async def test_the_end_of_a_connection_is_not_a_reset() -> None:
    """The client reads its answer though it still sends (RFC 9112 section 9.6)."""
    async with serving(path) as server, connect_tcp(server.port) as client:
        client.send(POST % 9_999_999)
        assert await answer_of(client) == (200, b"/")
        client.send(b"x" * 5 * MIB)
        assert await client.read_rest() == b""


async def test_a_malformed_request_does_not_disturb_other_connections() -> None:
    app = ScriptedApp()
    async with (
        serving(app) as server,
        connect_tcp(server.port) as client,
        connect_tcp(server.port) as other,
    ):
        client.send(GET)
        call = await app.called()
        other.send(b"nonsense\r\n\r\n")
        assert (await answer_of(other))[0] == 400
        assert await other.read_rest() == b""
        await call.respond(b"fine")
        call.finish()
        assert await answer_of(client) == (200, b"fine")


async def test_100_continue_is_sent_when_the_app_receives() -> None:
    app = ScriptedApp()
    async with serving(app) as server, connect_tcp(server.port) as client:
        client.send(POST[:-2] % 2 + b"Expect: 100-continue\r\n\r\n")
        call = await app.called()
        coming = call.start_receive()
        async with asyncio.timeout(PATIENCE):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ab")
        assert (await coming)["body"] == b"ab"
        await call.respond(b"fine")
        call.finish()
        assert await answer_of(client) == (200, b"fine")


async def test_send_waits_for_a_client_that_does_not_read() -> None:
    app = ScriptedApp()
    async with serving(app) as server, connect_tcp(server.port) as client:
        client.send(GET)
        call = await app.called()
        await call.send({**START, "headers": [(b"content-length", b"%d" % (64 * MIB))]})
        sent = 0

        async def stream() -> None:
            nonlocal sent
            while sent < 64 * MIB:
                sent += HIGH_WATER
                await call.send(piece(b"x" * HIGH_WATER))
            await call.send(END)

        streaming = asyncio.create_task(stream())
        connection = connection_of(server)
        await until(lambda: connection.gate.is_shut and sent > MIB)
        while not await is_waiting(streaming) or not connection.gate.is_shut:
            await turns()
        assert connection.transport.get_write_buffer_size() <= 2 * HIGH_WATER + 1_000
        assert sent < 64 * MIB
        _, body = await answer_of(client)
        assert len(body) == 64 * MIB
        await streaming
        call.finish()


async def test_reading_pauses_while_the_app_does_not_receive() -> None:
    app = ScriptedApp()
    async with serving(app) as server, connect_tcp(server.port) as client:
        client.send(POST % (32 * MIB))
        client.send(b"x" * 32 * MIB)
        call = await app.called()
        connection = connection_of(server)
        driver: Any = connection.driver
        await until(lambda: connection.paused_since is not None)
        assert len(driver.http1.buffer) < READ_AHEAD + 262_144, "at most one read above the limit"
        size, more = 0, True
        while more:
            message = await call.receive()
            assert len(message["body"]) <= READ_AHEAD
            size += len(message["body"])
            more = message["more_body"]
        assert size == 32 * MIB
        await call.respond(b"fine")
        call.finish()
        assert await answer_of(client) == (200, b"fine")


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
async def test_the_app_is_notified_of_a_disconnect(reset: bool, log: LogCapture) -> None:
    app = ScriptedApp()
    async with serving(app) as server, connect_tcp(server.port) as client:
        client.send(GET)
        call = await app.called()
        await call.receive()
        if reset:
            client.reset()
        else:
            client.writer.close()
        async with asyncio.timeout(PATIENCE):
            assert await call.receive() == {"type": "http.disconnect"}
        with pytest.raises(OSError, match="left"):  # noqa: PT012  # the first may still leave
            await call.send(START)
            for _ in range(1_000):
                await call.send(piece(b"x" * 1_000))
                await asyncio.sleep(0)
        call.finish(ExceptionGroup("tasks", [ClientDisconnected("left")]))
        await server.settled()
        assert not log.errors


async def test_a_stream_that_never_waits_ends_when_its_client_disconnects() -> None:
    """An app that never waits does not keep the loop from learning of the reset."""
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"x"))
        await left.wait()
        with contextlib.suppress(ClientDisconnected):
            for _ in range(10_000_000):
                await send(piece(b"x" * 100))
        ended.set()

    left = asyncio.Event()
    async with serving(app) as server, connect_tcp(server.port) as client:
        client.send(GET)
        async with asyncio.timeout(PATIENCE):
            await client.reader.readuntil(b"x\r\n")
        client.reset()
        left.set()
        await ended.wait()


async def test_a_waiting_send_ends_when_its_client_disconnects() -> None:
    app = ScriptedApp()
    async with serving(app) as server, connect_tcp(server.port) as client:
        client.send(GET)
        call = await app.called()
        answering = asyncio.create_task(call.respond(b"x" * 50 * MIB))
        connection = connection_of(server)
        await until(lambda: connection.gate.is_shut)
        client.reset()
        async with asyncio.timeout(PATIENCE):
            await answering
        call.finish()


async def test_deadlines_hold_on_a_real_clock() -> None:
    async with (
        serving(path, ws_handshake_timeout=1, timeout_keep_alive=0.01) as server,
        connect_tcp(server.port) as slow,
        connect_tcp(server.port) as idle,
    ):
        slow.send(GET + b"GET / ")
        assert [(await answer_of(slow))[0] for _ in range(2)] == [200, 408]
        assert await slow.read_rest() == b""
        assert await idle.read_rest() == b""


async def test_a_client_that_does_not_read_is_aborted() -> None:
    app = ScriptedApp()
    async with (
        serving(app, ws_send_timeout=0.01) as server,
        connect_tcp(server.port) as client,
    ):
        client.send(GET)
        call = await app.called()
        async with asyncio.timeout(PATIENCE):
            await call.respond(b"x" * 50 * MIB)
        call.finish()


async def test_above_the_limit_of_calls_a_request_gets_503() -> None:
    app = ScriptedApp()
    async with (
        serving(app, limit_concurrency=1) as server,
        connect_tcp(server.port) as client,
        connect_tcp(server.port) as other,
    ):
        client.send(GET)
        call = await app.called()
        other.send(GET)
        assert (await answer_of(other))[0] == 503
        assert await other.read_rest() == b""
        await call.respond(b"fine")
        call.finish()
        assert await answer_of(client) == (200, b"fine")


async def test_a_unix_socket(tmp_path: Path) -> None:
    place = str(tmp_path / "s")
    async with serving_at(uds=place) as app:
        await ask(app, *await asyncio.open_unix_connection(place), server=(place, None))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names outside the file system")
async def test_a_unix_socket_without_a_path() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        with socket.socket(socket.AF_UNIX) as sock:
            async with serving_at(fd=os.dup(listener.fileno())) as app:
                sock.connect(listener.getsockname())
                await ask(app, *await asyncio.open_unix_connection(sock=sock), server=None)


async def ask(
    app: ScriptedApp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, server: Any
) -> None:
    client = TcpClient(reader, writer)
    client.send(GET)
    call = await app.called()
    assert (call.scope["client"], call.scope["server"]) == (None, server)
    await call.respond(b"fine")
    call.finish()
    assert await answer_of(client) == (200, b"fine")
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving_at(**options: Any) -> AsyncIterator[ScriptedApp]:
    """Serve a puppet elsewhere than on a port."""
    app = ScriptedApp()
    server = Server(app, Config(lifespan="off", **options))
    await server.start()
    try:
        yield app
    finally:
        await server.stop()
