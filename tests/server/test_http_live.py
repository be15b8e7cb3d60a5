"""How a live server speaks HTTP, on each event loop: raw sockets, and httpx as a client."""

import asyncio
import contextlib
import os
import re
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from tests import loops
from tests.puppet import (
    END,
    START,
    Lines,
    Puppet,
    logged,
    nothing_left,
    piece,
    task_of,
    turns,
    until,
    waits,
)
from wsgate.config import Config
from wsgate.errors import ClientDisconnected
from wsgate.process.server import Server
from wsgate.server.connection import HIGH_WATER, Connection
from wsgate.server.http1_driver import READ_AHEAD
from wsgate.testing import LiveServer, serve
from wsgate.types import App

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
PATIENCE = 10.0
MIB = 1024 * 1024


LOOPS = loops.LOOPS


@pytest.fixture(autouse=True)
def log() -> Iterator[Lines]:
    with logged() as lines:
        yield lines


@pytest.fixture(autouse=True)
async def _nothing_left() -> AsyncIterator[None]:
    async with nothing_left():
        yield


class Client:
    """A raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, bytes]:
        """Return the status and the body of the next response, which has a Content-Length."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length, head
            return int(head[9:12]), await self.reader.readexactly(int(length[1]))

    async def rest(self) -> bytes:
        """Return what comes until the server ends its half."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    def reset(self) -> None:
        """Break the connection off: a RST leaves instead of a FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def client_of(server: LiveServer) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection(server.host, server.port))
    try:
        yield client
    except BaseException:
        client.writer.transport.abort()
        raise
    finally:
        client.writer.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[LiveServer]:
    """Serve without a lifespan, and see that all ends by itself when the clients are gone."""
    async with asyncio.timeout(3 * PATIENCE), serve(app, lifespan="off", **options) as server:
        yield server
        await server.settled()


def httpx_of(server: LiveServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=server.url, timeout=2 * PATIENCE, trust_env=False, verify=False
    )


def connection_of(server: LiveServer) -> Connection:
    """Return the server's side of its only connection."""
    (connection,) = server._server.context.connections
    return connection


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the body, piece by piece as it comes."""
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


async def test_each_loop_has_its_turn(request: pytest.FixtureRequest) -> None:
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


async def test_httpx_many_at_a_time() -> None:
    async with serving(echo) as server, httpx_of(server) as client:
        bodies = [b"%d" % number * 1_000 for number in range(50)]
        answers = await asyncio.gather(*(client.post("/", content=body) for body in bodies))
        assert [answer.content for answer in answers] == bodies


async def test_httpx_leaves_a_stream(log: Lines) -> None:
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


async def test_httpx_sees_a_response_that_was_cut() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"x"))
        raise ValueError("mine")

    async with serving(app) as server, httpx_of(server) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")


async def test_httpx_sees_a_failure() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("mine")

    async with serving(app) as server, httpx_of(server) as client:
        assert [(await client.get("/")).status_code for _ in range(2)] == [500, 500]


async def test_httpx_and_a_body_that_nobody_reads() -> None:
    async with serving(path) as server, httpx_of(server) as client:
        for size in (1_000, 5 * MIB, 1_000):
            assert (await client.post("/a", content=b"x" * size)).text == "/a"


# -- raw sockets -----------------------------------------------------------------------------------


async def test_the_scope_names_both_ends() -> None:
    app = Puppet()
    async with serving(app) as server, client_of(server) as client:
        client.send(b"GET http://other/%C3%A9?q HTTP/1.1\r\nHost: x\r\n\r\n")
        call = await app.called()
        assert call.scope["client"] == client.writer.get_extra_info("sockname")
        assert call.scope["server"] == (server.host, server.port)
        assert (call.scope["path"], call.scope["query_string"]) == ("/é", b"q")
        assert call.scope["headers"] == [(b"host", b"other")]
        await call.answer(b"fine")
        call.returns()
        assert await client.answer() == (200, b"fine")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(path) as server, client_of(server) as client:
        count = 300
        for number in range(count):
            client.send(POST.replace(b"/ ", b"/%d ", 1) % (number, 5) + b"hello")
        for number in range(count):
            assert await client.answer() == (200, b"/%d" % number)


async def test_a_half_closed_client_gets_all_its_answers() -> None:
    async with serving(path) as server, client_of(server) as client:
        client.send(GET * 3)
        client.writer.write_eof()
        assert [await client.answer() for _ in range(3)] == [(200, b"/")] * 3
        assert await client.rest() == b""


async def test_a_half_closed_client_gets_its_late_answer() -> None:
    app = Puppet()
    async with serving(app) as server, client_of(server) as client:
        client.send(GET)
        client.writer.write_eof()
        call = await app.called()
        await call.receive()
        assert await call.receive() == {"type": "http.disconnect"}
        await call.answer(b"x" * MIB)
        call.returns()
        assert await client.answer() == (200, b"x" * MIB)
        assert await client.rest() == b""


async def test_the_end_of_a_connection_is_no_reset() -> None:
    """The client reads its answer though it still sends (RFC 9112 section 9.6)."""
    async with serving(path) as server, client_of(server) as client:
        client.send(POST % 9_999_999)
        assert await client.answer() == (200, b"/")
        client.send(b"x" * 5 * MIB)
        assert await client.rest() == b""


async def test_a_malformed_request_disturbs_nobody_else() -> None:
    app = Puppet()
    async with serving(app) as server, client_of(server) as client, client_of(server) as other:
        client.send(GET)
        call = await app.called()
        other.send(b"nonsense\r\n\r\n")
        assert (await other.answer())[0] == 400
        assert await other.rest() == b""
        await call.answer(b"fine")
        call.returns()
        assert await client.answer() == (200, b"fine")


async def test_continue_comes_when_the_app_asks() -> None:
    app = Puppet()
    async with serving(app) as server, client_of(server) as client:
        client.send(POST[:-2] % 2 + b"Expect: 100-continue\r\n\r\n")
        call = await app.called()
        coming = task_of(call.receive())
        async with asyncio.timeout(PATIENCE):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ab")
        assert (await coming)["body"] == b"ab"
        await call.answer(b"fine")
        call.returns()
        assert await client.answer() == (200, b"fine")


async def test_send_waits_for_a_client_that_does_not_read() -> None:
    app = Puppet()
    async with serving(app) as server, client_of(server) as client:
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
        while not await waits(streaming) or not connection.gate.is_shut:
            await turns()
        assert connection.transport.get_write_buffer_size() <= 2 * HIGH_WATER + 1_000
        assert sent < 64 * MIB
        _, body = await client.answer()
        assert len(body) == 64 * MIB
        await streaming
        call.returns()


async def test_reading_waits_for_an_app_that_does_not_receive() -> None:
    app = Puppet()
    async with serving(app) as server, client_of(server) as client:
        client.send(POST % (32 * MIB))
        client.send(b"x" * 32 * MIB)
        call = await app.called()
        connection = connection_of(server)
        driver: Any = connection.driver
        await until(lambda: connection.paused_since is not None)
        assert driver._http1.buffered < READ_AHEAD + 262_144, "what one read brings at the most"
        size, more = 0, True
        while more:
            message = await call.receive()
            assert len(message["body"]) <= READ_AHEAD
            size += len(message["body"])
            more = message["more_body"]
        assert size == 32 * MIB
        await call.answer(b"fine")
        call.returns()
        assert await client.answer() == (200, b"fine")


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
async def test_the_app_learns_that_its_client_has_left(reset: bool, log: Lines) -> None:
    app = Puppet()
    async with serving(app) as server, client_of(server) as client:
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
        call.raises(ExceptionGroup("tasks", [ClientDisconnected("left")]))
        await server.settled()
        assert not log.errors


async def test_a_stream_without_a_pause_ends_with_its_client() -> None:
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
    async with serving(app) as server, client_of(server) as client:
        client.send(GET)
        async with asyncio.timeout(PATIENCE):
            await client.reader.readuntil(b"x\r\n")
        client.reset()
        left.set()
        await ended.wait()


async def test_a_waiting_send_ends_with_its_client() -> None:
    app = Puppet()
    async with serving(app) as server, client_of(server) as client:
        client.send(GET)
        call = await app.called()
        answering = asyncio.create_task(call.answer(b"x" * 50 * MIB))
        connection = connection_of(server)
        await until(lambda: connection.gate.is_shut)
        client.reset()
        async with asyncio.timeout(PATIENCE):
            await answering
        call.returns()


async def test_deadlines_hold_on_a_real_clock() -> None:
    async with (
        serving(path, ws_handshake_timeout=1, timeout_keep_alive=0.01) as server,
        client_of(server) as slow,
        client_of(server) as idle,
    ):
        slow.send(GET + b"GET / ")
        assert [(await slow.answer())[0] for _ in range(2)] == [200, 408]
        assert await slow.rest() == b""
        assert await idle.rest() == b""


async def test_a_client_that_does_not_read_is_given_up() -> None:
    app = Puppet()
    async with serving(app, ws_send_timeout=0.01) as server, client_of(server) as client:
        client.send(GET)
        call = await app.called()
        async with asyncio.timeout(PATIENCE):
            await call.answer(b"x" * 50 * MIB)
        call.returns()


async def test_over_the_limit() -> None:
    app = Puppet()
    async with (
        serving(app, limit_concurrency=1) as server,
        client_of(server) as client,
        client_of(server) as other,
    ):
        client.send(GET)
        call = await app.called()
        other.send(GET)
        assert (await other.answer())[0] == 503
        assert await other.rest() == b""
        await call.answer(b"fine")
        call.returns()
        assert await client.answer() == (200, b"fine")


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
    app: Puppet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, server: Any
) -> None:
    client = Client(reader, writer)
    client.send(GET)
    call = await app.called()
    assert (call.scope["client"], call.scope["server"]) == (None, server)
    await call.answer(b"fine")
    call.returns()
    assert await client.answer() == (200, b"fine")
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving_at(**options: Any) -> AsyncIterator[Puppet]:
    """Serve a puppet elsewhere than on a port."""
    app = Puppet()
    server = Server(app, Config(lifespan="off", **options))
    await server.start()
    try:
        yield app
    finally:
        await server.stop()
