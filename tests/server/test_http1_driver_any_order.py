"""An HTTP connection in memory under random orders of events."""

import asyncio
import contextlib
import itertools
import random
from functools import partial
from typing import Any

import pytest

from tests.harness.app import END, START, piece
from tests.harness.client import (
    CHUNKED,
    EXPECT,
    GET,
    POST,
    UPGRADE,
)
from tests.harness.log import LogCapture
from tests.harness.memory import stop
from tests.harness.waiting import start_task, turns
from wsgate.errors import ClientDisconnected
from wsgate.server.connection import HIGH_WATER
from wsgate.server.http1_driver import DRAIN
from wsgate.testing import connect

pytestmark = pytest.mark.usefixtures("http_parser", "log", "no_task_left")


class Whim:
    """An app that does anything, but ends when its client has left."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        listening = [start_task(self.listen(receive)) for _ in range(self.random.randrange(3))]
        with contextlib.suppress(ClientDisconnected):
            await (self.http if scope["type"] == "http" else self.websocket)(receive, send)
        if self.random.random() < 0.3:
            await self.listen(receive)  # work after the response
        if listening and self.random.random() < 0.5:
            await asyncio.wait(listening)

    async def listen(self, receive: Any) -> None:
        while not (await receive())["type"].endswith(".disconnect"):
            pass

    async def http(self, receive: Any, send: Any) -> None:
        for _ in range(self.random.randrange(3)):
            await self.pause()
            if self.random.random() < 0.5:
                await receive()
        await send(START)
        for _ in range(self.random.randrange(3)):
            await self.pause()
            await send(piece(b"x" * self.random.choice((0, 1, HIGH_WATER))))
        await send(END)

    async def websocket(self, receive: Any, send: Any) -> None:
        await receive()
        await self.pause()
        await send({"type": self.random.choice(("websocket.accept", "websocket.close"))})
        await self.pause()

    async def pause(self) -> None:
        await turns(self.random.randrange(5))


@pytest.mark.parametrize("start", range(0, 300, 50))
async def test_any_order_of_events(start: int, log: LogCapture) -> None:
    requests = [
        GET,
        POST % 3 + b"abc",
        POST % (2 * DRAIN) + b"x" * 2 * DRAIN,
        CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        CHUNKED + b"nonsense\r\n",
        EXPECT + b"ab",
        GET.replace(b"1.1", b"1.0"),
        b"nonsense\r\n\r\n",
        UPGRADE,
    ]
    weights = [9, 9, 1, 9, 1, 3, 1, 1, 2]
    for seed in range(start, start + 50):
        chance = random.Random(f"client {seed}")
        async with (
            asyncio.timeout(30),
            connect(Whim(seed), limit_concurrency=20, ws_ping_interval=5) as client,
        ):
            data = b"".join(chance.choices(requests, weights, k=6))
            data = data[: chance.choice((len(data), chance.randint(0, len(data))))]
            cuts = [0, *sorted(chance.randint(0, len(data)) for _ in range(4)), len(data)]
            pieces = [data[a:b] for a, b in itertools.pairwise(cuts)]
            rare: list[Any] = [client.eof, client.stall, client.read_on, partial(stop, client)]
            for part in pieces:
                client.send(part)
                await turns(chance.randrange(10))
                if chance.random() < 0.2:
                    chance.choice(rare)()
                if chance.random() < 0.2:
                    await client.advance(chance.choice((1, 6)))
            chance.choice((client.eof, client.drop, client.stall))()
            await client.advance(70)
            client.drop()
            await turns(100)
            assert not client.worker.connections, seed
            assert not client.worker.tasks, seed
            assert len(asyncio.all_tasks()) == 1, seed
    assert not log.errors
