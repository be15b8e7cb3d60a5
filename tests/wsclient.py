"""What the tests of WebSockets share: a client's bytes, an app led by the test, what is logged."""

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any, TypeVar

from tests import frames
from tests.frames import ServerFrame
from wsgate.testing import MemoryClient, connect
from wsgate.types import Message, Receive, Scope, Send

PATIENCE = 10.0  # real seconds after which what a test waits for will not come
# The nonce and the answer of the example in RFC 6455 section 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
_REQUIRED = (
    "Host: test",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)
_T = TypeVar("_T")


def handshake(*headers: str, target: str = "/", without: str = "-", method: str = "GET") -> bytes:
    """Return a handshake with more headers; without: the beginning of those left out."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [line for line in _REQUIRED if not line.startswith(without)]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def text(payload: str) -> Message:
    """Return the app's message that sends a text."""
    return {"type": "websocket.send", "text": payload}


def text_frame(payload: str) -> bytes:
    """Return a client's text message."""
    return frames.frame(frames.TEXT, payload)


def close_code(frame: ServerFrame) -> tuple[int, str]:
    """Return code and reason of a server's Close."""
    assert frame.opcode == frames.CLOSE, frame
    return struct.unpack("!H", frame.payload[:2])[0], frame.payload[2:].decode()


async def soon(awaitable: Awaitable[_T]) -> _T:
    """Wait for what comes at once or never."""
    async with asyncio.timeout(PATIENCE):
        return await awaitable


async def turns(count: int = 20) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


class Stage:
    """An app that does nothing by itself: the test has its `receive` and `send` in hand."""

    scope: Scope
    _receive: Receive
    send: Send

    def __init__(self) -> None:
        self._entered = asyncio.Event()
        self._left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise NotImplementedError(scope["type"])
        self.scope, self._receive, self.send = scope, receive, send
        self._entered.set()
        await self._left

    async def entered(self) -> None:
        """Wait until it is called."""
        await soon(self._entered.wait())

    @property
    def is_entered(self) -> bool:
        """Whether it has been called."""
        return self._entered.is_set()

    async def receive(self) -> Message:
        """Receive what comes at once or never."""
        return await soon(self._receive())

    async def receives(self, count: int) -> list[Any]:
        """Receive so many messages and return their payloads."""
        events = [await self.receive() for _ in range(count)]
        return [event["text"] if "text" in event else event["bytes"] for event in events]

    def receiving(self) -> "asyncio.Task[Message]":
        """Receive in a task of its own."""
        return asyncio.ensure_future(self._receive())

    def sending(self, message: Message) -> "asyncio.Task[None]":
        """Send in a task of its own."""
        return asyncio.ensure_future(self.send(message))

    async def accept(self, **more: Any) -> None:
        """Take the WebSocket."""
        assert await self.receive() == {"type": "websocket.connect"}
        await self.send({"type": "websocket.accept", **more})

    def leave(self, error: BaseException | None = None) -> None:
        """End the call, by raising where there is an error."""
        if error is None:
            self._left.set_result(None)
        else:
            self._left.set_exception(error)


class Log(logging.Handler):
    """What is logged. access: those lines. problems: warnings and errors."""

    def __init__(self) -> None:
        super().__init__()
        self.access: list[str] = []
        self.problems: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "wsgate.access":
            self.access.append(record.getMessage())
        elif record.levelno >= logging.WARNING:
            error = f": {record.exc_info[1]!r}" if record.exc_info else ""
            self.problems.append(record.getMessage() + error)


@contextlib.contextmanager
def logged() -> Iterator[Log]:
    """Keep what is logged meanwhile, whatever others have done to the loggers."""
    log = Log()
    loggers = [logging.getLogger("wsgate.access"), logging.getLogger("wsgate.error")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(log)
        logger.setLevel(logging.INFO)
    try:
        yield log
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(log)
            logger.setLevel(level)


class Peer:
    """A WebSocket in memory from both ends. client: the bytes; app: the test's own hand; log."""

    def __init__(self, client: MemoryClient, app: Stage, log: Log) -> None:
        self.client = client
        self.app = app
        self.log = log

    async def ask(self, *headers: str, behind: bytes = b"", target: str = "/") -> None:
        """Send the handshake and wait for the app's call."""
        self.client.send(handshake(*headers, target=target) + behind)
        await self.app.entered()

    async def open(self, *headers: str) -> bytes:
        """Send the handshake, accept, and return the answer."""
        await self.ask(*headers)
        await self.app.accept()
        return await self.client.until(b"\r\n\r\n")

    async def frame(self) -> ServerFrame:
        """Return the server's next frame."""
        head = await self.client.exactly(2)
        extended = {126: 2, 127: 8}.get(head[1], 0)
        head += await self.client.exactly(extended)
        length = int.from_bytes(head[2:], "big") if extended else head[1]
        (frame,) = frames.parsed(head + await self.client.exactly(length))
        return frame

    async def texts(self, count: int) -> list[str]:
        """Return the server's next texts."""
        found = [await self.frame() for _ in range(count)]
        assert all(frame.opcode == frames.TEXT for frame in found), found
        return [frame.payload.decode() for frame in found]

    async def closed(self) -> tuple[int, str]:
        """Return code and reason of the server's Close, which comes next."""
        return close_code(await self.frame())

    async def disconnected(self) -> tuple[int, str]:
        """Return code and reason of the disconnect, which the app is told for good."""
        event = await self.app.receive()
        assert event["type"] == "websocket.disconnect", event
        assert await self.app.receive() == event
        return event["code"], event["reason"]

    async def gone(self) -> None:
        """Wait until the TCP connection has ended."""
        async with asyncio.timeout(PATIENCE):
            while self.client.context.connections:
                await self.client.context.ended.wait()


@contextlib.asynccontextmanager
async def peer(**options: Any) -> AsyncIterator[Peer]:
    """Connect in memory, the handshake not yet sent; see that nothing is left behind."""
    app = Stage()
    with logged() as log:
        async with connect(app, **options) as client:
            yield Peer(client, app, log)
        assert not client.context.tasks
        assert not client.context.connections


@contextlib.asynccontextmanager
async def opened(*headers: str, **options: Any) -> AsyncIterator[Peer]:
    """Open a WebSocket in memory."""
    async with peer(**options) as ws:
        await ws.open(*headers)
        yield ws
