"""Writes of one turn of the loop, joined into one call of the system.

uvloop's transports do that by themselves. asyncio's call `send` for each write, which for an app
that sends many small messages at once is most of what they cost.
"""

import asyncio

FULL = 65_536  # bytes at which they leave at once, for the write mark to be seen in time


class JoinedWrites:
    """What was written to one transport in this turn of the loop."""

    __slots__ = ("_loop", "_pieces", "_size", "_transport")

    def __init__(self, transport: asyncio.WriteTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def write(self, data: bytes) -> None:
        """Send bytes at the turn's end, or at once where they are many."""
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= FULL:
            self.flush()

    def is_closing(self) -> bool:
        """Tell whether the transport ends."""
        return self._transport.is_closing()

    def flush(self) -> None:
        """Send what is there now."""
        if self._pieces:
            data = b"".join(self._pieces)
            self.clear()
            self._transport.write(data)

    def clear(self) -> None:
        """Forget what is there: the connection is gone."""
        self._pieces, self._size = [], 0


def joined(
    transport: asyncio.WriteTransport, loop: asyncio.AbstractEventLoop
) -> JoinedWrites | None:
    """Return what joins a transport's writes, None where it does so itself."""
    if type(transport).__module__ != "asyncio.selector_events":
        return None
    return JoinedWrites(transport, loop)
