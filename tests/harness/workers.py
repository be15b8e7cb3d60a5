"""A server with workers, in real processes, and what tests ask it."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.harness.processes import ROOT, ServerProcess, started
from tests.harness.waiting import pause

APP = "tests.apps.worker:app"
PATIENCE = 60.0  # seconds for anything that other processes do on a loaded machine
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


class Supervised(ServerProcess):
    """A server with workers."""

    async def get(self, path: str = "/") -> str:
        """Send a request on a connection of its own; return the body of the response."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            return await request(reader, writer, path)
        finally:
            writer.close()

    async def process_ids(self, count: int) -> set[int]:
        """Return the ids of the processes that serve, once there are so many."""
        found: set[int] = set()
        async with asyncio.timeout(PATIENCE):
            while len(found) < count:
                found.add(int(await self.get()))
        return found

    def connect(self) -> connect:
        """Open a WebSocket."""
        return connect(self.ws_url, ping_interval=None, open_timeout=PATIENCE, proxy=None)


async def request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str = "/"
) -> str:
    """Send a request and return the body of its response, which must have status 200."""
    writer.write(GET % path.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None
    body = await reader.readexactly(int(length[1]))
    if b"connection: close" in head.lower():
        writer.close()
    return body.decode()


@contextlib.asynccontextmanager
async def workers(count: int, *options: str, folder: Path = ROOT) -> AsyncIterator[Supervised]:
    """Run a server with so many workers."""
    arguments = (APP, "--port", "0", "--workers", str(count), "--no-access-log", *options)
    async with started(*arguments, folder=folder, kind=Supervised) as server:
        assert isinstance(server, Supervised)
        await server.serves()
        yield server


async def pid_of(websocket: ClientConnection) -> int:
    return int(await asyncio.wait_for(websocket.recv(), PATIENCE))


async def close_code(websocket: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(websocket.recv(), PATIENCE)
    return websocket.close_code


def is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def gone(pids: set[int]) -> None:
    """Wait until no process of these runs."""
    async with asyncio.timeout(PATIENCE):
        while any(map(is_running, pids)):
            await pause(0.02)
