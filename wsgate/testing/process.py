"""A server in a process of its own, and the log that it writes to a pipe."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator

START = 30.0  # seconds for an interpreter to start on a loaded machine
STOP = 30.0
_LONGEST_LINE = 65_536  # bytes; the rest of a longer line is dropped


class ServerProcess:
    """A running server, whose output is a pipe.

    Attributes:
        process: Its process.
        host, port: The address of its first TCP socket, once `serves` has returned.
        secure: "s" if it speaks TLS.
        log: The lines of its output.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.host = "127.0.0.1"
        self.port = 0
        self.secure = ""
        self.log: list[str] = []
        self._grown = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @property
    def url(self) -> str:
        """The address as the start of an http URL, without a path."""
        return f"http{self.secure}://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """The address as the start of a ws URL, without a path."""
        return f"ws{self.secure}://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self.process.pid

    async def _read(self) -> None:
        assert self.process.stdout is not None  # a pipe
        async for line in _lines(self.process.stdout):
            async with self._grown:
                self.log.append(line.decode(errors="backslashreplace"))
                self._grown.notify_all()
        async with self._grown:
            self._grown.notify_all()

    async def logged(
        self, pattern: str, seconds: float = START, *, times: int = 1, start: int = 0
    ) -> re.Match[str]:
        """Wait until so many lines of the log match a pattern; return the match of the last one.

        Args:
            pattern: A regular expression, which is searched in each line.
            seconds: How long to wait.
            times: How many lines must match.
            start: How many lines at the beginning of the log to leave out.

        Raises:
            AssertionError: After so many seconds, or if the process ends before; it has the log.
        """
        try:
            async with asyncio.timeout(seconds), self._grown:
                while True:
                    lines = self.log[start:]
                    matches = [match for line in lines if (match := re.search(pattern, line))]
                    if len(matches) >= times:
                        return matches[times - 1]
                    if self._reader.done():
                        raise AssertionError(
                            f"the server has ended; {pattern!r} is not in its log:\n" + self.text
                        )
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"{pattern!r} is not in the log:\n{self.text}") from None

    @property
    def text(self) -> str:
        """The log as one text."""
        return "\n".join(self.log)

    async def serves(self) -> None:
        """Wait until the server listens, and set `host`, `port` and `secure`.

        Raises:
            AssertionError: After half a minute, or if the process ends before; it has the log.
        """
        found = await self.logged(r"running on http(s?)://(\[.*\]|[^/:]+):(\d+)")
        self.secure, self.host, self.port = found[1], found[2], int(found[3])

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    async def ended(self, seconds: float = STOP) -> int:
        """Wait for the process to end; return its exit status.

        Raises:
            TimeoutError: After so many seconds.
        """
        async with asyncio.timeout(seconds):
            status = await self.process.wait()
            await self._reader
            return status


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a stream without their ends, each up to a length."""
    line = b""
    while piece := await _piece(stream):
        line += piece[: _LONGEST_LINE - len(line)]
        if piece.endswith(b"\n"):
            yield line.removesuffix(b"\n")
            line = b""
    if line:
        yield line


async def _piece(stream: asyncio.StreamReader) -> bytes:
    """Return a line, or a part of one that is longer than the stream's buffer; b"" at the end."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.LimitOverrunError as error:
        return await stream.read(error.consumed)
    except asyncio.IncompleteReadError as error:
        return error.partial
