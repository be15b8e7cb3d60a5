"""The channel between the supervisor and a worker: lines of JSON, both ways."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from typing import Any

from wsgate.errors import ConfigError, StartupFailed, WsgateError

# Seconds to wait for the end of a channel whose process has ended: its children may hold it.
CHANNEL_TIMEOUT = 1.0
FLUSH_TIMEOUT = 1.0
_LONGEST_LINE = 2**20  # bytes
_LONGEST_REASON = 2**16  # characters: as a line they are shorter than the longest one
_MAX_UNREAD = 65_536  # bytes that wait for the other end to read

Line = dict[str, Any]


def failure_line(error: WsgateError) -> Line:
    """Return the line that reports why a process cannot start."""
    text = str(error)[:_LONGEST_REASON]
    if isinstance(error, ConfigError):
        return {"failed": text, "setting": error.setting}
    return {"failed": text}


def failure_of(line: Line) -> ConfigError | StartupFailed:
    """Return the error that such a line reports."""
    if "setting" in line:
        return ConfigError(line["failed"], setting=line["setting"])
    return StartupFailed(line["failed"])


class Channel:
    """One end of a channel in an event loop.

    Args:
        reader: Reads what the other end writes.
        writer: Writes to it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> "Channel":
        """Return the channel on a connected socket, which belongs to it from now on."""
        return cls(*await asyncio.open_connection(sock=sock, limit=_LONGEST_LINE))

    def send(self, line: Line) -> None:
        """Send a line; nothing happens if the other end is gone."""
        if not self._writer.transport.is_closing():  # uvloop's raises then
            self._writer.write(self.encode(line))

    @property
    def is_readable(self) -> bool:
        """Whether the other end is there and reads: what was sent does not pile up."""
        transport = self._writer.transport
        return not transport.is_closing() and transport.get_write_buffer_size() < _MAX_UNREAD

    @staticmethod
    def encode(line: Line) -> bytes:
        """Return a line as bytes."""
        return json.dumps(line).encode() + b"\n"

    async def lines(self) -> AsyncGenerator[Line, None]:
        """Yield the lines of the other end, until it is gone or sends what is no line."""
        while (line := await self._next_line()) is not None:
            yield line

    async def _next_line(self) -> Line | None:
        # ValueError: it is too long, or no JSON. RecursionError: JSON in which too much is nested.
        with contextlib.suppress(OSError, ValueError, RecursionError):
            text = await self._reader.readline()
            if text.endswith(b"\n"):  # else the other process has ended, perhaps within a line
                line = json.loads(text)
                return line if isinstance(line, dict) else None
        return None

    def close(self) -> None:
        """Close this end."""
        self._writer.close()

    async def close_flushed(self) -> None:
        """Close this end after all that was sent has left, or after FLUSH_TIMEOUT seconds."""
        self._writer.close()
        with contextlib.suppress(OSError):  # the other end is gone, or does not read: TimeoutError
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._writer.wait_closed()
