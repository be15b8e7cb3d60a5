"""Files over real connections, with each event loop: within the kernel where it can be."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import loops
from tests.harness.app import END, START, AppCall, ScriptedApp, piece
from tests.harness.client import GET
from tests.harness.log import LogCapture
from tests.harness.tcp import TcpClient, connect_tcp
from tests.harness.waiting import soon, until
from wsgate.errors import ClientDisconnected
from wsgate.server import file_transfer
from wsgate.server.connection import HIGH_WATER, Connection
from wsgate.server.open_file import OpenFile
from wsgate.testing import LiveServer, serve

LOOPS = loops.LOOPS
pytestmark = pytest.mark.usefixtures("log", "no_task_left")

MIB = 1024 * 1024
SIZE = 20 * MIB


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(content)
    return path


@contextlib.asynccontextmanager
async def requested(**options: Any) -> AsyncIterator[tuple[TcpClient, LiveServer, AppCall]]:
    """Serve, connect a client with a small receive buffer, and send a request."""
    app = ScriptedApp()
    async with (
        asyncio.timeout(60),
        serve(app, lifespan="off", **options) as server,
        connect_tcp(server.port) as client,
    ):
        client.send(GET)
        yield client, server, await app.called()


def pathsend(path: Path) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": str(path)}


def connections_of(server: LiveServer) -> list[Connection]:
    connections = server._server.worker.connections
    return [one for one in connections if isinstance(one, Connection)]


def connection_of(server: LiveServer) -> Connection:
    (connection,) = connections_of(server)
    return connection


async def is_stalled(server: LiveServer) -> None:
    """Wait until the client's buffers are full."""
    await until(lambda: connection_of(server).gate.is_shut)


async def are_stalled(server: LiveServer, count: int) -> None:
    """Wait until there are so many clients, and the buffers of all are full."""
    await until(lambda: len(connections_of(server)) == count)
    await until(lambda: all(c.gate.is_shut for c in connections_of(server)))


@contextlib.asynccontextmanager
async def stalled(
    path: Path, **options: Any
) -> AsyncIterator[tuple[TcpClient, LiveServer, AppCall, asyncio.Task[None]]]:
    """Send a file to a client that does not read it, until its buffers are full."""
    async with requested(**options) as (client, server, call):
        await call.send(START)
        sending = call.start_send(pathsend(path))
        await is_stalled(server)
        yield client, server, call, sending


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_file_does_not_pass_through_the_process(
    path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    monkeypatch.setattr(OpenFile, "_read", lambda _, count: reads.append(count))
    async with requested() as (client, _, call):
        await call.send(START)
        sending = call.start_send(pathsend(path))
        response = await client.response()
        assert response.body == content
        await soon(sending)
        call.finish()
    assert reads == []


async def test_parts_of_a_body_surround_a_file(path: Path, content: bytes) -> None:
    before, after = b"x" * 3 * HIGH_WATER, b"y" * 3 * HIGH_WATER
    async with requested() as (client, _, call):
        await call.send(
            {**START, "headers": [(b"content-length", b"%d" % (SIZE + 6 * HIGH_WATER))]}
        )
        file = await asyncio.to_thread(path.open, "rb")
        with file:
            zerocopy = {"type": "http.response.zerocopysend", "file": file, "more_body": True}
            messages = [piece(before), zerocopy, piece(after, more=False)]
            sending = [call.start_send(message) for message in messages]
            assert (await client.response()).body == before + content + after
            await asyncio.gather(*sending)
            assert file.tell() == SIZE
        call.finish()


async def test_the_connection_goes_on_after_a_file(path: Path, content: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(pathsend(path) if scope["path"] == "/file" else piece(b"next", more=False))

    async with asyncio.timeout(60), serve(app, lifespan="off") as server:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            for _ in range(2):
                assert (await client.get("/file")).content == content
                assert (await client.get("/")).content == b"next"
            files = await asyncio.gather(*(client.get("/file") for _ in range(8)))
            assert all(file.content == content for file in files)
        await server.settled()


async def test_a_slow_client_gets_the_file_and_the_process_holds_none_of_it(
    path: Path, content: bytes
) -> None:
    async with stalled(path) as (client, server, call, sending):
        assert connection_of(server).transport.get_write_buffer_size() == 0
        assert not sending.done()
        response = await client.response()
        assert response.body == content
        await soon(sending)
        call.finish()


async def test_a_client_that_does_not_read_is_dropped_in_time(path: Path) -> None:
    async with stalled(path, ws_send_timeout=0.1) as (_, server, call, sending):
        with pytest.raises(ClientDisconnected):
            await soon(sending)
        call.finish()
        await server.settled()


async def test_a_client_may_reset_the_connection(path: Path, log: LogCapture) -> None:
    async with stalled(path) as (client, server, call, sending):
        client.reset()
        with pytest.raises(ClientDisconnected):
            await soon(sending)
        call.finish()
        await server.settled()
    assert log.problems == []


async def test_a_cancelled_file_resets_the_connection(path: Path, content: bytes) -> None:
    async with stalled(path) as (client, server, call, sending):
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(sending)
        assert len(await client.read_rest_or_reset()) < len(content)
        call.finish()
        await server.settled()


async def test_a_call_that_ends_amid_a_file_cuts_it_off(path: Path, content: bytes) -> None:
    async with stalled(path) as (client, server, call, sending):
        call.finish()
        assert len(await client.read_rest_or_reset()) < len(content)
        with pytest.raises(ClientDisconnected):
            await soon(sending)
        await server.settled()


async def test_a_file_that_shrinks_resets_the_connection(
    path: Path, content: bytes, log: LogCapture
) -> None:
    async with stalled(path) as (client, server, call, sending):
        os.truncate(path, 1)
        assert len(await client.read_rest_or_reset()) < len(content)
        with pytest.raises(ClientDisconnected):
            await soon(sending)
        call.finish(sending.exception())
        await server.settled()
    assert log.problems == ["A file became shorter while it was sent: connection aborted"]


@pytest.mark.parametrize("fails_at", [0, 3 * MIB])
async def test_what_the_kernel_cannot_copy_is_sent_in_pieces(
    path: Path, content: bytes, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendfile = os.sendfile

    def limited(target: int, source: int, offset: int, count: int) -> int:
        if offset >= fails_at:
            raise OSError(errno.EINVAL, "Invalid argument")
        return sendfile(target, source, offset, min(count, fails_at - offset))

    monkeypatch.setattr(os, "sendfile", limited)
    async with requested() as (client, _, call):
        await call.send(START)
        sending = call.start_send(pathsend(path))
        assert (await client.response()).body == content
        await soon(sending)
        call.finish()


async def test_a_socket_without_room_is_waited_for(
    path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendfile, refusals = os.sendfile, [None, None]

    def full(target: int, source: int, offset: int, count: int) -> int:
        if refusals:
            refusals.pop()
            raise BlockingIOError
        return sendfile(target, source, offset, count)

    monkeypatch.setattr(os, "sendfile", full)
    async with requested() as (client, _, call):
        await call.send(START)
        sending = call.start_send(pathsend(path))
        assert (await client.response()).body == content
        await soon(sending)
        call.finish()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ClientDisconnected),
        (OSError(errno.EIO, "Input/output error"), OSError),
    ],
)
async def test_errors_of_the_copy_end_the_connection(
    path: Path, error: OSError, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> int:
        raise error

    monkeypatch.setattr(os, "sendfile", fail)
    async with requested() as (client, server, call):
        await call.send(START)
        with pytest.raises(expected):
            await call.send(pathsend(path))
        assert (await client.read_rest_or_reset()).endswith(b"\r\n\r\n")
        await call.send_raises(END, ClientDisconnected, "left")
        call.finish()
        await server.settled()


async def test_a_transport_without_a_descriptor_gets_pieces(
    path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "find_descriptor", lambda _: -1)  # as over TLS
    async with stalled(path) as (client, server, call, sending):
        size = connection_of(server).transport.get_write_buffer_size()
        assert size <= HIGH_WATER + file_transfer.PIECE
        assert (await client.response()).body == content
        await soon(sending)
        call.finish()


async def test_files_go_over_a_unix_socket(tmp_path: Path, path: Path, content: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(pathsend(path))

    where = str(tmp_path / "socket")
    async with asyncio.timeout(60), serve(app, lifespan="off", uds=where):
        reader, writer = await asyncio.open_unix_connection(where)
        writer.write(GET)
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(SIZE) == content
        writer.close()
        await writer.wait_closed()


async def test_many_large_files_use_no_memory_and_no_descriptor_is_left(path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(pathsend(path))

    async with asyncio.timeout(60), serve(app, lifespan="off") as server:
        open_files = []
        for count in (1, 20):
            clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
            for client in clients:
                client.sendall(GET)
            await are_stalled(server, count)
            assert all(c.transport.get_write_buffer_size() == 0 for c in connections_of(server))
            for client in clients:
                client.close()
            await server.settled()
            open_files.append(open_descriptors())
    assert open_files[0] == open_files[1]
