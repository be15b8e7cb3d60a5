"""A server in its own process, started from the command line or by a program."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START = 30.0  # seconds for an interpreter to start on a loaded machine
STOP = 30.0


class ServerProcess:
    """A running server.

    port: its port on 127.0.0.1. secure: "s" if it speaks TLS. log: the lines of its output.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0
        self.secure = ""
        self.log: list[str] = []
        self._grown = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @property
    def url(self) -> str:
        return f"http{self.secure}://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws{self.secure}://127.0.0.1:{self.port}"

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
        """Wait until so many lines of the log match `pattern`; return the match of the last one.

        Raises:
            AssertionError: after so many seconds, or if the process ends before.
        """
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
        """Wait until the server listens, and set `port`."""
        found = await self.logged(r"running on http(s?)://127\.0\.0\.1:(\d+)")
        self.secure, self.port = found[1], int(found[2])

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
    """Run `wsgate app --port 0 options`, wait until it listens, and kill it at the end."""
    async with started(app, "--port", "0", *options) as server:
        await server.serves()
        yield server


@contextlib.asynccontextmanager
async def started(
    *arguments: str,
    folder: Path = ROOT,
    pass_fds: Sequence[int] = (),
    kind: type["ServerProcess"] = ServerProcess,
) -> AsyncIterator[ServerProcess]:
    """Run `wsgate arguments` in a folder, without waiting until it listens; kill it at the end."""
    command = ("-m", "wsgate", "--app-dir", str(ROOT), *arguments)
    async with program(*command, cwd=folder, pass_fds=pass_fds, kind=kind) as server:
        yield server


@contextlib.asynccontextmanager
async def program(
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    kind: type[ServerProcess] = ServerProcess,
    **options: Any,
) -> AsyncIterator[ServerProcess]:
    """Run Python with arguments; kill the process and its children at the end.

    The process leads its own session and process group and has no terminal.

    Args:
        arguments: Of the interpreter.
        variables: Environment variables besides those of this process.
        kind: The class to return.
        options: Keyword arguments of `asyncio.create_subprocess_exec`.
    """
    # Without coverage, which would make it several times slower than what users run.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    environment |= variables or {}
    common = {"cwd": ROOT, "stdin": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.STDOUT}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        **{**common, **options},
    )
    server = kind(process)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await server.ended()
