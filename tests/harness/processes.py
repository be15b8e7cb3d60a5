"""A server as a user starts it: a process of its own, by its command line or in a program."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START = 30.0  # seconds for an interpreter to come up on a loaded machine
STOP = 30.0


class ServerProcess:
    """A server that runs. port: where on 127.0.0.1; log: what it has printed, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0
        self.log: list[str] = []
        self._grown = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._grown:
                self.log.append(line.decode().rstrip("\n"))
                self._grown.notify_all()
        async with self._grown:
            self._grown.notify_all()

    async def logged(
        self, pattern: str, seconds: float = START, *, times: int = 1
    ) -> re.Match[str]:
        """Wait for a line of the log, or for several, that have `pattern` in them."""
        try:
            async with asyncio.timeout(seconds), self._grown:
                while True:
                    matches = [match for line in self.log if (match := re.search(pattern, line))]
                    if len(matches) >= times:
                        return matches[times - 1]
                    assert not self._reader.done(), "\n".join(self.log)
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(
                f"{pattern!r} is not in the log:\n" + "\n".join(self.log)
            ) from None

    async def serves(self) -> None:
        """Wait until it serves, and take note of its port."""
        self.port = int((await self.logged(r"running on http://127\.0\.0\.1:(\d+)"))[1])

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    async def ended(self, seconds: float = STOP) -> int:
        """Wait for the process to end; return its exit status."""
        async with asyncio.timeout(seconds):
            status = await self.process.wait()
            await self._reader
            return status


@contextlib.asynccontextmanager
async def running(app: str, *options: str) -> AsyncIterator[ServerProcess]:
    """Run `wsgate app --port 0 options` while the context lasts; kill it after that."""
    async with started(app, "--port", "0", *options) as server:
        await server.serves()
        yield server


@contextlib.asynccontextmanager
async def started(
    *arguments: str, folder: Path = ROOT, pass_fds: Sequence[int] = ()
) -> AsyncIterator[ServerProcess]:
    """Run `wsgate arguments` in a folder while the context lasts; it may not listen yet."""
    command = ("-m", "wsgate", "--app-dir", str(ROOT), *arguments)
    async with program(*command, cwd=folder, pass_fds=pass_fds) as server:
        yield server


@contextlib.asynccontextmanager
async def program(*arguments: str, **options: Any) -> AsyncIterator[ServerProcess]:
    """Run Python with arguments while the context lasts; kill it and its children after that.

    It leads a session and a process group, and has no terminal. options: those of `subprocess`.
    """
    # Unmeasured by coverage, which would make it several times slower than what users run.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    common = {"cwd": ROOT, "stdin": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.STDOUT}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        **{**common, **options},
    )
    server = ServerProcess(process)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await server.ended()
