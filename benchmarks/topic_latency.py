"""How long a message takes from one worker to another: from `publish` to the app that receives it.

Two WebSockets of different workers take part. The app of one listens to a topic, that of the other
publishes the time, one message after the other with a pause. The clock is that of the machine.
"""

import asyncio
import json
from typing import Any

MESSAGES = 1000
PAUSE = 0.002  # seconds between two messages: the workers are at rest
ANSWER_SECONDS = 30.0
HANDSHAKE = (
    b"GET /topics HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Failed(Exception):
    """The server does not do what is measured; the message is one line that says why."""


def measure(port: int) -> dict[str, Any]:
    """Return the median, the 99th percentile and the maximum in milliseconds.

    Raises:
        Failed: The server does not do what is measured.
    """
    try:
        return asyncio.run(_measure(port))
    except (OSError, EOFError, TimeoutError) as error:
        raise Failed(f"no answer: {error!r}") from None


async def _measure(port: int) -> dict[str, Any]:
    async with asyncio.timeout(ANSWER_SECONDS):
        listener = await Client.connect(port)
        publisher = await Client.connect(port)
        while publisher.pid == listener.pid:
            publisher.close()
            publisher = await Client.connect(port)
        listener.send(f"listen {MESSAGES}")
        if await listener.read() != "listening":
            raise Failed("the app does not listen")
        publisher.send(f"publish {MESSAGES} {PAUSE}")
        delays = json.loads(await listener.read())
    for client in (listener, publisher):
        client.close()
    return percentiles(delays)


def percentiles(delays: list[int]) -> dict[str, Any]:
    """Return the figures of delays in nanoseconds."""
    found = sorted(delays)
    picked = {"p50_ms": len(found) // 2, "p99_ms": len(found) * 99 // 100, "max_ms": -1}
    return {name: round(found[index] / 1e6, 3) for name, index in picked.items()}


class Client:
    """A WebSocket. pid: the process that serves it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.pid = ""

    @classmethod
    async def connect(cls, port: int) -> "Client":
        """Open a WebSocket."""
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client._writer.write(HANDSHAKE)
        await client._reader.readuntil(b"\r\n\r\n")
        client.pid = await client.read()
        return client

    def send(self, text: str) -> None:
        """Send a short text."""
        data = text.encode()
        self._writer.write(bytes((0x81, 0x80 | len(data))) + bytes(4) + data)

    async def read(self) -> str:
        """Return the next message, of less than 64 KiB."""
        _, size = await self._reader.readexactly(2)
        if size == 126:  # the size follows
            size = int.from_bytes(await self._reader.readexactly(2), "big")
        return (await self._reader.readexactly(size)).decode()

    def close(self) -> None:
        """Leave."""
        self._writer.close()
