"""Connections in memory, where the test has both ends: the client's bytes and the app's call."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from tests import frames
from tests.frames import ServerFrame
from tests.harness.app import AppCall, ScriptedApp
from tests.harness.client import close_code, handshake
from tests.harness.log import LogCapture, capture_log
from tests.harness.waiting import PATIENCE
from wsgate.server.connection import Connection
from wsgate.testing import MemoryClient, connect
from wsgate.types import App


class HttpParser:
    """The option `http` of the connections below; the fixture `http_parser` sets it."""

    name = "auto"


@contextlib.asynccontextmanager
async def connected(app: App, **options: Any) -> AsyncIterator[MemoryClient]:
    """Connect a client; check that no connection and no call is left at the end."""
    async with asyncio.timeout(30), connect(app, http=HttpParser.name, **options) as client:
        yield client
    assert not client.worker.connections
    assert not client.worker.tasks


@contextlib.asynccontextmanager
async def requested(
    data: bytes = b"", **options: Any
) -> AsyncIterator[tuple[MemoryClient, ScriptedApp, AppCall]]:
    """Connect a client, send a request, and wait for the app's call."""
    app = ScriptedApp()
    async with connected(app, **options) as client:
        client.send(data)
        yield client, app, await app.called()


class Response(NamedTuple):
    """A response: its headers by their names in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def read_head(client: MemoryClient) -> Response:
    """Read a response's head; no header may occur twice, except in a WebSocket's handshake."""
    head = await client.until(b"\r\n\r\n")
    line, *fields = head[:-4].split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 \d{3} .*", line)
    pairs = [field.split(b": ", 1) for field in fields]
    headers = {name.lower(): value for name, value in pairs}
    has_duplicates = len(headers) != len(fields)
    assert not has_duplicates or b"upgrade" in headers, f"a header occurs twice: {head!r}"
    return Response(int(line[9:12]), headers, b"")


async def read_chunks(client: MemoryClient) -> list[bytes]:
    """Read the chunks of a body up to the last one, which is empty."""
    chunks = []
    while size := int(await client.until(b"\r\n"), 16):
        chunks.append((await client.exactly(size + 2))[:-2])
    assert await client.exactly(2) == b"\r\n"
    return chunks


async def read_response(client: MemoryClient) -> Response:
    """Read a whole response that has a Content-Length or is chunked."""
    response = await read_head(client)
    if response.headers.get(b"transfer-encoding") == b"chunked":
        return response._replace(body=b"".join(await read_chunks(client)))
    size = int(response.headers[b"content-length"])
    return response._replace(body=await client.exactly(size))


def stop(client: MemoryClient) -> Connection:
    """Stop the client's connection as in a shutdown of the server."""
    client.worker.stopping = True
    connection = client.transport.get_protocol()
    assert isinstance(connection, Connection)
    connection.driver.stop()
    for websocket in list(client.worker.websockets.values()):
        websocket.drain()
    return connection


class Peer:
    """A WebSocket in memory.

    client: the client's bytes. app, call: the server's side. log: what the server logs.
    """

    call: AppCall  # once the app is called

    def __init__(self, client: MemoryClient, app: ScriptedApp, log: LogCapture) -> None:
        self.client = client
        self.app = app
        self.log = log

    async def wait_for_call(self) -> None:
        """Wait until the server calls the app."""
        self.call = await self.app.called()

    async def request(self, *headers: str, rest: bytes = b"", target: str = "/") -> None:
        """Send the handshake and further bytes; wait for the app's call."""
        self.client.send(handshake(*headers, target=target) + rest)
        await self.wait_for_call()

    async def open(self, *headers: str) -> bytes:
        """Send the handshake, accept it, and return the head of the response."""
        await self.request(*headers)
        await self.call.accept()
        return await self.client.until(b"\r\n\r\n")

    async def read_frame(self) -> ServerFrame:
        """Return the server's next frame."""
        head = await self.client.exactly(2)
        extended = {126: 2, 127: 8}.get(head[1], 0)
        head += await self.client.exactly(extended)
        length = int.from_bytes(head[2:], "big") if extended else head[1]
        (frame,) = frames.parsed(head + await self.client.exactly(length))
        return frame

    async def read_texts(self, count: int) -> list[str]:
        """Return the server's next messages, which are texts of one frame each."""
        found = [await self.read_frame() for _ in range(count)]
        assert all(frame.opcode == frames.TEXT for frame in found), found
        return [frame.payload.decode() for frame in found]

    async def read_close(self) -> tuple[int, str]:
        """Return the code and the reason of the server's Close, which must be its next frame."""
        return close_code(await self.read_frame())

    async def receive_disconnect(self) -> tuple[int, str]:
        """Return the code and the reason of the app's disconnect event, which stays the same."""
        event = await self.call.receive()
        assert event["type"] == "websocket.disconnect", event
        assert await self.call.receive() == event
        return event["code"], event["reason"]

    async def wait_closed(self) -> None:
        """Wait until the TCP connection has ended."""
        async with asyncio.timeout(PATIENCE):
            while self.client.worker.connections:
                await self.client.worker.ended.wait()


@contextlib.asynccontextmanager
async def peer(**options: Any) -> AsyncIterator[Peer]:
    """Connect in memory without a handshake; check that nothing is left at the end."""
    app = ScriptedApp()
    with capture_log() as log:
        async with connect(app, **options) as client:
            yield Peer(client, app, log)
        assert not client.worker.tasks
        assert not client.worker.connections


@contextlib.asynccontextmanager
async def opened(*headers: str, **options: Any) -> AsyncIterator[Peer]:
    """Open a WebSocket in memory."""
    async with peer(**options) as ws:
        await ws.open(*headers)
        yield ws
