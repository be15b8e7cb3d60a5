"""The abuse suite's hand: a server's process as seen from outside, and a client of bare bytes.

A test module says `pytestmark = pytest.mark.asyncio(loop_scope="module")` and takes the fixture
`server`, a `Target`. What a test opens with `server.connect()` is closed behind it; what it leaves
behind in the server is found by `Target.calm`, which runs after each test.
"""

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from websockets.asyncio.client import connect as ws_connect

from tests.harness.processes import ServerProcess, running
from tests.harness.tcp import PATIENCE, TcpClient, connect_tcp
from tests.harness.waiting import pause

HTTP = {"asyncio": "h11", "uvloop": "fast"}  # each parser, beside one of the loops
PROMPT = 1.0  # seconds in which a good client has its echo


@dataclass(frozen=True, slots=True)
class Stats:
    """What the app of tests/apps/abuse.py tells of its process; the request itself is counted."""

    tasks: int
    websockets: int
    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class Memory:
    """A process's resident memory in bytes: now, and the most since `Target.watch_memory`."""

    now: int
    peak: int


@dataclass(slots=True)
class Pulse:
    """The turns of the server's loop during a `Target.pulse`, filled in at its end.

    long: how many took over 5 ms of the processor. gap: the longest, in seconds; busy: the longest
    in seconds of the processor's time, which does not hang on who else has the machine.
    """

    turns: float = 0
    long: float = 0
    gap: float = 0.0
    busy: float = 0.0


class Target:
    """A server's process under abuse. process: it. loop: the name of its event loop."""

    def __init__(self, process: ServerProcess, loop: str) -> None:
        self.process = process
        self.loop = loop
        self._tasks = self._files = 0
        self._looked_at = 0  # lines of the log that were fine

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[TcpClient]:
        """Connect a client of bare bytes, broken off in the end."""
        async with connect_tcp(self.process.port) as client:
            yield client
            client.writer.transport.abort()

    @contextlib.asynccontextmanager
    async def opened(self, *headers: str, target: str = "/") -> AsyncIterator[TcpClient]:
        """Open a WebSocket of bare bytes, broken off in the end."""
        async with self.connect() as client:
            await client.open(*headers, target=target)
            yield client

    async def ask(self, path: str, method: str = "GET") -> dict[str, float]:
        """Ask the app for JSON, over a connection that ends with the answer."""
        async with self.connect() as client:
            request = f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
            response = await client.ask(request.encode())
            await client.read_rest_or_reset()
        assert response.status == 200, response
        found: dict[str, float] = json.loads(response.body)
        return found

    async def stats(self) -> Stats:
        """Ask the app what there is."""
        found = await self.ask("/stats")
        return Stats(**{name: int(value) for name, value in found.items()})

    async def until(self, holds: Callable[[Stats], bool]) -> Stats:
        """Wait until the app's stats are as wanted; return them."""
        async with asyncio.timeout(PATIENCE):
            while not holds(stats := await self.stats()):
                await pause(0.01)
        return stats

    @contextlib.asynccontextmanager
    async def pulse(self) -> AsyncIterator[Pulse]:
        """Measure the turns of the server's loop meanwhile."""
        pulse = Pulse()
        await self.ask("/pulse", "POST")
        try:
            yield pulse
        finally:
            for name, value in (await self.ask("/pulse", "DELETE")).items():
                setattr(pulse, name, value)

    def files(self) -> list[str]:
        """Return what the process has open, sockets among it."""
        found = []
        for entry in os.scandir(f"/proc/{self.process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                found.append(str(Path(entry.path).readlink()))
        return found

    def memory(self) -> Memory:
        """Return how much memory the process has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        now, peak = (
            int(re.findall(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024
            for name in ("VmRSS", "VmHWM")
        )
        return Memory(now, peak)

    def watch_memory(self) -> int:
        """Begin to look for the peak anew; return the memory now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.memory().now

    async def echo(self) -> float:
        """See that a fresh good client has its echo; return the seconds that it took."""
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            async with ws_connect(self.process.ws_url, proxy=None) as ws:
                await ws.send("good")
                assert await ws.recv() == "good"
                took = time.monotonic() - began
        return took

    async def settled(self) -> None:
        """Note what the process holds at rest, once it has served a client."""
        await self.echo()
        self._tasks = (await self.stats()).tasks
        self._files = len(self.files())

    async def calm(self) -> None:
        """See that good clients are served, and that nothing is left of what was done."""
        tries = [await self.echo()]
        while tries[-1] > PROMPT and len(tries) < 5:  # others may have had the processor
            tries.append(await self.echo())
        assert tries[-1] <= PROMPT, f"an echo took {tries} s"
        deadline = time.monotonic() + PATIENCE
        while left := await self._left():
            assert time.monotonic() < deadline, left
            await pause(0.05)
        lines = self.process.log[self._looked_at :]
        self._looked_at = len(self.process.log)
        assert not any("Traceback" in line for line in lines), "\n".join(lines)

    async def _left(self) -> str:
        """Tell what is there that was not there at rest."""
        stats = await self.stats()
        if stats.tasks > self._tasks or stats.websockets:
            return f"{stats}, and {self._tasks} tasks at rest"
        files = self.files()
        return f"{self._files} files at rest, now {files}" if len(files) > self._files else ""


@contextlib.asynccontextmanager
async def targeted(
    loop: str, *options: str, app: str = "tests.apps.abuse:app"
) -> AsyncIterator[Target]:
    """Run a server process of a test's own; see that nothing is left in it at the end."""
    async with running(app, "--loop", loop, "--http", HTTP[loop], *options) as process:
        target = Target(process, loop)
        await target.settled()
        yield target
        await target.calm()
