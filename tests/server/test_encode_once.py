"""An app that sends one object to many clients in a loop has it encoded once for each encoding."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests import frames
from tests.harness import loops
from tests.harness.client import handshake
from tests.harness.tcp import TcpClient, connect_tcp
from wsgate.testing import LiveServer, serve
from wsgate.ws.deflate.compression import Compressors

LOOPS = loops.LOOPS
TEXT = "to be compressed " * 200
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


class Hub:
    """Sends what one client says to all of them, in a loop, as every chat does."""

    def __init__(self) -> None:
        self.sends: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})
        self.sends.append(send)
        while (message := await receive())["type"] == "websocket.receive":
            for other in self.sends:
                await other({"type": "websocket.send", "text": message["text"] * 200})
            same = {"type": "websocket.send", "text": message["text"] * 200}
            for other in self.sends:
                await other(same)


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the window sizes for which something is compressed, in order."""
    windows: list[int] = []
    compress = Compressors.compress

    def counting(self: Compressors, data: bytes, bits: int) -> bytes:
        windows.append(bits)
        return compress(self, data, bits)

    monkeypatch.setattr(Compressors, "compress", counting)
    return windows


@contextlib.asynccontextmanager
async def clients(server: LiveServer, *offers: str) -> AsyncIterator[list[TcpClient]]:
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for offer in offers:
            client = await stack.enter_async_context(connect_tcp(server.port))
            client.send(handshake(*([offer] if offer else [])))
            await client.read_until(b"\r\n\r\n")
            opened.append(client)
        yield opened


async def read_text(client: TcpClient) -> str:
    head = await client.read_exactly(2)
    size = head[1]
    if size == 126:
        size = int.from_bytes(await client.read_exactly(2), "big")
    payload = await client.read_exactly(size)
    if head[0] & 0x40:
        payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
    return payload.decode()


async def test_a_message_is_compressed_once_for_each_window(compressed: list[int]) -> None:
    small = f"{DEFLATE}; server_max_window_bits=10"
    async with (
        asyncio.timeout(30),
        serve(Hub()) as server,
        clients(server, DEFLATE, DEFLATE, small, small, "", DEFLATE) as connected,
    ):
        connected[0].send(frames.frame(frames.TEXT, TEXT[:17]))
        for client in connected:
            assert [await read_text(client) for _ in range(2)] == [TEXT] * 2
        # The first six messages are six objects, each with equal text; the others are one.
        assert sorted(compressed) == [10] * (2 + 1) + [15] * (3 + 1)


async def test_with_context_takeover_nothing_is_shared(compressed: list[int]) -> None:
    async with (
        asyncio.timeout(30),
        serve(Hub(), ws_deflate_context_takeover=True) as server,
        clients(server, DEFLATE, DEFLATE) as connected,
    ):
        connected[0].send(frames.frame(frames.TEXT, TEXT[:17]))
        for client in connected:
            window, sizes = zlib.decompressobj(-15), list[int]()
            for _ in range(2):
                head = await client.read_exactly(2)
                assert head[0] & 0x40
                size = head[1]
                if size == 126:
                    size = int.from_bytes(await client.read_exactly(2), "big")
                payload = await client.read_exactly(size)
                assert window.decompress(payload + b"\0\0\xff\xff").decode() == TEXT
                sizes.append(size)
            assert sizes[1] < sizes[0], "the second one refers to the first one in the window"
        assert compressed == []
