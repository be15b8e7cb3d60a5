"""Prints, as JSON, which functions messages and requests pass through, without the compiled parts.

The tables of docs/architecture.md are compared with it. It is a program of its own, because the
profiler does not see the compiled parts, and a process that has loaded them cannot drop them.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

for extension in ("wsgate.ws.frames._messages", "wsgate.server._fast_path"):
    sys.modules[extension] = None  # type: ignore[assignment]  # Python refuses to import it

from tests import frames  # noqa: E402  # wsgate is imported without the extensions
from wsgate.testing import MemoryClient, connect  # noqa: E402  # as above
from wsgate.types import App, Receive, Scope, Send  # noqa: E402  # as above

PACKAGE = Path(__file__).parent.parent / "wsgate"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
TEXT = "hello " * 2_000


calls: list[str] = []
"""The functions of wsgate that were called since `recorded`, as `path/file.py::name`."""


def record(frame: FrameType, event: str, _: object) -> None:
    path = Path(frame.f_code.co_filename)
    if event == "call" and PACKAGE in path.parents:
        calls.append(f"{path.relative_to(PACKAGE).as_posix()}::{frame.f_code.co_qualname}")


def recorded() -> list[str]:
    """Return the calls so far, and forget them."""
    found = calls.copy()
    calls.clear()
    return found


async def iterations(count: int = 8) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def opened(app: App, headers: bytes = b"") -> AsyncIterator[MemoryClient]:
    async with connect(app) as client:
        client.send(HANDSHAKE + headers + b"\r\n")
        await client.until(b"\r\n\r\n")
        yield client


async def common() -> dict[str, list[str]]:
    """Return the calls of an echo, for an app that waits and a client that reads."""
    found: dict[str, list[str]] = {}

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            found["Common path, in"] = recorded()
            await send({"type": "websocket.send", "text": message["text"]})

    async with opened(echo) as client:
        for text in ("first", "second"):  # the first write of a connection takes another way
            await iterations()
            recorded()
            client.send(frames.frame(frames.TEXT, text))
            await iterations()
        found["Common path, out"] = recorded()
    return found


async def rare() -> dict[str, list[str]]:
    """Return the calls of a fragmented compressed message to a slow app, and of its answer.

    The client does not read the answer until the app has waited.
    """
    found: dict[str, list[str]] = {}
    is_slow = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await is_slow.wait()
        message = await receive()
        found["Rare path, in"] = recorded()
        await send({"type": "websocket.send", "text": message["text"]})

    async with opened(app, DEFLATE) as client:
        data = frames.deflated(TEXT.encode())
        pieces = [data[: len(data) // 2], data[len(data) // 2 :]]
        first, last = frames.fragments(frames.TEXT, pieces, rsv=frames.RSV1)
        client.send(first)
        client.stall()
        client.transport.write(bytes(100_000))
        recorded()
        client.send(last)
        is_slow.set()
        await iterations()
        client.read_some(90_000)
        await iterations()
        found["Rare path, out"] = recorded()
    return found


async def request() -> dict[str, list[str]]:
    """Return the calls of a request with a known head, and of a whole response."""
    found: dict[str, list[str]] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found["Request, in"] = recorded()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})

    async with connect(app) as client:
        for _ in range(2):
            recorded()
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await iterations()
        found["Request, out"] = recorded()
    return found


async def main() -> None:
    sys.setprofile(record)
    found = {**await common(), **await rare(), **await request()}
    sys.setprofile(None)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
