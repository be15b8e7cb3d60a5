"""An app at its recursion limit: its call gets the error, and nothing else is disturbed or lost."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import websockets

import wsgate.testing
from tests.harness.app import close, text
from tests.harness.client import text_frame
from tests.harness.memory import opened
from tests.harness.waiting import soon, turns
from wsgate.types import Message, Receive, Scope, Send

DEPTHS = range(880, 1_000)  # from "there is room for everything" to "there is none for a call"


async def deep(depth: int, call: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Call a function so many calls further down the stack."""
    if depth:
        return await deep(depth - 1, call, *arguments)
    return await call(*arguments)


async def test_other_clients_are_served_after_an_app_that_failed_to_send() -> None:
    failed: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise NotImplementedError(scope["type"])
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["text"] == "deep":
                await send_at_all_depths(send)
            await send(text("done"))

    async def send_at_all_depths(send: Send) -> None:
        for depth in DEPTHS:
            await asyncio.sleep(0)
            try:
                await deep(depth, send, text(str(depth)))
            except RecursionError:
                failed.append(depth)

    async with (
        wsgate.testing.serve(app) as server,
        websockets.connect(server.ws_url) as one,
        websockets.connect(server.ws_url) as other,
    ):
        await one.send("deep")
        received = [str(await soon(one.recv()))]
        while received[-1] != "done":
            received.append(str(await soon(one.recv())))
        await other.send("shallow")
        assert await soon(other.recv()) == "done"
    assert failed, "the limit was not reached"
    assert received[:-1] == [str(depth) for depth in DEPTHS if depth not in failed]


@pytest.mark.parametrize("message", [text("x" * 100_000), close()], ids=["large", "close"])
async def test_a_message_is_sent_or_raises(message: Message) -> None:
    """Each depth has a connection of its own, because the message may end it."""
    for depth in (*range(940, 1_000, 3), 0):
        async with opened(ws_close_timeout=0.05) as ws:
            with contextlib.suppress(RecursionError):
                await asyncio.create_task(as_awaited(deep(depth, ws.call.send, message)))
            ws.call.finish()
            await turns()
            ws.client.drop() if depth == 0 else ws.client.eof()
            await ws.wait_closed()


async def as_awaited(awaitable: Awaitable[Any]) -> Any:
    """Await something in a task of its own, where the stack is empty."""
    return await awaitable


async def test_messages_are_received_after_a_receive_that_raised() -> None:
    for depth in range(940, 1_000, 3):
        async with opened(ws_max_queue=2) as ws:
            sent = [str(number) for number in range(8)]
            for message in sent:
                ws.client.send(text_frame(message))
            await turns()
            received: list[str] = []
            with contextlib.suppress(RecursionError):
                event = await asyncio.create_task(as_awaited(deep(depth, ws.call._receive)))
                received.append(event["text"])
            received += await ws.call.receive_payloads(len(sent) - len(received))
            assert received == sent
