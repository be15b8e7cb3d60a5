"""A server process that tests attack, with its tasks, open files and memory.

A test module sets `pytestmark = pytest.mark.asyncio(loop_scope="module")` and uses the fixture
`server`, a `Target`. Connections of `server.connect()` are aborted at the end.
`Target.check_released` runs after each test.
"""

import asyncio
import contextlib
import json
import os
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from websockets.asyncio.client import connect as ws_connect

from tests.harness.processes import ServerProcess, running
from tests.harness.tcp import PATIENCE, TcpClient, connect_tcp
from tests.harness.waiting import pause

HTTP = {"asyncio": "h11", "uvloop": "fast"}  # the HTTP parser to run with each loop
PROMPT = 1.0  # seconds within which a well-behaved client gets its echo


@dataclass(frozen=True, slots=True)
class Stats:
    """What the app of tests/apps/abuse.py reports, including the request itself."""

    tasks: int
    websockets: int
    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class Memory:
    """A process's resident memory in bytes: now, and its peak since `Target.watch_memory`."""

    now: int
    peak: int


@dataclass(slots=True)
class Pulse:
    """Iterations of the server's loop during `Target.pulse`, set at its end.

    turns: how many; long: how many took more than 5 ms of CPU time; gap: the longest, in seconds;
    busy: the longest, in seconds of CPU time, which does not depend on the load of the machine.
    """

    turns: float = 0
    long: float = 0
    gap: float = 0.0
    busy: float = 0.0


class Target:
    """A server process under attack.

    loop: the name of its event loop. context: of its clients, if it speaks TLS. proxy_header: what
    each well-behaved connection begins with.
    """

    def __init__(
        self,
        process: ServerProcess,
        loop: str,
        context: ssl.SSLContext | None = None,
        proxy_header: bytes = b"",
    ) -> None:
        self.process = process
        self.loop = loop
        self._context = context
        self._proxy_header = proxy_header
        self._tasks = self._files = 0
        self._checked_lines = 0  # of the log

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[TcpClient]:
        """Connect a client that sends any bytes; abort its connection at the end."""
        async with connect_tcp(self.process.port, context=self._context) as client:
            if self._proxy_header:
                client.send(self._proxy_header)
            yield client
            client.writer.transport.abort()

    @contextlib.asynccontextmanager
    async def opened(self, *headers: str, target: str = "/") -> AsyncIterator[TcpClient]:
        """Open a WebSocket for a client that sends any bytes; abort its connection at the end."""
        async with self.connect() as client:
            await client.open(*headers, target=target)
            yield client

    async def ask(self, path: str, method: str = "GET") -> dict[str, float]:
        """Return the JSON object that the app responds with, over a new connection."""
        async with self.connect() as client:
            request = f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
            response = await client.ask(request.encode())
            await client.read_rest_or_reset()
        assert response.status == 200, response
        found: dict[str, float] = json.loads(response.body)
        return found

    async def stats(self) -> Stats:
        """Return what the app reports about its process."""
        found = await self.ask("/stats")
        return Stats(**{name: int(value) for name, value in found.items()})

    async def until(self, holds: Callable[[Stats], bool]) -> Stats:
        """Wait until the condition is true of the app's stats; return them."""
        async with asyncio.timeout(PATIENCE):
            while not holds(stats := await self.stats()):
                await pause(0.01)
        return stats

    @contextlib.asynccontextmanager
    async def pulse(self) -> AsyncIterator[Pulse]:
        """Measure the iterations of the server's loop inside the context."""
        pulse = Pulse()
        await self.ask("/pulse", "POST")
        try:
            yield pulse
        finally:
            for name, value in (await self.ask("/pulse", "DELETE")).items():
                setattr(pulse, name, value)

    def files(self) -> list[str]:
        """Return the open files of the process, including sockets."""
        found = []
        for entry in os.scandir(f"/proc/{self.process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed since scandir
                found.append(str(Path(entry.path).readlink()))
        return found

    def memory(self) -> Memory:
        """Return the resident memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        now, peak = (
            int(re.findall(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024
            for name in ("VmRSS", "VmHWM")
        )
        return Memory(now, peak)

    def watch_memory(self) -> int:
        """Reset the peak of the memory; return the present value in bytes."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.memory().now

    async def echo(self) -> float:
        """Connect a well-behaved client, check its echo, and return the seconds that it took."""
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            sock = await self._connected()
            async with ws_connect(
                self.process.ws_url, proxy=None, ssl=self._context, sock=sock
            ) as ws:
                await ws.send("good")
                assert await ws.recv() == "good"
                took = time.monotonic() - began
        return took

    async def _connected(self) -> socket.socket:
        """Return a connected socket of a well-behaved client."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", self.process.port))
            await loop.sock_sendall(sock, self._proxy_header)
        except BaseException:
            sock.close()
            raise
        return sock

    async def settled(self) -> None:
        """Record what the process holds when idle, after it has served a client."""
        await self.echo()
        self._tasks = (await self.stats()).tasks
        self._files = len(self.files())

    async def check_released(self) -> None:
        """Check that clients are served, and that the server has released everything."""
        tries = [await self.echo()]
        while tries[-1] > PROMPT and len(tries) < 5:  # other processes may have had the CPU
            tries.append(await self.echo())
        assert tries[-1] <= PROMPT, f"an echo took {tries} s"
        deadline = time.monotonic() + PATIENCE
        while left := await self._left():
            assert time.monotonic() < deadline, left
            await pause(0.05)
        lines = self.process.log[self._checked_lines :]
        self._checked_lines = len(self.process.log)
        assert not any("Traceback" in line for line in lines), "\n".join(lines)

    async def _left(self) -> str:
        """Return what the process holds beyond its idle state, or an empty string."""
        stats = await self.stats()
        if stats.tasks > self._tasks or stats.websockets:
            return f"{stats}, and {self._tasks} tasks at rest"
        files = self.files()
        return f"{self._files} files at rest, now {files}" if len(files) > self._files else ""


@contextlib.asynccontextmanager
async def run_target(
    loop: str,
    *options: str,
    app: str = "tests.apps.abuse:app",
    context: ssl.SSLContext | None = None,
    proxy_header: bytes = b"",
) -> AsyncIterator[Target]:
    """Run a server process; check at the end that it has released everything.

    context, proxy_header: those of `Target`.
    """
    async with running(app, "--loop", loop, "--http", HTTP[loop], *options) as process:
        target = Target(process, loop, context, proxy_header)
        await target.settled()
        yield target
        await target.check_released()
