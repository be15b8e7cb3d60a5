"""An ended connection leaves no reference cycles for the garbage collector."""

import asyncio
import gc
from collections.abc import Iterator

import pytest
import websockets

import wsgate.testing
from wsgate.server.connection import Connection
from wsgate.server.liveness import Liveness
from wsgate.server.websocket import WebSocket
from wsgate.types import Receive, Scope, Send
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.session import Session

KINDS = (Connection, WebSocket, Liveness, Session, FastCodec)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> int:
    return sum(isinstance(thing, KINDS) for thing in gc.get_objects())


@pytest.mark.parametrize("ending", ["closed", "aborted"])
async def test_an_ended_websocket_is_freed(uncollected: None, ending: str) -> None:
    async with wsgate.testing.serve(echo) as server:
        before = alive()
        client = await websockets.connect(server.ws_url)
        await client.send("hello")
        assert await client.recv() == "hello"
        assert alive() >= before + len(KINDS) - 1
        if ending == "closed":
            await client.close()
        else:
            client.transport.abort()
        async with asyncio.timeout(10):
            while alive() > before:  # noqa: ASYNC110  # objects do not notify when they are freed
                await asyncio.sleep(0)
