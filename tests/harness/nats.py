"""NATS servers: started on a free port, killed and started again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.harness.programs import find_program
from tests.harness.redis import START, free_ports
from tests.harness.waiting import pause


def nats_program() -> str:
    """Return the path of nats-server; skip the test if it is not installed."""
    return find_program("nats", "nats-server")


class NatsServer:
    """A NATS server in a process of its own.

    Attributes:
        url: Its URL, also when it is started again.
    """

    def __init__(self, folder: Path) -> None:
        self._port = free_ports(1)[0]
        self.url = f"nats://127.0.0.1:{self._port}"
        self._log = folder / "nats.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                nats_program(),
                *("--addr", "127.0.0.1", "--port", str(self._port)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(START):
            while not await self._accepts():
                assert self._process.returncode is None, self._log.read_text()
                await pause(0.02)

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def kill(self) -> None:
        """Kill it by -9, and wait until it is gone."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def nats_server(folder: Path) -> AsyncIterator[NatsServer]:
    """Run a server; kill it at the end."""
    server = NatsServer(folder)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
