"""The channel between the supervisor and a worker: lines of JSON, both ways."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

_LONGEST_LINE = 2**20  # bytes
_MAX_UNREAD = 65_536  # bytes that wait for the other end to read

Line = dict[str, Any]


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

    async def lines(self) -> AsyncIterator[Line]:
        """Yield the lines of the other end, until it is gone."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: a line that is too long
            while line := await self._reader.readline():
                if not line.endswith(b"\n"):
                    return  # the other process ended within it
                yield json.loads(line)

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
