"""Accepting connections, and the end of that at any time."""

import asyncio
import gc
from pathlib import Path

import pytest

from tests.harness.hubs import listen
from tests.harness.loops import LOOPS
from tests.harness.waiting import nothing_left, turns, until
from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.brokers.local.frame_server import FrameServer

__all__ = ["LOOPS"]


@pytest.mark.parametrize("iterations", range(6))
async def test_a_stop_leaves_no_socket_of_a_connection_that_was_just_accepted(
    tmp_path: Path, iterations: int
) -> None:
    started: list[FrameConnection] = []
    ended: list[FrameConnection] = []
    loop = asyncio.get_running_loop()
    async with nothing_left():
        server = FrameServer(started.append, lambda *_: None, ended.append)
        await server.start(listen(tmp_path / "hub.sock"))
        clients: list[FrameConnection] = []
        for _ in range(3):
            _, client = await loop.create_unix_connection(
                lambda: FrameConnection(lambda _: None, lambda *_: None, lambda _: None),
                str(tmp_path / "hub.sock"),
            )
            clients.append(client)
        await turns(iterations)
        await server.stop()
        for client in clients:
            client.abort()
        await until(lambda: len(ended) == len(started))
        await turns()
        gc.collect()  # a socket that nobody has closed is a warning, and so an error
    await server.stop()
