"""Graceful stop of an HTTP server: running requests end, and no new ones start."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.harness import loops
from tests.harness.app import END, START, ScriptedApp, piece
from tests.harness.log import LogCapture, capture_log
from tests.harness.waiting import nothing_left, turns, until
from wsgate.server import lifecycle
from wsgate.testing import LiveServer, serve
from wsgate.types import App

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE = 10.0


LOOPS = loops.LOOPS


@pytest.fixture(autouse=True)
def log() -> Iterator[LogCapture]:
    with capture_log() as lines:
        yield lines


@pytest.fixture(autouse=True)
async def _nothing_left() -> AsyncIterator[None]:
    async with nothing_left(), asyncio.timeout(3 * PATIENCE):
        yield


class Client:
    """A raw client of a live server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """Return all bytes until the server closes its half."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def client_of(server: LiveServer) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection(server.host, server.port))
    try:
        yield client
    finally:
        client.writer.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[LiveServer]:
    """Serve without a lifespan; check at the end that nothing is left."""
    async with serve(app, lifespan="off", **options) as server:
        yield server
    assert (server.connections, server.tasks) == (0, 0)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(piece(b"fine", more=False))


async def test_an_idle_connection_is_closed_at_once(log: LogCapture) -> None:
    async with serving(answer) as server, client_of(server) as client, client_of(server) as other:
        client.send(GET)
        await client.head()
        other.send(b"GET / ")
        await until(lambda: server.connections == 2)
        stopping = asyncio.create_task(server.stop())
        assert await client.rest() == b"fine"
        assert await other.rest() == b""
        client.writer.close()
        other.writer.close()
        await stopping
        assert not log.warnings


async def test_a_running_request_gets_its_response_and_is_the_last(log: LogCapture) -> None:
    app = ScriptedApp()
    async with serving(app) as server, client_of(server) as client:
        client.send(GET * 2)
        call = await app.called()
        stopping = asyncio.create_task(server.stop())
        await turns()
        await call.respond(b"last")
        call.finish()
        assert b"connection: close" in await client.head()
        assert await client.rest() == b"last"
        client.writer.close()
        await stopping
        assert app.calls.empty()
        assert not log.warnings


async def test_a_running_stream_may_end() -> None:
    app = ScriptedApp()
    async with serving(app) as server, client_of(server) as client:
        client.send(GET * 2)
        call = await app.called()
        await call.send(START)
        await call.send(piece(b"a"))
        stopping = asyncio.create_task(server.stop())
        await turns()
        await call.send(piece(b"b"))
        await call.send(END)
        call.finish()
        await client.head()
        assert await client.rest() == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
        client.writer.close()
        await stopping
        assert app.calls.empty()


async def test_a_request_body_is_read_to_its_end() -> None:
    app = ScriptedApp()
    async with serving(app) as server, client_of(server) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        call = await app.called()
        assert (await call.receive())["body"] == b"ab"
        stopping = asyncio.create_task(server.stop())
        await turns()
        client.send(b"cd")
        assert await call.receive() == {"type": "http.request", "body": b"cd", "more_body": False}
        await call.respond(b"fine")
        call.finish()
        await client.head()
        assert await client.rest() == b"fine"
        client.writer.close()
        await stopping


async def test_a_body_that_is_discarded_does_not_delay_the_stop() -> None:
    async with serving(answer) as server, client_of(server) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await client.head()
        stopping = asyncio.create_task(server.stop())
        assert await client.rest() == b"fine"
        client.writer.close()
        await stopping


async def test_new_connections_are_refused() -> None:
    app = ScriptedApp()
    async with serving(app) as server, client_of(server) as client:
        client.send(GET)
        call = await app.called()
        stopping = asyncio.create_task(server.stop())
        await turns()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(server.host, server.port)
        await call.respond()
        call.finish()
        await client.rest()
        client.writer.close()
        await stopping


async def test_work_after_a_response_may_end(log: LogCapture) -> None:
    app = ScriptedApp()
    async with serving(app) as server, client_of(server) as client:
        client.send(GET)
        call = await app.called()
        await call.respond(b"fine")
        stopping = asyncio.create_task(server.stop())
        await client.rest()
        client.writer.close()
        await until(lambda: not server.connections)
        assert not stopping.done()
        call.finish()
        await stopping
        assert not log.warnings


async def test_an_app_that_does_not_end_is_cancelled(log: LogCapture) -> None:
    cancelled = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"a"))
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(app, timeout_graceful_shutdown=0.01) as server, client_of(server) as client:
        client.send(GET)
        await client.head()
        await server.stop()
        assert cancelled.is_set()
        assert server.tasks == server.connections == 0
        with contextlib.suppress(
            ConnectionResetError
        ):  # the connection is aborted, and the response is truncated
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
        assert "cancelling 1 app call, dropping 1 connection" in log.warnings[0]
        assert log.warnings[1:] == ["An app's call was cancelled before it ended"]
        assert not log.errors


async def test_a_cancelled_call_without_a_response_gets_503(log: LogCapture) -> None:
    app = ScriptedApp()
    async with serving(app, timeout_graceful_shutdown=0) as server, client_of(server) as client:
        client.send(GET)
        await app.called()
        await server.stop()
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in head
        assert not log.errors


async def test_the_503_of_a_cancelled_call_is_flushed_before_the_abort(log: LogCapture) -> None:
    app = ScriptedApp()
    async with serving(app, timeout_graceful_shutdown=0.01) as server, client_of(server) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport
        client.send(GET * 2)
        first = await app.called()
        sending = asyncio.create_task(first.respond(b"x" * 10_000_000))
        await app.called()
        first.finish()
        stopping = asyncio.create_task(server.stop())
        await until(lambda: "An app's call was cancelled before it ended" in log.warnings)
        assert not sending.done()
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        await client.head()
        assert b"xHTTP/1.1 503 " in await client.rest()
        client.writer.close()
        await stopping
        await sending


async def test_a_call_that_fails_when_it_is_cancelled_gets_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise ValueError("mine") from None

    called = asyncio.Event()
    async with serving(app, timeout_graceful_shutdown=0) as server, client_of(server) as client:
        client.send(GET)
        await called.wait()
        await server.stop()
        assert (await client.head()).startswith(b"HTTP/1.1 500 ")


async def test_an_app_may_clean_up_when_it_is_cancelled(log: LogCapture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await answer(scope, receive, send)

    called = asyncio.Event()
    async with serving(app, timeout_graceful_shutdown=0) as server, client_of(server) as client:
        client.send(GET)
        await called.wait()
        await server.stop()
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        assert len(log.warnings) == 1


async def test_an_app_that_ignores_its_cancellation(
    log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "CANCEL_TIMEOUT", 0.01)
    called, released = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.set()
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    async with serving(app, timeout_graceful_shutdown=0) as server, client_of(server) as client:
        client.send(GET)
        await called.wait()
        await server.stop()
        assert (server.connections, server.tasks) == (0, 1)
        assert log.errors == ["App calls that ignore their cancellation: 1"]
        released.set()
        await server.settled()


async def test_a_client_that_does_not_read_its_last_response_is_dropped(log: LogCapture) -> None:
    app = ScriptedApp()
    async with serving(app, timeout_graceful_shutdown=0.01) as server, client_of(server) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport
        client.send(GET)
        call = await app.called()
        sending = asyncio.create_task(call.respond(b"x" * 50_000_000))
        await turns()
        call.finish()
        await server.stop()
        await sending
        # On a loaded machine a warning about a blocked loop may be logged before.
        assert any("dropping 1 connection" in line for line in log.messages(logging.WARNING))


async def test_a_client_that_does_not_close_its_half_is_dropped(log: LogCapture) -> None:
    async with (
        serving(answer, timeout_graceful_shutdown=0.01) as server,
        client_of(server) as client,
    ):
        client.send(GET)
        await client.head()
        await server.stop()
        lines = log.messages(logging.WARNING)
        assert any("cancelling 0 app calls, dropping 1 connection" in line for line in lines)


async def test_a_reset_while_the_server_stops(log: LogCapture) -> None:
    app = ScriptedApp()
    async with serving(app) as server, client_of(server) as client:
        client.send(GET * 2)
        call = await app.called()
        await call.receive()
        stopping = asyncio.create_task(server.stop())
        await turns()
        client.writer.transport.abort()
        assert await call.receive() == {"type": "http.disconnect"}
        call.finish()
        await stopping
        assert app.calls.empty()
        assert not log.warnings
        assert not log.errors
